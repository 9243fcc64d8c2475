//! Speed of replay beside that of its peers, on the same captures in the same run, and whether
//! what it counted is what is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::generate::truth::Truth;
use mcp_monitor_tests::generate::{self, Parameters};
use mcp_monitor_tests::{binary, paths};
use serde_json::Value;

use super::child::{self, Usage};
use super::peers::{self, Peer};
use super::report;
use super::stats::Spread;
use crate::build;

/// What to replay
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Bytes of the mixed capture; the one of MCP alone has a fifth of it
    #[arg(long, default_value_t = 1_000_000_000)]
    size: u64,
    /// Rounds; each runs all contenders one after the other (slow ones in the first only)
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Pins for mcp-monitor
    #[arg(long)]
    pins: Option<PathBuf>,
    /// This mcp-monitor, instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave out the peers that take minutes, and do not fetch Debian's Suricata into target/bench if there is none
    #[arg(long)]
    quick: bool,
}

const HEAD: &str = "## Replay\n\n`cargo xtask bench replay` writes the captures (the same bytes for the same size) and \
    runs all contenders on them in the same run, interleaved. The time is user and system time of the whole process, \
    so that GB/s are per core: median (least–greatest); cores are that time over the wall's, medians. mcp-monitor has all rules on and its counts were held \
    against what the generator wrote.\n";

/// Runs `bench replay`.
pub fn run(args: &Args) -> Result<()> {
    let monitor = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::binary("release")?,
    };
    let (mut peers, missing) = peers::find(!args.quick);
    peers.retain(|peer| !(args.quick && peer.slow));
    let mut body = String::from(HEAD);
    let mut wrong = Vec::new();
    for (name, parameters) in [
        ("mixed", Parameters::mixed(args.size)),
        ("pure MCP", Parameters::pure_mcp(args.size / 5)),
    ] {
        let capture = Capture::get(name, &parameters)?;
        let contest = Contest {
            args,
            monitor: &monitor,
            capture: &capture,
            peers: &peers,
        };
        let (table, differences) = contest.hold()?;
        body += &table;
        wrong.extend(differences.into_iter().map(|line| format!("{name}: {line}")));
    }
    let versions: Vec<String> = peers.iter().filter_map(Peer::version).collect();
    body += &format!("\nPeers: {}.\n", versions.join("; "));
    if !missing.is_empty() {
        body += &format!("Not compared, since not installed: {}.\n", missing.join("; "));
    }
    println!("{body}");
    ensure!(
        wrong.is_empty(),
        "mcp-monitor counts something else than what was written:\n  {}",
        wrong.join("\n  ")
    );
    report::write("replay", &body)
}

/// A generated capture and what is in it.
struct Capture {
    name: &'static str,
    path: PathBuf,
    bytes: u64,
    truth: Truth,
    about: String,
}

impl Capture {
    /// Writes it unless it is there.
    fn get(name: &'static str, parameters: &Parameters) -> Result<Self> {
        let folder = paths::target().join("bench");
        fs::create_dir_all(&folder)?;
        let stem = format!(
            "{}-{}-seed{}-v{}",
            name.replace(' ', "-"),
            parameters.size,
            parameters.seed,
            generate::VERSION
        );
        let (path, truth_path) = (
            folder.join(format!("{stem}.pcap")),
            folder.join(format!("{stem}.truth.json")),
        );
        // The truth is written last: with it there, the capture is whole.
        let truth = match fs::read(&truth_path) {
            Ok(json) => Truth::from_json(&serde_json::from_slice(&json)?).context("truth of the capture")?,
            Err(_) => {
                eprintln!(
                    "writing {}",
                    path.strip_prefix(paths::root()).unwrap_or(&path).display()
                );
                let truth = generate::generate(parameters, &path)?;
                fs::write(&truth_path, truth.to_json().to_string())?;
                truth
            }
        };
        let bytes = path.metadata()?.len();
        let about = format!(
            "{:.2} GB, {} packets, {} MCP conversations and {} others, {:.1}% of the bytes MCP, {} segments lost",
            bytes as f64 / 1e9,
            truth.whole.get("packets").copied().unwrap_or(0),
            parameters.mcp_flows,
            parameters.other_flows,
            parameters.mcp_share * 100.0,
            truth.whole.get("tcp.gaps").copied().unwrap_or(0),
        );
        Ok(Self {
            name,
            path,
            bytes,
            truth,
            about,
        })
    }
}

struct Contest<'a> {
    args: &'a Args,
    monitor: &'a Path,
    capture: &'a Capture,
    peers: &'a [Peer],
}

/// What one contender took, round by round.
struct Row {
    name: String,
    usages: Vec<Usage>,
}

impl Row {
    fn spread(&self, of: impl Fn(&Usage) -> f64) -> Result<Spread> {
        let values: Vec<f64> = self.usages.iter().map(of).collect();
        Spread::of(&values).with_context(|| format!("no runs of {}", self.name))
    }
}

