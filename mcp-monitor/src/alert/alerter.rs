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
mod tests;
