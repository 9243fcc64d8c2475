//! The half of the engine that looks across flows: events in order of the packets, records out.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use hashbrown::HashMap;

use super::{
    judge::Judges,
    judging::Judging,
    keep::{Changes, Learning},
    observe::Observer,
    record::{FlowRecord, MessageRecord, Record},
    shown::{Shown, What},
    view::view,
};
use crate::{
    alert::{AlerterCounters, AlerterOptions, Mode},
    baseline::{Once, Row, TallyRow},
    config::{origin::OriginTables, pins::Pins},
    detect::{DetectorCounters, Drift, DriftKind, Seen},
    flow::FlowRef,
    mcp::{
        FlowEvent, FlowEventKind,
        context::{Connection, Session},
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
    /// What the rules have not been shown.
    batch: Vec<Shown>,
    /// Into how many parts the rules are split when events wait for [`Correlator::judge_with`]; 0 if they
    /// do not wait.
    deferred: usize,
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
            batch: Vec::new(),
            deferred: 0,
        };
        if wanted.observations {
            correlator.learn(Learning::default());
        }
        correlator
    }

    /// From here on, events are judged in batches, by [`Self::judge_with`], the rules split into so many parts.
    /// Not if what rules remember is kept, since then an event decides what the one before it may teach.
    pub(super) fn defer(&mut self, parts: usize) {
        self.deferred = parts;
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

    /// Facts remembered.
    pub fn facts_known(&self) -> u64 {
        self.judges.observer.as_ref().map_or(0, Observer::known)
    }

    /// The pins in force.
    pub fn pins(&self) -> &Pins {
        &self.pins
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
        self.show(at, None, What::Anomaly(anomaly.clone()));
        self.judge_now();
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
        self.show(at, Some(Arc::new(connection)), What::Listener(listener.clone()));
        self.judge_now();
        self.drain_alerts();
    }

    /// A verdict of the kernel (live). One about a connection waits for the connection's first packet,
    /// so that the alert can show the flow; one that was refused has none.
    pub fn kernel_drift(&mut self, at: At, drift: &HostDrift, cookie: u64) {
        let Some(drift) = self.drift(drift) else { return };
        if drift.kind == DriftKind::Connect && !drift.refused && self.drifting.len() < MAX_DRIFTING {
            self.drifting.insert(cookie, (at, drift));
        } else {
            self.flowless_drift(at, drift, cookie);
            self.judge_now();
        }
    }

    /// Takes the next event.
    pub fn event(&mut self, event: FlowEvent) {
        let waiting = self.batch.len();
        self.advance(event.at);
        if let FlowEventKind::Anomaly(anomaly) = &event.kind {
            self.count_anomaly(anomaly.kind);
        }
        let step = self.tracker.handle(&event);
        self.verdicts_of(&event);
        self.want_listener(&event);
        let flow = event.flow.info.id;
        let closed = matches!(event.kind, FlowEventKind::Close(_));
        let session = match &step {
            Step::Message { session, .. } => self.tracker.session(*session).cloned(),
            _ => None,
        };
        if view(&event, &step, session.as_deref()).is_some() {
            let connection = Arc::clone(self.tracker.connection(flow));
            let at = event.at;
            self.show(
                at,
                Some(connection),
                What::Event(Box::new((event, step)), session),
            );
        }
        if closed {
            self.tracker.forget(flow);
        }
        // What became ready meanwhile leaves now, also if the event itself is of no interest.
        if self.batch.len() > waiting
            && let Some(last) = self.batch.last_mut()
        {
            last.ends = true;
        }
        self.judge_now();
    }

    /// Judges what was deferred: `run` runs every [`Judging`] and returns them all.
    pub(super) fn judge_with(&mut self, run: impl FnOnce(Vec<Judging>) -> Vec<Judging>) -> Arc<Vec<Shown>> {
        let batch = Arc::new(std::mem::take(&mut self.batch));
        if batch.is_empty() {
            return batch;
        }
        let mut groups = self.judges.detector.take_groups();
        let common = self.judges.detector.common().clone();
        let part = groups.len().div_ceil(self.deferred.max(1));
        let mut parts = Vec::new();
        while !groups.is_empty() {
            let rest = groups.split_off(part.min(groups.len()));
            parts.push(Judging {
                index: parts.len(),
                groups: std::mem::replace(&mut groups, rest),
                common: common.clone(),
                batch: Arc::clone(&batch),
                found: Vec::new(),
            });
        }
        let mut parts = run(parts);
        parts.sort_by_key(|part| part.index);
        let mut found = Vec::new();
        for part in parts {
            groups.extend(part.groups);
            found.push(part.found.into_iter().peekable());
        }
        self.judges.detector.put_groups(groups);
        for (n, shown) in batch.iter().enumerate() {
            let Some(seen) = shown.seen() else { continue };
            let findings = found
                .iter_mut()
                .flat_map(|group| std::iter::from_fn(|| group.next_if(|(at, _)| *at == n)));
            self.judges.take(&seen, findings.map(|(_, finding)| finding));
            self.conclude(shown, &seen);
        }
        batch
    }

    /// Judges what waits, unless it may wait longer.
    fn judge_now(&mut self) {
        if self.deferred > 0 && !self.judges.is_keeping() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let mut findings = Vec::new();
        for shown in batch.drain(..) {
            let Some(seen) = shown.seen() else { continue };
            self.judges
                .detector
                .see_prepared(&seen, &shown.prepared, &mut findings);
            self.judges.take(&seen, findings.drain(..));
            self.conclude(&shown, &seen);
        }
        self.batch = batch;
    }

    /// Does what comes after the rules.
    fn conclude(&mut self, shown: &Shown, seen: &Seen<'_>) {
        match &shown.what {
            What::Tick(now) => self.judges.alerter.advance(*now),
            What::Event(event, session) => {
                let tools = shown.prepared.tools.as_ref();
                self.judges
                    .learn(seen, tools, self.wanted.observations, &mut self.records);
                let (event, step) = event.as_ref();
                if let Some(connection) = seen.connection {
                    self.record(event, step, session.as_deref(), connection);
                }
            }
            _ => {}
        }
        if shown.ends {
            self.drain_alerts();
        }
    }

    /// Time passes without packets (live), or a batch ended.
    pub fn tick(&mut self, at: At) {
        self.advance(at);
        self.judge_now();
        self.drain_alerts();
    }

    /// The input is over.
    pub fn finish(&mut self, at: At) {
        self.now = self.now.max(at.time);
        self.release_drifting(Timestamp(u64::MAX));
        self.deferred = 0;
        self.judge_now();
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
            self.show(at, None, What::Tick(self.now));
            self.release_drifting(at.time);
        }
    }

    fn count_anomaly(&mut self, kind: AnomalyKind) {
        let n = self.anomalies.entry(kind).or_default();
        *n = n.saturating_add(1);
    }

    /// Puts something in line to be shown to the rules.
    fn show(&mut self, at: At, connection: Option<Arc<Connection>>, what: What) {
        let mut shown = Shown::new(at, connection, what);
        if let Some(seen) = shown.seen() {
            shown.prepared = self.judges.detector.prepare(&seen);
        }
        self.batch.push(shown);
    }

    fn show_drift(&mut self, at: At, flow: &FlowRef, drift: Drift) {
        let connection = Arc::clone(self.tracker.connection(flow.info.id));
        self.show(at, Some(connection), What::Drift(Some(flow.clone()), drift));
    }

    fn flowless_drift(&mut self, at: At, drift: Drift, cookie: u64) {
        let connection = Connection {
            process: self.tracker.process(cookie).cloned(),
            ..Connection::default()
        };
        self.show(at, Some(Arc::new(connection)), What::Drift(None, drift));
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
            self.flowless_drift(at, drift, cookie);
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
            refused: drift.refused,
        })
    }

    /// Runs the kernel program's logic over what it would have seen of this event.
    fn verdicts_of(&mut self, event: &FlowEvent) {
        let info = &event.flow.info;
        if let FlowEventKind::Open = event.kind
            && let Some((at, drift)) = info.cookie.and_then(|c| self.drifting.remove(&c))
        {
            self.show_drift(at, &event.flow, drift);
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
                self.show_drift(event.at, &event.flow, drift);
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

    fn record(&mut self, event: &FlowEvent, step: &Step, session: Option<&Session>, connection: &Connection) {
        match (&event.kind, step, session) {
            (FlowEventKind::Message(message), Step::Message { target, answers, .. }, Some(session))
                if self.wanted.messages =>
            {
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
            (FlowEventKind::Close(end), ..) if self.wanted.flows => {
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
                    enforce: host.enforce,
                },
                host.endpoint,
            )
        })
        .unzip()
}
