//! MCP on one HTTP connection: which bodies are JSON-RPC, which streams are SSE, what they say.
//!
//! Takes [`HttpEvent`]s (HTTP/1 and HTTP/2 alike) and emits [`FlowEventKind`]s. Recognition goes by
//! content, never by path or port: MCP headers and method names prove it, and once a connection has
//! spoken MCP its other JSON-RPC is MCP too.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    FlowEventKind,
    body::Collected,
    event::Document,
    json,
    jsonrpc::{self, Envelope, Parsed},
    message::{Carrier, Message, MessageKind},
    methods,
};
use crate::{
    proto::{
        coding,
        http::{ExchangeId, Headers, HttpEvent, RequestHead, ResponseHead},
        sse,
    },
    types::{Anomaly, AnomalyKind, At, Direction, PacketId},
};

/// Caps of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConversationLimits {
    /// One JSON text or SSE event, bytes (default 16 MiB).
    pub message: usize,
    /// One [`Document`], bytes (default 256 KiB).
    pub document: usize,
    /// Exchanges open at once (default 1024); the oldest is forgotten first.
    pub exchanges: usize,
    /// Decoded size of one coded body.
    pub coding: coding::Limits,
}

impl Default for ConversationLimits {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            document: 256 << 10,
            exchanges: 1024,
            coding: coding::Limits::default(),
        }
    }
}

/// Counts that conversations share; keys of `http` and `sse` in the summary.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct ConversationCounters {
    /// Request heads.
    pub http_requests: u64,
    /// Final response heads.
    pub http_responses: u64,
    /// Responses of type `text/event-stream`.
    pub sse_streams: u64,
    /// Dispatched events.
    pub sse_events: u64,
    /// JSON-RPC messages that are not MCP.
    pub foreign_jsonrpc: u64,
}

const FORM: &str = "application/x-www-form-urlencoded";
/// Longest body looked at for a refusal, see [`refuses`].
const MAX_REFUSAL: usize = 4096;

/// How sure it is that an exchange is MCP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Mark {
    No,
    Maybe,
    Yes,
}

#[derive(Debug)]
enum Sink {
    /// Not looked at.
    Ignore,
    /// Collected whole.
    Whole {
        decoder: Option<coding::Decoder>,
        collected: Collected,
        media_type: Box<str>,
    },
    /// Decoded as it comes.
    Events {
        decoder: Option<coding::Decoder>,
        sse: sse::Decoder,
        first: Option<PacketId>,
        endpoints: u32,
    },
}

#[derive(Debug)]
struct Exchange {
    request: Option<Arc<RequestHead>>,
    mark: Mark,
    /// Accept names both JSON and SSE, as Streamable HTTP demands of clients.
    streamable: bool,
    request_body: Sink,
    response_body: Sink,
    request_ended: bool,
    response_ended: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Conversation {
    limits: ConversationLimits,
    /// Boxed: a node of the tree has room for eleven, and most connections have one at a time.
    exchanges: BTreeMap<ExchangeId, Box<Exchange>>,
    /// MCP was proven on this connection.
    mcp: bool,
}

/// What came out, in order.
pub type Output = Vec<(At, FlowEventKind)>;

impl Conversation {
    /// For a new connection.
    pub fn new(limits: ConversationLimits) -> Self {
        Self {
            limits,
            exchanges: BTreeMap::new(),
            mcp: false,
        }
    }

    /// MCP was proven on this connection.
    pub fn is_mcp(&self) -> bool {
        self.mcp
    }

    /// Some open exchange may turn out to be MCP.
    pub fn may_be_mcp(&self) -> bool {
        self.exchanges.is_empty() || self.exchanges.values().any(|e| e.mark > Mark::No)
    }