const THREADS: [usize; 2] = [1, 2];

impl Contest<'_> {
    /// The table, and what mcp-monitor counted wrong.
    fn hold(&self) -> Result<(String, Vec<String>)> {
        // So that nobody reads from the disk.
        std::io::copy(&mut File::open(&self.capture.path)?, &mut std::io::sink())?;
        let names = THREADS.map(|n| format!("mcp-monitor, {n} thread{}", if n == 1 { "" } else { "s" }));
        let mut rows: Vec<Row> = names
            .into_iter()
            .chain(self.peers.iter().map(|peer| peer.name.to_owned()))
            .map(|name| Row {
                name,
                usages: Vec::new(),
            })
            .collect();
        let mut wrong = Vec::new();
        for round in 0..self.args.runs.max(1) {
            for (row, threads) in rows.iter_mut().zip(THREADS) {
                let (usage, summary) = self.monitor(threads)?;
                say(self.capture.name, round, row, usage, self.capture.bytes);
                for line in self.capture.truth.check(|name| binary::count(&summary, name)) {
                    if !wrong.contains(&line) {
                        eprintln!("WRONG: {line}");
                        wrong.push(line);
                    }
                }
            }
            for (row, peer) in rows.iter_mut().skip(THREADS.len()).zip(self.peers) {
                if round == 0 || !peer.slow {
                    let usage = self.peer(peer)?;
                    say(self.capture.name, round, row, usage, self.capture.bytes);
                }
            }
        }
        Ok((self.table(&rows)?, wrong))
    }

    fn monitor(&self, threads: usize) -> Result<(Usage, Value)> {
        let scratch = tempfile::tempdir_in(paths::target().join("bench"))?;
        let summary = scratch.path().join("summary.json");
        let mut command = Command::new(self.monitor);
        command
            .args(["replay", "--threads", &threads.to_string(), "--summary"])
            .arg(&summary);
        if let Some(pins) = &self.args.pins {
            command.arg("--pins").arg(pins);
        }
        let usage = child::measure(command.arg(&self.capture.path))?;
        Ok((usage, serde_json::from_slice(&fs::read(&summary)?)?))
    }

    fn peer(&self, peer: &Peer) -> Result<Usage> {
        let scratch = tempfile::tempdir_in(paths::target().join("bench"))?;
        child::measure(&mut peer.command(&self.capture.path, scratch.path())?)
    }

    fn table(&self, rows: &[Row]) -> Result<String> {
        let bytes = self.capture.bytes as f64;
        let speed = |row: &Row| row.spread(|usage| bytes / usage.cpu / 1e9);
        let of = |test: fn(&Peer) -> bool| -> Option<f64> {
            let index = self.peers.iter().position(test)?;
            Some(speed(rows.get(THREADS.len() + index)?).ok()?.median)
        };
        let (tcpdump, suricata) = (of(Peer::is_tcpdump), of(Peer::is_suricata));
        let mut table = format!(
            "\n### {}\n\n{}\n\n| | GB/s per core | CPU s | wall s | cores | peak MiB | × tcpdump | × Suricata |\n|---|---|---|---|---|---|---|---|\n",
            self.capture.name, self.capture.about
        );
        for row in rows {
            let speed = speed(row)?;
            let ratio =
                |to: Option<f64>| to.map_or_else(|| "–".to_owned(), |to| format!("{:.2}", speed.median / to));
            table += &format!(
                "| {} | {} | {:.2} | {} | {:.2} | {:.0} | {} | {} |\n",
                row.name,
                speed.show(3),
                row.spread(|usage| usage.cpu)?.median,
                row.spread(|usage| usage.wall)?.show(2),
                row.spread(|usage| usage.cpu / usage.wall)?.median,
                row.spread(|usage| usage.peak)?.max,
                ratio(tcpdump),
                ratio(suricata),
            );
        }
        if let [one, two, ..] = rows {
            let gains: Vec<f64> = one
                .usages
                .iter()
                .zip(&two.usages)
                .map(|(one, two)| one.wall / two.wall)
                .collect();
            let gain = Spread::of(&gains).context("no runs")?;
            table += &format!(
                "\nA second thread makes it {} times as fast (wall time, within a round).\n",
                gain.show(2)
            );
        }
        Ok(table)
    }
}

fn say(capture: &str, round: usize, row: &mut Row, usage: Usage, bytes: u64) {
    eprintln!(
        "{capture}, round {}: {}: {:.2} s CPU, {:.2} s wall, {:.3} GB/s per core, {:.0} MiB",
        round + 1,
        row.name,
        usage.cpu,
        usage.wall,
        bytes as f64 / usage.cpu / 1e9,
        usage.peak
    );
    row.usages.push(usage);
}
