//! Receivers of streams of records, from PyPI: an OpenTelemetry collector (rotel), a Kafka broker (the mock cluster
//! of librdkafka), and TLS in front of either.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;
use crate::process::Process;
use crate::receivers::{dir, free_port, python, wait_for_port};

const START: Duration = Duration::from_secs(60);

/// A real collector, which prints what it takes.
pub struct Collector {
    /// OTLP over gRPC.
    pub grpc: u16,
    /// OTLP over HTTP.
    pub http: u16,
    process: Process,
}

impl Collector {
    /// Starts one with its files in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let (grpc, http) = (free_port()?, free_port()?);
        let mut find = Command::new("find");
        find.arg(dir().join("venv/lib")).args(["-name", "rotel-agent"]);
        let found = crate::process::output(&mut find)?;
        let agent = found
            .lines()
            .next()
            .context("no rotel-agent: run `cargo xtask setup`")?;
        let mut command = Command::new(agent);
        command
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "logs", "--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed"])
            .arg(format!("--otlp-grpc-endpoint=127.0.0.1:{grpc}"))
            .arg(format!("--otlp-http-endpoint=127.0.0.1:{http}"))
            .arg("--pid-file")
            .arg(folder.join("rotel.pid"));
        let process = Process::spawn("rotel", command)?;
        wait_for_port(grpc)?;
        wait_for_port(http)?;
        Ok(Self { grpc, http, process })
    }

    /// What it printed of what it took.
    pub fn text(&self) -> String {
        self.process.stdout.text()
    }
}

/// A broker with one topic of four partitions.
pub struct Broker {
    /// Where it listens.
    pub port: u16,
    process: Process,
}

impl Broker {
    /// Starts one.
    pub fn start(topic: &str) -> Result<Self> {
        let mut command = Command::new(python());
        command
            .arg(paths::root().join("tests/receivers/kafka.py"))
            .arg(topic);
        let process = Process::spawn("kafka", command)?;
        let line = process.stdout.wait_for(START, |line| line.contains("port"));
        let line = line.with_context(|| format!("no broker: {}", process.stderr.text()))?;
        let told: Value = serde_json::from_str(&line)?;
        let port = u16::try_from(told["port"].as_u64().context("port")?)?;
        Ok(Self { port, process })
    }

    /// Messages that a consumer read so far.
    pub fn messages(&self) -> Result<Vec<Value>> {
        let lines = self.process.stdout.all();
        let messages = lines.iter().skip(1).map(|line| Ok(serde_json::from_str(line)?));
        messages.collect()
    }
}

/// TLS in front of a server on loopback.
pub struct Front {
    /// Where it listens.
    pub port: u16,
    process: Process,
}

impl Front {
    /// With `cert.pem` and `key.pem` of a folder. `alpn` is `-` for Kafka, where `login` has user and password.
    pub fn start(target: u16, folder: &Path, alpn: &str, login: &[&str]) -> Result<Self> {
        let mut command = Command::new(python());
        command
            .arg(paths::root().join("tests/receivers/front.py"))
            .arg(target.to_string())
            .arg(folder.join("cert.pem"))
            .arg(folder.join("key.pem"))
            .arg(alpn)
            .args(login);
        let process = Process::spawn("front", command)?;
        let line = process.stdout.wait_for(START, |line| line.starts_with("port "));
        let line = line.with_context(|| format!("no front: {}", process.stderr.text()))?;
        let port = line.trim_start_matches("port ").parse()?;
        Ok(Self { port, process })
    }

    /// What it saw.
    pub fn text(&self) -> String {
        self.process.stdout.text()
    }
}
