//! What a process holds of BPF, as `bpftool` shows it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::output;

/// Debian has it where only root looks.
const BPFTOOL: &str = "/usr/sbin/bpftool";

/// Entries in the table of this name that a process holds open.
pub fn entries(pid: u32, table: &str) -> Result<usize> {
    for id in held(pid, "map_id:")? {
        if bpftool(&["map", "show", "id", &id])?["name"] == table {
            let dump = bpftool(&["map", "dump", "id", &id])?;
            return Ok(dump.as_array().map_or(0, Vec::len));
        }
    }
    anyhow::bail!("process {pid} holds no table {table}")
}

/// Whether another user than root is refused every table that a process holds open.
pub fn is_closed_to_others(pid: u32) -> Result<bool> {
    let ids = held(pid, "map_id:")?;
    anyhow::ensure!(!ids.is_empty(), "process {pid} holds no table");
    for id in ids {
        let mut asking = Command::new("setpriv");
        asking.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        asking.args([BPFTOOL, "map", "dump", "id", &id]);
        if output(&mut asking).is_ok() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A loaded program, and what it cost while the kernel's statistics were on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Its name, as far as the kernel keeps it: 15 letters.
    pub name: String,
    /// Its type: `cgroup_skb`, `kprobe` (uprobes too), …
    pub kind: String,
    /// How often it ran.
    pub runs: u64,
    /// Nanoseconds in it.
    pub nanoseconds: u64,
}

/// The programs that a process holds open.
pub fn programs(pid: u32) -> Result<Vec<Program>> {
    held(pid, "prog_id:")?
        .iter()
        .map(|id| {
            let shown = bpftool(&["prog", "show", "id", id])?;
            let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
            Ok(Program {
                name: text("name"),
                kind: text("type"),
                runs: shown["run_cnt"].as_u64().unwrap_or(0),
                nanoseconds: shown["run_time_ns"].as_u64().unwrap_or(0),
            })
        })
        .collect()
}

/// Ids of the maps or programs whose descriptors a process has.
fn held(pid: u32, field: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(info) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        // A link names its program too, and is none: it has the id of its own.
        let is_link = info.lines().any(|line| line.starts_with("link_id:"));
        let id = info
            .lines()
            .find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()));
        ids.extend(id.filter(|_| !is_link));
    }
    Ok(ids)
}

fn bpftool(args: &[&str]) -> Result<Value> {
    let said = output(Command::new(BPFTOOL).arg("-j").args(args))?;
    serde_json::from_str(&said).with_context(|| format!("bpftool {args:?}: {said}"))
}
