//! Verdicts of the kernel program, or of the same logic run over a capture.

use std::net::IpAddr;

use crate::mcp::context::EndpointIndex;

/// Where the drift was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DriftKind {
    /// A/AAAA answer for a pinned name outside its prefixes.
    DnsAnswer,
    /// A connection to an address that a pinned name was resolved to, outside its prefixes.
    Connect,
    /// A pinned SNI sent to an address outside its prefixes.
    Sni,
}

/// One verdict: a pinned name at an address outside its prefixes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drift {
    /// Where it was seen.
    pub kind: DriftKind,
    /// The endpoint whose name it is (the first one that pins this host and addresses).
    pub endpoint: EndpointIndex,
    /// The offending address.
    pub address: IpAddr,
    /// Port of the connection, where there is one.
    pub port: Option<u16>,
    /// The kernel program refused the connection.
    pub refused: bool,
}
