//! Connections and their byte streams.
//!
//! A [`FlowTable`] takes segments and datagrams and drives a [`Handler`]: a flow opens, bytes come in
//! order as soon as they are in order, what is missing is a gap, the flow closes. Time comes with the
//! packets; [`FlowTable::tick`] passes it on when there are none.

mod closed;
mod counters;
mod delivery;
mod entry;
mod half;
mod handler;
mod history;
mod key;
mod limits;
mod lists;
mod pending;
mod table;
mod tcp;

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]
mod tests;

pub use counters::FlowCounters;
pub use handler::{Control, Handler};
pub use key::shard_of;
pub use limits::FlowLimits;
pub use table::FlowTable;

use std::{net::SocketAddr, sync::Arc};

use crate::types::{At, Direction, Plaintext, Scope, Timestamp, Transport};

/// Identity of a flow inside one run: unique, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u64);

/// What is fixed about a flow from its first packet on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FlowInfo {
    /// Identity inside this run.
    pub id: FlowId,
    /// TCP or UDP.
    pub transport: Transport,
    /// Address space.
    pub scope: Scope,
    /// The side that opened it (SYN; else judged by ports, then by content).
    pub client: SocketAddr,
    /// The other side.
    pub server: SocketAddr,
    /// First packet.
    pub start: At,
    /// The handshake was seen, so `client` and `server` are certain and the streams are whole from byte 0.
    pub from_start: bool,
    /// Socket cookie of the local end, live only.
    pub cookie: Option<u64>,
    /// `false`: a stream of plaintext of which it is not known on which socket it went. Its addresses are
    /// unspecified, and its cookie stands for the stream alone.
    pub linked: bool,
}

/// A flow as it stood when an event was seen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FlowRef {
    /// The fixed part.
    pub info: Arc<FlowInfo>,
    /// Payload bytes known to be missing so far, both directions.
    pub lost_bytes: u64,
    /// How its plaintext is seen.
    pub plaintext: Plaintext,
}

/// Why a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum EndReason {
    /// FIN in both directions.
    Finished,
    /// RST.
    Reset,
    /// Nothing seen for the idle timeout (capture time).
    Idle,
    /// The table was full.
    Evicted,
    /// The 4-tuple was taken by a new connection.
    Reused,
    /// The input ended.
    EndOfInput,
}

impl EndReason {
    /// Its name in records.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Reused => "reused",
            Self::EndOfInput => "end-of-input",
        }
    }
}

/// Counts of one direction.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct DirectionStats {
    /// Packets, pure acknowledgements included.
    pub packets: u64,
    /// Payload bytes on the wire, retransmissions included.
    pub bytes: u64,
    /// Segments that carried only bytes already seen.
    pub retransmitted: u64,
    /// Segments that came before bytes that precede them.
    pub reordered: u64,
    /// Holes given up.
    pub gaps: u64,
    /// Bytes in them.
    pub lost_bytes: u64,
}

/// What is known at the end of a flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowEnd {
    /// Why.
    pub reason: EndReason,
    /// Time of the last packet.
    pub last: Timestamp,
    /// Client to server.
    pub to_server: DirectionStats,
    /// Server to client.
    pub to_client: DirectionStats,
}

impl FlowEnd {
    /// Counts of one direction.
    pub fn stats(&self, direction: Direction) -> &DirectionStats {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}
