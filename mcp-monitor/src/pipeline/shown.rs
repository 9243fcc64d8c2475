//! What rules are shown, with everything known around it as it was then: so that it can be shown later, and
//! by several threads at once.

use std::sync::Arc;

use super::view::view;
use crate::{
    detect::{Drift, Prepared, Seen, SeenKind},
    flow::FlowRef,
    mcp::{
        FlowEvent,
        context::{Connection, Session},
        tracker::Step,
    },
    types::{Anomaly, At, Listener, Timestamp},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) at: At,
    /// As it was known right after the event.
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) what: What,
    /// What the rules share about it.
    pub(super) prepared: Prepared,
    /// Alerts that are ready leave after it.
    pub(super) ends: bool,
}

/// Kinds of [`Shown`].
#[derive(Debug)]
pub(super) enum What {
    /// An event of a flow, what it belongs to, and for a message its session.
    Event(Box<(FlowEvent, Step)>, Option<Arc<Session>>),
    /// A verdict of the kernel program or its twin.
    Drift(Option<FlowRef>, Drift),
    /// Something wrong with a packet that belongs to no flow.
    Anomaly(Anomaly),
    /// A listening socket of this machine.
    Listener(Listener),
    /// Capture time passed a whole second: it is now this late.
    Tick(Timestamp),
}

impl Shown {
    pub(super) fn new(at: At, connection: Option<Arc<Connection>>, what: What) -> Self {
        Self {
            at,
            connection,
            what,
            prepared: Prepared::default(),
            ends: false,
        }
    }

    /// In the form that rules see; `None` for what concerns the engine only.
    pub(super) fn seen(&self) -> Option<Seen<'_>> {
        let (flow, kind) = match &self.what {
            What::Event(event, session) => {
                let (event, step) = event.as_ref();
                (Some(&event.flow), view(event, step, session.as_deref())?)
            }
            What::Drift(flow, drift) => (flow.as_ref(), SeenKind::Drift(drift)),
            What::Anomaly(anomaly) => (None, SeenKind::Anomaly(anomaly)),
            What::Listener(listener) => (None, SeenKind::Listener(listener)),
            What::Tick(_) => (None, SeenKind::Tick),
        };
        Some(Seen {
            at: self.at,
            flow,
            connection: self.connection.as_deref(),
            kind,
        })
    }
}
