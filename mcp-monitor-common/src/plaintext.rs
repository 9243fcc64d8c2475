//! What the probes on TLS libraries keep and send up.
//!
//! A TLS object is a connection as its library knows it: an `SSL`, a GnuTLS session, a Go `tls.Conn`.
//! Where its bytes lie in the stream is counted per object and direction, so that a record that gets
//! lost leaves a gap at a known place.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a TLS object's memory that go up where it is not known yet where the object keeps the
/// `client_random` of its connection.
pub const SNAPSHOT: usize = 1024;
/// Bytes of a `client_random` (RFC 8446 section 4.1.2).
pub const RANDOM: usize = 32;

/// Bits of [`PlaintextRecord::flags`].
pub mod flags {
    /// The process wrote it; else it read it.
    pub const WRITTEN: u8 = 1;
    /// Of a [`Call`](super::Call) only: the buffer is on a stack that may move, and noted by its depth in it.
    pub const ON_STACK: u8 = 2;
}

/// Key of a TLS object: addresses repeat in other processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct ObjectKey {
    /// Where it lies in the process.
    pub address: u64,
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
}

/// What is kept of a TLS object while it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ObjectState {
    /// Nanoseconds since boot of its first call: with the key, its identity.
    pub born: u64,
    /// Plaintext bytes written so far.
    pub written: u64,
    /// Plaintext bytes read so far.
    pub read: u64,
    /// Cookie of the socket on which it was seen to send; 0 while it was not.
    pub socket: u64,
    /// 1 once it was announced before its first write, which is as a rule early enough to be the first
    /// of both ends.
    pub early: u8,
    /// 1 once it was announced with its first plaintext, when the handshake is over for sure.
    pub announced: u8,
    /// 1 if `random` is filled.
    pub known: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// `client_random` of the connection, where the library does not keep it in the object.
    pub random: [u8; RANDOM],
}

/// Key of a call into Go's `crypto/tls`: threads and addresses on the stack change while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct GoCallKey {
    /// Address of the goroutine's `g`.
    pub goroutine: u64,
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Bytes between the stack's upper end and the call.
    pub depth: u32,
}

/// How a ClientHello begins as a handshake message (RFC 8446 section 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct HelloStart {
    /// [`Self::CLIENT_HELLO`].
    pub kind: u8,
    /// Length of the message.
    pub length: [u8; 3],
    /// `legacy_version`.
    pub version: [u8; 2],
    /// `client_random`.
    pub random: [u8; RANDOM],
}

impl HelloStart {
    /// Type of the message.
    pub const CLIENT_HELLO: u8 = 1;
}

/// A call into the library that has not returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Call {
    /// The TLS object.
    pub object: u64,
    /// The caller's buffer.
    pub buffer: u64,
    /// Where the library will leave the number of bytes; 0 where it returns it.
    pub length_at: u64,
    /// Bytes that the caller offers.
    pub offered: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// A TLS object begins, or what is known of it is said again; `length` bytes of its memory follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjectRecord {
    /// [`kind::TLS_OBJECT`](crate::record::kind::TLS_OBJECT).
    pub kind: u8,
    /// 1 if it writes; else it reads.
    pub writes: u8,
    /// 1 if the memory is the `client_random` itself, wherever it was found; 0 if it is memory of the object.
    pub exact: u8,
    /// Zero.
    pub reserved: u8,
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Nanoseconds since boot.
    pub time: u64,
    /// The object's address.
    pub object: u64,
    /// As in [`ObjectState::born`].
    pub born: u64,
    /// cgroup v2 id of the process.
    pub cgroup: u64,
    /// As in [`ObjectState::socket`].
    pub socket: u64,
    /// Which library: the number it was attached under.
    pub target: u32,
    /// Where in the object the memory was read.
    pub at: u32,
    /// Bytes of memory.
    pub length: u32,
    /// Zero.
    pub padding: u32,
    /// Thread name, zero-padded.
    pub comm: [u8; 16],
}

/// Plaintext that a process wrote or read; `length` bytes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PlaintextRecord {
    /// [`kind::PLAINTEXT`](crate::record::kind::PLAINTEXT).
    pub kind: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Nanoseconds since boot.
    pub time: u64,
    /// The object's address.
    pub object: u64,
    /// As in [`ObjectState::born`].
    pub born: u64,
    /// Where in its direction the bytes begin.
    pub offset: u64,
    /// Bytes in this record.
    pub length: u32,
    /// Zero.
    pub padding: u32,
}

/// A TLS object was freed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjectEndRecord {
    /// [`kind::TLS_END`](crate::record::kind::TLS_END).
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Nanoseconds since boot.
    pub time: u64,
    /// The object's address.
    pub object: u64,
    /// As in [`ObjectState::born`].
    pub born: u64,
    /// Plaintext bytes written.
    pub written: u64,
    /// Plaintext bytes read.
    pub read: u64,
}

/// A process executes another program.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ExecRecord {
    /// [`kind::EXEC`](crate::record::kind::EXEC).
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Process id in the host's namespace.
    pub pid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SegmentRecord;

    #[test]
    fn records_fit_before_the_payload_of_a_scratch_buffer() {
        assert!(size_of::<ObjectRecord>() <= size_of::<SegmentRecord>());
        assert!(size_of::<PlaintextRecord>() <= size_of::<SegmentRecord>());
    }

    #[test]
    fn nothing_is_left_to_padding() {
        assert_eq!(size_of::<ObjectKey>(), 16);
        assert_eq!(size_of::<ObjectState>(), 72);
        assert_eq!(size_of::<GoCallKey>(), 16);
        assert_eq!(size_of::<HelloStart>(), 38);
        assert_eq!(size_of::<Call>(), 32);
    }
}
