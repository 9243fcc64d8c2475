//! The kernel programs on the kernels that Debian's suites have, under emulation.
//!
//! A virtual machine boots each kernel with the tests of `live_attach` in its initial file system: they load and
//! attach every program and pass packets, connections and DNS answers through each of them over loopback. Kernels
//! come from the mirror that this machine's own apt uses, through a configuration of its own in `target/kernels`;
//! nothing is installed but the emulator.

mod archive;
mod initramfs;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::paths;

use self::archive::Archive;
use super::{Counter, Tally, UNIT};
use crate::{setup, sh};

/// What is expected of a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Every program attaches and works.
    Works,
    /// It is older than the floor: attaching is refused, with what it lacks.
    Refused,
}

/// Suites of Debian, and what is expected of their kernels.
const SUITES: [(&str, Expected); 3] = [
    ("bullseye", Expected::Refused),
    ("bookworm", Expected::Works),
    ("trixie", Expected::Works),
];
/// Emulation is slow, and this machine may be busy.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a kernel showed.
struct Shown {
    suite: &'static str,
    release: String,
    /// Runs of each program.
    programs: BTreeMap<String, u64>,
    tally: Tally,
    verdict: Result<String>,
}

/// Runs the part `kernels`.
pub(super) fn run() -> Result<Tally> {
    if !cfg!(target_arch = "x86_64") || sh::which("apt-get").is_none() {
        eprintln!("SKIPPED kernels: they are Debian's for x86-64, fetched by apt");
        return Ok(skipped());
    }
    if sh::which("qemu-system-x86_64").is_none() {
        setup::apt(
            &["qemu-system-x86".to_owned()],
            "the emulator that boots other kernels",
        )?;
    }
    let folder = paths::target().join("kernels");
    fs::create_dir_all(&folder)?;
    let Some(archive) = Archive::of_this_machine(&folder)? else {
        eprintln!("SKIPPED kernels: apt names no Debian mirror");
        return Ok(skipped());
    };
    let image = folder.join("initramfs");
    let monitor = paths::target().join("e2e/mcp-monitor");
    initramfs::write(
        &image,
        &archive.busybox()?,
        &[("tests", test_binary()?), ("mcp-monitor", monitor)],
    )?;
    let mut shown = Vec::new();
    for (suite, expected) in SUITES {
        match archive.kernel(suite) {
            Ok(kernel) => shown.push(boot(suite, &kernel, &image, expected, &folder)?),
            Err(why) => eprintln!("kernels: the kernel of {suite} is not to be had: {why:#}"),
        }
    }
    ensure!(!shown.is_empty(), "no kernel was to be had");
    println!("{}", table(&shown));
    let mut tally = Tally::default();
    for kernel in shown {
        match kernel.verdict {
            Ok(_) if kernel.tally.failed > 0 => tally.passed += 1,
            Ok(_) => tally.add(kernel.tally),
            Err(_) => tally.failed += 1,
        }
    }
    Ok(tally)
}

fn skipped() -> Tally {
    Tally {
        skipped: 1,
        ..Tally::default()
    }
}

/// The tests of the kernel programs, built.
fn test_binary() -> Result<PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(UNIT).args(["--no-run", "--message-format=json"]);
    let output = cargo.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the tests do not build");
    let text = String::from_utf8(output.stdout)?;
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["target"]["name"] == "live_attach")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .context("cargo built no live_attach")
}

/// Boots a kernel and reads what it says until it powers off.
fn boot(
    suite: &'static str,
    kernel: &Path,
    image: &Path,
    expected: Expected,
    folder: &Path,
) -> Result<Shown> {
    let log = folder.join(format!("{suite}.log"));
    let console = File::create(&log)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-smp", "1",
    ])
    .args(["-nographic", "-no-reboot", "-nic", "none", "-kernel"])
    .arg(kernel)
    .arg("-initrd")
    .arg(image)
    .args(["-append", "console=ttyS0 quiet panic=-1"])
    .stdin(Stdio::null())
    .stdout(console.try_clone()?)
    .stderr(console);
    let start = Instant::now();
    let mut machine = qemu.spawn().context("start the emulator")?;
    while machine.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            machine.kill()?;
            machine.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let text = String::from_utf8_lossy(&fs::read(&log)?).replace('\r', "");
    let shown = read(suite, &text, expected);
    eprintln!(
        "{suite}: {} in {:.0} s",
        shown.release,
        start.elapsed().as_secs_f64()
    );
    if let Err(why) = &shown.verdict {
        eprintln!("{suite}: {why:#}; all it said is in {}", log.display());
    }
    Ok(shown)
}

