//! What goes up through the ring: one struct per kind, each beginning with its kind.
//!
//! Integers are in host order, ports and addresses big-endian byte arrays.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;

/// First byte of each record.
pub mod kind {
    /// [`SegmentRecord`](super::SegmentRecord) and payload.
    pub const SEGMENT: u8 = 1;
    /// [`DatagramRecord`](super::DatagramRecord) and payload.
    pub const DATAGRAM: u8 = 2;
    /// [`DriftRecord`](super::DriftRecord).
    pub const DRIFT: u8 = 3;
    /// [`ProcessRecord`](super::ProcessRecord).
    pub const PROCESS: u8 = 4;
    /// [`ObjectRecord`](crate::plaintext::ObjectRecord) and memory.
    pub const TLS_OBJECT: u8 = 5;
    /// [`PlaintextRecord`](crate::plaintext::PlaintextRecord) and plaintext.
    pub const PLAINTEXT: u8 = 6;
    /// [`ObjectEndRecord`](crate::plaintext::ObjectEndRecord).
    pub const TLS_END: u8 = 7;
    /// [`ExecRecord`](crate::plaintext::ExecRecord).
    pub const EXEC: u8 = 8;
}

/// Bits of [`SegmentRecord::flags`].
pub mod flags {
    /// Sent by the socket, not to it.
    pub const EGRESS: u8 = 1;
    /// Bytes of this direction before these were skipped on purpose.
    pub const RESUMED: u8 = 2;
    /// Not the first chunk of its packet.
    pub const CONTINUED: u8 = 4;
}

/// Payload bytes that one record holds at most; a larger packet (segmentation offload) comes in several.
pub const CHUNK: usize = 16 * 1024;
/// Chunks that one packet gives up at most: 640 KiB, above the largest that the kernel builds.
pub const MAX_CHUNKS: u32 = 40;

/// One TCP segment, or a chunk of a large one; `length` bytes of payload follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SegmentRecord {
    /// [`kind::SEGMENT`].
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// 4 or 6.
    pub version: u8,
    /// TCP flags, low byte.
    pub tcp_flags: u8,
    /// Port of the sender.
    pub source_port: [u8; 2],
    /// Port of the receiver.
    pub destination_port: [u8; 2],
    /// Nanoseconds since boot.
    pub time: u64,
    /// Socket cookie; 0 where the packet belongs to a listening socket.
    pub cookie: u64,
    /// cgroup v2 id of the socket.
    pub cgroup: u64,
    /// Cookie of the network namespace; where the kernel does not tell, the cgroup id.
    pub scope: u64,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Sequence number of the packet (not of the chunk).
    pub sequence: [u8; 4],
    /// Acknowledgement number.
    pub acknowledgement: [u8; 4],
    /// Where in the packet's payload the chunk begins.
    pub offset: u32,
    /// Payload bytes in this record.
    pub length: u32,
    /// Payload bytes of the packet.
    pub total: u32,
    /// Zero.
    pub reserved: u32,
}

/// One UDP datagram; `length` bytes of payload follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DatagramRecord {
    /// [`kind::DATAGRAM`].
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// 4 or 6.
    pub version: u8,
    /// Zero.
    pub reserved: u8,
    /// Port of the sender.
    pub source_port: [u8; 2],
    /// Port of the receiver.
    pub destination_port: [u8; 2],
    /// Nanoseconds since boot.
    pub time: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// cgroup v2 id of the socket.
    pub cgroup: u64,
    /// As in [`SegmentRecord::scope`].
    pub scope: u64,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Payload bytes in this record.
    pub length: u32,
    /// Payload bytes of the datagram.
    pub total: u32,
}

/// A drift verdict. It comes after the packet or process record that it belongs to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DriftRecord {
    /// [`kind::DRIFT`].
    pub kind: u8,
    /// [`DriftKind`](crate::verdict::DriftKind) as a number.
    pub drift: u8,
    /// Port of the connection, 0 for a DNS answer.
    pub port: [u8; 2],
    /// 1 if the connection was refused.
    pub refused: u32,
    /// Nanoseconds since boot.
    pub time: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// As in [`SegmentRecord::scope`].
    pub scope: u64,
    /// Pattern hash of the host.
    pub pattern: u64,
    /// The offending address.
    pub address: Address,
}

/// A process connects a socket, or sends DNS on one.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessRecord {
    /// [`kind::PROCESS`].
    pub kind: u8,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// Destination port.
    pub port: [u8; 2],
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Thread id.
    pub thread: u32,
    /// User id.
    pub user: u32,
    /// Nanoseconds since boot.
    pub time: u64,
    /// Socket cookie.
    pub cookie: u64,
    /// cgroup v2 id of the process.
    pub cgroup: u64,
    /// Cookie of the network namespace.
    pub scope: u64,
    /// Destination.
    pub address: Address,
    /// Thread name, zero-padded.
    pub comm: [u8; 16],
}
