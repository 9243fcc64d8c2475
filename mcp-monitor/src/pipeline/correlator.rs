//! The half of the engine that looks across flows: events in order of the packets, records out.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use super::{
    observe::Observer,
    record::{FlowRecord, MessageRecord, Record},
    view::view,
};
use crate::{
    alert::{Alerter, AlerterOptions, Mode},
    config::{origin::OriginTables, pins::Pins},
    detect::{Detector, Drift, DriftKind, Finding, Seen, SeenKind},
    flow::FlowRef,
    mcp::{
        FlowEvent, FlowEventKind,
        context::Connection,
        tracker::{Step, Tracker, TrackerLimits},
    },
    source::verdict::{HostDrift, PinnedHost, Verdicts},
    types::{AnomalyKind, At, Direction, Process, Severity, Timestamp, Transport},
};

/// Which records are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Alerts.
    pub alerts: bool,
    /// MCP messages.
    pub messages: bool,
    /// Flows at their end.
    pub flows: bool,
    /// What was learned.
    pub observations: bool,
    /// Bodies of messages, secrets masked.
    pub bodies: bool,
}

/// See the module.
pub struct Correlator {
    tracker: Tracker,
    detector: Detector,
    alerter: Alerter,
    observer: Observer,
    wanted: Wanted,
    /// Replay only: what the kernel program would have said.
    verdicts: Option<Verdicts>,
    /// Pinned host → endpoint that alerts name.
    host_endpoints: Vec<usize>,
    /// Live: connections that drifted and whose first packet is still to come.
    drifting: HashMap<u64, (At, Drift)>,
    anomalies: BTreeMap<AnomalyKind, u64>,
    alerts: BTreeMap<&'static str, u64>,
    worst: Option<Severity>,
    /// Alerts come once, with their final count.
    settled: bool,
    findings: Vec<Finding>,
    now: Timestamp,
    records: Vec<Record>,
}

/// Drifted connections that wait for their first packet; further ones are reported without a flow.
const MAX_DRIFTING: usize = 4096;
/// How long one waits, seconds of capture time.
const DRIFTING_SECS: u64 = 2;

impl Correlator {
    /// `replay` runs the kernel program's verdicts here; live they come from the kernel.
    pub fn new(
        pins: Arc<Pins>,
        limits: TrackerLimits,
        alerts: AlerterOptions,
        wanted: Wanted,
        replay: bool,
    ) -> Self {
        let (hosts, host_endpoints) = kernel_hosts(&pins);
        Self {
            tracker: Tracker::new(limits, pins.clone()),
            detector: Detector::new(pins.clone()),
            observer: Observer::default(),
            wanted,
            settled: alerts.mode == Mode::Settled,
            alerter: Alerter::new(pins, alerts),
            verdicts: replay.then(|| Verdicts::new(&hosts)),
            host_endpoints,
            drifting: HashMap::new(),
            anomalies: BTreeMap::new(),
            alerts: BTreeMap::new(),
            worst: None,
            findings: Vec::new(),
            now: Timestamp::default(),
            records: Vec::new(),
        }
    }

    /// The key of fingerprints from here on.
    pub fn set_fingerprint_key(&mut self, key: &[u8; 32]) {
        self.detector.set_fingerprint_key(key);
    }

    /// Where addresses are announced from.
    pub fn set_origins(&mut self, origins: Arc<OriginTables>) {
        self.detector.set_origins(origins);
    }

