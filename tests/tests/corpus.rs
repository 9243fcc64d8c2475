//! Benign traffic gives no alert, but for blind spots and for what is true of the traffic: each such
//! alert has its row, with the reason, in `tests/captures/true-of-traffic.yaml`. A row that nothing
//! meets fails like an alert without row.

mod engine;

use std::collections::BTreeSet;

use engine::{Given, alerts};
use mcp_monitor_tests::paths;
use mcp_monitor_tests::transcript::{self, Kind, Rendering};
use serde::Deserialize;
use serde_json::Value;

/// Where the alert came, the rule, what was observed.
type Row = (String, String, String);

/// One reason, and the alerts that it explains.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    rule: String,
    /// As in the alert, without fingerprints.
    observed: String,
    why: String,
    /// Captures, and benign twins as `RULE: title`.
    r#in: Vec<String>,
}

fn table() -> BTreeSet<Row> {
    let path = paths::captures().join("true-of-traffic.yaml");
    let text = std::fs::read_to_string(path).expect("true-of-traffic.yaml");
    let all: Vec<Reason> = serde_saphyr::from_str(&text).expect("YAML");
    let mut rows = BTreeSet::new();
    for reason in all {
        assert!(reason.why.len() > 10, "a reason for {reason:?}");
        for source in reason.r#in {
            let row = (source, reason.rule.clone(), reason.observed.clone());
            assert!(rows.insert(row.clone()), "{row:?} twice");
        }
    }
    rows
}

fn rows(source: &str, alerts: &[Value]) -> BTreeSet<Row> {
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap_or_default().to_owned();
    alerts
        .iter()
        .map(|alert| {
            let observed = without_fingerprints(&text(alert, "observed"));
            (source.to_owned(), text(alert, "rule"), observed)
        })
        .filter(|(_, rule, _)| rule != "OP-06")
        .collect()
}

fn without_fingerprints(text: &str) -> String {
    const MARK: &str = ", fingerprint ";
    let mut out = text.to_owned();
    while let Some(at) = out.find(MARK) {
        let digits = out[at + MARK.len()..]
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .count();
        out.replace_range(at..at + MARK.len() + digits, "");
    }
    out
}

/// Every benign capture and every benign twin, by name.
fn benign() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let folder = paths::captures().join("benign");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("captures")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng"))
        .collect();
    files.sort();
    assert!(files.len() >= 35, "only {} captures", files.len());
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        all.push((name, std::fs::read(&path).expect("capture")));
    }
    for transcript in transcript::load(&paths::captures().join("rules")).expect("transcripts") {
        if transcript.kind == Kind::Benign {
            let name = format!("{}: {}", transcript.rule, transcript.title);
            all.push((name, transcript.render(Rendering::Plain).expect("rendered")));
        }
    }
    all
}

#[test]
fn benign_traffic_gives_no_alert_but_what_is_true_of_it() {
    let mut found = BTreeSet::new();
    let keys = paths::captures().join("benign/keys");
    for (name, capture) in benign() {
        if let Ok(log) = std::fs::read(keys.join(&name).with_extension("keylog")) {
            let source = format!("{name} with its key log");
            let given = Given {
                keys: &log,
                ..Given::default()
            };
            let (opened, _) = engine::run(capture.clone(), given).expect("replay");
            found.extend(rows(&source, &opened));
        }
        found.extend(rows(&name, &alerts(capture, None).expect("replay")));
    }
    let due = table();
    let list = |rows: Vec<&Row>| -> String {
        let lines = rows
            .into_iter()
            .map(|(source, rule, observed)| format!("  {source}: {rule} {observed:?}\n"));
        lines.collect()
    };
    let (surplus, stale) = (
        list(found.difference(&due).collect()),
        list(due.difference(&found).collect()),
    );
    assert!(
        surplus.is_empty() && stale.is_empty(),
        "alerts that no row explains:\n{surplus}rows that no alert meets:\n{stale}"
    );
}
