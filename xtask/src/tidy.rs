//! The rules of the house that a compiler does not check: which layer may import which, that
//! the core reads no clock and does no IO, how long a file may be, that each rule has its page.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mcp_monitor_tests::paths;

use crate::source::{Named, Source};

/// A file longer than this, tests aside, wants splitting.
const MAX_LINES: usize = 800;

/// The sans-IO layers: time arrives with the packets, output is returned.
const CORE: [&str; 7] = ["decode", "flow", "proto", "mcp", "baseline", "detect", "alert"];

/// Modules that stand at another layer's height than the folder they live in.
///
/// The live source hands on segments that the kernel has already decoded, with the process behind each
/// socket; its neighbours in `source` hand on packets.
const STANDS_AT: &[(&[&str], &str)] = &[(&["source", "live"], "attribution")];

/// What the core must not name. A path matches if it has these segments in a row.
const FORBIDDEN_IN_CORE: &[(&[&str], &str)] = &[
    (&["SystemTime", "now"], "reads a clock"),
    (&["Instant", "now"], "reads a clock"),
    (&["OffsetDateTime", "now_utc"], "reads a clock"),
    (&["std", "fs"], "does file IO"),
    (&["std", "env"], "reads the environment"),
    (&["std", "process"], "runs processes"),
    (&["std", "thread"], "spawns threads"),
    (&["thread", "spawn"], "spawns threads"),
    (&["File", "open"], "does file IO"),
    (&["net", "TcpStream"], "opens sockets"),
    (&["net", "TcpListener"], "opens sockets"),
    (&["net", "UdpSocket"], "opens sockets"),
    (&["tokio"], "imports tokio"),
    (&["aya"], "talks to the kernel"),
    (&["nix"], "talks to the kernel"),
    (&["libc"], "talks to the kernel"),
];

/// Words that no committed text may have. Put together here so that this file has none.
const FORBIDDEN_WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "open ends go to the tracker"),
    (concat!("FIX", "ME"), "open ends go to the tracker"),
    (concat!("todo", "!("), "no stubs"),
    (concat!("unimplemented", "!("), "no stubs"),
    (concat!("#[ig", "nore"), "a test runs or is removed"),
    (concat!("/ho", "me/"), "a path of somebody's machine"),
    (concat!("/ro", "ot/"), "a path of somebody's machine"),
    (concat!("/Us", "ers/"), "a path of somebody's machine"),
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
];

/// Runs `tidy`.
pub fn run() -> Result<()> {
    let root = paths::root();
    let mut complaints = Vec::new();
    let engine = Crate::read(&root.join("mcp-monitor/src"))?;
    let layers = layers(&root.join("mcp-monitor/src/lib.rs"))?;
    check_layers(&engine, &layers, &mut complaints);
    check_core(&engine, &mut complaints);
    check_rule_pages(&engine, &root, &mut complaints);
    let mut lengths = Vec::new();
    for member in [
        "mcp-monitor",
        "mcp-monitor-common",
        "mcp-monitor-ebpf",
        "tests",
        "xtask",
    ] {
        let dir = root.join(member).join("src");
        let code = if member == "mcp-monitor" {
            &engine
        } else {
            &Crate::read(&dir)?
        };
        for file in &code.files {
            lengths.push((file.source.lines, format!("{member}/src/{}", file.path.display())));
        }
    }
    check_lengths(lengths, &mut complaints);
    check_words(&root, &mut complaints)?;
    check_suites(&root, &mut complaints)?;
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    ensure!(complaints.is_empty(), "tidy: {} complaints", complaints.len());
    Ok(())
}

/// The files of a crate, without those that are tests.
struct Crate {
    files: Vec<File>,
}

struct File {
    /// Relative to `src`.
    path: PathBuf,
    /// Its module path; empty for the crate root.
    module: Vec<String>,
    source: Source,
}

impl Crate {
    fn read(src: &Path) -> Result<Self> {
        let mut found = Vec::new();
        walk(src, &mut found)?;
        let mut files = Vec::new();
        for path in found {
            let text = std::fs::read_to_string(&path)?;
            let source = Source::parse(&text).with_context(|| format!("{}", path.display()))?;
            let path = path.strip_prefix(src)?.to_owned();
            files.push(File {
                module: module_path(&path),
                path,
                source,
            });
        }
        let mut tests = BTreeSet::new();
        for file in &files {
            for name in &file.source.test_modules {
                tests.insert([file.module.as_slice(), std::slice::from_ref(name)].concat());
            }
        }
        files.retain(|file| !(0..=file.module.len()).any(|n| tests.contains(&file.module[..n])));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }
}

