//! What leaves when, and what it counts.

use base64::Engine as _;

use super::*;
use crate::{
    detect::{
        SeenKind, Severity,
        testing::{Bench, certificate, handshake},
    },
    proto::tls::{Handshake, HandshakeEnd},
    types::{PacketId, Pod, Qos},
};

const PINS: &str = "version: 1\nendpoints: [{name: a, url: 'https://a.example/mcp'}]\n";

fn finding() -> Finding {
    Finding {
        rule: "DNS-01",
        summary: "a moved\u{1b}[2J".to_owned(),
        endpoint: Some(0),
        expected: vec!["203.0.113.0/24".to_owned()],
        observed: Some("198.51.100.66".to_owned()),
        severity: None,
        evidence: vec![PacketId {
            order: 1,
            number: 1,
            file: 0,
        }],
    }
}

fn run(pins: &str, mode: Mode, gaps: &[u64]) -> (Vec<Alert>, AlerterCounters) {
    let options = AlerterOptions {
        mode,
        captures: vec!["x.pcap".to_owned()],
        ..AlerterOptions::default()
    };
    let mut alerter = Alerter::new(Arc::new(Pins::parse(pins, "p").unwrap()), options);
    let mut bench = Bench::bare();
    let mut alerts = Vec::new();
    for gap in gaps {
        bench.wait(Duration::from_secs(*gap));
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(finding(), seen);
        });
        while let Some(alert) = alerter.poll() {
            alerts.push(alert);
        }
    }
    alerter.finish();
    while let Some(alert) = alerter.poll() {
        alerts.push(alert);
    }
    (alerts, alerter.counters())
}

#[test]
fn one_line_per_alert_with_its_final_count() {
    let (alerts, counters) = run(PINS, Mode::Settled, &[0, 1, 2, 700]);
    assert_eq!(alerts.iter().map(|a| a.count).collect::<Vec<_>>(), [3, 1]);
    assert_ne!(alerts[0].id, alerts[1].id);
    assert_eq!(counters.repeated, 2);
    let again = run(PINS, Mode::Settled, &[0, 1, 2, 700]).0;
    assert_eq!(again[0].id, alerts[0].id);
}

#[test]
fn a_server_that_proves_its_pinned_key_is_raised_lower() {
    let ours = || vec![certificate("a.example", "CN=Some CA")];
    let spki = base64::engine::general_purpose::STANDARD.encode(ours()[0].spki_sha256);
    let pins = format!(
        "version: 1\nendpoints: [{{name: a, url: 'https://a.example/mcp', addresses: [203.0.113.0/24], tls: {{spki_sha256: ['{spki}']}}}}]\n"
    );
    let graded = format!("{pins}rules: {{DNS-01: {{severity: critical}}}}\n");
    let refused = || Handshake {
        end: HandshakeEnd::Unknown,
        ..handshake(ours(), None)
    };
    let lowered = [Severity::High, Severity::Low, Severity::Low];
    let high = [Severity::High, Severity::High];
    for (pins, shown, severities) in [
        (&pins, handshake(ours(), None), &lowered[..]),
        (
            &pins,
            handshake(vec![certificate("a.example", "CN=Other")], None),
            &lowered[..],
        ),
        (
            &pins,
            handshake(vec![certificate("b.example", "CN=Some CA")], None),
            &high[..],
        ),
        (&pins, refused(), &high[..]),
        (&graded, handshake(ours(), None), &[Severity::Critical; 2][..]),
    ] {
        let options = AlerterOptions {
            mode: Mode::Immediate,
            ..AlerterOptions::default()
        };
        let mut alerter = Alerter::new(Arc::new(Pins::parse(pins, "p").unwrap()), options);
        let mut bench = Bench::bare();
        bench.server("https://a.example/mcp", "198.51.100.66");
        bench.connection.endpoint = Some(0);
        let mut said = Vec::new();
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(finding(), seen);
        });
        bench.with_seen(SeenKind::Handshake(&shown), |seen| alerter.see(seen));
        bench.wait(Duration::from_secs(700));
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(finding(), seen);
        });
        while let Some(alert) = alerter.poll() {
            assert_eq!(
                alert.summary.contains("proved a pinned key"),
                alert.severity == Severity::Low
            );
            said.push(alert.severity);
        }
        assert_eq!(said, severities);
    }
}

