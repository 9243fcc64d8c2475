//! The half of the engine that looks across flows: events in order of the packets, records out.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use hashbrown::HashMap;

use super::{
    judge::Judges,
    keep::{Changes, Learning},
    observe::Observer,
    record::{FlowRecord, MessageRecord, Record},
    view::view,
};
use crate::{
    alert::{AlerterCounters, AlerterOptions, Mode},
    baseline::{Once, Row, TallyRow},
    config::{origin::OriginTables, pins::Pins},
    detect::{DetectorCounters, Drift, DriftKind, Seen, SeenKind},
    flow::FlowRef,
    mcp::{
        FlowEvent, FlowEventKind,
        context::Connection,
        tracker::{Step, Tracker, TrackerLimits},
    },
    source::verdict::{HostDrift, PinnedHost, Verdicts},
    types::{AnomalyKind, At, Direction, Listener, Process, Severity, Timestamp, Transport},
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
    pins: Arc<Pins>,
    tracker: Tracker,
    judges: Judges,
    wanted: Wanted,
    /// The Kubernetes node that this runs on, live.
    node: Option<Arc<str>>,
    /// Live: servers that spoke MCP and whose listening socket is to be looked up, with the client's process.
    unlisted: VecDeque<(SocketAddr, Option<u32>)>,
    /// Those that were looked up.
    looked_up: Once<SocketAddr>,
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
    now: Timestamp,
    records: Vec<Record>,
}

/// Servers whose listening socket was looked up, and those that wait for it.
const MAX_LISTENERS: usize = 4096;
const MAX_UNLISTED: usize = 64;
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
        let mut correlator = Self {
            tracker: Tracker::new(limits, pins.clone()),
            wanted,
            settled: alerts.mode == Mode::Settled,
            node: alerts.node.clone(),
            judges: Judges::new(pins.clone(), alerts),
            pins,
            unlisted: VecDeque::new(),
            looked_up: Once::new(MAX_LISTENERS),
            verdicts: replay.then(|| Verdicts::new(&hosts)),
            host_endpoints,
            drifting: HashMap::new(),
            anomalies: BTreeMap::new(),
            alerts: BTreeMap::new(),
            worst: None,
            now: Timestamp::default(),
            records: Vec::new(),
        };
        if wanted.observations {
            correlator.learn(Learning::default());
        }
        correlator
    }

    /// Learns from here on, beginning with what an earlier run left.
    pub fn learn(&mut self, learning: Learning) {
        self.judges.begin_learning(learning, self.settled);
    }

    /// What was learned since the last call, for a state file. Empty unless it is kept.
    pub fn take_changes(&mut self) -> Changes {
        self.judges.take_changes()
    }

    /// Every fact seen in this run, and what was verified since the last [`Self::take_changes`].
    pub fn take_learned(&mut self) -> (Vec<Row>, Vec<TallyRow>) {
        self.judges.take_learned()
    }

    /// Facts that made room for others.
    pub fn facts_forgotten(&self) -> u64 {
        self.judges.observer.as_ref().map_or(0, Observer::evicted)
    }

    /// The key of fingerprints from here on.
    pub fn set_fingerprint_key(&mut self, key: &[u8; 32]) {
        self.judges.detector.set_fingerprint_key(key);
    }

    /// Where addresses are announced from.
    pub fn set_origins(&mut self, origins: Arc<OriginTables>) {
        self.judges.detector.set_origins(origins);
    }

    /// Changes the pins from here on.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        let (hosts, host_endpoints) = kernel_hosts(&pins);
        self.host_endpoints = host_endpoints;
        if self.verdicts.is_some() {
            self.verdicts = Some(Verdicts::new(&hosts));
        }
        self.pins = pins.clone();
        self.tracker.set_endpoints(pins.clone());
        self.judges.set_pins(pins);
    }

    /// Sessions, names and counts of MCP.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// How the rules fared.
    pub fn detector_counters(&self) -> DetectorCounters {
        self.judges.detector.counters()
    }

    /// What did not become a new alert.
    pub fn alerter_counters(&self) -> AlerterCounters {
        self.judges.alerter.counters()
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

    /// A server whose listening socket to look up now (live), each once, with the client's process.
    pub fn next_unlisted(&mut self) -> Option<(SocketAddr, Option<u32>)> {
        self.unlisted.pop_front()
    }

    /// A socket of this machine listens where `server` is (live).
    pub fn listener(&mut self, at: At, server: SocketAddr, listener: &Listener) {
        let connection = Connection {
            endpoint: self.pins.match_socket(server.ip(), server.port()),
            process: listener.process.clone(),
            mcp: true,
            ..Connection::default()
        };
        self.show(Seen {
            at,
            flow: None,
            connection: Some(&connection),
            kind: SeenKind::Listener(listener),
        });
        self.drain_alerts();
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
        self.want_listener(event);
        let connection = self.tracker.connection(event.flow.info.id);
        if let Some(kind) = view(event, &step, &self.tracker) {
            let seen = Seen {
                at: event.at,
                flow: Some(&event.flow),
                connection: Some(connection),
                kind,
            };
            self.judges.judge(&seen);
            self.judges
                .learn(&seen, self.wanted.observations, &mut self.records);
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
        self.judges.alerter.finish();
        self.drain_alerts();
        if let Some(observer) = self.judges.observer.as_mut().filter(|_| self.wanted.observations) {
            observer.finish(&mut self.records);
        }
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
            self.judges.alerter.advance(self.now);
            self.release_drifting(at.time);
        }
    }

    fn count_anomaly(&mut self, kind: AnomalyKind) {
        let n = self.anomalies.entry(kind).or_default();
        *n = n.saturating_add(1);
    }

    /// Shows rules something without a flow event behind it.
    fn show(&mut self, seen: Seen<'_>) {
        self.judges.judge(&seen);
    }

    fn show_drift(&mut self, at: At, flow: &FlowRef, drift: &Drift) {
        let connection = self.tracker.connection(flow.info.id);
        let seen = Seen {
            at,
            flow: Some(flow),
            connection: Some(connection),
            kind: SeenKind::Drift(drift),
        };
        self.judges.judge(&seen);
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

    /// Live, the first MCP message with a server makes its listening socket worth a look.
    fn want_listener(&mut self, event: &FlowEvent) {
        let server = event.flow.info.server;
        if self.verdicts.is_none()
            && matches!(event.kind, FlowEventKind::Message(_))
            && self.unlisted.len() < MAX_UNLISTED
            && self.looked_up.first(server)
        {
            let connection = self.tracker.connection(event.flow.info.id);
            let client = connection.process.as_ref().map(|process| process.pid);
            self.unlisted.push_back((server, client));
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
                let record = FlowRecord::new(event, end, connection, self.node.as_deref());
                self.records.push(Record::Flow(Box::new(record)));
            }
            _ => {}
        }
    }

    fn drain_alerts(&mut self) {
        while let Some(alert) = self.judges.alerter.poll() {
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
