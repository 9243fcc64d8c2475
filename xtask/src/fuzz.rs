//! Runs the fuzz targets of `fuzz/`, one after the other.

use std::path::Path;

use anyhow::{Context, Result};
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
    for target in targets.iter().filter(|target| target.contains(&args.only)) {
        let mut command = sh::cargo();
        // The sanitizer's flags are unstable; this lets the stable compiler take them.
        command.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target]);
        // What is found goes to the first folder; the second is committed.
        let seeds = format!("fuzz/seeds/{target}");
        if paths::root().join(&seeds).is_dir() {
            let corpus = format!("fuzz/corpus/{target}");
            std::fs::create_dir_all(paths::root().join(&corpus))?;
            command.args([corpus, seeds]);
        }
        command.arg("--");
        command.arg(format!("-max_total_time={}", args.seconds));
        sh::run(&mut command).with_context(|| format!("fuzz target {target}"))?;
    }
    Ok(())
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