#[test]
fn live_alerts_leave_at_once_and_again_when_they_grew() {
    let (alerts, _) = run(PINS, Mode::Immediate, &[0, 1, 700]);
    assert_eq!(alerts.iter().map(|a| a.count).collect::<Vec<_>>(), [1, 2, 1]);
    assert_eq!(alerts[0].id, alerts[1].id);
}

#[test]
fn each_pod_has_its_own_alert_and_a_program_that_runs_again_has_not() {
    let pod = |uid: &str| Some(Arc::new(Pod::new(uid, Qos::Burstable)));
    let process = |pid, exe: &str, pod| Process {
        pid,
        exe: Some(exe.into()),
        pod,
        ..Process::default()
    };
    let mut alerter = Alerter::new(
        Arc::new(Pins::parse(PINS, "p").unwrap()),
        AlerterOptions::default(),
    );
    let mut bench = Bench::bare();
    for process in [
        process(1, "/usr/bin/node", pod("a")),
        process(2, "/usr/bin/python3", pod("a")),
        process(3, "/usr/bin/node", pod("b")),
        process(4, "/usr/bin/node", None),
        process(5, "/usr/bin/node", None),
        process(6, "/usr/bin/python3", None),
    ] {
        bench.connection.process = Some(Arc::new(process));
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(finding(), seen);
        });
    }
    alerter.finish();
    let alerts: Vec<Alert> = std::iter::from_fn(|| alerter.poll()).collect();
    let told: Vec<_> = alerts
        .iter()
        .map(|a| (a.process.as_ref().unwrap().pid, a.count))
        .collect();
    assert_eq!(told, [(1, 2), (3, 1), (4, 2), (6, 1)]);
    let ids: std::collections::BTreeSet<&str> = alerts.iter().map(|a| &*a.id).collect();
    assert_eq!(ids.len(), 4);
    let incidents: std::collections::BTreeSet<_> = alerts
        .iter()
        .map(|a| a.incident.as_ref().unwrap().id.clone())
        .collect();
    assert_eq!(incidents.len(), 1, "one thing happens, to four");
}

#[test]
fn pins_turn_off_suppress_and_grade() {
    let off = format!("{PINS}rules: {{DNS-01: {{enabled: false}}}}\n");
    assert_eq!(run(&off, Mode::Settled, &[0]).1.disabled, 1);
    let graded = format!("{PINS}rules: {{DNS-01: {{severity: low}}}}\n");
    assert_eq!(run(&graded, Mode::Settled, &[0]).0[0].severity, Severity::Low);
    let until = |t: &str| format!("{PINS}suppress: [{{rule: DNS-01, endpoint: a, until: {t}}}]\n");
    assert_eq!(
        run(&until("2030-01-01T00:00:00Z"), Mode::Settled, &[0]).0.len(),
        0
    );
    assert_eq!(
        run(&until("2020-01-01T00:00:00Z"), Mode::Settled, &[0]).0.len(),
        1
    );
}

#[test]
fn an_endpoint_s_own_setting_goes_first() {
    let own = "version: 1\nendpoints: [{name: a, url: 'https://a.example/mcp', rules: {DNS-01: {enabled: true, severity: critical}}}]\nrules: {DNS-01: {enabled: false}}\n";
    assert_eq!(run(own, Mode::Settled, &[0]).0[0].severity, Severity::Critical);
}

