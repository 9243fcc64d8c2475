//! Pins that people can keep, end to end: learn, replay, compare, accept; the state file; attestations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mcp_monitor_tests::binary::{self, Ran};
use mcp_monitor_tests::paths;
use serde_json::Value;

fn benign(file: &str) -> PathBuf {
    paths::captures().join("benign").join(file)
}

fn in_demo(file: &str) -> PathBuf {
    paths::captures().join("demo").join(file)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(args: &[&str]) -> Ran {
    binary::run(args).expect("mcp-monitor")
}

/// Runs, and asserts the exit code.
#[track_caller]
fn ends(args: &[&str], code: i32) -> Ran {
    let ran = run(args);
    assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
    ran
}

fn rules(ran: &Ran) -> BTreeSet<String> {
    ran.records()
        .expect("JSON lines")
        .iter()
        .map(|alert| alert["rule"].as_str().expect("rule").to_owned())
        .collect()
}

fn field<'a>(records: &'a [Value], key: &str) -> Vec<&'a str> {
    records.iter().filter_map(|record| record[key].as_str()).collect()
}

fn captures() -> Vec<String> {
    let index = std::fs::read_to_string(benign("index.json")).expect("index.json");
    let index: Vec<Value> = serde_json::from_str(&index).expect("JSON");
    index
        .iter()
        .map(|entry| entry["file"].as_str().expect("file").to_owned())
        .collect()
}

/// Pins learned from a session hold in that session, whatever the session is; they add no alert to
/// those that are true without any pin.
#[test]
fn a_session_keeps_the_pins_that_were_learned_from_it() {
    let dir = tempfile::tempdir().expect("folder");
    let mut with_endpoints = 0;
    for file in captures() {
        let capture = benign(&file);
        let pins = dir.path().join(format!("{file}.yaml"));
        // Those that are encrypted, opened.
        let stem = file.split('.').next().expect("a name");
        let keys = benign("keys").join(format!("{stem}.keylog"));
        let opened = match keys.exists() {
            true => vec!["--keylog", text(&keys)],
            false => Vec::new(),
        };
        let with = |args: &[&str]| ends(&[args, &opened, &[text(&capture)]].concat(), 0);
        with(&["pin", "learn", "--out", text(&pins)]);
        let checked = ends(&["pin", "check", text(&pins)], 0);
        let none = String::from_utf8_lossy(&checked.stdout).contains("ok, 0 endpoints");
        with_endpoints += usize::from(!none);
        let without = rules(&with(&["replay"]));
        let pinned = rules(&with(&["replay", "--pins", text(&pins)]));
        let new: Vec<_> = pinned.difference(&without).collect();
        assert!(new.is_empty(), "{file}: pins learned from it raise {new:?}");
        let diff = with(&["pin", "diff", "--pins", text(&pins), "--format", "json"]);
        for item in diff.records().expect("JSON lines") {
            assert_ne!(item["verdict"], "drifted", "{file}: {item}");
        }
    }
    assert!(
        with_endpoints >= 27,
        "only {with_endpoints} captures gave an endpoint"
    );
}

/// What was learned of the server before it moved raises the alerts of the move.
#[test]
fn learned_pins_catch_the_attacked_twin() {
    let dir = tempfile::tempdir().expect("folder");
    // The first 150 packets of the demo are benign; a pcap of Ethernet frames, little-endian.
    let whole = std::fs::read(in_demo("demo.pcap")).expect("demo.pcap");
    let mut end = 24;
    for _ in 0..150 {
        let length = u32::from_le_bytes(whole[end + 8..end + 12].try_into().expect("4 bytes"));
        end += 16 + length as usize;
    }
    let before = dir.path().join("before.pcap");
    std::fs::write(&before, &whole[..end]).expect("write");
    let pins = dir.path().join("pins.yaml");
    ends(&["pin", "learn", "--out", text(&pins), text(&before)], 0);
    // Cleartext credentials are in the capture whatever is pinned.
    let quiet = rules(&ends(&["replay", "--pins", text(&pins), text(&before)], 0));
    assert_eq!(quiet, BTreeSet::from(["CR-01".to_owned()]));
    let demo = in_demo("demo.pcap");
    let found = rules(&ends(&["replay", "--pins", text(&pins), text(&demo)], 0));
    for rule in ["DNS-01", "DST-02", "DG-06", "TD-01", "RED-01"] {
        assert!(found.contains(rule), "{rule} in {found:?}");
    }
    let diff = ends(
        &[
            "pin",
            "diff",
            "--pins",
            text(&pins),
            "--format",
            "json",
            text(&demo),
        ],
        3,
    );
    let items = diff.records().expect("JSON lines");
    let drifted: Vec<_> = items
        .iter()
        .filter(|i| i["verdict"] == "drifted")
        .cloned()
        .collect();
    assert_eq!(
        field(&drifted, "key"),
        ["addresses", "mcp.min_protocol_version", "mcp.tools", "endpoints"]
    );
    assert_eq!(drifted[0]["schema"], "mcp-monitor.pin-diff/1");
    let address = &drifted[0]["observed"][0];
    assert_eq!(
        (&address["value"], &address["verdict"]),
        (&"198.51.100.66".into(), &"drifted".into())
    );
}

