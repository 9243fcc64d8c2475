//! Dedup, suppression, severity.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use super::{
    Kubernetes,
    incident::{Incidents, Subject},
    proof::{self, Proofs},
    record::{Alert, Evidence, Flow, Mcp, ProcessRef, Taxonomy, hex_prefix},
    storm::{Bucket, Storm, Storms},
};
use crate::{
    config::pins::Pins,
    detect::{Finding, Seen, Severity, catalogue, rule::Meta, text::shown},
    flow::FlowRef,
    mcp::context::Connection,
    types::{Process, Timestamp},
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
    /// Different findings of one rule on one server in a minute of capture time that are alerts of their
    /// own; those above it are one alert, a storm. Default 30; for a rule everywhere ten times that.
    pub storm: u64,
    /// Alerts on one server that follow each other within this capture time are one incident. Default
    /// 30 minutes.
    pub incident_gap: Duration,
    /// Capture files by [`crate::types::PacketId::file`]; empty live.
    pub captures: Vec<String>,
    /// The Kubernetes node that this runs on, live.
    pub node: Option<Arc<str>>,
}

impl Default for AlerterOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            window: Duration::from_secs(600),
            max_open: 65_536,
            max_packets: 16,
            storm: 30,
            incident_gap: Duration::from_secs(1800),
            captures: Vec::new(),
            node: None,
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
    /// Findings that are part of a storm instead of an alert of their own.
    pub stormed: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    rule: &'static str,
    endpoint: Option<usize>,
    expected: Vec<String>,
    observed: Option<String>,
    client: Option<IpAddr>,
    server: Option<String>,
    /// See [`whose`].
    whose: Option<String>,
    /// The alert of a storm: the limit it went over.
    storm: Option<u64>,
}

#[derive(Debug)]
struct Open {
    key: Key,
    alert: Alert,
    /// The server under which its incident is kept.
    about: Option<String>,
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
    storms: Storms,
    incidents: Incidents,
    proofs: Proofs,
    counters: AlerterCounters,
    serial: u64,
}

