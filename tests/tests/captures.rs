//! The built binary over real captures: the counts of an independent reader are met exactly.

use std::path::PathBuf;

use mcp_monitor_tests::{binary, paths};
use serde_json::Value;

fn benign() -> PathBuf {
    paths::captures().join("benign")
}

fn index() -> Vec<Value> {
    let text = std::fs::read_to_string(benign().join("index.json")).expect("index.json");
    serde_json::from_str(&text).expect("index.json is JSON")
}

/// Files whose index cannot hold, and why. The session of `veth-dns-mcp.pcap` runs over IPv6;
/// its 40 packets of IPv4 are DNS alone (`tcpdump -r veth-dns-mcp.pcap ip`). These three were
/// made from the IPv4 packets only, so that no MCP is left in them; what must hold of them is
/// what holds of those 40 packets.
const IPV4_PART_ONLY: &[&str] = &[
    "veth-dns-mcp.raw.pcap",
    "veth-dns-mcp.null.pcap",
    "veth-dns-mcp.seg7.pcap",
];

/// The counts of the index that the summary does not meet, with the keys that the index names.
fn differences(file: &str, counts: &Value, keylog: Option<&str>) -> Vec<String> {
    let path = benign().join(file);
    let keylog = keylog.map(|k| benign().join(k));
    let mut args = vec![path.to_str().expect("UTF-8")];
    if let Some(keylog) = &keylog {
        args.extend(["--keylog", keylog.to_str().expect("UTF-8")]);
    }
    let (_, summary) = binary::replay(&args).expect(file);
    let mut wrong = Vec::new();
    for (name, expected) in counts.as_object().expect("counts") {
        let (expected, found) = (
            expected.as_u64().expect("a number"),
            binary::count(&summary, name),
        );
        if found != expected {
            wrong.push(format!("{file}: {name} is {found}, the index says {expected}"));
        }
    }
    // A method that nobody sent is as wrong as one that was missed.
    for method in summary["mcp"]["methods"].as_object().into_iter().flatten() {
        if counts.get(format!("mcp.methods.{}", method.0)).is_none() {
            wrong.push(format!(
                "{file}: mcp.methods.{} is {}, the index has none",
                method.0, method.1
            ));
        }
    }
    wrong
}

#[test]
fn counts_are_those_of_the_independent_reader() {
    let mut wrong = Vec::new();
    let mut met = 0;
    for entry in index() {
        let file = entry["file"].as_str().expect("file");
        let Some(counts) = entry.get("counts").filter(|_| !IPV4_PART_ONLY.contains(&file)) else {
            continue;
        };
        let differences = differences(file, counts, entry["keylog"].as_str());
        if differences.is_empty() {
            met += 1;
        }
        wrong.extend(differences);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(met >= 24, "only {met} captures had counts to meet");
}

#[test]
fn the_ipv4_part_of_a_session_is_its_dns() {
    for file in IPV4_PART_ONLY {
        let path = benign().join(file);
        let (_, summary) = binary::replay(&[path.to_str().expect("UTF-8")]).expect(file);
        let expected = [
            ("packets", 40),
            ("dns.queries", 20),
            ("dns.responses", 20),
            ("mcp.requests", 0),
        ];
        for (name, expected) in expected {
            assert_eq!(binary::count(&summary, name), expected, "{file}: {name}");
        }
    }
}

#[test]
fn every_capture_replays_without_error() {
    for entry in index() {
        let file = entry["file"].as_str().expect("file");
        let path = benign().join(file);
        let (ran, summary) = binary::replay(&[path.to_str().expect("UTF-8")]).expect(file);
        ran.records().expect("JSON lines");
        assert_eq!(binary::count(&summary, "capture_errors"), 0, "{file}");
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    for entry in index() {
        let file = entry["file"].as_str().expect("file");
        let path = benign().join(file);
        let run = |threads: &str| {
            let args = [
                "replay",
                "--threads",
                threads,
                "--emit",
                "alerts,messages,flows,observations",
            ];
            let ran = binary::run(args.into_iter().chain(path.to_str())).expect(file);
            assert_eq!(ran.code, 0, "{file} with {threads} threads: {}", ran.stderr);
            ran.stdout
        };
        let (one, two) = (run("1"), run("2"));
        assert!(
            one == two,
            "{file}: 1 thread wrote {} bytes, 2 wrote {} or others",
            one.len(),
            two.len()
        );
    }
}

#[test]
fn several_files_are_one_timeline() {
    let path = |file: &str| benign().join(file).to_str().expect("UTF-8").to_owned();
    let (a, b) = (path("veth-dns-mcp.pcap"), path("lo-py-json.pcap"));
    let emit = ["--emit", "messages"];
    let (forth, summary) = binary::replay(&[&emit[..], &[&a, &b]].concat()).expect("replay");
    let (back, _) = binary::replay(&[&emit[..], &[&b, &a]].concat()).expect("replay");
    assert_eq!(binary::count(&summary, "packets"), 327 + 259);
    let times = |ran: &binary::Ran| -> Vec<String> {
        let records = ran.records().expect("JSON lines");
        records
            .iter()
            .map(|record| record["time"].as_str().expect("time").to_owned())
            .collect()
    };
    let (forth, back) = (times(&forth), times(&back));
    assert_eq!(
        forth.len(),
        42 + 41 + 16 + 30 + 30 + 1,
        "every message of both files"
    );
    assert_eq!(forth, back, "the order of the arguments does not matter");
}

/// The capture that `cargo xtask demo` shows where it cannot run live.
#[test]
fn the_shipped_demo_tells_its_story() {
    let dir = paths::captures().join("demo");
    let text = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let (ran, _) = binary::replay(&["--pins", &text("pins.yaml"), &text("demo.pcap")]).expect("replay");
    let alerts = ran.records().expect("alerts");
    let rules: Vec<&str> = alerts.iter().filter_map(|alert| alert["rule"].as_str()).collect();
    for rule in ["DNS-01", "DST-02", "RED-01", "RED-02", "DG-06", "CR-01"] {
        assert!(rules.contains(&rule), "{rule} in {rules:?}");
    }
    // The name moves after packet 150; the two sessions before it are benign.
    for alert in &alerts {
        let packets = alert["evidence"]["packets"].as_array().expect("evidence.packets");
        let first = packets.first().and_then(Value::as_u64).expect("a packet");
        assert!(
            first > 150,
            "{} at packet {first}: {}",
            alert["rule"],
            alert["summary"]
        );
    }
    // What the agent was tricked into sending is in the capture, and in no alert.
    let capture = std::fs::read(dir.join("demo.pcap")).expect("demo.pcap");
    for secret in ["demo-7f3kq9x2m5v8b1n4", "demo-key-2b9d4c7e1f8a6035"] {
        let holds = |bytes: &[u8]| {
            bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes())
        };
        assert!(
            holds(&capture) && !holds(&ran.stdout) && !holds(ran.stderr.as_bytes()),
            "{secret}"
        );
    }
}
