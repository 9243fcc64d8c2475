//! Runs the fuzz targets of `fuzz/`, one after the other, and says at the end how far each came.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::paths;

use crate::sh;

/// How long
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only the targets whose name contains this
    #[arg(default_value = "")]
    only: String,
}

/// Runs `fuzz`.
pub fn run(args: &Args) -> Result<()> {
    let targets = targets(&paths::root().join("fuzz/fuzz_targets"))?;
    if targets.is_empty() {
        eprintln!("fuzz: there are no targets");
        return Ok(());
    }
    if sh::which("cargo-fuzz").is_none() {
        sh::run(sh::cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let mut counts = Vec::new();
    for target in targets.iter().filter(|target| target.contains(&args.only)) {
        let mut command = sh::cargo();
        // The sanitizer's flags are unstable; this lets the stable compiler take them.
        command.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target]);
        // What is found goes to the first folder; the second is committed.
        let seeds = format!("fuzz/seeds/{target}");
        let corpus = format!("fuzz/corpus/{target}");
        std::fs::create_dir_all(paths::root().join(&corpus))?;
        command.arg(corpus);
        if paths::root().join(&seeds).is_dir() {
            command.arg(seeds);
        }
        // An input that takes so many seconds is a finding; one that takes some is shown.
        command.args([
            "--",
            "-print_final_stats=1",
            "-timeout=25",
            "-report_slow_units=5",
            // Naming the functions that it finds takes most of a short run.
            "-print_funcs=0",
        ]);
        command.arg(format!("-max_total_time={}", args.seconds));
        counts.push(fuzz(&mut command, target).with_context(|| format!("fuzz target {target}"))?);
    }
    println!("| target | executions | a second | peak MiB |\n|---|---|---|---|");
    for Count {
        target,
        executions,
        rate,
        peak,
    } in counts
    {
        println!("| {target} | {executions} | {rate} | {peak} |");
    }
    Ok(())
}

/// What libFuzzer says at the end of a run.
#[derive(Default)]
struct Count {
    target: String,
    executions: String,
    rate: String,
    peak: String,
}

/// Runs one target with its output on ours; fails on a finding.
fn fuzz(command: &mut Command, target: &str) -> Result<Count> {
    eprintln!("$ {}", sh::show(command));
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut count = Count {
        target: target.to_owned(),
        ..Count::default()
    };
    for line in BufReader::new(child.stderr.take().context("standard error")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some((name, value)) = line.strip_prefix("stat::").and_then(|stat| stat.split_once(':')) {
            let value = value.trim().to_owned();
            match name {
                "number_of_executed_units" => count.executions = value,
                "average_exec_per_sec" => count.rate = value,
                "peak_rss_mb" => count.peak = value,
                _ => {}
            }
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "it found something, or did not run: {status}");
    Ok(count)
}

fn targets(dir: &Path) -> Result<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