impl Alerter {
    /// Without alerts.
    pub fn new(pins: Arc<Pins>, options: AlerterOptions) -> Self {
        Self {
            pins,
            storms: Storms::new(options.storm.max(1)),
            incidents: Incidents::new(options.incident_gap),
            proofs: Proofs::default(),
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
        self.proofs.clear();
        self.pins = pins;
    }

    /// Looks at an event before its findings. A server outside its pinned addresses that proves a pinned
    /// key lowers what is open about its address.
    pub fn see(&mut self, seen: &Seen<'_>) {
        let Some((endpoint, address)) = self.proofs.see(seen, &self.pins) else {
            return;
        };
        let address = address.to_string();
        for open in self.open.values_mut() {
            let key = &open.key;
            let about = key.endpoint == Some(endpoint)
                && key.observed.as_deref() == Some(&*address)
                && proof::RULES.contains(&key.rule);
            let client = open
                .alert
                .kubernetes
                .as_ref()
                .and_then(|k| k.namespace.as_deref());
            let set = self.pins.severity(key.rule, key.endpoint, client).is_some();
            if !about || set || open.alert.severity <= Severity::Low {
                continue;
            }
            open.alert.severity = Severity::Low;
            open.alert.summary.push_str(proof::NOTE);
            if self.options.mode == Mode::Immediate {
                open.told = open.alert.count;
                self.ready.push_back(open.alert.clone());
            }
        }
    }

    /// What did not become a new alert.
    pub fn counters(&self) -> AlerterCounters {
        self.counters
    }

    /// Takes a finding of an event; the severity of its alert, unless the pins turn it off or accept it.
    pub fn take(&mut self, mut finding: Finding, seen: &Seen<'_>) -> Option<Severity> {
        self.counters.findings = self.counters.findings.saturating_add(1);
        let now = seen.at.time;
        self.advance(now);
        let meta = catalogue::meta(finding.rule)?;
        let client = seen.connection.and_then(Connection::namespace);
        let client = client.as_deref();
        if !self.pins.enables(meta.id, finding.endpoint, client) {
            self.counters.disabled = self.counters.disabled.saturating_add(1);
            return None;
        }
        if self.is_suppressed(&finding, client, now) {
            self.counters.suppressed = self.counters.suppressed.saturating_add(1);
            return None;
        }
        let observed = finding.observed.as_deref();
        if self.pins.severity(meta.id, finding.endpoint, client).is_none()
            && self.proofs.covers(finding.rule, finding.endpoint, observed, now)
        {
            finding.severity = Some(Severity::Low);
            finding.summary.push_str(proof::NOTE);
        }
        let severity = self
            .pins
            .severity(meta.id, finding.endpoint, client)
            .or(finding.severity)
            .unwrap_or(meta.severity);
        let server = |flow: &FlowRef| {
            let name = seen.connection.and_then(Connection::server_name);
            name.map_or_else(|| flow.info.server.ip().to_string(), str::to_owned)
        };
        let key = Key {
            rule: meta.id,
            endpoint: finding.endpoint,
            client: seen.flow.map(|flow| flow.info.client.ip()),
            server: seen.flow.map(server),
            whose: seen.connection.and_then(|c| c.process.as_deref()).map(whose),
            expected: finding.expected,
            observed: finding.observed,
            storm: None,
        };
        let packets: Vec<u64> = finding
            .evidence
            .iter()
            .filter(|p| p.file == seen.at.packet.file)
            .map(|p| p.number)
            .chain([seen.at.packet.number])
            .collect();
        if self.repeat(&key, &packets, severity, now) {
            return Some(severity);
        }
        let endpoint = self.pins.endpoint(finding.endpoint).map(|e| e.name.to_string());
        // Of DNS, the server of the flow is the resolver, which the finding is seldom about.
        let about = endpoint
            .clone()
            .or_else(|| key.server.clone().filter(|_| meta.category != "dns"));
        let server = about.clone().unwrap_or_default();
        let storm = self.storms.over(meta.id, &server, now);
        let storm = storm.map(|(bucket, limit)| (storm_key(meta.id, bucket, limit, &key), limit));
        if let Some((storm, _)) = &storm {
            // Most of a storm ends here, before an alert is written that nobody gets.
            self.counters.stormed = self.counters.stormed.saturating_add(1);
            if self.repeat(storm, &packets, severity, now) {
                return Some(severity);
            }
        }
        let flow = seen.flow.map(|flow| Flow::new(flow, seen.connection));
        let mut alert = Alert {
            schema: "mcp-monitor.alert/1",
            id: String::new(),
            time: now,
            rule: meta.id,
            name: meta.slug,
            category: meta.category,
            severity,
            summary: with_agent(finding.summary, seen),
            endpoint,
            expected: key.expected.clone(),
            observed: key.observed.clone(),
            flow,
            process: ProcessRef::of(seen),
            kubernetes: Kubernetes::of(
                seen.connection.and_then(|c| c.process.as_deref()),
                self.options.node.as_deref(),
            ),
            mcp: Mcp::of(seen),
            evidence: Evidence {
                packets: Vec::new(),
                capture: self
                    .options
                    .captures
                    .get(usize::from(seen.at.packet.file))
                    .cloned(),
                comments: Vec::new(),
                file: seen.at.packet.file,
            },
            taxonomy: Taxonomy {
                air_sec_026: meta.taxonomy.air_sec_026,
                owasp_mcp: meta.taxonomy.owasp_mcp,
                atlas: meta.taxonomy.atlas,
            },
            count: 1,
            first_seen: now,
            last_seen: now,
            incident: None,
            storm: None,
        };
        add_packets(
            &mut alert.evidence.packets,
            packets.iter().copied(),
            self.options.max_packets,
        );
        let key = match storm {
            Some((storm, limit)) => {
                begin_storm(&mut alert, meta, limit, &server);
                storm
            }
            None => key,
        };
        alert.id = alert_id(&key, alert.endpoint.as_deref(), now, seen.at.packet.number);
        let subject = about.as_ref().map(|server| Subject {
            server,
            pinned: alert.endpoint.is_some(),
            flow: alert.flow.as_ref().map(|f| f.id.as_str()),
        });
        let joined = subject.and_then(|subject| self.incidents.join(meta.id, subject, &alert.id, now));
        let (incident, about) = joined.unzip();
        alert.incident = incident;
        self.add(key, alert, about, now);
        Some(severity)
    }

    /// Counts the finding on the open alert that it repeats, if there is one.
    fn repeat(&mut self, key: &Key, packets: &[u64], severity: Severity, now: Timestamp) -> bool {
        let Some(open) = self.places.get(key).and_then(|place| self.open.get_mut(place)) else {
            return false;
        };
        self.counters.repeated = self.counters.repeated.saturating_add(1);
        let alert = &mut open.alert;
        alert.count = alert.count.saturating_add(1);
        alert.last_seen = alert.last_seen.max(now);
        add_packets(
            &mut alert.evidence.packets,
            packets.iter().copied(),
            self.options.max_packets,
        );
        if alert.storm.is_some() {
            let storm = Storm::of(alert.count, alert.first_seen, alert.last_seen);
            alert.observed = Some(storm_text(alert.count, storm));
            alert.storm = Some(storm);
        }
        if let Some(about) = &open.about {
            self.incidents.goes_on(about, now);
        }
        if severity > alert.severity {
            alert.severity = severity;
            // Someone may have to be woken: that does not wait for the window.
            if self.options.mode == Mode::Immediate {
                open.told = alert.count;
                self.ready.push_back(alert.clone());
            }
        }
        true
    }

    fn add(&mut self, key: Key, alert: Alert, about: Option<String>, now: Timestamp) {
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
        let open = Open {
            key,
            alert,
            about,
            told,
        };
        self.open.insert(place, open);
    }

    fn is_suppressed(&self, finding: &Finding, client: Option<&str>, now: Timestamp) -> bool {
        self.pins.suppress.iter().any(|s| {
            s.rule == finding.rule
                && s.endpoint.is_none_or(|e| finding.endpoint == Some(e))
                && s.namespace.as_deref().is_none_or(|n| Some(n) == client)
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

/// The sentence, and whom it happened to where it does not say so: the process, else the client's address.
fn with_agent(summary: String, seen: &Seen<'_>) -> String {
    let Some(flow) = seen.flow else { return summary };
    let address = flow.info.client.ip().to_string();
    let process = seen.connection.and_then(|c| c.process.as_ref());
    let named =
        summary.contains(&address) || process.is_some_and(|p| summary.contains(&format!("pid {}", p.pid)));
    if named {
        return summary;
    }
    match process {
        Some(p) => format!("{summary} (agent {}, pid {})", shown(&p.comm), p.pid),
        None if seen.is_unlinked() => summary,
        None => format!("{summary} (agent {address})"),
    }
}

/// Whom it happened to, as people count agents: the pod, else the container, else the program. A second pod is a second
/// alert although both have the address of their node; a program that runs again is not.
fn whose(process: &Process) -> String {
    match (&process.pod, &process.container_id, &process.exe) {
        (Some(pod), ..) => format!("pod {}", pod.uid()),
        (None, Some(container), _) => format!("container {container}"),
        (None, None, Some(exe)) => format!("program {exe}"),
        (None, None, None) => format!("program {}", process.comm),
    }
}

/// All findings of a storm have this key.
fn storm_key(rule: &'static str, bucket: Bucket, limit: u64, of: &Key) -> Key {
    let (endpoint, server) = match bucket {
        Bucket::Server(_, server) => (of.endpoint, Some(server)),
        Bucket::Rule(_) => (None, None),
    };
    Key {
        rule,
        endpoint,
        server,
        expected: Vec::new(),
        observed: None,
        client: None,
        whose: None,
        storm: Some(limit),
    }
}

/// Makes the first finding over the limit the alert that stands for those that follow.
fn begin_storm(alert: &mut Alert, meta: &Meta, limit: u64, server: &str) {
    let on = if server.is_empty() {
        String::new()
    } else {
        format!(" on {server}")
    };
    alert.summary = format!(
        "{} {} found more than {limit} different things{on} in a minute; those that follow are counted here. Look at the alerts before this one first; one of them: {}",
        meta.id, meta.slug, alert.summary
    );
    let storm = Storm::of(1, alert.first_seen, alert.last_seen);
    alert.expected = vec![format!("at most {limit} a minute")];
    alert.observed = Some(storm_text(1, storm));
    alert.storm = Some(storm);
}

fn storm_text(count: u64, storm: Storm) -> String {
    format!("{count} findings, {} a minute", storm.per_minute)
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
    if key.storm.is_some() {
        part("storm");
    }
    part(&key.client.map(|ip| ip.to_string()).unwrap_or_default());
    part(key.server.as_deref().unwrap_or_default());
    // Captures have no processes: their ids stay what they were.
    if let Some(whose) = &key.whose {
        part(whose);
    }
    part(&first.0.to_string());
    part(&packet.to_string());
    hex_prefix(&hash.finalize(), 32)
}

#[cfg(test)]
mod tests {
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
}
