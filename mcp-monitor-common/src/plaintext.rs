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
}

/// Key of a TLS object: addresses repeat in other processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Zero.
    pub reserved: [u8; 6],
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
        assert_eq!(size_of::<ObjectState>(), 40);
        assert_eq!(size_of::<Call>(), 32);
    }
}
