//! Link layer to TCP and UDP.
//!
//! [`Decoder`] takes packets and gives TCP segments and UDP datagrams whose payload shares the
//! packet's bytes. It looks through VLAN tags, MPLS, PPPoE and tunnels, puts fragments together, and
//! recognises packets that were captured twice. Checksums are never verified: captures of hosts that
//! leave them to the network card are full of wrong ones.

mod counters;
mod decoder;
mod duplicate;
mod fragment;
mod ip;
mod limits;
mod link;
mod transport;
mod tunnel;

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]
mod tests;

pub use counters::DecodeCounters;
pub use decoder::Decoder;
pub use limits::DecodeLimits;

use std::net::SocketAddr;

use bytes::Bytes;

use crate::types::{At, Scope};

/// TCP flag bits as on the wire (low byte).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// One TCP segment.
#[derive(Clone, Debug)]
pub struct TcpSegment {
    /// When and which packet.
    pub at: At,
    /// Address space.
    pub scope: Scope,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Sequence number of the first payload byte (of SYN itself where SYN is set).
    pub seq: u32,
    /// Acknowledgement number; meaningless without [`flags::ACK`].
    pub ack: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Payload as captured.
    pub payload: Bytes,
    /// Payload length on the wire; more than `payload.len()` when the capture cut the packet.
    pub wire_len: u32,
    /// Socket cookie, live only.
    pub cookie: Option<u64>,
    /// Live only: the kernel skipped bytes of this direction on purpose before this segment (the flow
    /// was set aside as not MCP). The stream starts anew here; what was skipped is not loss.
    pub resumed: bool,
    /// A packet with the same headers (IP identification, ports, numbers, flags, checksum) was captured
    /// a moment ago: probably the same one at another point. The bytes are still to be compared.
    pub duplicate: bool,
}

/// One UDP datagram.
#[derive(Clone, Debug)]
pub struct UdpDatagram {
    /// When and which packet.
    pub at: At,
    /// Address space.
    pub scope: Scope,
    /// Sender.
    pub src: SocketAddr,
    /// Receiver.
    pub dst: SocketAddr,
    /// Payload as captured.
    pub payload: Bytes,
    /// Payload length on the wire.
    pub wire_len: u32,
    /// Socket cookie, live only.
    pub cookie: Option<u64>,
}

/// What a packet turned out to be.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram.
    Udp(UdpDatagram),
    /// Neither, or a fragment kept until its datagram is whole.
    Other,
}
