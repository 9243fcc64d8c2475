//! Changed pins reach a running monitor: by SIGHUP, by `mcp-monitor reload`, or because their file
//! changed.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Failure, args::ReloadArgs};
use crate::{
    config::{ConfigError, mark::Mark, pins::Pins},
    pipeline::live::Reload,
};

/// How often the file is looked at. Its link is followed each time, so that a mounted ConfigMap, whose
/// link is swapped, counts as changed.
const LOOK: Duration = Duration::from_secs(2);

/// Waits for changes of the pins file and sends them, or what is wrong with them.
///
/// SIGHUP does nothing but a line in the log where there is no file.
pub(super) async fn watch(path: Option<PathBuf>, pins: mpsc::Sender<Reload>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let Some(path) = path else {
        while hangup.recv().await.is_some() {
            tracing::warn!("nothing to reload: this monitor runs without a pins file");
        }
        return Ok(());
    };
    let mut look = tokio::time::interval(LOOK);
    let mut seen = Mark::of(&path);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick() => false,
        };
        let mark = Mark::of(&path);
        // A file that is gone for a moment is in the middle of being replaced.
        if !asked && (mark == seen || mark.is_none()) {
            continue;
        }
        seen = mark;
        let loaded = load(path.clone()).await;
        let reload = loaded.map(Arc::new).map_err(|error| error.to_string());
        if pins.send(reload).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads and checks on a thread for blocking work: packets go on being taken meanwhile.
async fn load(path: PathBuf) -> Result<Pins, ConfigError> {
    let file = path.display().to_string();
    let loaded = tokio::task::spawn_blocking(move || Pins::load(&path)).await;
    loaded.unwrap_or_else(|error| {
        Err(ConfigError {
            file,
            line: 0,
            column: 0,
            found: format!("reading it failed: {error}"),
            expected: String::new(),
        })
    })
}

/// `mcp-monitor reload`: asks a running monitor to read its pins again.
pub(super) fn run(args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let pid = match args.pid {
        Some(pid) => pid,
        None => only_running()?,
    };
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .map_err(|error| Failure::Work(format!("process {pid} cannot be asked to reload: {error}")))?;
    let _ = writeln!(
        std::io::stderr(),
        "asked process {pid} to read its pins again; its log says whether they came into force"
    );
    Ok(ExitCode::SUCCESS)
}

/// The process that runs `mcp-monitor run`, if there is exactly one.
fn only_running() -> Result<i32, Failure> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let pids: Vec<i32> = fs::read_dir("/proc")
        .map_err(Failure::work)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && is_run(*pid))
        .collect();
    match pids.as_slice() {
        [pid] => Ok(*pid),
        [] => Err(Failure::Work("no `mcp-monitor run` is running here".to_owned())),
        several => Err(Failure::Work(format!(
            "several monitors are running ({}); say which with --pid",
            several
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

fn is_run(pid: i32) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut words = line.split(|b| *b == 0);
    let program = words.next().and_then(|w| w.rsplit(|b| *b == b'/').next());
    program == Some(b"mcp-monitor") && words.next() == Some(b"run")
}
