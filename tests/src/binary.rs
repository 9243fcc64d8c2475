//! The built `mcp-monitor`, run to its end.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths;

/// Where the binary is: `MCP_MONITOR_BIN`, else what `cargo xtask build` or a plain
/// `cargo build` left in the target folder, the newest first.
pub fn locate() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MCP_MONITOR_BIN") {
        return Ok(PathBuf::from(path));
    }
    let built = ["e2e", "release", "debug"].map(|p| paths::target().join(p).join("mcp-monitor"));
    built
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .context("mcp-monitor is not built: run `cargo xtask build`, or set MCP_MONITOR_BIN")
}

/// [`locate`], once, for tests.
///
/// # Panics
/// If there is no binary to test.
pub fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| locate().expect("a built mcp-monitor"))
}

/// What one run of the binary left behind.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output, as bytes since replay promises them to be the same.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The records on standard output, one JSON object a line.
    pub fn records(&self) -> Result<Vec<Value>> {
        records(&String::from_utf8_lossy(&self.stdout))
    }

    /// Lines of standard error that name an error.
    pub fn error_lines(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect()
    }
}

/// Parses JSON lines.
pub fn records(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

/// Runs the binary to its end with these arguments, with nothing on standard input.
pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Ran> {
    let mut command = Command::new(path());
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    finish(command.output().context("run mcp-monitor")?)
}

/// Turns the output of a command that ran the binary into a [`Ran`].
pub fn finish(output: Output) -> Result<Ran> {
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).context("standard error is not UTF-8")?,
    })
}

/// Replays a capture and returns the run and its summary; fails unless the exit code is 0.
pub fn replay(args: &[&str]) -> Result<(Ran, Value)> {
    let dir = tempfile::tempdir()?;
    let summary = dir.path().join("summary.json");
    let summary_arg = summary.to_str().context("path is UTF-8")?;
    let mut all = vec!["replay", "--summary", summary_arg];
    all.extend_from_slice(args);
    let ran = run(all)?;
    if ran.code != 0 {
        bail!("replay {args:?} ended with {}: {}", ran.code, ran.stderr);
    }
    let text = std::fs::read_to_string(&summary).context("replay wrote no summary")?;
    Ok((ran, serde_json::from_str(&text)?))
}

/// Reads a count of a summary by its dotted path; what is not there counts as zero.
///
/// `mcp.methods.X` is looked up with X as one key, since method names hold slashes and may
/// hold dots.
pub fn count(summary: &Value, path: &str) -> u64 {
    let mut value = summary;
    let (prefix, leaf) = match path.strip_prefix("mcp.methods.") {
        Some(method) => ("mcp.methods", Some(method)),
        None => (path, None),
    };
    for key in prefix.split('.').chain(leaf) {
        match value.get(key) {
            Some(inner) => value = inner,
            None => return 0,
        }
    }
    value.as_u64().unwrap_or(0)
}
