//! Dedup, suppression, severity.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use super::record::{Alert, Evidence, Flow, Mcp, ProcessRef, Taxonomy, hex_prefix};
use crate::{
    config::pins::Pins,
    detect::{Finding, Seen, catalogue},
    types::{Severity, Timestamp},
};

/// When alerts leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// One line per alert with its final count, when its window closes or the input ends: replay.
    #[default]
    Settled,
    /// The first occurrence at once; again with the same id when the window closes, if the
    /// count grew: live.
    Immediate,
}

/// How an [`Alerter`] works.
#[derive(Clone, Debug)]
pub struct AlerterOptions {
    /// When alerts leave.
    pub mode: Mode,
    /// Occurrences within this capture time of the first are one alert. Default 10 minutes.
    pub window: Duration,
    /// Most alerts open at a time; beyond it the oldest leaves early (counted). Default 65 536.
    pub max_open: usize,
    /// Most packets named as evidence of one alert. Default 16.
    pub max_packets: usize,
    /// Capture files by [`crate::types::PacketId::file`]; empty live.
    pub captures: Vec<String>,
}

impl Default for AlerterOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            window: Duration::from_secs(600),
            max_open: 65_536,
            max_packets: 16,
            captures: Vec::new(),
        }
    }
}

/// What did not become a new alert, and why.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct AlerterCounters {
    /// Findings taken.
    pub findings: u64,
    /// Of rules that the pins turn off.
    pub disabled: u64,
    /// Accepted in the pins' `suppress`.
    pub suppressed: u64,
    /// Counted on an open alert.
    pub repeated: u64,
    /// Alerts that left before their window closed because too many were open.
    pub early: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    rule: &'static str,
    endpoint: Option<usize>,
    expected: Vec<String>,
    observed: Option<String>,
    client: Option<IpAddr>,
    server: Option<String>,
}

#[derive(Debug)]
struct Open {
    key: Key,
    alert: Alert,
    /// Count when it last left.
    told: u64,
}

/// Order of alerts: first seen, then as they came.
type Place = (Timestamp, u64);

/// Turns findings into alerts. Feed with [`Alerter::take`] in order of capture time, call
/// [`Alerter::advance`] as capture time passes and [`Alerter::finish`] at the end; collect
/// with [`Alerter::poll`].
#[derive(Debug)]
pub struct Alerter {
    pins: Arc<Pins>,
    options: AlerterOptions,
    open: BTreeMap<Place, Open>,
    places: HashMap<Key, Place>,
    ready: VecDeque<Alert>,
    counters: AlerterCounters,
    serial: u64,
}

impl Alerter {
    /// Without alerts.
    pub fn new(pins: Arc<Pins>, options: AlerterOptions) -> Self {
        Self {
            pins,
            options,
            open: BTreeMap::new(),
            places: HashMap::new(),
            ready: VecDeque::new(),
            counters: AlerterCounters::default(),
            serial: 0,
        }
    }

