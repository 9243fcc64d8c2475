//! DNS messages (RFC 1035, 6891, 9460).

mod parse;
mod tcp;
mod transactions;

#[cfg(test)]
mod tests;

pub use parse::parse;
pub use tcp::TcpStream;
pub use transactions::Transactions;

use std::net::IpAddr;

/// Which of the protocols that share the message format a port stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// DNS proper (RFC 1035), port 53.
    Unicast,
    /// Multicast DNS (RFC 6762), port 5353.
    Multicast,
    /// Link-local multicast name resolution (RFC 4795), port 5355.
    LinkLocal,
}

impl Service {
    /// Of a server's port; `None` if it is neither.
    pub fn of_port(port: u16) -> Option<Self> {
        match port {
            53 => Some(Self::Unicast),
            5353 => Some(Self::Multicast),
            5355 => Some(Self::LinkLocal),
            _ => None,
        }
    }

    /// Of a UDP flow, whichever side opened it: answers of the multicast protocols go to a group or
    /// back to a client, so that either end may look like the server.
    pub fn of_flow(client: u16, server: u16) -> Option<Self> {
        Self::of_port(server).or_else(|| Self::of_port(client))
    }
}

/// A domain name in presentation form: lower case, no trailing dot, bytes outside
/// letters, digits, `-`, `_` and `*` escaped as `\DDD`. The root is the empty string.
pub type Name = Box<str>;

/// What an Encrypted Client Hello configuration shows of itself on the wire.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EchConfig {
    /// `config_id`, which the client repeats.
    pub id: u8,
    /// `public_name`, which stands as the server name of the outer hello; lower case.
    pub public_name: Box<str>,
}

/// What an answer record says, as far as the rules need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordData {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME target.
    Cname(Name),
    /// NS target.
    Ns(Name),
    /// SOA: primary server, serial.
    Soa {
        /// MNAME.
        primary: Name,
        /// SERIAL.
        serial: u32,
    },
    /// SVCB or HTTPS (RFC 9460).
    Svcb {
        /// SvcPriority; 0 is alias mode.
        priority: u16,
        /// TargetName; empty means the owner.
        target: Name,
        /// `alpn` protocol ids.
        alpn: Vec<Box<str>>,
        /// `ech` is present.
        ech: bool,
        /// The configurations in it that could be read (RFC 9849 section 4), at most 8.
        ech_configs: Vec<EchConfig>,
        /// `port`.
        port: Option<u16>,
        /// `ipv4hint` and `ipv6hint`: addresses a client may use without asking for A or AAAA.
        hints: Vec<IpAddr>,
    },
    /// Any other type; its length.
    Other(u16),
}

/// One resource record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Owner.
    pub name: Name,
    /// TYPE.
    pub rtype: u16,
    /// CLASS.
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// RDATA.
    pub data: RecordData,
}

/// One question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Name asked for.
    pub name: Name,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
}

/// One parsed message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Transaction id.
    pub id: u16,
    /// QR bit.
    pub response: bool,
    /// OPCODE.
    pub opcode: u8,
    /// AA bit.
    pub authoritative: bool,
    /// TC bit.
    pub truncated: bool,
    /// RCODE, extended by EDNS where present.
    pub rcode: u16,
    /// Question section.
    pub questions: Vec<Question>,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section without OPT.
    pub additionals: Vec<Record>,
    /// An OPT record was present.
    pub edns: bool,
}