/// Each file of integration tests belongs to a suite, and each suite is run by `cargo xtask test`.
fn check_suites(root: &Path, complaints: &mut Vec<String>) -> Result<()> {
    let run: BTreeSet<&str> = crate::test::suites().collect();
    let mut there = BTreeSet::new();
    // `cargo test -p mcp-monitor` runs all suites of that crate.
    for (folder, all_run) in [("tests/tests", false), ("mcp-monitor/tests", true)] {
        let dir = root.join(folder);
        let mut files = Vec::new();
        walk(&dir, &mut files)?;
        let is_suite = |path: &Path| path.parent() == Some(&*dir) || path.ends_with("main.rs");
        let mut reached = BTreeSet::new();
        for suite in files.iter().filter(|path| is_suite(path)) {
            let named = if suite.ends_with("main.rs") {
                suite.parent().unwrap_or(suite)
            } else {
                suite
            };
            let name = named
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !all_run && !run.contains(name.as_str()) {
                complaints.push(format!(
                    "{folder}: the suite {name} is in no step of xtask/src/test.rs"
                ));
            }
            there.insert(name);
            let text = std::fs::read_to_string(suite)?;
            let modules = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';'));
            let beside = suite.parent().unwrap_or(&dir);
            for module in modules {
                reached.insert(beside.join(module).with_extension("rs"));
                reached.insert(beside.join(module).join("mod.rs"));
            }
        }
        for stray in files
            .iter()
            .filter(|path| !is_suite(path) && !reached.contains(*path))
        {
            complaints.push(format!(
                "{} belongs to no suite",
                stray.strip_prefix(root)?.display()
            ));
        }
    }
    for name in run.iter().filter(|name| !there.contains(**name)) {
        complaints.push(format!(
            "xtask/src/test.rs runs the suite {name}, which is not there"
        ));
    }
    Ok(())
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn module_path(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> = relative
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// The layers in the order of data, as the crate root declares them.
fn layers(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root)?;
    let declared = |line: &str| {
        let name = line.trim().strip_prefix("pub mod ")?.strip_suffix(';')?;
        Some(name.to_owned())
    };
    let layers: Vec<String> = text.lines().filter_map(declared).collect();
    for layer in CORE {
        if !layers.iter().any(|declared| declared == layer) {
            bail!("{} declares no layer `{layer}`", root.display());
        }
    }
    Ok(layers)
}

fn check_layers(code: &Crate, layers: &[String], complaints: &mut Vec<String>) {
    let rank = |name: &str| layers.iter().position(|layer| layer == name);
    for file in &code.files {
        let moved = STANDS_AT.iter().find(|(module, _)| {
            file.module.iter().zip(*module).filter(|(a, b)| a == b).count() == module.len()
        });
        let layer = moved
            .map(|(_, layer)| *layer)
            .or(file.module.first().map(String::as_str));
        let Some(own) = layer.and_then(rank) else {
            continue;
        };
        for named in &file.source.paths {
            let Some(target) = target(named, &file.module) else {
                continue;
            };
            if rank(target).is_some_and(|other| other > own) {
                complaints.push(format!(
                    "{}:{}: layer `{}` imports `{target}`, which stands below it",
                    file.path.display(),
                    named.line,
                    file.module[0],
                ));
            }
        }
    }
}

/// The top module that a path leads to, if it leaves the file's own.
fn target<'a>(named: &'a Named, module: &[String]) -> Option<&'a str> {
    let supers = named
        .segments
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let next = match named.segments.first()?.as_str() {
        "crate" => named.segments.get(1),
        "super" if supers >= module.len() => named.segments.get(supers),
        _ => None,
    };
    next.map(String::as_str)
}

fn check_core(code: &Crate, complaints: &mut Vec<String>) {
    let core = |file: &&File| {
        file.module
            .first()
            .is_some_and(|layer| CORE.contains(&layer.as_str()))
    };
    for file in code.files.iter().filter(core) {
        for named in &file.source.paths {
            let has = |wanted: &[&str]| named.segments.windows(wanted.len()).any(|row| row == wanted);
            if let Some((path, what)) = FORBIDDEN_IN_CORE.iter().find(|(path, _)| has(path)) {
                complaints.push(format!(
                    "{}:{}: the core {what}: `{}`",
                    file.path.display(),
                    named.line,
                    path.join("::"),
                ));
            }
        }
    }
}

fn check_rule_pages(code: &Crate, root: &Path, complaints: &mut Vec<String>) {
    let rules = code
        .files
        .iter()
        .filter(|file| file.path.starts_with("detect/rules"));
    for id in rules.filter_map(|file| rule_id(&file.path)) {
        if !root.join(format!("docs/rules/{id}.md")).exists() {
            complaints.push(format!("rule {id} has no page docs/rules/{id}.md"));
        }
    }
}

