//! Speed of replay: CPU seconds per byte, since the cores are shared.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::paths;

use super::report;
use super::stats::Spread;
use crate::{build, sh};

/// What to replay
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Times each capture is replayed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Captures; by default the larger ones of tests/captures
    files: Vec<PathBuf>,
}

const FILES: &[&str] = &["lo-py-json.pcap", "lo6-py-streamable.pcap", "veth-gso-on.pcap"];

/// Runs `bench replay`.
pub fn run(args: &Args) -> Result<()> {
    let binary = build::binary("release")?;
    let mut files = args.files.clone();
    if files.is_empty() {
        files = FILES
            .iter()
            .map(|file| paths::captures().join("benign").join(file))
            .collect();
    }
    let mut rows = String::new();
    for file in &files {
        // Several of the same file are one timeline; enough of them outlast the start.
        let size = file.metadata().with_context(|| file.display().to_string())?.len();
        let copies = usize::try_from(200_000_000 / size.max(1))?.clamp(1, 256);
        let bytes = size as f64 * copies as f64;
        let mut rates = Vec::new();
        for _ in 0..args.runs {
            let seconds = cpu_seconds(&binary, file, copies)?;
            rates.push(bytes / seconds / 1e9);
        }
        let spread = Spread::of(&rates).context("no runs")?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        rows += &format!(
            "| {name} × {copies} | {:.0} | {} |\n",
            bytes / 1e6,
            spread.show(3)
        );
    }
    let table = format!("| capture | MB | GB per CPU second |\n|---|---|---|\n{rows}");
    println!("{table}");
    report::write(
        "replay",
        &format!("## Replay\n\n`cargo xtask bench replay`\n\n{table}"),
    )
}

/// User and system time of one replay on one thread, as the shell reports it.
fn cpu_seconds(binary: &PathBuf, file: &PathBuf, copies: usize) -> Result<f64> {
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "TIMEFORMAT='%U %S'; time \"$@\" >/dev/null 2>/dev/null",
        "bash",
    ]);
    command.arg(binary).args(["replay", "--threads", "1"]);
    command.args(std::iter::repeat_n(file, copies));
    let done = command.output().with_context(|| sh::show(&command))?;
    ensure!(done.status.success(), "replay failed");
    let text = String::from_utf8_lossy(&done.stderr);
    let times: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure!(times.len() == 2, "no times: {text}");
    Ok(times.iter().sum())
}
