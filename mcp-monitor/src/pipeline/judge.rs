//! What each event passes through: the rules, the alerter, and what learns from it.

use std::sync::Arc;

use super::{
    keep::{Changes, Learning},
    observe::Observer,
    record::Record,
};
use crate::{
    alert::{Alerter, AlerterOptions},
    baseline::{Row, TallyRow, ToolList},
    config::pins::Pins,
    detect::{Detector, Finding, Seen, SeenKind, catalogue, rule::Kind},
    mcp::context::Connection,
    types::Severity,
};

/// See the module. Apart from the correlator, since what is seen borrows from the tracker beside it.
pub(super) struct Judges {
    pins: Arc<Pins>,
    pub(super) detector: Detector,
    pub(super) alerter: Alerter,
    pub(super) observer: Option<Observer>,
    /// Changes are noted for a state file.
    keeping: bool,
}

impl Judges {
    pub(super) fn new(pins: Arc<Pins>, alerts: AlerterOptions) -> Self {
        Self {
            detector: Detector::new(pins.clone()),
            alerter: Alerter::new(pins.clone(), alerts),
            observer: None,
            keeping: false,
            pins,
        }
    }

    pub(super) fn set_pins(&mut self, pins: Arc<Pins>) {
        self.detector.set_pins(pins.clone());
        self.alerter.set_pins(pins.clone());
        if let Some(observer) = &mut self.observer {
            observer.set_pins(pins.clone());
        }
        self.pins = pins;
    }

    pub(super) fn begin_learning(&mut self, learning: Learning, settled: bool) {
        let Learning {
            options,
            snapshot,
            keep,
        } = learning;
        let mut observer = Observer::new(self.pins.clone(), options, keep, settled);
        self.keeping = keep;
        if keep {
            let foreign = self.detector.keep_memory(&snapshot.memory);
            if foreign > 0 {
                tracing::info!(rows = foreign, "memory of rules that this version does not read");
            }
        }
        observer.load(snapshot.facts);
        self.observer = Some(observer);
    }

    pub(super) fn take_changes(&mut self) -> Changes {
        let Some(observer) = self.observer.as_mut().filter(|_| self.keeping) else {
            return Changes::default();
        };
        Changes {
            facts: observer.take_changes(),
            tallies: observer.take_tallies(),
            memory: self.detector.take_memory(),
        }
    }

    pub(super) fn take_learned(&mut self) -> (Vec<Row>, Vec<TallyRow>) {
        match &mut self.observer {
            Some(observer) => (observer.rows(), observer.take_tallies()),
            None => Default::default(),
        }
    }

    /// Lets an event that was judged teach; what is new goes out if observations are wanted.
    pub(super) fn learn(
        &mut self,
        seen: &Seen<'_>,
        tools: Option<&ToolList>,
        wanted: bool,
        out: &mut Vec<Record>,
    ) {
        if let Some(observer) = &mut self.observer {
            observer.see(seen, tools);
            observer.news(wanted, out);
        }
    }

    /// What rules remember is kept: then each event must be judged before the next is shown.
    pub(super) fn is_keeping(&self) -> bool {
        self.keeping
    }

    /// Takes what the rules found in one event. A host whose identity an alert questions teaches nothing for
    /// a while.
    pub(super) fn take(&mut self, seen: &Seen<'_>, findings: impl Iterator<Item = Finding>) {
        self.alerter.see(seen);
        for finding in findings {
            let (rule, endpoint) = (finding.rule, finding.endpoint);
            let severity = self.alerter.take(finding, seen);
            if let Some(observer) = &mut self.observer
                && severity >= Some(Severity::Medium)
                && questions_identity(rule)
            {
                for host in hosts_of(&self.pins, endpoint, seen) {
                    observer.question(&host, seen.at.time);
                }
            }
        }
        if let Some(observer) = self.observer.as_ref().filter(|_| self.keeping) {
            let trusted = !hosts_of(&self.pins, None, seen)
                .iter()
                .any(|host| observer.is_questioned(host, seen.at.time));
            self.detector.settle(Kind::of(&seen.kind), trusted);
        }
    }
}

/// Rules of the categories below that tell of how a server (or an agent) is, not that it changed: a server
/// with a self-signed certificate is the same server every day.
const CONDITIONS: &[&str] = &[
    "DST-10", "TLS-03", "TLS-04", "TLS-07", "DG-02", "DG-05", "DG-09", "DG-11", "DG-12", "TD-11",
];

/// Alerts of this rule say that the server may not be the approved one.
fn questions_identity(rule: &str) -> bool {
    catalogue::meta(rule).is_some_and(|meta| {
        let about_server = matches!(
            meta.category,
            "destination" | "dns" | "tls" | "redirection" | "downgrade" | "definition"
        );
        about_server && !CONDITIONS.contains(&rule)
    })
}

/// Hosts that an event is about: of the endpoint, of the name asked for, of the request, of the connection.
fn hosts_of(pins: &Pins, endpoint: Option<usize>, seen: &Seen<'_>) -> Vec<Arc<str>> {
    let mut hosts: Vec<Arc<str>> = Vec::new();
    if let Some(endpoint) = pins.endpoint(endpoint) {
        hosts.push(endpoint.url.host.to_string().into());
    }
    match &seen.kind {
        SeenKind::Dns { message, .. } => {
            hosts.extend(message.questions.first().map(|q| q.name.as_ref().into()));
        }
        SeenKind::Message { context, .. } => hosts.push(context.target.origin.host.clone()),
        SeenKind::Request { target, .. }
        | SeenKind::Response { target, .. }
        | SeenKind::Document { target, .. }
        | SeenKind::SseEndpoint { target, .. } => hosts.push(target.origin.host.clone()),
        _ => match seen.connection.and_then(Connection::server_name) {
            Some(name) => hosts.push(name.into()),
            None => hosts.extend(seen.flow.map(|f| f.info.server.ip().to_string().into())),
        },
    }
    hosts
}
