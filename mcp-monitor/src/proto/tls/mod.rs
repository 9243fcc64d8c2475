//! TLS records and handshakes as far as they are readable on the wire (RFC 8446, 5246, 6066, 7301).

use bytes::Bytes;

use crate::types::{Anomaly, At, Direction};

/// ClientHello.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientHello {
    /// `legacy_version`.
    pub legacy_version: u16,
    /// Highest version offered: of `supported_versions` without GREASE, else `legacy_version`.
    pub max_version: u16,
    /// `supported_versions` as sent, GREASE included.
    pub supported_versions: Vec<u16>,
    /// Cipher suites in order.
    pub ciphers: Vec<u16>,
    /// Extension types in order.
    pub extensions: Vec<u16>,
    /// Host name of `server_name`, lower case.
    pub server_name: Option<Box<str>>,
    /// `application_layer_protocol_negotiation`.
    pub alpn: Vec<Box<str>>,
    /// `supported_groups` in order.
    pub groups: Vec<u16>,
    /// Groups of `key_share` in order.
    pub key_shares: Vec<u16>,
    /// `signature_algorithms` in order.
    pub signature_algorithms: Vec<u16>,
    /// `random`.
    pub random: [u8; 32],
    /// Length of the session id.
    pub session_id_len: u8,
    /// `pre_shared_key` was offered (resumption).
    pub psk: bool,
    /// `encrypted_client_hello` (0xfe0d) was present: real or GREASE.
    pub ech: bool,
}

/// ServerHello, or HelloRetryRequest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerHello {
    /// `legacy_version`.
    pub legacy_version: u16,
    /// Negotiated: `supported_versions` where present, else `legacy_version`.
    pub version: u16,
    /// Cipher suite.
    pub cipher: u16,
    /// Extension types in order.
    pub extensions: Vec<u16>,
    /// `application_layer_protocol_negotiation` (TLS 1.2; encrypted in 1.3).
    pub alpn: Option<Box<str>>,
    /// Group of `key_share`.
    pub key_share: Option<u16>,
    /// `random`.
    pub random: [u8; 32],
    /// It is a HelloRetryRequest (RFC 8446 section 4.1.3).
    pub retry: bool,
}

/// What the TLS parser says.
#[derive(Clone, Debug)]
pub enum TlsEvent {
    /// A ClientHello.
    ClientHello {
        /// Its content.
        hello: Box<ClientHello>,
        /// When.
        at: At,
    },
    /// A ServerHello or HelloRetryRequest.
    ServerHello {
        /// Its content.
        hello: Box<ServerHello>,
        /// When.
        at: At,
    },
    /// Certificate message in the clear (TLS 1.2 and before): DER, leaf first.
    Certificates {
        /// Who sent it.
        direction: Direction,
        /// The chain.
        chain: Vec<Bytes>,
        /// When.
        at: At,
    },
    /// A readable alert.
    Alert {
        /// Who sent it.
        direction: Direction,
        /// 1 warning, 2 fatal.
        level: u8,
        /// AlertDescription.
        description: u8,
        /// When.
        at: At,
    },
    /// From here on records are encrypted in this direction.
    Encrypted {
        /// Which.
        direction: Direction,
        /// When.
        at: At,
    },
    /// Something was wrong.
    Anomaly {
        /// What.
        anomaly: Anomaly,
        /// When.
        at: At,
    },
}