/// Reads what a machine said.
fn read(suite: &'static str, text: &str, expected: Expected) -> Shown {
    let mut counter = Counter::default();
    let mut shown = Shown {
        suite,
        release: "unknown".to_owned(),
        programs: BTreeMap::new(),
        tally: Tally::default(),
        verdict: Ok(String::new()),
    };
    for line in text.lines() {
        counter.read(line);
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("KERNEL"), Some(release), None) => release.clone_into(&mut shown.release),
            (Some("PROGRAM"), Some(name), Some(runs)) => {
                shown.programs.insert(name.to_owned(), runs.parse().unwrap_or(0));
            }
            _ => {}
        }
    }
    shown.tally = counter.tally;
    let refused = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(" lacks ")?;
        Some(rest.split(';').next()?.to_owned())
    });
    shown.verdict = match (expected, refused) {
        _ if shown.tally == Tally::default() => Err(anyhow::anyhow!("it ran no test")),
        (Expected::Refused, Some(lacks)) => Ok(format!("refused: lacks {lacks}")),
        (Expected::Refused, None) => Err(anyhow::anyhow!("it is below the floor, and nothing says so")),
        (Expected::Works, _) if shown.tally.failed > 0 => {
            Err(anyhow::anyhow!("{} tests failed", shown.tally.failed))
        }
        (Expected::Works, _) => Ok(format!("{} tests passed", shown.tally.passed)),
    };
    shown
}

/// Kernel × program × result, as Markdown.
fn table(shown: &[Shown]) -> String {
    use std::fmt::Write as _;

    let mut programs: Vec<&String> = shown.iter().flat_map(|kernel| kernel.programs.keys()).collect();
    programs.sort();
    programs.dedup();
    let mut text = String::from("| |");
    for kernel in shown {
        let _ = write!(text, " {} ({}) |", kernel.release, kernel.suite);
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(shown.len()));
    for program in programs {
        let _ = write!(text, "\n| `{program}` |");
        for kernel in shown {
            let _ = match kernel.programs.get(program) {
                Some(0) => write!(text, " loads |"),
                Some(_) => write!(text, " runs |"),
                None => write!(text, " – |"),
            };
        }
    }
    text.push_str("\n| result |");
    for kernel in shown {
        let _ = match &kernel.verdict {
            Ok(verdict) => write!(text, " {verdict} |"),
            Err(why) => write!(text, " FAILED: {why:#} |"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_says_is_read() {
        let said = "KERNEL 6.1.0-50\ntest a ... \nPROGRAM mcp_egress 17\nok\n\
                    test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let shown = read("bookworm", said, Expected::Works);
        assert_eq!(shown.release, "6.1.0-50");
        assert_eq!(shown.programs.get("mcp_egress"), Some(&17));
        assert_eq!(shown.verdict.expect("it works"), "3 tests passed");
        assert!(read("bookworm", "KERNEL 6.1\n", Expected::Works).verdict.is_err());

        let said = "the kernel (5.10) lacks a thing; Linux 5.15 or newer has it\n\
                    test result: FAILED. 1 passed; 9 failed; 0 ignored\n";
        let refused = read("bullseye", said, Expected::Refused);
        assert_eq!(refused.verdict.expect("it is refused"), "refused: lacks a thing");
        assert!(read("trixie", said, Expected::Works).verdict.is_err());
        assert!(
            read("bullseye", &said.replace("lacks", "has"), Expected::Refused)
                .verdict
                .is_err()
        );
    }
}
