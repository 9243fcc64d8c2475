//! Where packets come from: capture files, standard input, the kernel; and where plaintext can be had.
//!
//! The only layer that knows. Everything below sees [`Packet`]s or decoded segments.

mod blocks;
mod error;
mod file;
mod follow;
mod input;
mod merge;
mod pcap;
mod pcapng;
mod zstd;

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and plain sums are easier to read"
)]
mod tests;
pub use error::CaptureError;
pub use file::{CaptureCounters, CaptureReader, Comment, MAX_COMMENTS, MAX_PACKET, MAX_SECRETS, Secrets};
pub use merge::Merged;
#[cfg(feature = "binaries")]
pub mod binary;
#[cfg(feature = "live")]
pub mod live;
pub mod verdict;

use bytes::Bytes;

use crate::types::{PacketId, Timestamp};

/// Link types that `decode` reads, by their number in the pcap registry (LINKTYPE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// BSD loopback: a 4-byte address family in host order.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP, version by the first nibble.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture, version 1.
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

/// One captured packet, its bytes shared with the block it was read in.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which one.
    pub id: PacketId,
    /// When, in capture time.
    pub time: Timestamp,
    /// How `data` begins.
    pub link: LinkType,
    /// Capture interface inside the file (pcapng), else 0.
    pub interface: u32,
    /// The captured bytes, at most the snap length.
    pub data: Bytes,
    /// Length on the wire, at least `data.len()`.
    pub wire_len: u32,
}