    /// Changes the pins from here on.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        let (hosts, host_endpoints) = kernel_hosts(&pins);
        self.host_endpoints = host_endpoints;
        if self.verdicts.is_some() {
            self.verdicts = Some(Verdicts::new(&hosts));
        }
        self.tracker.set_endpoints(pins.clone());
        self.detector.set_pins(pins.clone());
        self.alerter.set_pins(pins);
    }

    /// Sessions, names and counts of MCP.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Alerts by rule.
    pub fn alert_counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.alerts
    }

    /// The most severe alert so far, suppressed ones left out.
    pub fn worst(&self) -> Option<Severity> {
        self.worst
    }

    /// Anomalies by kind.
    pub fn anomalies(&self) -> &BTreeMap<AnomalyKind, u64> {
        &self.anomalies
    }

    /// Records made so far, in order.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// An anomaly of a packet that belongs to no flow.
    pub fn packet_anomaly(&mut self, at: At, anomaly: &crate::types::Anomaly) {
        self.count_anomaly(anomaly.kind);
        self.show(Seen {
            at,
            flow: None,
            connection: None,
            kind: SeenKind::Anomaly(anomaly),
        });
    }

    /// A local socket belongs to this process (live).
    pub fn process(&mut self, cookie: u64, process: Arc<Process>) {
        self.tracker.set_process(cookie, process);
    }

    /// A verdict of the kernel (live). One about a connection waits for the connection's first packet,
    /// so that the alert can show the flow.
    pub fn kernel_drift(&mut self, at: At, drift: &HostDrift, cookie: u64) {
        let Some(drift) = self.drift(drift) else { return };
        if drift.kind == DriftKind::Connect && self.drifting.len() < MAX_DRIFTING {
            self.drifting.insert(cookie, (at, drift));
        } else {
            self.flowless_drift(at, &drift, cookie);
        }
    }

    /// Takes the next event.
    pub fn event(&mut self, event: &FlowEvent) {
        self.advance(event.at);
        if let FlowEventKind::Anomaly(anomaly) = &event.kind {
            self.count_anomaly(anomaly.kind);
        }
        let step = self.tracker.handle(event);
        self.verdicts_of(event);
        let connection = self.tracker.connection(event.flow.info.id);
        if let Some(kind) = view(event, &step, &self.tracker) {
            let seen = Seen {
                at: event.at,
                flow: Some(&event.flow),
                connection: Some(connection),
                kind,
            };
            judge(&mut self.detector, &mut self.alerter, &mut self.findings, &seen);
            if self.wanted.observations {
                self.observer.see(&seen, &mut self.records);
            }
        }
        self.record(event, &step);
        if matches!(event.kind, FlowEventKind::Close(_)) {
            self.tracker.forget(event.flow.info.id);
        }
        self.drain_alerts();
    }

    /// Time passes without packets (live), or a batch ended.
    pub fn tick(&mut self, at: At) {
        self.advance(at);
        self.drain_alerts();
    }

    /// The input is over.
    pub fn finish(&mut self, at: At) {
        self.now = self.now.max(at.time);
        self.release_drifting(Timestamp(u64::MAX));
        self.alerter.finish();
        self.drain_alerts();
    }

    fn advance(&mut self, at: At) {
        const SECOND: u64 = 1_000_000_000;
        let passed = at.time.0.checked_div(SECOND) > self.now.0.checked_div(SECOND);
        self.now = self.now.max(at.time);
        if passed {
            self.show(Seen {
                at,
                flow: None,
                connection: None,
                kind: SeenKind::Tick,
            });
            self.alerter.advance(self.now);
            self.release_drifting(at.time);
        }
    }

    fn count_anomaly(&mut self, kind: AnomalyKind) {
        let n = self.anomalies.entry(kind).or_default();
        *n = n.saturating_add(1);
    }

    /// Shows rules something without a flow event behind it.
    fn show(&mut self, seen: Seen<'_>) {
        judge(&mut self.detector, &mut self.alerter, &mut self.findings, &seen);
    }

    fn show_drift(&mut self, at: At, flow: &FlowRef, drift: &Drift) {
        let connection = self.tracker.connection(flow.info.id);
        let seen = Seen {
            at,
            flow: Some(flow),
            connection: Some(connection),
            kind: SeenKind::Drift(drift),
        };
        judge(&mut self.detector, &mut self.alerter, &mut self.findings, &seen);
    }

    fn flowless_drift(&mut self, at: At, drift: &Drift, cookie: u64) {
        let connection = Connection {
            process: self.tracker.process(cookie).cloned(),
            ..Connection::default()
        };
        self.show(Seen {
            at,
            flow: None,
            connection: Some(&connection),
            kind: SeenKind::Drift(drift),
        });
    }

    fn release_drifting(&mut self, now: Timestamp) {
        if self.drifting.is_empty() {
            return;
        }
        let wait = DRIFTING_SECS.saturating_mul(1_000_000_000);
        let mut due: Vec<(u64, At, Drift)> = self
            .drifting
            .iter()
            .filter(|(_, (at, _))| at.time.0.saturating_add(wait) <= now.0)
            .map(|(cookie, (at, drift))| (*cookie, *at, drift.clone()))
            .collect();
        due.sort_by_key(|(_, at, _)| at.packet);
        for (cookie, at, drift) in due {
            self.drifting.remove(&cookie);
            self.flowless_drift(at, &drift, cookie);
        }
    }

    fn drift(&self, drift: &HostDrift) -> Option<Drift> {
        Some(Drift {
            kind: match drift.kind {
                mcp_monitor_common::verdict::DriftKind::DnsAnswer => DriftKind::DnsAnswer,
                mcp_monitor_common::verdict::DriftKind::Connect => DriftKind::Connect,
                mcp_monitor_common::verdict::DriftKind::Sni => DriftKind::Sni,
            },
            endpoint: *self.host_endpoints.get(drift.host)?,
            address: drift.address,
            port: drift.port,
        })
    }

    /// Runs the kernel program's logic over what it would have seen of this event.
    fn verdicts_of(&mut self, event: &FlowEvent) {
        let info = &event.flow.info;
        if let FlowEventKind::Open = event.kind
            && let Some((at, drift)) = info.cookie.and_then(|c| self.drifting.remove(&c))
        {
            self.show_drift(at, &event.flow, &drift);
        }
        let Some(verdicts) = &mut self.verdicts else {
            return;
        };
        let mut drifts = Vec::new();
        match &event.kind {
            FlowEventKind::Dns {
                direction: Direction::ToClient,
                payload,
                ..
            } => {
                verdicts.dns_answer(payload, &mut drifts);
            }
            FlowEventKind::Open if info.from_start || info.transport == Transport::Udp => {
                drifts.extend(verdicts.connect(info.server.ip(), info.server.port()));
            }
            FlowEventKind::ClientHello(hello) => {
                if let Some(name) = &hello.server_name {
                    drifts.extend(verdicts.sni(name, info.server.ip()));
                }
            }
            _ => {}
        }
        for drift in drifts {
            if let Some(drift) = self.drift(&drift) {
                self.show_drift(event.at, &event.flow, &drift);
            }
        }
    }

    fn record(&mut self, event: &FlowEvent, step: &Step) {
        match (&event.kind, step) {
            (
                FlowEventKind::Message(message),
                Step::Message {
                    target,
                    session,
                    answers,
                    ..
                },
            ) if self.wanted.messages => {
                let connection = self.tracker.connection(event.flow.info.id);
                let Some(session) = self.tracker.session(*session) else {
                    return;
                };
                let record = MessageRecord::new(
                    event,
                    message,
                    target,
                    session,
                    answers.as_ref(),
                    connection,
                    self.wanted.bodies,
                );
                self.records.push(Record::Message(Box::new(record)));
            }
            (FlowEventKind::Close(end), _) if self.wanted.flows => {
                let connection = self.tracker.connection(event.flow.info.id);
                self.records
                    .push(Record::Flow(Box::new(FlowRecord::new(event, end, connection))));
            }
            _ => {}
        }
    }

    fn drain_alerts(&mut self) {
        while let Some(alert) = self.alerter.poll() {
            // Live, an alert that goes on is said again with its new count.
            if self.settled || alert.count == 1 {
                let n = self.alerts.entry(alert.rule).or_default();
                *n = n.saturating_add(1);
            }
            self.worst = self.worst.max(Some(alert.severity));
            if self.wanted.alerts {
                self.records.push(Record::Alert(Box::new(alert)));
            }
        }
    }
}

/// Shows one event to the rules, and what they find to the alerter. A function of the parts, since what is
/// seen borrows from the tracker beside them.
fn judge(detector: &mut Detector, alerter: &mut Alerter, findings: &mut Vec<Finding>, seen: &Seen<'_>) {
    detector.see(seen, findings);
    for finding in findings.drain(..) {
        alerter.take(finding, seen);
    }
}

/// Pinned hosts as the kernel wants them, and the endpoint that each one's alerts name.
pub fn kernel_hosts(pins: &Pins) -> (Vec<PinnedHost>, Vec<usize>) {
    pins.pinned_hosts()
        .into_iter()
        .map(|host| {
            (
                PinnedHost {
                    pattern: host.pattern.into(),
                    prefixes: host.prefixes,
                },
                host.endpoint,
            )
        })
        .unzip()
}
