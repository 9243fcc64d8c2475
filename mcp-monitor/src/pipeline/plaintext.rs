//! Plaintext that a process gave up, on its way into a flow of the shard.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    application::{Application, ApplicationCounters},
    shard::{Event, Shard},
};
use crate::{
    flow::{DirectionStats, EndReason, FlowEnd, FlowInfo, FlowRef},
    mcp::{FlowEventKind, conversation::Output},
    types::{At, Direction, Plaintext, Scope, Transport},
};

/// What there is to say of the plaintext of a flow.
#[derive(Clone, Debug)]
pub enum Piece {
    /// The next bytes of one direction.
    Data {
        /// Which.
        direction: Direction,
        /// Bytes.
        data: Bytes,
    },
    /// Bytes of one direction are missing.
    Gap {
        /// Which.
        direction: Direction,
        /// How many.
        bytes: u64,
    },
    /// The process is done with the connection.
    End,
    /// None came in time.
    GiveUp,
}

/// Set in the cookie of streams that have no socket; the kernel's count from 1.
const NO_SOCKET: u64 = 1 << 63;

impl Shard {
    /// Opens a flow for plaintext whose packets are not known: of a connection that began before the
    /// monitor, as a rule. Its cookie serves to name its process.
    pub fn open_unlinked(&mut self, at: At, out: &mut Vec<Event>) -> Arc<FlowInfo> {
        let id = self.table.number();
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let info = Arc::new(FlowInfo {
            id,
            transport: Transport::Tcp,
            scope: Scope::default(),
            client: nowhere,
            server: nowhere,
            start: at,
            from_start: false,
            cookie: Some(NO_SOCKET | id.0),
            linked: false,
        });
        let flow = FlowRef {
            info: info.clone(),
            lost_bytes: 0,
            plaintext: Plaintext::Uprobe,
        };
        let app = Application::unlinked(self.handler.limits);
        self.emitting(at, out, |shard| {
            shard.handler.emit(flow.clone(), at, FlowEventKind::Open);
        });
        self.unlinked.insert(id, (flow, app));
        info
    }

    /// Takes a piece of a flow's plaintext. `false` if the flow is over or is no TLS.
    pub fn plaintext(&mut self, info: &FlowInfo, at: At, piece: Piece, out: &mut Vec<Event>) -> bool {
        self.emitting(at, out, |shard| {
            let Shard {
                table,
                handler,
                unlinked,
                ..
            } = shard;
            let mut take = |flow: &mut FlowRef, app: &mut Application| {
                if let Piece::Gap { bytes, .. } = &piece {
                    flow.lost_bytes = flow.lost_bytes.saturating_add(*bytes);
                }
                let flow = flow.clone();
                handler.with(&flow, app, |app, counters, out| {
                    feed(app, at, piece.clone(), counters, out)
                })
            };
            if info.linked {
                table.with_flow(info, at, take).unwrap_or(false)
            } else {
                unlinked
                    .get_mut(&info.id)
                    .is_some_and(|(flow, app)| take(flow, app))
            }
        })
    }

    /// A stream without packets ends.
    pub fn close_unlinked(&mut self, info: &FlowInfo, at: At, out: &mut Vec<Event>) {
        let Some((flow, mut app)) = self.unlinked.remove(&info.id) else {
            return;
        };
        self.emitting(at, out, |shard| {
            shard
                .handler
                .with(&flow, &mut app, |app, counters, out| app.close(at, counters, out));
            let end = FlowEnd {
                reason: EndReason::Finished,
                last: at.time,
                to_server: DirectionStats::default(),
                to_client: DirectionStats::default(),
            };
            shard.handler.emit(flow, at, FlowEventKind::Close(end));
        });
    }

    /// All of them, in order of their opening.
    pub(super) fn end_unlinked(&mut self, at: At, out: &mut Vec<Event>) {
        let mut open: Vec<Arc<FlowInfo>> = self
            .unlinked
            .values()
            .map(|(flow, _)| flow.info.clone())
            .collect();
        open.sort_unstable_by_key(|info| info.id);
        for info in open {
            self.close_unlinked(&info, at, out);
        }
    }

    fn emitting<R>(&mut self, at: At, out: &mut Vec<Event>, work: impl FnOnce(&mut Self) -> R) -> R {
        std::mem::swap(out, &mut self.handler.output);
        self.handler.at = at;
        let result = work(self);
        std::mem::swap(out, &mut self.handler.output);
        result
    }
}

fn feed(
    app: &mut Application,
    at: At,
    piece: Piece,
    counters: &mut ApplicationCounters,
    out: &mut Output,
) -> bool {
    match piece {
        Piece::Data { direction, data } => return app.plaintext_data(direction, at, data, counters, out),
        Piece::Gap { direction, bytes } => app.plaintext_gap(direction, at, bytes, counters, out),
        Piece::End => app.plaintext_end(at, counters, out),
        Piece::GiveUp => app.give_up_plaintext(at, out),
    }
    true
}