    /// Takes one event of the connection.
    pub fn handle(&mut self, event: HttpEvent, counters: &mut ConversationCounters, out: &mut Output) {
        match event {
            HttpEvent::Request { exchange, head } => {
                counters.http_requests = counters.http_requests.saturating_add(1);
                self.request(exchange, head, out);
            }
            HttpEvent::Response { exchange, head } => {
                counters.http_responses = counters.http_responses.saturating_add(1);
                self.response(exchange, head, counters, out);
            }
            HttpEvent::Body {
                exchange,
                direction,
                data,
                at,
            } => {
                self.body(exchange, direction, data, at, counters, out);
            }
            HttpEvent::BodyGap {
                exchange, direction, ..
            } => {
                if let Some(sink) = self.sink(exchange, direction) {
                    match sink {
                        Sink::Events { decoder, sse, .. } if decoder.is_none() => sse.gap(),
                        other => *other = Sink::Ignore,
                    }
                }
            }
            HttpEvent::End {
                exchange,
                direction,
                complete,
                at,
            } => {
                self.end(exchange, direction, complete, at, counters, out);
            }
            HttpEvent::Anomaly { anomaly, at } => out.push((at, FlowEventKind::Anomaly(anomaly))),
            HttpEvent::Alternative {
                origin, value, at, ..
            } => {
                out.push((at, FlowEventKind::Alternative { origin, value }));
            }
            HttpEvent::Upgraded { .. } | HttpEvent::Tunnel { .. } | HttpEvent::TunnelGap { .. } => {}
        }
    }

    /// Takes one WebSocket message of the exchange that was upgraded.
    pub fn websocket(
        &mut self,
        exchange: ExchangeId,
        direction: Direction,
        data: &Bytes,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        if memchr::memmem::find(data, b"\"jsonrpc\"").is_some() {
            self.json(
                exchange,
                direction,
                data,
                Carrier::Websocket,
                at.packet,
                at,
                counters,
                out,
            );
        }
    }

    fn request(&mut self, id: ExchangeId, head: Arc<RequestHead>, out: &mut Output) {
        let h = &head.headers;
        let marked = ["mcp-session-id", "mcp-protocol-version", "mcp-method"]
            .iter()
            .any(|n| h.get(n).is_some());
        let accept = h.get_str("accept").unwrap_or_default();
        let streamable = accept.contains("text/event-stream") && accept.contains("application/json");
        let media_type = h.media_type();
        let form = media_type.as_deref() == Some(FORM);
        let posts_json = head.method == "POST"
            && media_type
                .as_deref()
                .is_none_or(|media| is_json(media) || media == "text/plain");
        let mark = if marked {
            Mark::Yes
        } else if posts_json || self.mcp || accept.contains("text/event-stream") {
            Mark::Maybe
        } else {
            Mark::No
        };
        let request_body = if posts_json || form || (marked && head.method == "POST") {
            self.whole(h, media_type, head.at, out)
        } else {
            Sink::Ignore
        };
        // Where a capture reordered packets, the answer may have begun already.
        let early = self.exchanges.remove(&id).filter(|e| e.request.is_none());
        if self.exchanges.len() >= self.limits.exchanges {
            self.exchanges.pop_first();
        }
        let (response_body, response_ended) =
            early.map_or((Sink::Ignore, false), |e| (e.response_body, e.response_ended));
        self.exchanges.insert(
            id,
            Box::new(Exchange {
                request: Some(head.clone()),
                mark,
                streamable,
                request_body,
                response_body,
                request_ended: false,
                response_ended,
            }),
        );

        out.push((
            head.at,
            FlowEventKind::Request {
                exchange: id,
                head,
                mcp: marked || self.mcp,
            },
        ));
    }

    fn response(
        &mut self,
        id: ExchangeId,
        head: Arc<ResponseHead>,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        let unseen = Exchange {
            request: None,
            mark: Mark::Maybe,
            streamable: false,
            request_body: Sink::Ignore,
            response_body: Sink::Ignore,
            request_ended: true,
            response_ended: false,
        };
        let exchange = self.exchanges.entry(id).or_insert_with(|| Box::new(unseen));
        if head.headers.get("mcp-session-id").is_some() {
            exchange.mark = Mark::Yes;
        }
        let request = exchange.request.clone();
        let mark = exchange.mark;
        let media_type = head.headers.media_type();
        let at = head.at;
        let sink = match media_type.as_deref() {
            Some("text/event-stream") => {
                counters.sse_streams = counters.sse_streams.saturating_add(1);
                match self.decoder(&head.headers, at, out) {
                    Some(decoder) => Sink::Events {
                        decoder,
                        sse: sse::Decoder::new(self.limits.message),
                        first: None,
                        endpoints: 0,
                    },
                    None => Sink::Ignore,
                }
            }
            Some(media)
                if is_json(media)
                    && (mark > Mark::No
                        || request.as_deref().is_some_and(is_auth)
                        || refuses(request.as_deref(), &head)) =>
            {
                self.whole(&head.headers, media_type, at, out)
            }
            _ => Sink::Ignore,
        };
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.response_body = sink;
        }
        out.push((
            at,
            FlowEventKind::Response {
                exchange: id,
                request,
                head,
            },
        ));
    }

