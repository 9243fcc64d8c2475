//! QUIC versions 1 and 2 (RFC 9000, 9001, 9369) as far as anybody can read them: Initial packets.
//!
//! Their keys follow from the connection id in the client's first packet. They hold the ClientHello and
//! the ServerHello; all after that is out of reach.

mod connection;
mod crypto;
mod keys;
mod packet;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Limits};

/// A QUIC version whose Initial packets can be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Version {
    /// RFC 9000.
    V1,
    /// RFC 9369.
    V2,
}

impl Version {
    fn of(field: u32) -> Option<Self> {
        match field {
            0x0000_0001 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }
}

/// The datagram begins like a client's Initial packet of a known version: a reason to try its keys, not
/// yet a proof.
pub fn probe(datagram: &[u8]) -> bool {
    packet::split(datagram)
        .0
        .is_some_and(|long| long.kind == packet::Kind::Initial)
}
