//! docs/LIMITS.md against the code: every cap is on the page, with its default, counter and key.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

#[cfg(feature = "live")]
use mcp_monitor::pipeline::summary::PlaintextCounts;
use mcp_monitor::{config::program::Limits, types::AnomalyKind};
use mcp_monitor_tests::paths;

use super::{
    capture::{pcap, run},
    wire::timed,
};

/// Where a limit stands in the code: its file as the page names it, and its name.
type Place = (String, String);

struct Row {
    default: String,
    counter: String,
    key: String,
}

fn page() -> BTreeMap<Place, Row> {
    let text = std::fs::read_to_string(paths::root().join("docs/LIMITS.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let mut place = cells[1].split('`').filter(|part| !part.trim().is_empty());
        let (file, name) = (place.next().unwrap(), place.next().unwrap());
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        let row = Row {
            default: plain(cells[2]),
            counter: plain(cells[5]),
            key: plain(cells[6]),
        };
        assert!(
            !cells[3].is_empty() && !cells[4].is_empty(),
            "{line}: no meaning or no reason"
        );
        let before = rows.insert((file.to_owned(), name.to_owned()), row);
        assert!(before.is_none(), "{line}: twice");
    }
    rows
}

/// Files of the library and of what it shares with the kernel, as the page names them.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut all = Vec::new();
    for (dir, prefix) in [("mcp-monitor/src", ""), ("mcp-monitor-common/src", "common/")] {
        let root = paths::root().join(dir);
        let mut files = Vec::new();
        walk(&root, &mut files);
        for file in files {
            let name = file
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text
                .split("\n#[cfg(test)]\nmod tests {")
                .next()
                .unwrap()
                .to_owned();
            if !name.contains("tests") && name != "config/limits.rs" {
                all.push((format!("{prefix}{name}"), code));
            }
        }
    }
    all
}

/// Every cap in the code with the text of its default: constants named as such, and the fields of limits.
fn caps(page: &BTreeMap<Place, Row>) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    for (file, code) in sources() {
        let mut fields = BTreeSet::new();
        let mut within = false;
        for line in code.lines().map(str::trim) {
            if let Some(rest) = line.split("const ").nth(1)
                && let Some((name, rest)) = rest.split_once(": ")
                && let Some((_, value)) = rest.split_once(" = ")
            {
                let place = (file.clone(), name.to_owned());
                let named = name.starts_with("MAX_") || name.ends_with("_MAX");
                let number = ["usize", "u64", "u32", "u16", "u8", "NonZeroUsize"];
                let typed = number.contains(&rest.split(' ').next().unwrap());
                if (named && typed && name != "USUAL_MAX") || page.contains_key(&place) {
                    found.insert(place, value.trim_end_matches(';').to_owned());
                }
            }
            if line == "}" {
                within = false;
            } else if line.starts_with("pub struct ") {
                within = line.contains("Limits {");
            } else if within && let Some(field) = line.strip_prefix("pub ") {
                let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
                // Limits inside limits have rows of their own; a switch is no cap.
                if !kind.ends_with("Limits") && kind != "bool" {
                    fields.insert(name.to_owned());
                }
            }
            let place = |name: &str| (file.clone(), name.to_owned());
            if let Some((name, value)) = line.strip_suffix(',').and_then(|line| line.split_once(": "))
                && (fields.contains(name) || page.contains_key(&place(name)))
                && !line.starts_with("pub ")
            {
                found.entry(place(name)).or_insert_with(|| value.to_owned());
            }
        }
        for name in fields {
            found.entry((file.clone(), name)).or_default();
        }
    }
    found
}