    /// Changes the pins. Open alerts, which refer to the old ones, leave.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        self.finish();
        self.pins = pins;
    }

    /// What did not become a new alert.
    pub fn counters(&self) -> AlerterCounters {
        self.counters
    }

    /// Takes a finding of an event; the severity of its alert, unless the pins turn it off or accept it.
    pub fn take(&mut self, finding: Finding, seen: &Seen<'_>) -> Option<Severity> {
        self.counters.findings = self.counters.findings.saturating_add(1);
        let now = seen.at.time;
        self.advance(now);
        let meta = catalogue::meta(finding.rule)?;
        let setting = self.pins.rules.get(meta.id);
        if setting.is_some_and(|s| !s.enabled) {
            self.counters.disabled = self.counters.disabled.saturating_add(1);
            return None;
        }
        if self.is_suppressed(&finding, now) {
            self.counters.suppressed = self.counters.suppressed.saturating_add(1);
            return None;
        }
        let severity = setting
            .and_then(|s| s.severity)
            .or(finding.severity)
            .unwrap_or(meta.severity);
        let flow = seen.flow.map(|flow| Flow::new(flow, seen.connection));
        let key = Key {
            rule: meta.id,
            endpoint: finding.endpoint,
            client: flow.as_ref().map(|f| f.client.ip),
            server: flow
                .as_ref()
                .map(|f| f.server_name.clone().unwrap_or_else(|| f.server.ip.to_string())),
            expected: finding.expected,
            observed: finding.observed,
        };
        let packets = finding
            .evidence
            .iter()
            .filter(|p| p.file == seen.at.packet.file)
            .map(|p| p.number)
            .chain([seen.at.packet.number]);
        if let Some(place) = self.places.get(&key)
            && let Some(open) = self.open.get_mut(place)
        {
            self.counters.repeated = self.counters.repeated.saturating_add(1);
            let alert = &mut open.alert;
            alert.count = alert.count.saturating_add(1);
            alert.last_seen = alert.last_seen.max(now);
            add_packets(&mut alert.evidence.packets, packets, self.options.max_packets);
            if severity > alert.severity {
                alert.severity = severity;
                // Someone may have to be woken: that does not wait for the window.
                if self.options.mode == Mode::Immediate {
                    open.told = alert.count;
                    self.ready.push_back(alert.clone());
                }
            }
            return Some(severity);
        }
        let mut evidence = Evidence {
            packets: Vec::new(),
            capture: self
                .options
                .captures
                .get(usize::from(seen.at.packet.file))
                .cloned(),
        };
        add_packets(&mut evidence.packets, packets, self.options.max_packets);
        let endpoint = self.pins.endpoint(finding.endpoint).map(|e| e.name.to_string());
        let alert = Alert {
            schema: "mcp-monitor.alert/1",
            id: alert_id(&key, endpoint.as_deref(), now, seen.at.packet.number),
            time: now,
            rule: meta.id,
            name: meta.slug,
            category: meta.category,
            severity,
            summary: finding.summary,
            endpoint,
            expected: key.expected.clone(),
            observed: key.observed.clone(),
            flow,
            process: ProcessRef::of(seen),
            kubernetes: None,
            mcp: Mcp::of(seen),
            evidence,
            taxonomy: Taxonomy {
                air_sec_026: meta.taxonomy.air_sec_026,
                owasp_mcp: meta.taxonomy.owasp_mcp,
                atlas: meta.taxonomy.atlas,
            },
            count: 1,
            first_seen: now,
            last_seen: now,
        };
        self.add(key, alert, now);
        Some(severity)
    }

    fn add(&mut self, key: Key, alert: Alert, now: Timestamp) {
        if self.open.len() >= self.options.max_open {
            self.counters.early = self.counters.early.saturating_add(1);
            self.close_first();
        }
        let told = match self.options.mode {
            Mode::Settled => 0,
            Mode::Immediate => {
                self.ready.push_back(alert.clone());
                1
            }
        };
        self.serial = self.serial.saturating_add(1);
        let place = (now, self.serial);
        self.places.insert(key.clone(), place);
        self.open.insert(place, Open { key, alert, told });
    }

    fn is_suppressed(&self, finding: &Finding, now: Timestamp) -> bool {
        self.pins.suppress.iter().any(|s| {
            s.rule == finding.rule
                && s.endpoint.is_none_or(|e| finding.endpoint == Some(e))
                && s.until.is_none_or(|until| now < until)
        })
    }

    fn close_first(&mut self) {
        if let Some((_, open)) = self.open.pop_first() {
            self.places.remove(&open.key);
            if open.alert.count > open.told {
                self.ready.push_back(open.alert);
            }
        }
    }

    /// Capture time is `now`: alerts whose window has closed leave, oldest first.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(((first, _), _)) = self.open.first_key_value() {
            if now.since(*first) < self.options.window {
                break;
            }
            self.close_first();
        }
    }

    /// The input ended: all alerts leave.
    pub fn finish(&mut self) {
        while !self.open.is_empty() {
            self.close_first();
        }
    }

    /// The next alert to write.
    pub fn poll(&mut self) -> Option<Alert> {
        self.ready.pop_front()
    }
}

fn add_packets(into: &mut Vec<u64>, more: impl Iterator<Item = u64>, max: usize) {
    for packet in more {
        if packet == 0 || into.len() >= max {
            continue;
        }
        if let Err(place) = into.binary_search(&packet) {
            into.insert(place, packet);
        }
    }
}

fn alert_id(key: &Key, endpoint: Option<&str>, first: Timestamp, packet: u64) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    part(key.rule);
    part(endpoint.unwrap_or_default());
    part(&key.expected.len().to_string());
    for expected in &key.expected {
        part(expected);
    }
    part(key.observed.as_deref().unwrap_or_default());
    part(&key.client.map(|ip| ip.to_string()).unwrap_or_default());
    part(key.server.as_deref().unwrap_or_default());
    part(&first.0.to_string());
    part(&packet.to_string());
    hex_prefix(&hash.finalize(), 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detect::{SeenKind, testing::Bench},
        types::PacketId,
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
    fn live_alerts_leave_at_once_and_again_when_they_grew() {
        let (alerts, _) = run(PINS, Mode::Immediate, &[0, 1, 700]);
        assert_eq!(alerts.iter().map(|a| a.count).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(alerts[0].id, alerts[1].id);
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
                "last_seen"
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
    }
}
