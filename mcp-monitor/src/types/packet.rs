//! Which packet, which way, seen how.

use serde::Serialize;

use super::Timestamp;

/// A packet's place in the whole input and in its own file.
///
/// Ordered by `order`, which is unique over all files of one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PacketId {
    /// Position in the merged timeline of all inputs, from 1.
    pub order: u64,
    /// Packet number inside its file as Wireshark shows it, from 1; live: the record's number.
    pub number: u64,
    /// Index of the file among those given on the command line; 0 live.
    pub file: u16,
}

/// When, and in which packet, something was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct At {
    /// Capture time.
    pub time: Timestamp,
    /// The packet that completed it.
    pub packet: PacketId,
}

/// Which way bytes travel on a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the side that opened the connection.
    ToServer,
    /// Back to it.
    ToClient,
}

impl Direction {
    /// The opposite way.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// Keeps apart address spaces in which the same 4-tuple means different connections:
/// a tunnel, a VLAN, a network namespace. 0 is the plain one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Scope(pub u64);

/// Layer 4 protocol of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How the plaintext of a flow was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Plaintext {
    /// The packets carry it.
    Packet,
    /// From the TLS library of a process.
    Uprobe,
    /// Decrypted with logged keys.
    Keylog,
    /// Not at all: the flow is encrypted and nothing opened it.
    None,
}