/// Different findings of one rule, one a second.
fn flood(mode: Mode, findings: usize) -> (Vec<Alert>, AlerterCounters) {
    let options = AlerterOptions {
        mode,
        ..AlerterOptions::default()
    };
    let mut alerter = Alerter::new(Arc::new(Pins::parse(PINS, "p").unwrap()), options);
    let mut bench = Bench::bare();
    for n in 0..findings {
        bench.wait(Duration::from_millis(500));
        let one = Finding {
            observed: Some(n.to_string()),
            ..finding()
        };
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(one, seen);
        });
    }
    alerter.finish();
    let mut alerts = Vec::new();
    while let Some(alert) = alerter.poll() {
        alerts.push(alert);
    }
    (alerts, alerter.counters())
}

#[test]
fn a_storm_of_one_rule_is_one_alert_with_a_count_and_a_rate() {
    let (alerts, counters) = flood(Mode::Settled, 100);
    assert_eq!(alerts.len(), 31);
    let storm = alerts.last().unwrap();
    assert_eq!((storm.count, storm.storm.unwrap().per_minute), (70, 70));
    assert_eq!(storm.observed.as_deref(), Some("70 findings, 70 a minute"));
    assert_eq!(storm.expected, ["at most 30 a minute"]);
    assert_eq!(storm.endpoint.as_deref(), Some("a"));
    assert!(
        storm
            .summary
            .contains("DNS-01 dns-answer-drift found more than 30")
    );
    assert_eq!(counters.stormed, 70);
    let live = flood(Mode::Immediate, 100).0;
    assert_eq!(live.len(), 32, "the storm at once, and its final count");
    assert_eq!(live.last().unwrap().id, live[30].id);
    assert_eq!(flood(Mode::Settled, 30).0.len(), 30);
}

#[test]
fn findings_on_one_endpoint_are_one_incident_in_their_order() {
    let pins = Pins::parse(PINS, "p").unwrap();
    let mut alerter = Alerter::new(Arc::new(pins), AlerterOptions::default());
    let mut bench = Bench::bare();
    for rule in ["DNS-01", "DG-06", "OP-06", "CR-01"] {
        bench.wait(Duration::from_secs(5));
        let one = Finding { rule, ..finding() };
        bench.with_seen(SeenKind::Open, |seen| {
            alerter.take(one, seen);
        });
    }
    alerter.finish();
    let mut places = Vec::new();
    while let Some(alert) = alerter.poll() {
        let text = alert.to_string();
        places.push(alert.incident.as_ref().map(|i| {
            assert!(text.contains(&format!("incident {}#{}", i.id, i.order)), "{text}");
            (i.id.clone(), i.order)
        }));
    }
    let id = places[0].clone().unwrap().0;
    let at = |order| Some((id.clone(), order));
    assert_eq!(places, [at(1), at(2), None, at(3)]);
}

#[test]
fn the_record_is_that_of_the_contract() {
    let (alerts, _) = run(PINS, Mode::Settled, &[0]);
    let json: serde_json::Value = serde_json::to_value(&alerts[0]).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "schema",
            "id",
            "time",
            "rule",
            "name",
            "category",
            "severity",
            "summary",
            "endpoint",
            "expected",
            "observed",
            "flow",
            "process",
            "kubernetes",
            "mcp",
            "evidence",
            "taxonomy",
            "count",
            "first_seen",
            "last_seen",
            "incident",
            "storm"
        ]
    );
    assert_eq!(json["category"], "dns");
    assert_eq!(json["evidence"]["capture"], "x.pcap");
    assert_eq!(json["taxonomy"]["air_sec_026"][0], "dns-infrastructure");
    assert!(json["kubernetes"].is_null() && json["mcp"].is_null());
    let text = alerts[0].to_string();
    assert!(
        text.contains("HIGH") && text.contains("DNS-01 dns-answer-drift [a]"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    assert!(
        alerts[0].summary.ends_with(" (agent 10.1.0.5)"),
        "{}",
        alerts[0].summary
    );
}
