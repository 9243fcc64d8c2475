//! What a whole handshake came to.

use std::sync::Arc;

use super::{Chain, ClientHello, ServerHello};
use crate::types::Direction;

/// A handshake as far as it was readable, when it was over: on the wire up to TLS 1.2, decrypted for
/// TLS 1.3. Rules see the same whatever it was read from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Handshake {
    /// Negotiated version.
    pub version: Option<u16>,
    /// An earlier session goes on: nobody shows certificates.
    pub resumption: Option<Resumption>,
    /// What the server showed; `None` if that was not seen.
    pub server: Option<Arc<Chain>>,
    /// What the client showed; `None` if it showed nothing.
    pub client: Option<Arc<Chain>>,
    /// The server asked for a certificate.
    pub certificate_requested: bool,
    /// The server sent certificate timestamps beside its certificate: in the handshake or in a stapled
    /// OCSP response.
    pub scts: bool,
    /// How it ended.
    pub end: HandshakeEnd,
}

/// How a session was resumed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resumption {
    /// By session id (RFC 5246 section 7.4.1.3).
    SessionId,
    /// By ticket (RFC 5077).
    Ticket,
    /// By pre-shared key (RFC 8446 section 2.2).
    Psk,
}

/// How a handshake ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HandshakeEnd {
    /// Not known.
    #[default]
    Unknown,
    /// The client went on: it sent application data.
    Established,
    /// One side broke it off with an alert.
    Refused {
        /// Who.
        by: Direction,
        /// AlertDescription, if it was readable.
        description: Option<u8>,
    },
}

impl Handshake {
    /// How the session of these hellos is resumed, given that the server showed no certificate.
    pub(super) fn resumption_of(client: &ClientHello, server: &ServerHello) -> Option<Resumption> {
        if server.psk {
            Some(Resumption::Psk)
        } else if client.ticket {
            Some(Resumption::Ticket)
        } else if !client.session_id.is_empty() && client.session_id == server.session_id {
            Some(Resumption::SessionId)
        } else {
            None
        }
    }
}
