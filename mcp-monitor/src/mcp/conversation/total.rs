//! What a connection holds of bodies under way, among all connections.

use super::{super::FlowEventKind, Conversation, ConversationShared, Output};
use crate::types::{Anomaly, AnomalyKind, At};

impl Conversation {
    /// So many bytes are held for this connection elsewhere. True if that is too much: they are to be given up.
    pub fn held_outside(
        &mut self,
        bytes: usize,
        counters: &mut ConversationShared,
        at: At,
        out: &mut Output,
    ) -> bool {
        let gauge = &mut self.gauge;
        self.outside.get_or_insert_with(|| gauge.share()).set(bytes);
        let above = bytes > 0 && self.above_total(counters, at, out);
        self.settle(counters);
        above
    }

    /// The connection is over: what it held is given back.
    pub fn release(&mut self, counters: &mut ConversationShared) {
        self.exchanges.clear();
        self.strays = [None, None];
        self.outside = None;
        self.settle(counters);
    }

    /// Brings the counters up to date.
    pub(super) fn settle(&mut self, counters: &mut ConversationShared) {
        let bytes = self.gauge.bytes();
        counters.held = self.held_by_all(counters);
        self.reported = bytes;
    }

    pub(super) fn held_by_all(&self, counters: &ConversationShared) -> u64 {
        let others = counters.held.saturating_sub(self.reported);
        others.saturating_add(self.gauge.bytes())
    }

    /// Says so if more is held than may be.
    pub(super) fn above_total(&self, counters: &ConversationShared, at: At, out: &mut Output) -> bool {
        let most = self.limits.held_total;
        let above = self.held_by_all(counters) > u64::try_from(most).unwrap_or(u64::MAX);
        if above {
            let detail = format!("bodies under way above {most} bytes together");
            out.push((
                at,
                FlowEventKind::Anomaly(Anomaly::new(AnomalyKind::BodyLimit, detail)),
            ));
        }
        above
    }
}
