//! The checks that a change has to pass, in the order in which they fail fastest.

mod kernels;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mcp_monitor_tests::paths;

use crate::{build, image, setup, sh, tidy};

/// What to check
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Which part
    #[arg(value_enum, default_value_t = Part::All)]
    part: Part,
}

/// A part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Unit and property tests
    Unit,
    /// The built binary over captures, and its command line
    Golden,
    /// Real MCP peers in namespaces, watched by the attached monitor; needs root and BPF
    Live,
    /// The chart, its manifests, and the image as the chart starts it
    Deploy,
    /// The kernel programs on other kernels, under emulation; needs Debian's apt
    Kernels,
    /// Where alerts go: real receivers, and one that fails in every way
    Sinks,
    /// All of them, after format, lints and tidy
    All,
}

/// How many tests passed, failed, were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

struct Step {
    name: &'static str,
    took: Duration,
    tally: Tally,
    error: Option<anyhow::Error>,
}

/// Runs `test`.
pub fn run(args: &Args) -> Result<()> {
    let all = args.part == Part::All;
    let wants = |part| all || args.part == part;
    let mut steps = Vec::new();
    step(&mut steps, "setup", || {
        setup::run(&setup::Args::default()).map(|()| Tally::default())
    });
    if all {
        step(&mut steps, "format", || checked(&["fmt", "--all", "--check"]));
        step(&mut steps, "tidy", || tidy::run().map(|()| Tally::default()));
        step(&mut steps, "lints", lints);
    }
    if wants(Part::Unit) {
        step(&mut steps, "unit and property", || {
            let mut tally = tests(sh::cargo().args(UNIT))?;
            tally.add(tests(sh::cargo().args(UNIT_OF_HELPERS))?);
            Ok(tally)
        });
    }
    if args.part != Part::Unit {
        step(&mut steps, "build", || {
            build::binary("e2e").map(|_| Tally::default())
        });
    }
    if wants(Part::Golden) {
        step(&mut steps, "golden", || end_to_end(GOLDEN, &[]));
        // Its table of rules is shown.
        step(&mut steps, "rules", || end_to_end(RULES, &["--nocapture"]));
    }
    if wants(Part::Live) {
        // One at a time: they measure losses, and share the machine's cores.
        step(&mut steps, "live", || end_to_end(LIVE, &["--test-threads=1"]));
    }
    if wants(Part::Deploy) {
        step(&mut steps, "image", || {
            image::of_tests().map(|()| Tally::default())
        });
        step(&mut steps, "deploy", || end_to_end(DEPLOY, &["--test-threads=1"]));
    }
    if wants(Part::Kernels) {
        step(&mut steps, "kernels", kernels::run);
    }
    if wants(Part::Sinks) {
        step(&mut steps, "sinks", || end_to_end(SINKS, &["--test-threads=2"]));
        step(&mut steps, "observe", || {
            end_to_end(OBSERVE, &["--test-threads=1"])
        });
    }
    conclude(&steps)
}

/// Suites of `tests/tests` by the step that runs them; `tidy` complains of one that is in none.
const GOLDEN: &[&str] = &["captures", "cli", "fleet", "pins"];
const RULES: &[&str] = &["rules", "corpus", "generated", "restart"];
const LIVE: &[&str] = &[
    "hosts",
    "live",
    "processes",
    "tls_live",
    "tls_stress",
    "kubernetes",
    "faults",
];
const DEPLOY: &[&str] = &["deploy", "container"];
const SINKS: &[&str] = &["sinks"];
const OBSERVE: &[&str] = &["observe"];

/// Every suite of `tests/tests` that is run.
pub fn suites() -> impl Iterator<Item = &'static str> {
    [GOLDEN, RULES, LIVE, DEPLOY, SINKS, OBSERVE]
        .into_iter()
        .flatten()
        .copied()
}

const UNIT: &[&str] = &[
    "test",
    "-p",
    "mcp-monitor",
    "-p",
    "mcp-monitor-common",
    "-p",
    "xtask",
];
const UNIT_OF_HELPERS: &[&str] = &["test", "-p", "mcp-monitor-tests", "--lib"];

