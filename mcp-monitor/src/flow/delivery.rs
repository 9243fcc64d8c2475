//! From the assembler to the handler.

use std::sync::Arc;

use bytes::Bytes;

use super::{Control, FlowCounters, FlowInfo, FlowRef, Handler, counters::bump, half::Output};
use crate::types::{Anomaly, AnomalyKind, At, Direction};

/// One direction's way to the handler, while a segment is at work.
pub(super) struct Delivery<'a, H: Handler> {
    pub(super) handler: &'a mut H,
    pub(super) flow: &'a mut FlowRef,
    pub(super) app: &'a mut H::App,
    pub(super) direction: Direction,
    pub(super) counters: &'a mut FlowCounters,
    pub(super) anomalies_left: &'a mut u8,
    pub(super) flipped: bool,
    pub(super) ignored: bool,
    pub(super) unread: bool,
}

impl<H: Handler> Output for Delivery<'_, H> {
    #[inline]
    fn data(&mut self, at: At, data: Bytes) {
        if self.ignored || self.unread {
            return;
        }
        match self.handler.data(self.flow, self.app, self.direction, at, data) {
            Control::Continue => {}
            Control::Unread => self.unread = true,
            Control::Ignore => self.ignored = true,
            Control::Flip => {
                if !self.flow.info.from_start {
                    self.flow.info = flipped(&self.flow.info);
                    self.direction = self.direction.reversed();
                    self.flipped = !self.flipped;
                }
            }
        }
    }

    fn gap(&mut self, at: At, bytes: u64) {
        if self.ignored {
            return;
        }
        bump(&mut self.counters.gaps);
        self.counters.lost_bytes = self.counters.lost_bytes.saturating_add(bytes);
        self.flow.lost_bytes = self.flow.lost_bytes.saturating_add(bytes);
        self.handler.gap(self.flow, self.app, self.direction, at, bytes);
        self.anomaly(at, AnomalyKind::TcpGap, format!("{bytes} bytes missing"));
    }

    fn fin(&mut self, at: At) {
        self.handler.fin(self.flow, self.app, self.direction, at);
    }

    fn anomaly(&mut self, at: At, kind: AnomalyKind, detail: String) {
        if kind == AnomalyKind::TcpOverlapConflict {
            bump(&mut self.counters.conflicts);
        }
        match self.anomalies_left.checked_sub(1) {
            Some(left) => {
                *self.anomalies_left = left;
                self.handler
                    .anomaly(self.flow, self.app, at, Anomaly::new(kind, detail));
            }
            None => bump(&mut self.counters.anomalies_suppressed),
        }
    }
}

fn flipped(info: &FlowInfo) -> Arc<FlowInfo> {
    Arc::new(FlowInfo {
        client: info.server,
        server: info.client,
        ..info.clone()
    })
}
