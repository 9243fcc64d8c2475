//! Plaintext that a process gave up, on its way into a flow of the shard.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use lru::LruCache;

use super::{
    application::{Application, ApplicationCounters},
    shard::{Event, Shard},
};
use crate::{
    flow::{DirectionStats, EndReason, FlowEnd, FlowId, FlowInfo, FlowRef},
    mcp::{FlowEventKind, conversation::Output},
    types::{Anomaly, AnomalyKind, At, Direction, Plaintext, Scope, Timestamp, Transport},
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

/// Streams without packets at once. The one longest silent makes room; what it says later is another stream.
const MAX_UNLINKED: usize = 8192;

/// Streams of plaintext whose packets are not known.
#[derive(Debug)]
pub(super) struct UnlinkedFlows {
    flows: LruCache<FlowId, UnlinkedFlow>,
    /// How long one may be silent.
    idle: Duration,
    /// Those that made room for others.
    pub(super) evicted: u64,
}

#[derive(Debug)]
struct UnlinkedFlow {
    flow: FlowRef,
    app: Application,
    last: Timestamp,
}

impl UnlinkedFlows {
    pub(super) fn new(idle: Duration) -> Self {
        Self {
            flows: LruCache::new(NonZeroUsize::new(MAX_UNLINKED).unwrap_or(NonZeroUsize::MIN)),
            idle,
            evicted: 0,
        }
    }
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
        if self.unlinked.flows.len() >= MAX_UNLINKED
            && let Some((_, oldest)) = self.unlinked.flows.pop_lru()
        {
            self.unlinked.evicted = self.unlinked.evicted.saturating_add(1);
            self.end_unlinked_flow(oldest, at, EndReason::Evicted, out);
        }
        self.emitting(at, out, |shard| {
            shard.handler.emit(flow.clone(), at, FlowEventKind::Open);
        });
        let last = at.time;
        self.unlinked.flows.put(id, UnlinkedFlow { flow, app, last });
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
                unlinked.flows.get_mut(&info.id).is_some_and(|unlinked| {
                    unlinked.last = at.time;
                    take(&mut unlinked.flow, &mut unlinked.app)
                })
            }
        })
    }

    /// A stream without packets ends.
    pub fn close_unlinked(&mut self, info: &FlowInfo, at: At, out: &mut Vec<Event>) {
        if let Some(flow) = self.unlinked.flows.pop(&info.id) {
            self.end_unlinked_flow(flow, at, EndReason::Finished, out);
        }
    }

    /// Those that were silent for too long, the longest silent first.
    pub(super) fn end_idle_unlinked(&mut self, now: At, out: &mut Vec<Event>) {
        let idle = self.unlinked.idle;
        while let Some((_, oldest)) = self.unlinked.flows.peek_lru()
            && oldest.last.saturating_add(idle) <= now.time
            && let Some((_, oldest)) = self.unlinked.flows.pop_lru()
        {
            self.end_unlinked_flow(oldest, now, EndReason::Idle, out);
        }
    }

    /// All of them, in order of their opening.
    pub(super) fn end_unlinked(&mut self, at: At, out: &mut Vec<Event>) {
        let mut open: Vec<UnlinkedFlow> = Vec::new();
        while let Some((_, flow)) = self.unlinked.flows.pop_lru() {
            open.push(flow);
        }
        open.sort_unstable_by_key(|open| open.flow.info.id);
        for flow in open {
            self.end_unlinked_flow(flow, at, EndReason::EndOfInput, out);
        }
    }

    fn end_unlinked_flow(&mut self, ended: UnlinkedFlow, at: At, reason: EndReason, out: &mut Vec<Event>) {
        let UnlinkedFlow { flow, mut app, last } = ended;
        self.emitting(at, out, |shard| {
            if reason == EndReason::Evicted {
                let anomaly = Anomaly::new(
                    AnomalyKind::FlowEvicted,
                    "too many streams of plaintext without packets",
                );
                shard
                    .handler
                    .emit(flow.clone(), at, FlowEventKind::Anomaly(anomaly));
            }
            shard
                .handler
                .with(&flow, &mut app, |app, counters, out| app.close(at, counters, out));
            let end = FlowEnd {
                reason,
                last,
                to_server: DirectionStats::default(),
                to_client: DirectionStats::default(),
            };
            shard.handler.emit(flow, at, FlowEventKind::Close(end));
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pipeline::shard::ShardLimits, types::PacketId};

    fn at(seconds: u64) -> At {
        At {
            time: Timestamp(seconds.saturating_mul(1_000_000_000)),
            packet: PacketId::default(),
        }
    }

    fn ends(events: &[Event]) -> Vec<(FlowId, EndReason)> {
        let end = |event: &Event| match &event.event.kind {
            FlowEventKind::Close(end) => Some((event.event.flow.info.id, end.reason)),
            _ => None,
        };
        events.iter().filter_map(end).collect()
    }

    fn data() -> Piece {
        Piece::Data {
            direction: Direction::ToServer,
            data: Bytes::from_static(b"POST /mcp HTTP/1.1\r\n"),
        }
    }

    #[test]
    fn a_stream_that_is_silent_for_too_long_ends() {
        let mut shard = Shard::new(0, ShardLimits::default());
        let idle = crate::flow::FlowLimits::default().idle_open.as_secs();
        let mut out = Vec::new();
        let first = shard.open_unlinked(at(0), &mut out);
        let second = shard.open_unlinked(at(0), &mut out);
        assert!(shard.plaintext(&first, at(10), data(), &mut out));
        shard.tick(at(idle.saturating_sub(1)), &mut out);
        assert_eq!(ends(&out), []);
        shard.tick(at(idle), &mut out);
        assert_eq!(ends(&out), [(second.id, EndReason::Idle)]);
        assert!(
            !shard.plaintext(&second, at(idle), data(), &mut out),
            "it is over"
        );
        out.clear();
        shard.finish(at(idle), &mut out);
        assert_eq!(ends(&out), [(first.id, EndReason::EndOfInput)]);
    }

    #[test]
    fn the_one_longest_silent_makes_room_and_is_counted() {
        let mut shard = Shard::new(0, ShardLimits::default());
        let mut out = Vec::new();
        let first = shard.open_unlinked(at(0), &mut out);
        let second = shard.open_unlinked(at(0), &mut out);
        for _ in 2..MAX_UNLINKED {
            shard.open_unlinked(at(1), &mut out);
        }
        assert!(shard.plaintext(&first, at(2), data(), &mut out));
        assert_eq!((ends(&out).len(), shard.unlinked_evicted()), (0, 0));
        shard.open_unlinked(at(3), &mut out);
        assert_eq!(ends(&out), [(second.id, EndReason::Evicted)]);
        assert_eq!(shard.unlinked_evicted(), 1);
        let anomaly = out.iter().find_map(|event| match &event.event.kind {
            FlowEventKind::Anomaly(anomaly) => Some((event.event.flow.info.id, anomaly.kind)),
            _ => None,
        });
        assert_eq!(anomaly, Some((second.id, AnomalyKind::FlowEvicted)));
    }
}