    fn whole(&self, headers: &Headers, media_type: Option<String>, at: At, out: &mut Output) -> Sink {
        match self.decoder(headers, at, out) {
            Some(decoder) => Sink::Whole {
                decoder,
                collected: Collected::default(),
                media_type: media_type.unwrap_or_default().into(),
            },
            None => Sink::Ignore,
        }
    }

    /// `None` (and an anomaly) where the content coding is unknown; `Some(None)` where there is none.
    fn decoder(&self, headers: &Headers, at: At, out: &mut Output) -> Option<Option<coding::Decoder>> {
        match coding::Decoder::new(headers.get_all("content-encoding"), self.limits.coding) {
            Ok(decoder) => Some(decoder),
            Err(anomaly) => {
                out.push((at, FlowEventKind::Anomaly(anomaly)));
                None
            }
        }
    }

    fn sink(&mut self, id: ExchangeId, direction: Direction) -> Option<&mut Sink> {
        let exchange = self.exchanges.get_mut(&id)?;
        Some(match direction {
            Direction::ToServer => &mut exchange.request_body,
            Direction::ToClient => &mut exchange.response_body,
        })
    }

    fn body(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        data: Bytes,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        let cap = self.limits.message;
        let Some(sink) = self.sink(id, direction) else {
            return;
        };
        match sink {
            Sink::Ignore => {}
            Sink::Whole {
                decoder, collected, ..
            } => {
                let mut anomaly = None;
                match decoder {
                    None => collected.push(data, at.packet, cap),
                    Some(decoder) => {
                        let mut plain = Vec::new();
                        anomaly = decoder.push(&data, &mut plain);
                        plain
                            .into_iter()
                            .for_each(|chunk| collected.push(chunk, at.packet, cap));
                    }
                }
                if collected.overflowed {
                    anomaly = Some(Anomaly::new(
                        AnomalyKind::BodyLimit,
                        format!("body above {cap} bytes"),
                    ));
                }
                if let Some(anomaly) = anomaly {
                    *sink = Sink::Ignore;
                    out.push((at, FlowEventKind::Anomaly(anomaly)));
                }
            }
            Sink::Events {
                decoder, sse, first, ..
            } => {
                let began = *first.get_or_insert(at.packet);
                let mut plain = Vec::new();
                let failed = match decoder {
                    None => {
                        plain.push(data);
                        None
                    }
                    Some(decoder) => decoder.push(&data, &mut plain),
                };
                let mut events = Vec::new();
                let mut anomalies = Vec::new();
                for chunk in plain {
                    anomalies.extend(sse.push(chunk, &mut events));
                }
                if !events.is_empty() {
                    *first = None;
                }
                if let Some(anomaly) = failed {
                    *sink = Sink::Ignore;
                    anomalies.push(anomaly);
                }
                out.extend(anomalies.into_iter().map(|a| (at, FlowEventKind::Anomaly(a))));
                for event in events {
                    counters.sse_events = counters.sse_events.saturating_add(1);
                    self.sse_event(id, direction, event, began, at, counters, out);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn sse_event(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        event: sse::SseEvent,
        first: PacketId,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        if event.event == "endpoint" {
            if let Some(exchange) = self.exchanges.get_mut(&id)
                && let Sink::Events { endpoints, .. } = &mut exchange.response_body
            {
                *endpoints = endpoints.saturating_add(1);
                let ordinal = *endpoints;
                // Another protocol's event of that name says nothing; one that looks like a URI does.
                if exchange.mark > Mark::No && looks_like_uri(&event.data) {
                    exchange.mark = Mark::Yes;
                    self.mcp = true;
                    out.push((
                        at,
                        FlowEventKind::SseEndpoint {
                            exchange: id,
                            event,
                            ordinal,
                        },
                    ));
                }
            }
            return;
        }
        // Streams of other protocols (model APIs) cost one search an event.
        if memchr::memmem::find(&event.data, b"\"jsonrpc\"").is_some() {
            self.json(id, direction, &event.data, Carrier::Sse, first, at, counters, out);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn json(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        text: &Bytes,
        carrier: Carrier,
        first: PacketId,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) -> Verdict {
        let (messages, foreign) = match jsonrpc::parse(text) {
            Parsed::Messages { messages, foreign } => (messages, foreign),
            Parsed::Other => return Verdict::Other,
            Parsed::Malformed(_) => return Verdict::Malformed,
        };
        let proven = self.proves_mcp(id, direction, carrier, &messages);
        if !proven {
            counters.foreign_jsonrpc = counters.foreign_jsonrpc.saturating_add(messages.len() as u64);
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                exchange.mark = Mark::No;
            }
            return Verdict::Foreign;
        }
        counters.foreign_jsonrpc = counters.foreign_jsonrpc.saturating_add(foreign as u64);
        // An error alone is what any JSON-RPC server says: counted, but no proof of MCP.
        if direction == Direction::ToServer || messages.iter().any(|m| m.kind != MessageKind::Error) {
            self.mcp = true;
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                exchange.mark = Mark::Yes;
            }
        }
        for envelope in messages {
            if envelope.duplicate_key {
                let anomaly = Anomaly::new(AnomalyKind::JsonDuplicateKey, "in the JSON-RPC envelope");
                out.push((at, FlowEventKind::Anomaly(anomaly)));
            }
            let message = message(envelope, direction, carrier, id, first, at);
            out.push((at, FlowEventKind::Message(Box::new(message))));
        }
        Verdict::Mcp
    }

    /// Whether these JSON-RPC messages are MCP.
    fn proves_mcp(
        &self,
        id: ExchangeId,
        direction: Direction,
        carrier: Carrier,
        messages: &[Envelope],
    ) -> bool {
        let exchange = self.exchanges.get(&id);
        let mark = exchange.map_or(Mark::Maybe, |e| e.mark);
        if self.mcp || mark == Mark::Yes {
            return true;
        }
        let named = messages
            .iter()
            .any(|m| m.method.as_deref().is_some_and(methods::is_mcp));
        let request = exchange.and_then(|e| e.request.as_deref());
        match direction {
            // A response sent in a request body: only MCP clients answer servers that way.
            Direction::ToServer => {
                named
                    || messages
                        .iter()
                        .any(|m| matches!(m.kind, MessageKind::Response | MessageKind::Error))
                    || exchange.is_some_and(|e| e.streamable)
                    || request.and_then(RequestHead::query).is_some_and(names_session)
            }
            Direction::ToClient => {
                named
                    || request.is_some_and(|r| r.method != "POST")
                    || (mark == Mark::Maybe
                        && (exchange.is_some_and(|e| e.streamable)
                            || carrier == Carrier::Sse
                            || messages.iter().all(|m| m.kind == MessageKind::Error)
                            || (request.is_none() && messages.iter().any(has_result_mark))))
            }
        }
    }

    fn end(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        complete: bool,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        let Some(sink) = self.sink(id, direction) else {
            return;
        };
        if let Sink::Whole {
            decoder,
            mut collected,
            media_type,
        } = std::mem::replace(sink, Sink::Ignore)
        {
            let anomaly = decoder.filter(|_| complete).and_then(|mut d| d.finish());
            let first = collected.first.unwrap_or(at.packet);
            let body = collected.take();
            if !body.is_empty() {
                self.whole_body(
                    id, direction, &body, media_type, first, complete, at, counters, out,
                );
            }
            out.extend(anomaly.map(|a| (at, FlowEventKind::Anomaly(a))));
        }
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        match direction {
            Direction::ToServer => exchange.request_ended = true,
            Direction::ToClient => exchange.response_ended = true,
        }
        if exchange.request_ended && exchange.response_ended {
            self.exchanges.remove(&id);
            out.push((at, FlowEventKind::ExchangeEnd { exchange: id }));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn whole_body(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        body: &Bytes,
        media_type: Box<str>,
        first: PacketId,
        complete: bool,
        at: At,
        counters: &mut ConversationCounters,
        out: &mut Output,
    ) {
        // A form that begins like JSON is JSON with the wrong label.
        let json_like =
            media_type.as_ref() != FORM || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        let jsonrpc = json_like && memchr::memmem::find(body, b"jsonrpc").is_some();
        // A body without the word cannot be JSON-RPC (unless escaped: then it is not worth a guess).
        let verdict = if jsonrpc {
            self.json(id, direction, body, Carrier::Body, first, at, counters, out)
        } else {
            Verdict::Other
        };
        let mcp = self.mcp || self.exchanges.get(&id).is_some_and(|e| e.mark == Mark::Yes);
        match verdict {
            Verdict::Mcp | Verdict::Foreign => return,
            Verdict::Malformed if complete && mcp => {
                let anomaly = Anomaly::new(AnomalyKind::JsonMalformed, format!("{} bytes", body.len()));
                out.push((at, FlowEventKind::Anomaly(anomaly)));
            }
            Verdict::Malformed | Verdict::Other => {}
        }
        if direction == Direction::ToServer && !mcp {
            // What was posted is not MCP, so neither is the answer.
            if let Some(exchange) = self.exchanges.get_mut(&id)
                && !exchange.streamable
            {
                exchange.mark = Mark::No;
            }
        }
        let auth = self
            .exchanges
            .get(&id)
            .and_then(|e| e.request.as_deref())
            .is_some_and(is_auth);
        if complete && body.len() <= self.limits.document && (auth || !json_like) {
            let document = Document {
                exchange: id,
                direction,
                media_type,
                body: body.clone(),
            };
            out.push((at, FlowEventKind::Document(Box::new(document))));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Mcp,
    Foreign,
    Other,
    Malformed,
}

fn message(
    envelope: Envelope,
    direction: Direction,
    carrier: Carrier,
    exchange: ExchangeId,
    first: PacketId,
    at: At,
) -> Message {
    Message {
        kind: envelope.kind,
        direction,
        id: envelope.id,
        method: envelope.method,
        name: envelope.name,
        error_code: envelope.error_code,
        body: envelope.body,
        params: envelope.params,
        result: envelope.result,
        error: envelope.error,
        batch: envelope.batch,
        carrier,
        exchange,
        first,
        at,
    }
}

fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json") || media_type == "text/json"
}

/// Paths of OAuth and its metadata, on whatever host.
fn is_auth(head: &RequestHead) -> bool {
    let path = head.path();
    [
        &b"/.well-known/"[..],
        b"oauth",
        b"/token",
        b"/authorize",
        b"/register",
        b"/revoke",
        b"/introspect",
    ]
    .iter()
    .any(|part| memchr::memmem::find(path, part).is_some())
}

/// An error to a request without a body: Streamable HTTP servers say it in JSON-RPC. Such bodies are small.
fn refuses(request: Option<&RequestHead>, head: &ResponseHead) -> bool {
    let length = head
        .headers
        .get_str("content-length")
        .and_then(|v| v.parse().ok());
    head.status >= 400
        && request.is_some_and(|r| r.method == "GET" || r.method == "DELETE")
        && length.is_some_and(|n: usize| n <= MAX_REFUSAL)
}

fn names_session(query: &[u8]) -> bool {
    let query = query.to_ascii_lowercase();
    memchr::memmem::find(&query, b"sessionid=").is_some()
        || memchr::memmem::find(&query, b"session_id=").is_some()
}

fn looks_like_uri(data: &[u8]) -> bool {
    data.starts_with(b"/") || memchr::memmem::find(data, b"://").is_some() || names_session(data)
}

fn has_result_mark(envelope: &Envelope) -> bool {
    let Some(result) = envelope.result.clone().and_then(|r| envelope.body.get(r)) else {
        return false;
    };
    let mut marked = false;
    let _ = json::members(result, |key, _| {
        marked |= methods::RESULT_MARKS.contains(&key.as_ref())
    });
    marked
}