fn step(steps: &mut Vec<Step>, name: &'static str, work: impl FnOnce() -> Result<Tally>) {
    // What failed before would only fail again; a failing lint hides no test, though.
    if steps
        .iter()
        .any(|step| step.error.is_some() && matches!(step.name, "setup" | "build" | "image"))
    {
        return;
    }
    eprintln!("\n== {name}");
    let start = Instant::now();
    let (tally, error) = match work() {
        Ok(tally) if tally.failed > 0 => (tally, Some(anyhow::anyhow!("{} tests failed", tally.failed))),
        Ok(tally) => (tally, None),
        Err(error) => (Tally::default(), Some(error)),
    };
    steps.push(Step {
        name,
        took: start.elapsed(),
        tally,
        error,
    });
}

/// Prints the summary; fails if a step did.
fn conclude(steps: &[Step]) -> Result<()> {
    let mut total = Tally::default();
    eprintln!();
    for step in steps {
        total.add(step.tally);
        let outcome = match &step.error {
            Some(error) => format!("FAILED: {error:#}"),
            None if step.tally == Tally::default() => "ok".to_owned(),
            None => step.tally.to_string(),
        };
        eprintln!("{:<18} {:>6.1} s  {outcome}", step.name, step.took.as_secs_f64());
    }
    // A check that is no test fails the run as one.
    let checks = steps
        .iter()
        .filter(|step| step.error.is_some() && step.tally.failed == 0)
        .count();
    total.failed = total.failed.saturating_add(u64::try_from(checks)?);
    println!("{total}");
    if total.failed > 0 {
        bail!("the checks failed");
    }
    Ok(())
}

fn checked(args: &[&str]) -> Result<Tally> {
    sh::run(sh::cargo().args(args)).map(|()| Tally::default())
}

fn lints() -> Result<Tally> {
    let deny = ["--all-targets", "--quiet", "--", "-D", "warnings"];
    checked(
        &[
            &["clippy", "--workspace", "--exclude", "mcp-monitor-ebpf"],
            &deny[..],
        ]
        .concat(),
    )?;
    checked(
        &[
            &["clippy", "-p", "mcp-monitor", "--no-default-features"],
            &deny[..],
        ]
        .concat(),
    )
}

/// Tests of the built binary.
fn end_to_end(suites: &[&str], harness: &[&str]) -> Result<Tally> {
    let mut command = sh::cargo();
    command.args(["test", "-p", "mcp-monitor-tests"]);
    for suite in suites {
        command.args(["--test", suite]);
    }
    command.arg("--").args(harness);
    command.env("MCP_MONITOR_BIN", paths::target().join("e2e/mcp-monitor"));
    tests(&mut command)
}

/// Runs `cargo test`, passing its output on, and counts.
fn tests(command: &mut Command) -> Result<Tally> {
    eprintln!("$ {}", sh::show(command));
    // A skipped test says so on standard error; both streams are read as one, in order.
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().context("start cargo test")?;
    // The command keeps the pipe's writing ends open: without this the reader never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut counter = Counter::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counter.read(&line);
    }
    let tally = counter.tally;
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("`{}` failed: {status}", sh::show(command));
    }
    Ok(tally)
}

/// Counts what the test harness prints.
#[derive(Debug, Default)]
struct Counter {
    tally: Tally,
    /// Tests that skipped themselves, which the harness is about to count as passed.
    skipped: u64,
}

impl Counter {
    fn read(&mut self, line: &str) {
        self.skipped += u64::from(line.starts_with("SKIPPED "));
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let before = counts
                .split(what)
                .next()
                .filter(|before| before.len() < counts.len());
            before
                .and_then(|before| before.trim().rsplit(' ').next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let skipped = std::mem::take(&mut self.skipped);
        self.tally.add(Tally {
            passed: count("passed").saturating_sub(skipped),
            failed: count("failed"),
            skipped: count("ignored") + skipped,
        });
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Tally};

    fn count(lines: &[&str]) -> Tally {
        let mut counter = Counter::default();
        lines.iter().for_each(|line| counter.read(line));
        counter.tally
    }

    #[test]
    fn counts_are_read_from_the_harness() {
        let tally = count(&[
            "running 12 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s",
        ]);
        assert_eq!(
            tally,
            Tally {
                passed: 15,
                failed: 2,
                skipped: 1
            }
        );
        assert_eq!(tally.to_string(), "15 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let tally = count(&[
            "SKIPPED live: not root",
            "test result: ok. 3 passed; 0 failed; 0 ignored",
        ]);
        assert_eq!(
            tally,
            Tally {
                passed: 2,
                failed: 0,
                skipped: 1
            }
        );
    }
}
