//! What rules look at.

use std::sync::Arc;

use super::Drift;
use crate::{
    flow::{FlowEnd, FlowRef},
    mcp::{
        Document, Message,
        context::{Connection, MessageContext, Target},
    },
    proto::{
        dns,
        http::{ExchangeId, RequestHead, ResponseHead},
        sse::SseEvent,
        tls::{Chain, ClientHello, Handshake, ServerHello},
    },
    types::{Anomaly, At, Direction, Listener},
};

/// One event with everything known around it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When and in which packet.
    pub at: At,
    /// The flow; `None` for a tick.
    pub flow: Option<&'a FlowRef>,
    /// What is known of the connection; `None` for a tick.
    pub connection: Option<&'a Connection>,
    /// What.
    pub kind: SeenKind<'a>,
}

impl Seen<'_> {
    /// Whether the ends of the connection are not known, as of plaintext whose packets were not seen: nothing may
    /// be concluded from its addresses.
    pub fn is_unlinked(&self) -> bool {
        self.flow.is_some_and(|flow| !flow.info.linked)
    }
}

/// Kinds of [`Seen`].
#[derive(Clone, Copy, Debug)]
pub enum SeenKind<'a> {
    /// A verdict of the kernel program or its twin.
    Drift(&'a Drift),
    /// First packet of a flow.
    Open,
    /// Last word of a flow.
    Close(&'a FlowEnd),
    /// A DNS message.
    Dns {
        /// To or from the resolver.
        direction: Direction,
        /// Parsed.
        message: &'a dns::Message,
    },
    /// A ClientHello.
    ClientHello(&'a ClientHello),
    /// A ServerHello.
    ServerHello {
        /// The answer.
        hello: &'a ServerHello,
        /// What it answers.
        client: Option<&'a ClientHello>,
    },
    /// A certificate chain, leaf first, in the clear or decrypted.
    Certificates {
        /// Who sent it.
        direction: Direction,
        /// The chain.
        chain: &'a Chain,
    },
    /// A TLS handshake is over, with what both sides showed and whether the client went on.
    Handshake(&'a Handshake),
    /// A readable TLS alert.
    TlsAlert {
        /// Who sent it.
        direction: Direction,
        /// AlertDescription.
        description: u8,
    },
    /// Nothing opens this flow's encryption.
    Opaque {
        /// What keeps the TLS of its process closed, where that is known.
        why: Option<&'a Arc<str>>,
    },
    /// An HTTP request head.
    Request {
        /// Which exchange.
        exchange: ExchangeId,
        /// The head.
        head: &'a RequestHead,
        /// Whom it addresses.
        target: &'a Target,
        /// It belongs to MCP: by its own marks, or because its path on that server is known to speak MCP.
        mcp: bool,
    },
    /// The head of a final response.
    Response {
        /// Which exchange.
        exchange: ExchangeId,
        /// What it answers, if seen.
        request: Option<&'a RequestHead>,
        /// The head.
        head: &'a ResponseHead,
        /// Whom the request addressed.
        target: &'a Target,
        /// As for the request.
        mcp: bool,
    },
    /// A small body that is not MCP.
    Document {
        /// The body.
        document: &'a Document,
        /// HTTP request of its exchange, if seen.
        request: Option<&'a RequestHead>,
        /// HTTP response of its exchange, if seen already.
        response: Option<&'a ResponseHead>,
        /// Whom the request addressed.
        target: &'a Target,
    },
    /// The `endpoint` event of HTTP+SSE, and any later one.
    SseEndpoint {
        /// The event; its data is the URI.
        event: &'a SseEvent,
        /// 1 for the first of the stream.
        ordinal: u32,
        /// Whom the GET addressed.
        target: &'a Target,
    },
    /// An ALTSVC frame of HTTP/2: the server names another place to be reached at. The `Alt-Svc` field of a
    /// response says the same.
    AlternativeService {
        /// Serialised origin it speaks for; `None` where it came with a response.
        origin: Option<&'a [u8]>,
        /// As the value of `Alt-Svc` (RFC 7838 section 3).
        value: &'a [u8],
        /// Whom the request of that response addressed.
        target: Option<&'a Target>,
    },
    /// An MCP message.
    Message {
        /// The message.
        message: &'a Message,
        /// Everything around it.
        context: MessageContext<'a>,
    },
    /// Something was wrong on the wire.
    Anomaly(&'a Anomaly),
    /// A socket of this machine listens where MCP was seen; live only.
    Listener(&'a Listener),
    /// Capture time passed a whole second.
    Tick,
}

/// Read-only state that rules share.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The pins in force.
    pub pins: &'a crate::config::pins::Pins,
    /// The list of tools that this message completes, all its pages together.
    pub tools: Option<&'a crate::baseline::ToolList>,
    /// What this message defines, if it is a response that does and is not too large: what was found in
    /// the same bytes before needs not be looked for again.
    pub definition: Option<crate::baseline::Fingerprint>,
    /// What rules ask of this message, answered once for all of them.
    pub facts: &'a super::Facts,
    /// Where addresses are announced from.
    pub origins: &'a crate::config::origin::OriginTables,
    /// Makes fingerprints of secrets.
    pub fingerprints: &'a super::credentials::Fingerprinter,
}
