//! One flow in the table.

use super::{
    DirectionStats, EndReason, FlowEnd, FlowRef,
    half::Half,
    key::{Key, Side},
    lists::Link,
};
use crate::types::{At, Direction, Timestamp};

/// A reset that was believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub(super) by: Side,
    /// Stream offset from which on bytes contradict it.
    pub(super) from: u64,
}

/// A SYN on a connection that is open: a new one, if the other side answers it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reopening {
    pub(super) side: Side,
    /// Of the SYN itself.
    pub(super) seq: u32,
    pub(super) at: At,
}

/// A flow and the state of both its directions.
pub(super) struct Entry<A> {
    pub(super) key: Key,
    pub(super) flow: FlowRef,
    pub(super) app: A,
    /// Which side is the client.
    pub(super) client: Side,
    pub(super) halves: [Half; 2],
    pub(super) last: At,
    pub(super) reset: Option<Reset>,
    pub(super) reopening: Option<Reopening>,
    /// When the table's timer for it goes off.
    pub(super) alarm: Option<Timestamp>,
    pub(super) anomalies_left: u8,
    pub(super) link: Link,
}

/// The other side.
pub(super) fn other(side: Side) -> Side {
    side ^ 1
}

/// Both halves, the sender's first.
pub(super) fn pair(halves: &mut [Half; 2], side: Side) -> (&mut Half, &mut Half) {
    let [low, high] = halves;
    if side == 0 { (low, high) } else { (high, low) }
}

impl<A> Entry<A> {
    /// Which way `side` sends.
    #[inline]
    pub(super) fn direction(&self, side: Side) -> Direction {
        if side == self.client {
            Direction::ToServer
        } else {
            Direction::ToClient
        }
    }

    pub(super) fn end(&self, reason: EndReason) -> FlowEnd {
        let [low, high] = &self.halves;
        let (to_server, to_client): (&DirectionStats, _) = if self.client == 0 {
            (&low.stats, &high.stats)
        } else {
            (&high.stats, &low.stats)
        };
        FlowEnd {
            reason,
            last: self.last.time,
            to_server: *to_server,
            to_client: *to_client,
        }
    }
}
