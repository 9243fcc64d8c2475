//! One JSON-RPC message of MCP, parsed once.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{json, repeated::Digest};
use crate::{
    proto::http::ExchangeId,
    types::{At, Direction, PacketId},
};

/// JSON-RPC kind (2.0 specification, sections 4 and 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// `method` with `id`.
    Request,
    /// `result`.
    Response,
    /// `error`.
    Error,
    /// `method` without `id`.
    Notification,
}

/// A JSON-RPC id. `1` is not `"1"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RequestId {
    /// A number, as written on the wire.
    Number(Box<str>),
    /// A string, escapes resolved.
    Text(Box<str>),
    /// `null`: what a server answers to a request it could not read.
    Null,
}

/// Without quotes, as the contract's `request_id` has it.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(s) | Self::Text(s) => f.write_str(s),
            Self::Null => f.write_str("null"),
        }
    }
}

/// What carried a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// A JSON body.
    Body,
    /// An event of an SSE stream.
    Sse,
    /// A WebSocket message.
    Websocket,
}

/// A protocol revision: a date, compared as such.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub Arc<str>);

impl Revision {
    /// First revision.
    pub const V2024_11_05: &'static str = "2024-11-05";
    /// What an absent version header means where the header is required.
    pub const V2025_03_26: &'static str = "2025-03-26";
    /// Version header required from here on.
    pub const V2025_06_18: &'static str = "2025-06-18";
    /// Last revision with `initialize`.
    pub const V2025_11_25: &'static str = "2025-11-25";
    /// No handshake, no session; the version travels with each request.
    pub const V2026_07_28: &'static str = "2026-07-28";

    /// Reads `YYYY-MM-DD`; anything else is `None` (revisions of other form are never compared).
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        let digits = |r: Range<usize>| b.get(r).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
        let shape = b.len() == 10
            && b.get(4) == Some(&b'-')
            && b.get(7) == Some(&b'-')
            && digits(0..4)
            && digits(5..7)
            && digits(8..10);
        shape.then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The date is `other` or later.
    pub fn at_least(&self, other: &str) -> bool {
        self.as_str() >= other
    }
}

/// MCP transport (independent of the revision).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum TransportKind {
    /// GET stream with an `endpoint` event, POSTs answered 202 (2024-11-05).
    #[serde(rename = "http-sse")]
    HttpSse,
    /// POST answered by JSON or a stream (2025-03-26 on).
    #[serde(rename = "streamable-http")]
    StreamableHttp,
    /// WebSocket (not in the specification, used by some).
    #[serde(rename = "websocket")]
    Websocket,
}

impl TransportKind {
    /// Its name in pins and records.
    pub fn slug(self) -> &'static str {
        match self {
            Self::HttpSse => "http-sse",
            Self::StreamableHttp => "streamable-http",
            Self::Websocket => "websocket",
        }
    }
}

/// Where members of a result lie in it that rules ask for; of a name that comes twice, the first.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ResultParts {
    /// `isError` is `true`.
    pub failed: Option<bool>,
    /// `structuredContent`.
    pub structured: Option<Range<usize>>,
    /// `content`.
    pub content: Option<Range<usize>>,
}

impl ResultParts {
    /// Takes a member of `result`.
    pub fn note(&mut self, key: &str, value: Range<usize>, result: &[u8]) {
        match key {
            "isError" => {
                self.failed.get_or_insert(result.get(value) == Some(b"true"));
            }
            "structuredContent" => {
                self.structured.get_or_insert(value);
            }
            "content" => {
                self.content.get_or_insert(value);
            }
            _ => {}
        }
    }

    /// Of a whole result. A text that breaks off later still gives what came before.
    pub fn of(result: &[u8]) -> Self {
        let mut parts = Self::default();
        let _ = json::members(result, |key, value| parts.note(&key, value, result));
        parts
    }
}

/// One message. Text is kept once, in `body`; parts are ranges of it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Kind.
    pub kind: MessageKind,
    /// Which way.
    pub direction: Direction,
    /// `id`; `None` for notifications.
    pub id: Option<RequestId>,
    /// `method` of a request or notification.
    pub method: Option<Arc<str>>,
    /// `params.name` of `tools/call` and `prompts/get`, `params.uri` of `resources/*`.
    pub name: Option<Arc<str>>,
    /// `error.code`.
    pub error_code: Option<i64>,
    /// The JSON text of this message alone.
    pub body: Bytes,
    /// Where `params` lies in `body`.
    pub params: Option<Range<usize>>,
    /// Where `result` lies in `body`.
    pub result: Option<Range<usize>>,
    /// Where `error` lies in `body`.
    pub error: Option<Range<usize>>,
    /// It was an element of a batch.
    pub batch: bool,
    /// `result` was read before: its digest.
    pub repeated: Option<Digest>,
    /// Where members of `result` lie; `None` where it was not looked into.
    pub parts: Option<ResultParts>,
    /// What carried it.
    pub carrier: Carrier,
    /// For SSE: the last event id in force, if the stream ever set one.
    pub event_id: Option<Bytes>,
    /// HTTP exchange that carried it.
    pub exchange: ExchangeId,
    /// First packet of its bytes.
    pub first: PacketId,
    /// When it was complete.
    pub at: At,
}

impl Message {
    fn part(&self, range: Option<&Range<usize>>) -> Option<&[u8]> {
        self.body.get(range?.clone())
    }

    /// JSON text of `params`.
    pub fn params(&self) -> Option<&[u8]> {
        self.part(self.params.as_ref())
    }

    /// JSON text of `result`.
    pub fn result(&self) -> Option<&[u8]> {
        self.part(self.result.as_ref())
    }

    /// JSON text of `error`.
    pub fn error(&self) -> Option<&[u8]> {
        self.part(self.error.as_ref())
    }

    /// `method` is `name`.
    pub fn is(&self, name: &str) -> bool {
        self.method.as_deref() == Some(name)
    }
}