/// The value of a default: as code writes it, or as the page does. Times are milliseconds.
fn value(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(seconds) = text.strip_prefix("Duration::from_secs(") {
        return Some(value(seconds.strip_suffix(')')?)? * 1000);
    }
    for wrapper in ["Duration::from_millis(", "size("] {
        if let Some(inner) = text.strip_prefix(wrapper) {
            return value(inner.strip_suffix(')')?);
        }
    }
    if let Some(inner) = text.strip_prefix("NonZeroUsize::MIN.saturating_add(") {
        return Some(value(inner.strip_suffix(')')?)? + 1);
    }
    if let Some(days) = text.strip_prefix("DAY.saturating_mul(") {
        return Some(value(days.strip_suffix(')')?)? * 86_400_000);
    }
    if text == "MAX_PACKET + (64 << 10)" {
        return value("320 << 10");
    }
    for (sign, apply) in [
        (" + ", (|a, b| a + b) as fn(u64, u64) -> u64),
        (" << ", |a, b| a << b),
        (" * ", |a, b| a * b),
    ] {
        if let Some((left, right)) = text.split_once(sign) {
            return Some(apply(value(left)?, value(right)?));
        }
    }
    for (unit, factor) in [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("ms", 1),
        ("h", 3_600_000),
        ("s", 1000),
        ("B", 1),
    ] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(value(number)? * factor);
        }
    }
    text.replace('_', "").parse().ok()
}

#[test]
fn the_page_has_every_cap_with_its_default() {
    let page = page();
    let caps = caps(&page);
    let mut wrong = Vec::new();
    for ((file, name), code) in &caps {
        match page.get(&(file.clone(), name.clone())) {
            None => wrong.push(format!("{file} {name} is not on the page")),
            Some(row) if value(code).is_none() || value(code) != value(&row.default) => {
                wrong.push(format!("{file} {name} is {code}, the page says {}", row.default));
            }
            Some(_) => {}
        }
    }
    for (file, name) in page.keys().filter(|place| !caps.contains_key(*place)) {
        wrong.push(format!("{file} {name} is on the page alone"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(caps.len() > 80, "only {} caps found", caps.len());
}

/// `sinks.NAME.dropped.REASON` is there only where a sink is configured.
#[cfg(feature = "live")]
fn is_sink_counter(counter: &str) -> bool {
    let dropped = serde_json::to_value(mcp_monitor::sink::delivery::Dropped::default()).unwrap();
    let reason = counter.strip_prefix("sinks.NAME.dropped.");
    reason.is_some_and(|reason| dropped.get(reason).is_some())
}

#[cfg(not(feature = "live"))]
fn is_sink_counter(counter: &str) -> bool {
    counter.starts_with("sinks.NAME.dropped.")
}

#[cfg(feature = "live")]
fn plaintext_counter(name: &str) -> bool {
    let counts = serde_json::to_value(PlaintextCounts::default()).unwrap();
    counts.get(name).is_some()
}

/// Without live there is nothing to hold them against.
#[cfg(not(feature = "live"))]
fn plaintext_counter(_: &str) -> bool {
    true
}

#[test]
fn counters_and_keys_of_the_page_exist() {
    let (_, summary) = run(pcap(&timed([])));
    let kinds: BTreeSet<&str> = AnomalyKind::ALL.iter().map(|kind| kind.slug()).collect();
    let mut keys = BTreeSet::new();
    for ((file, name), row) in page() {
        let counter = row.counter.as_str();
        let known = counter.is_empty()
            || kinds.contains(counter)
            || summary.get(counter).is_some()
            || is_sink_counter(counter)
            || counter
                .strip_prefix("dropped.")
                .is_some_and(|table| summary["dropped"].get(table).is_some())
            || counter.strip_prefix("plaintext.").is_some_and(plaintext_counter);
        assert!(known, "{file} {name}: no counter {counter}");
        if !row.key.is_empty() {
            assert!(
                Limits::KEYS.contains(&row.key.as_str()),
                "{file} {name}: no key {}",
                row.key
            );
            keys.insert(row.key);
        }
    }
    let all: BTreeSet<String> = Limits::KEYS.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(
        all, keys,
        "keys of the configuration that no row names, or the other way round"
    );
}
