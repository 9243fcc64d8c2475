//! The monitor attached live, as a user starts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binary;
use crate::process::Process;
use crate::undo::TempDir;

/// How long the monitor may take to attach, and to drain at its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to watch, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Pins file.
    pub pins: Option<PathBuf>,
    /// Watch this cgroup instead of the root.
    pub cgroup: Option<PathBuf>,
    /// Alerts as text instead of JSON lines.
    pub text: bool,
    /// Program configuration.
    pub config: Option<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Environment of its own.
    pub env: Vec<(String, std::ffi::OsString)>,
}

/// `mcp-monitor run`, attached.
#[derive(Debug)]
pub struct Monitor {
    process: Process,
    dir: TempDir,
}

/// What a live run left behind.
#[derive(Debug)]
pub struct Watched {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The summary.
    pub summary: Value,
}

impl Watched {
    /// The alerts, when they were written as JSON lines.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        binary::records(&self.stdout)
    }
}

impl Monitor {
    /// Starts the monitor and returns once it watches.
    pub fn start(options: &Options) -> Result<Self> {
        Self::start_at(&binary::locate()?, options, |_| {})
    }

    /// As [`Self::start`], of this binary; `each` sees every line of standard output as it comes.
    pub fn start_at(binary: &Path, options: &Options, each: fn(&str)) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut command = Command::new(binary);
        command.arg("run").env_remove("RUST_LOG");
        command.arg("--summary").arg(summary(dir.path()));
        command.args(["--format", if options.text { "text" } else { "json" }]);
        if let Some(pins) = &options.pins {
            command.arg("--pins").arg(pins);
        }
        if let Some(config) = &options.config {
            command.arg("--config").arg(config);
        }
        command.args(&options.arguments);
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        if let Some(cgroup) = &options.cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        let process = Process::spawn_with("mcp-monitor", command, each)?;
        let ready = process
            .stderr
            .wait_for(PATIENCE, |line| line.contains("watching"));
        ensure!(
            ready.is_some(),
            "mcp-monitor did not attach:\n{}",
            process.stderr.text()
        );
        Ok(Self { process, dir })
    }

    /// Lines of standard output so far, and a way to wait for one.
    pub fn stdout(&self) -> &crate::process::Lines {
        &self.process.stdout
    }

    /// Waits until so many messages were told, for a minute at most: what the kernel sent may still lie in the ring,
    /// and at the end of the monitor only so much time is left for it.
    pub fn drained(&self, messages: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = || self.stdout().count(|line| line.contains("mcp-monitor.message/1")) as u64;
        while Instant::now() < deadline && told() < messages {
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Lines of its log so far, and a way to wait for one.
    pub fn stderr(&self) -> &crate::process::Lines {
        &self.process.stderr
    }

    /// Where it serves HTTP, as its log says.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        addresses(self.stderr())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the monitor: nothing of its own runs any more.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(PATIENCE).map(drop)
    }

    /// Ends the monitor (SIGTERM) after it drained.
    pub fn stop(mut self) -> Result<Watched> {
        let status = self.process.stop(PATIENCE)?;
        let (stdout, stderr) = (self.process.stdout.text(), self.process.stderr.text());
        ensure!(status.success(), "mcp-monitor ended with {status}:\n{stderr}");
        let text = std::fs::read_to_string(summary(self.dir.path())).context("no summary")?;
        Ok(Watched {
            stdout,
            stderr,
            summary: serde_json::from_str(&text)?,
        })
    }
}

/// Where a monitor serves HTTP, as its log says.
pub fn addresses(log: &crate::process::Lines) -> Result<Vec<SocketAddr>> {
    let line = log
        .wait_for(Duration::from_secs(5), |line| line.contains("addresses="))
        .context("it does not say where it serves")?;
    let list = line
        .split_once("addresses=[")
        .and_then(|(_, rest)| rest.split_once(']'))
        .context("addresses")?
        .0;
    list.split(", ").map(|one| Ok(one.parse()?)).collect()
}

fn summary(dir: &Path) -> PathBuf {
    dir.join("summary.json")
}
