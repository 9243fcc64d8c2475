//! What one flow says to the layers that look across flows.

use std::sync::Arc;

use bytes::Bytes;

use super::Message;
use crate::{
    flow::{FlowEnd, FlowRef},
    proto::{
        dns,
        http::{ExchangeId, RequestHead, ResponseHead},
        sse::SseEvent,
        tls::{Chain, ClientHello, Handshake, ServerHello},
    },
    types::{Anomaly, At, Direction},
};

/// A small body that is not MCP but matters to it: OAuth metadata, token requests, their answers.
#[derive(Clone, Debug)]
pub struct Document {
    /// Which exchange.
    pub exchange: ExchangeId,
    /// Of the request or the response.
    pub direction: Direction,
    /// Lower-case media type.
    pub media_type: Box<str>,
    /// The whole body, content coding removed.
    pub body: Bytes,
}

/// One thing seen on one flow. The per-flow half of the engine emits these in order; the
/// half that looks across flows takes them in order of [`At::packet`].
#[derive(Clone, Debug)]
pub struct FlowEvent {
    /// When, and in which packet, it was complete.
    pub at: At,
    /// The flow as it stood then.
    pub flow: FlowRef,
    /// What.
    pub kind: FlowEventKind,
}

/// Kinds of [`FlowEvent`].
#[derive(Clone, Debug)]
pub enum FlowEventKind {
    /// First packet of a flow. For TCP with `info.from_start` it is the SYN (or SYN-ACK).
    Open,
    /// Last word of a flow.
    Close(FlowEnd),
    /// A DNS message.
    Dns {
        /// To or from the resolver.
        direction: Direction,
        /// Parsed.
        message: Box<dns::Message>,
        /// As it was on the wire (without the TCP length).
        payload: Bytes,
    },
    /// A ClientHello.
    ClientHello(Box<ClientHello>),
    /// A ServerHello with the ClientHello it answers, if that was seen.
    ServerHello {
        /// The answer.
        hello: Box<ServerHello>,
        /// What it answers.
        client: Option<Arc<ClientHello>>,
    },
    /// A certificate chain, leaf first.
    Certificates {
        /// Who sent it.
        direction: Direction,
        /// The chain.
        chain: Arc<Chain>,
    },
    /// A TLS handshake is over.
    Handshake(Box<Handshake>),
    /// A readable TLS alert.
    TlsAlert {
        /// Who sent it.
        direction: Direction,
        /// AlertDescription.
        description: u8,
    },
    /// Both directions are encrypted and nothing opens them: no plaintext from here on.
    Opaque {
        /// What keeps the TLS of its process closed, where that is known.
        why: Option<Arc<str>>,
    },
    /// An HTTP request head.
    Request {
        /// Which exchange.
        exchange: ExchangeId,
        /// The head.
        head: Arc<RequestHead>,
        /// Version header, session header or method name say it is MCP (a hint only; messages are proof).
        mcp: bool,
    },
    /// The head of a final response.
    Response {
        /// Which exchange.
        exchange: ExchangeId,
        /// What it answers, if seen.
        request: Option<Arc<RequestHead>>,
        /// The head.
        head: Arc<ResponseHead>,
    },
    /// An HTTP exchange is over: both messages ended, or the flow did.
    ExchangeEnd {
        /// Which exchange.
        exchange: ExchangeId,
    },
    /// A small body that is not MCP.
    Document(Box<Document>),
    /// The `endpoint` event of HTTP+SSE, and any later one.
    SseEndpoint {
        /// Which exchange.
        exchange: ExchangeId,
        /// The event.
        event: SseEvent,
        /// 1 for the first of the stream.
        ordinal: u32,
    },
    /// An ALTSVC frame of HTTP/2 (RFC 7838): the server names another place to be reached at. In HTTP/1, and
    /// mostly in HTTP/2, the `Alt-Svc` field of a [`Self::Response`] says it instead.
    AlternativeService {
        /// Response it came with; `None` where `origin` says what it is for.
        exchange: Option<ExchangeId>,
        /// Serialised origin (RFC 6454 section 6.2); empty with an exchange.
        origin: Bytes,
        /// As the value of `Alt-Svc`.
        value: Bytes,
    },
    /// An MCP message.
    Message(Box<Message>),
    /// Something was wrong.
    Anomaly(Anomaly),
}
