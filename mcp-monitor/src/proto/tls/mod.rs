//! TLS records and handshakes as far as they are readable on the wire (RFC 8446, 5246, 6066, 7301).

mod certificate;
mod cipher;
pub mod decrypt;
pub mod dtls;
mod handshake;
mod hello;
pub mod ja4;
mod sslv2;
mod stream;

#[cfg(test)]
mod tests;

pub use certificate::{Certificate, Chain};
pub use cipher::{Weakness, is_weak, weakness};
pub use handshake::{Handshake, HandshakeEnd, Resumption};
pub use hello::{parse_client_hello, parse_server_hello};
pub use ja4::Carrier;
pub use stream::{Limits, Stream, probe};

use std::sync::Arc;

use crate::types::{Anomaly, At, Direction};

/// ClientHello.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientHello {
    /// What carried it.
    pub carrier: Carrier,
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
    /// `application_layer_protocol_negotiation`; each byte as the code point of the same number.
    pub alpn: Vec<Box<str>>,
    /// `supported_groups` in order.
    pub groups: Vec<u16>,
    /// Groups of `key_share` in order.
    pub key_shares: Vec<u16>,
    /// `signature_algorithms` in order.
    pub signature_algorithms: Vec<u16>,
    /// `random`.
    pub random: [u8; 32],
    /// `legacy_session_id`, at most 255 bytes: in TLS 1.2 the session to resume, in 1.3 without meaning.
    pub session_id: Vec<u8>,
    /// A `session_ticket` that is not empty was offered (RFC 5077).
    pub ticket: bool,
    /// `pre_shared_key` was offered (resumption).
    pub psk: bool,
    /// `encrypted_client_hello` (0xfe0d).
    pub ech: Option<Ech>,
}

/// `encrypted_client_hello` of a ClientHello (RFC 9849 section 5).
///
/// Real and GREASE are made to look alike. They differ in what stands around them: a real one goes
/// with the `config_id` and, as outer server name, the public name of a configuration that the server
/// published, in DNS as a rule; with GREASE the server name is the true one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ech {
    /// The outer form.
    Outer {
        /// Which of the server's configurations it is for; random in GREASE.
        config_id: u8,
        /// Bytes of the encrypted hello.
        payload_len: u16,
    },
    /// The inner form, which is only ever seen decrypted.
    Inner,
    /// A form that RFC 9849 does not know, or one that breaks off.
    Unknown,
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
    /// `legacy_session_id_echo`, at most 255 bytes.
    pub session_id: Vec<u8>,
    /// `pre_shared_key` was chosen: the session is resumed (or the key is an external one).
    pub psk: bool,
    /// `signed_certificate_timestamp` with something in it (RFC 6962 section 3.3.1).
    pub scts: bool,
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
    /// A Certificate message in the clear (TLS 1.2 and before) with at least one certificate.
    Certificates {
        /// Who sent it.
        direction: Direction,
        /// The chain.
        chain: Arc<Chain>,
        /// When.
        at: At,
    },
    /// The handshake is over (TLS 1.2 and before).
    Handshake {
        /// How it went.
        handshake: Box<Handshake>,
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

/// What a server that could do better leaves in its random when it is made to do less
/// (RFC 8446 section 4.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sentinel {
    /// TLS 1.2 although the server speaks 1.3.
    Tls12,
    /// TLS 1.1 or below although the server speaks 1.2 or 1.3.
    Tls11OrBelow,
}

impl ServerHello {
    /// The downgrade sentinel, if the random ends in one and a version it speaks of was negotiated.
    pub fn downgrade_sentinel(&self) -> Option<Sentinel> {
        match (self.random.last_chunk()?, self.version) {
            (b"DOWNGRD\x01", 0x0303) => Some(Sentinel::Tls12),
            (b"DOWNGRD\x00", ..=0x0302) => Some(Sentinel::Tls11OrBelow),
            _ => None,
        }
    }
}

/// A protocol version as people write it: `1.2` for 0x0303. `None` for what is not one.
pub fn version_name(version: u16) -> Option<&'static str> {
    Some(match version {
        0x0002 => "SSL 2.0",
        0x0300 => "SSL 3.0",
        0x0301 => "1.0",
        0x0302 => "1.1",
        0x0303 => "1.2",
        0x0304 => "1.3",
        _ => return None,
    })
}

/// A value reserved to keep implementations tolerant (RFC 8701).
pub fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}