/// Learning from the whole attack does not approve it.
#[test]
fn what_was_seen_under_an_alert_is_not_learned() {
    let learned = ends(&["pin", "learn", text(&in_demo("demo.pcap"))], 0);
    let yaml = String::from_utf8(learned.stdout).expect("UTF-8");
    assert!(yaml.contains("http://mcp.marketdata.example:8080/mcp"), "{yaml}");
    assert!(!yaml.contains("quotes-cdn.example"), "{yaml}");
    assert!(!yaml.contains("2024-11-05"), "{yaml}");
    assert!(yaml.contains("while an alert was open"), "it is said: {yaml}");
}

const COMMENTED: &str = "\
# Our servers. Ask Kim before changing this.
version: 1
endpoints:
  - name: market-data          # the ticket is OPS-12
    url: http://mcp.marketdata.example:8080/mcp
    addresses:
      - 203.0.113.0/24         # their network
    mesh_encrypted: true
    mcp: {transport: streamable-http, min_protocol_version: \"2025-06-18\"}   # as agreed

  # one more
  - name: other
    url: https://other.example/mcp
resolvers: [10.96.0.10]
";

#[test]
fn accepting_drift_changes_that_key_and_nothing_else() {
    let dir = tempfile::tempdir().expect("folder");
    let pins = dir.path().join("pins.yaml");
    std::fs::write(&pins, COMMENTED).expect("write");
    let demo = in_demo("demo.pcap");
    let diff = |more: &[&str], code| {
        ends(
            &[&["pin", "diff", "--pins", text(&pins)], more, &[text(&demo)]].concat(),
            code,
        )
    };
    let shown = String::from_utf8(diff(&[], 3).stdout).expect("UTF-8");
    assert!(shown.contains("drifted   market-data.addresses"), "{shown}");
    assert!(shown.contains("unseen    other.url"), "{shown}");
    // The stranger that the redirect led to stays drift.
    diff(
        &[
            "--accept",
            "market-data.addresses",
            "--accept",
            "market-data.mcp.min_protocol_version",
        ],
        3,
    );
    let now = std::fs::read_to_string(&pins).expect("pins");
    let expected = COMMENTED
        .replace("# their network\n", "# their network\n      - 198.51.100.66\n")
        .replace("\"2025-06-18\"", "\"2024-11-05\"");
    assert_eq!(now, expected);
    let items = diff(&["--format", "json"], 3).records().expect("JSON lines");
    let drifted: Vec<_> = items
        .iter()
        .filter(|i| i["verdict"] == "drifted")
        .cloned()
        .collect();
    assert_eq!(field(&drifted, "key"), ["endpoints"]);
    let wrong = diff(&["--accept", "market-data.adresses"], 2);
    assert!(wrong.stderr.contains("one of url, addresses"), "{}", wrong.stderr);
    assert_eq!(std::fs::read_to_string(&pins).expect("pins"), expected);
}

#[test]
fn wrong_usage_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("there.yaml");
    std::fs::write(&file, "version: 1\n").expect("write");
    let missing = dir.path().join("gone.sqlite");
    let capture = benign("lo-py-json.pcap");
    for (args, code, word) in [
        (vec!["pin", "learn"], 2, "expected captures"),
        (
            vec!["pin", "learn", "--out", text(&file), text(&capture)],
            2,
            "exists",
        ),
        (
            vec!["pin", "diff", "--pins", "/nonexistent.yaml", text(&capture)],
            2,
            "/nonexistent.yaml",
        ),
        (vec!["alerts"], 2, "--state"),
        (vec!["alerts", "--state", text(&missing)], 1, "no state file"),
        (
            vec!["alerts", "--state", text(&missing), "--rule", "XX-99"],
            2,
            "XX-99",
        ),
        (vec!["attest"], 2, "--state"),
    ] {
        let ran = ends(&args, code);
        assert_eq!(ran.error_lines().len(), 1, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
    assert!(!missing.exists(), "asking makes no file");
    let since = ends(&["alerts", "--state", text(&missing), "--since", "yesterday"], 2);
    assert!(since.stderr.contains("how long ago"), "{}", since.stderr);
}

#[test]
fn alerts_are_kept_and_found_again() {
    let dir = tempfile::tempdir().expect("folder");
    let state = dir.path().join("state.sqlite");
    let (pins, demo) = (in_demo("pins.yaml"), in_demo("demo.pcap"));
    let replay = [
        "replay",
        "--state",
        text(&state),
        "--pins",
        text(&pins),
        text(&demo),
    ];
    let said = ends(&replay, 0).records().expect("JSON lines");
    ends(&replay, 0);
    let asked = ends(&["alerts", "--state", text(&state)], 0);
    let mut kept = asked.records().expect("JSON lines");
    let by_id = |alert: &Value| alert["id"].to_string();
    let mut first = said.clone();
    first.sort_by_key(by_id);
    kept.sort_by_key(by_id);
    // Of alerts that the second replay raised too, with what it knew more, the id is the same.
    assert_eq!(field(&kept, "id"), field(&first, "id"));
    let critical = ends(
        &[
            "alerts",
            "--state",
            text(&state),
            "--severity",
            "critical",
            "--rule",
            "red-01",
        ],
        0,
    );
    let critical = critical.records().expect("JSON lines");
    assert_eq!(field(&critical, "rule"), ["RED-01"]);
    assert_eq!(critical[0]["schema"], "mcp-monitor.alert/1");
    let none = ends(&["alerts", "--state", text(&state), "--since", "2100-01-01"], 0);
    assert!(none.stdout.is_empty());
    // With other records on standard output, alerts go to the file alone.
    let quiet = dir.path().join("quiet.sqlite");
    let args = [
        "replay",
        "--emit",
        "flows",
        "--state",
        text(&quiet),
        "--pins",
        text(&pins),
        text(&demo),
    ];
    let flows = ends(&args, 0).records().expect("JSON lines");
    assert!(
        flows
            .iter()
            .all(|record| record["schema"] == "mcp-monitor.flow/1")
    );
    assert!(!ends(&["alerts", "--state", text(&quiet)], 0).stdout.is_empty());
}

/// What rules learned in one run is what the next one compares with.
#[test]
fn the_baseline_outlives_the_process() {
    let dir = tempfile::tempdir().expect("folder");
    let state = dir.path().join("state.sqlite");
    let whole = std::fs::read(in_demo("demo.pcap")).expect("demo.pcap");
    // Two captures: the benign sessions, and the attack.
    let mut offsets = vec![24];
    while let Some(&at) = offsets.last().filter(|at| **at < whole.len()) {
        let length = u32::from_le_bytes(whole[at + 8..at + 12].try_into().expect("4 bytes"));
        offsets.push(at + 16 + length as usize);
    }
    let (before, after) = (dir.path().join("before.pcap"), dir.path().join("after.pcap"));
    std::fs::write(&before, &whole[..offsets[150]]).expect("write");
    std::fs::write(&after, [&whole[..24], &whole[offsets[150]..]].concat()).expect("write");
    let with_state = |capture: &Path| rules(&ends(&["replay", "--state", text(&state), text(capture)], 0));
    let alone = rules(&ends(&["replay", text(&after)], 0));
    assert!(!alone.contains("DG-06"), "{alone:?}");
    with_state(&before);
    let first = with_state(&after);
    assert!(first.contains("DG-06"), "{first:?}");
    // The attack was not learned: it is still not what was there before.
    let again = with_state(&after);
    assert!(again.contains("DG-06"), "{again:?}");
    let learned = ends(&["pin", "learn", "--state", text(&state)], 0);
    let yaml = String::from_utf8(learned.stdout).expect("UTF-8");
    assert!(yaml.contains("min_protocol_version: \"2025-11-25\""), "{yaml}");
}

#[test]
fn a_broken_state_file_is_set_aside_and_the_work_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let state = dir.path().join("state.sqlite");
    std::fs::write(&state, b"not a database, but not empty either").expect("write");
    let capture = benign("lo-py-json.pcap");
    let ran = ends(&["replay", "--state", text(&state), text(&capture)], 0);
    assert_eq!(ran.error_lines().len(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("is broken") && ran.stderr.contains(".corrupt-"),
        "{}",
        ran.stderr
    );
    let again = ends(&["replay", "--state", text(&state), text(&capture)], 0);
    assert!(again.stderr.is_empty(), "{}", again.stderr);
}

/// The binary itself, killed while it writes: the file stays good, and a whole run after it has everything.
#[test]
fn killed_while_it_replays_it_leaves_a_good_file() {
    let dir = tempfile::tempdir().expect("folder");
    let state = dir.path().join("state.sqlite");
    let (pins, demo) = (in_demo("pins.yaml"), in_demo("demo.pcap"));
    let args = [
        "replay",
        "--state",
        text(&state),
        "--pins",
        text(&pins),
        text(&demo),
    ];
    let begun = std::time::Instant::now();
    let alerts = ends(&args, 0).records().expect("JSON lines").len();
    let whole = begun.elapsed();
    for round in 1..=30_u32 {
        let mut child = Command::new(binary::path())
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mcp-monitor");
        std::thread::sleep(whole * round / 28);
        let _ = child.kill();
        child.wait().expect("wait");
        let asked = ends(&["alerts", "--state", text(&state)], 0);
        assert_eq!(
            asked.records().expect("JSON lines").len(),
            alerts,
            "round {round}"
        );
    }
    assert!(ends(&args, 0).stderr.is_empty());
}

#[test]
fn an_attestation_says_what_was_verified_and_what_was_not_seen() {
    let dir = tempfile::tempdir().expect("folder");
    let capture = benign("veth-dns-mcp.pcap");
    let pins = dir.path().join("pins.yaml");
    ends(&["pin", "learn", "--out", text(&pins), text(&capture)], 0);
    let attest = |more: &[&str]| ends(&[&["attest"], more].concat(), 0);
    let records = attest(&["--pins", text(&pins), text(&capture)])
        .records()
        .expect("JSON lines");
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["schema"], "mcp-monitor.attestation/1");
    assert_eq!(
        (&record["endpoint"], &record["verified"]),
        (&"mcp-servers-everything".into(), &true.into())
    );
    // The index of the captures says 42: four of them are the server's.
    assert_eq!(record["requests"], 38);
    for (key, verdict) in [
        ("addresses", "held"),
        ("mcp.tools", "held"),
        ("mcp.min_protocol_version", "held"),
        ("tls.min_version", "unseen"),
        ("auth.required", "unpinned"),
    ] {
        assert_eq!(record["checks"][key]["verdict"], verdict, "{key}: {record}");
    }
    let shown = attest(&["--pins", text(&pins), "--format", "text", text(&capture)]);
    let shown = String::from_utf8(shown.stdout).expect("UTF-8");
    assert!(
        shown.contains("Verified: everything pinned that was seen"),
        "{shown}"
    );
    // The same from a state file; and nothing of it after the capture's hour.
    let state = dir.path().join("state.sqlite");
    ends(
        &[
            "replay",
            "--state",
            text(&state),
            "--pins",
            text(&pins),
            text(&capture),
        ],
        0,
    );
    assert_eq!(
        attest(&["--state", text(&state)]).records().expect("JSON lines"),
        records
    );
    assert!(
        attest(&["--state", text(&state), "--since", "2026-11-22T08:00:00Z"])
            .stdout
            .is_empty()
    );
    // Of the attack, nothing is attested.
    let attacked = attest(&["--pins", text(&in_demo("pins.yaml")), text(&in_demo("demo.pcap"))]);
    for record in attacked.records().expect("JSON lines") {
        assert_eq!(record["verified"], false, "{record}");
    }
}

#[test]
fn observations_are_said_once_with_their_count() {
    let ran = ends(
        &[
            "replay",
            "--emit",
            "observations",
            text(&benign("veth-dns-mcp.pcap")),
        ],
        0,
    );
    let records = ran.records().expect("JSON lines");
    let keys: BTreeSet<String> = records
        .iter()
        .map(|r| format!("{} {} {}", r["kind"], r["subject"], r["value"]))
        .collect();
    assert_eq!(keys.len(), records.len(), "each once");
    for kind in [
        "dns-answer",
        "dns-cname",
        "dns-resolver",
        "dns-ttl",
        "address",
        "endpoint",
        "protocol",
        "server",
        "capability",
        "authentication",
        "tool",
    ] {
        assert!(field(&records, "kind").contains(&kind), "{kind}");
    }
    let resolver = records
        .iter()
        .find(|r| r["kind"] == "dns-resolver")
        .expect("resolver");
    assert_eq!(resolver["count"], 20, "responses, says the index of the captures");
}