/// The id of the rule that a file holds: `dns_01_answer_drift.rs` is DNS-01.
fn rule_id(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let letters = stem.find(|c: char| !c.is_ascii_lowercase())?;
    let (family, rest) = stem.split_at(letters);
    let number = rest.trim_start_matches('_').get(..2)?;
    let valid = (2..=3).contains(&family.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| format!("{}-{number}", family.to_ascii_uppercase()))
}

fn check_lengths(mut lengths: Vec<(usize, String)>, complaints: &mut Vec<String>) {
    lengths.sort();
    let median = lengths.get(lengths.len() / 2).map_or(0, |(lines, _)| *lines);
    let longest: Vec<String> = lengths
        .iter()
        .rev()
        .take(3)
        .map(|(lines, path)| format!("{path} {lines}"))
        .collect();
    eprintln!(
        "tidy: {} files, median {median} lines, longest {}",
        lengths.len(),
        longest.join(", ")
    );
    for (lines, path) in lengths.iter().filter(|(lines, _)| *lines > MAX_LINES) {
        complaints.push(format!(
            "{path} has {lines} lines without its tests; split past {MAX_LINES}"
        ));
    }
}

fn check_words(root: &Path, complaints: &mut Vec<String>) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .context("list the files with git")?;
    ensure!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr).trim()
    );
    for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
        // Captures and lock files are not written by hand; what is not text is not read.
        if name.ends_with(".lock") || name.ends_with("package-lock.json") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root.join(name)) else {
            continue;
        };
        for (number, line) in (1..).zip(text.lines()) {
            if let Some((word, why)) = FORBIDDEN_WORDS.iter().find(|(word, _)| line.contains(word)) {
                complaints.push(format!("{name}:{number}: `{word}`: {why}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(files: &[(&str, &str)]) -> Crate {
        let file = |(path, text): &(&str, &str)| File {
            module: module_path(Path::new(path)),
            path: path.into(),
            source: Source::parse(text).unwrap(),
        };
        Crate {
            files: files.iter().map(file).collect(),
        }
    }

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let layers = ["types", "source", "decode", "flow", "detect", "sink"].map(str::to_owned);
        let mut found = Vec::new();
        let code = engine(files);
        check_layers(&code, &layers, &mut found);
        check_core(&code, &mut found);
        found
    }

    #[test]
    fn a_layer_may_import_those_above_it() {
        let files = [
            (
                "flow/table.rs",
                "use crate::{decode::Packet, types::Timestamp}; use super::assembler::Gap;",
            ),
            (
                "sink/stdout.rs",
                "use crate::detect::Finding; use tokio::io; use std::fs;",
            ),
            (
                "detect/rules/x.rs",
                "use super::super::World; use std::net::IpAddr;",
            ),
        ];
        assert_eq!(complaints(&files), [] as [&str; 0]);
    }

    #[test]
    fn a_layer_must_not_import_those_below_it() {
        for text in [
            "use crate::flow::Flow;",
            "fn f() { crate::flow::go() }",
            "use super::flow::Flow;",
        ] {
            let found = complaints(&[("decode/mod.rs", text)]);
            assert_eq!(
                found,
                ["decode/mod.rs:1: layer `decode` imports `flow`, which stands below it"]
            );
        }
        assert_eq!(
            complaints(&[("decode/ip.rs", "use super::super::sink::Stdout;")]).len(),
            1
        );
    }

    #[test]
    fn the_core_has_no_clock_and_no_io() {
        for text in [
            "fn f() { std::time::Instant::now() }",
            "use std::{collections, fs::File};",
            "use tokio::sync::mpsc;",
            "use std::net::{IpAddr, UdpSocket};",
            "fn f() { std::thread::spawn(g) }",
        ] {
            assert_eq!(complaints(&[("detect/engine.rs", text)]).len(), 1, "{text}");
            assert_eq!(complaints(&[("source/ring.rs", text)]).len(), 0, "{text}");
        }
        assert!(complaints(&[("detect/engine.rs", "#[cfg(test)]\nmod tests { use std::fs; }")]).is_empty());
    }

    #[test]
    fn rule_ids_are_read_from_file_names() {
        let id = |name: &str| rule_id(Path::new(name));
        assert_eq!(
            id("detect/rules/dns_01_answer_drift.rs").as_deref(),
            Some("DNS-01")
        );
        assert_eq!(id("cr07_secret_in_result.rs").as_deref(), Some("CR-07"));
        for other in ["mod.rs", "catalogue.rs", "registry_1.rs", "test_util.rs"] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
