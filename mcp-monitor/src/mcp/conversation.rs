//! MCP on one HTTP connection: which bodies are JSON-RPC, which streams are SSE, what they say.
//!
//! Takes [`HttpEvent`]s (HTTP/1 and HTTP/2 alike) and emits [`FlowEventKind`]s. Recognition goes by
//! content, never by path or port: MCP headers and method names prove it, and once a connection has
//! spoken MCP its other JSON-RPC is MCP too.

mod headless;
mod total;

use std::{
    collections::BTreeMap,
    str::Utf8Error,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use memchr::memmem;

use super::{
    FlowEventKind,
    body::Collected,
    event::Document,
    exchange::{Exchange, Mark, Sink},
    held::{Gauge, Share},
    json::{self, JsonError},
    jsonrpc::{self, Envelope, Parsed},
    marks::{has_result_mark, is_auth, is_json, looks_like_uri, names_session, refuses},
    message::{Carrier, Message, MessageKind},
    methods,
    repeated::Repeated,
    stray::Scanner,
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
    /// Bodies under way, bytes, over all connections that share their counters (default 1 GiB, which the 16 shards
    /// of an engine divide among them); a body that would go above is given up.
    pub held_total: usize,
    /// Decoded size of one coded body.
    pub coding: coding::Limits,
}

impl Default for ConversationLimits {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            document: 256 << 10,
            exchanges: 1024,
            held_total: 1 << 30,
            coding: coding::Limits::default(),
        }
    }
}

/// What conversations share: counts, keys of `http` and `sse` in the summary, and what they read before.
#[derive(Default, Debug)]
pub struct ConversationShared {
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
    /// Bytes of bodies under way now; see [`ConversationLimits::held_total`].
    pub held: u64,
    /// Results that were read before.
    pub repeated: Repeated,
}

const FORM: &str = "application/x-www-form-urlencoded";

/// See the module.
#[derive(Debug)]
pub struct Conversation {
    limits: ConversationLimits,
    /// Boxed: a node of the tree has room for eleven, and most connections have one at a time.
    exchanges: BTreeMap<ExchangeId, Box<Exchange>>,
    /// MCP was proven on this connection.
    mcp: bool,
    /// Bytes outside of every message, by direction.
    strays: [Option<Box<Scanner>>; 2],
    /// Bytes of bodies under way.
    gauge: Gauge,
    /// Those held elsewhere.
    outside: Option<Share>,
    /// As much of them as is in the counters.
    reported: u64,
}

/// The exchange of messages found outside of every exchange.
const STRAY: ExchangeId = ExchangeId(u64::MAX);

/// What came out, in order.
pub type Output = Vec<(At, FlowEventKind)>;

impl Conversation {
    /// For a new connection.
    pub fn new(limits: ConversationLimits) -> Self {
        Self {
            limits,
            exchanges: BTreeMap::new(),
            mcp: false,
            strays: [None, None],
            gauge: Gauge::default(),
            outside: None,
            reported: 0,
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
    pub fn handle(&mut self, event: HttpEvent, counters: &mut ConversationShared, out: &mut Output) {
        self.event(event, counters, out);
        self.settle(counters);
    }

    fn event(&mut self, event: HttpEvent, counters: &mut ConversationShared, out: &mut Output) {
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
                exchange,
                direction,
                at,
                ..
            } => self.body_gap(exchange, direction, at, counters, out),
            HttpEvent::End {
                exchange,
                direction,
                complete,
                at,
            } => {
                self.end(exchange, direction, complete, at, counters, out);
            }
            HttpEvent::Headless {
                exchange,
                direction,
                at,
            } => self.headless(exchange, direction, at, out),
            HttpEvent::Stray { direction, data, at } => self.stray(direction, &data, at, counters, out),
            HttpEvent::StrayGap { direction } => {
                if let Some(scanner) = self.scanner(direction) {
                    scanner.gap();
                }
            }
            HttpEvent::AlternativeService {
                exchange,
                origin,
                value,
                at,
            } => out.push((
                at,
                FlowEventKind::AlternativeService {
                    exchange,
                    origin,
                    value,
                },
            )),
            HttpEvent::Anomaly { anomaly, at } => out.push((at, FlowEventKind::Anomaly(anomaly))),
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
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        if names_jsonrpc(data) {
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
        self.make_room(head.at, out);
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

    /// The oldest exchange gives way to a new one.
    fn make_room(&mut self, at: At, out: &mut Output) {
        if self.exchanges.len() >= self.limits.exchanges && self.exchanges.pop_first().is_some() {
            let detail = format!("more than {} exchanges open", self.limits.exchanges);
            let anomaly = Anomaly::new(AnomalyKind::McpTableLimit, detail);
            out.push((at, FlowEventKind::Anomaly(anomaly)));
        }
    }

    fn response(
        &mut self,
        id: ExchangeId,
        head: Arc<ResponseHead>,
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        let exchange = self.exchanges.entry(id).or_insert_with(|| {
            Box::new(Exchange {
                request_ended: true,
                ..Exchange::unseen()
            })
        });
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
                        share: self.gauge.share(),
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
            None if head.partial && mark > Mark::No => Sink::Headless(self.new_scanner()),
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

    fn whole(&mut self, headers: &Headers, media_type: Option<String>, at: At, out: &mut Output) -> Sink {
        // Of a coded body the length before decoding: less than what will come, mostly.
        let announced = headers.get_str("content-length").and_then(|n| n.parse().ok());
        match self.decoder(headers, at, out) {
            Some(decoder) => Sink::Whole {
                decoder,
                collected: Collected::counted(self.gauge.share(), announced.unwrap_or_default()),
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
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        let cap = self.limits.message;
        let Some(sink) = self.sink(id, direction) else {
            return;
        };
        match sink {
            Sink::Ignore => {}
            Sink::Headless(scanner) => {
                let mut found = Vec::new();
                let anomaly = scanner.push(&data, at.packet, &mut found);
                out.extend(anomaly.map(|a| (at, FlowEventKind::Anomaly(a))));
                self.found(id, direction, found, at, counters, out);
            }
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
                decoder,
                sse,
                first,
                share,
                ..
            } => {
                let began = *first.get_or_insert(at.packet);
                let mut events = Vec::new();
                let mut anomalies = Vec::new();
                let mut failed = None;
                match decoder {
                    None => anomalies.extend(sse.push(data, &mut events)),
                    Some(decoder) => {
                        let mut plain = Vec::new();
                        failed = decoder.push(&data, &mut plain);
                        for chunk in plain {
                            anomalies.extend(sse.push(chunk, &mut events));
                        }
                    }
                }
                share.set(sse.held());
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
        if self.above_total(counters, at, out)
            && let Some(sink) = self.sink(id, direction)
        {
            *sink = Sink::Ignore;
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
        counters: &mut ConversationShared,
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
        if names_jsonrpc(&event.data) {
            let before = out.len();
            self.json(id, direction, &event.data, Carrier::Sse, first, at, counters, out);
            for (_, said) in out.iter_mut().skip(before) {
                if let FlowEventKind::Message(message) = said {
                    message.event_id.clone_from(&event.id);
                }
            }
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
        counters: &mut ConversationShared,
        out: &mut Output,
    ) -> Verdict {
        let mut say =
            |kind, detail: String| out.push((at, FlowEventKind::Anomaly(Anomaly::new(kind, detail))));
        let (messages, foreign) = match jsonrpc::parse_with(text, &mut counters.repeated) {
            Parsed::Messages {
                messages,
                foreign,
                beyond,
            } => {
                if beyond > 0 {
                    let detail = format!("{beyond} elements of a batch above {}", jsonrpc::MAX_BATCH);
                    say(AnomalyKind::McpTableLimit, detail);
                }
                (messages, foreign)
            }
            Parsed::Other => return Verdict::Other,
            Parsed::Malformed(JsonError::TooDeep) => {
                say(AnomalyKind::JsonDepth, format!("deeper than {}", json::MAX_DEPTH));
                return Verdict::Other;
            }
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
        if let Err(error) = valid_utf8(text, &messages) {
            let detail = format!("JSON-RPC, at byte {}", error.valid_up_to());
            let anomaly = Anomaly::new(AnomalyKind::InvalidUtf8, detail);
            out.push((at, FlowEventKind::Anomaly(anomaly)));
        }
        for mut envelope in messages {
            if let Some(ambiguity) = envelope.ambiguity.take() {
                let anomaly = Anomaly::new(AnomalyKind::JsonDuplicateKey, ambiguity);
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
        counters: &mut ConversationShared,
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
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        // A form that begins like JSON is JSON with the wrong label.
        let json_like =
            media_type.as_ref() != FORM || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        let jsonrpc = json_like && names_jsonrpc(body);
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

/// Checks that a text is UTF-8, but for a result that was checked before.
fn valid_utf8(text: &[u8], messages: &[Envelope]) -> Result<(), Utf8Error> {
    let known = match messages {
        [one] if one.repeated.is_some() && !one.batch => one.result.clone(),
        _ => None,
    };
    let around = known.and_then(|known| Some((text.get(..known.start)?, text.get(known.end..)?)));
    let checked = around.is_some_and(|(before, after)| {
        std::str::from_utf8(before).is_ok() && std::str::from_utf8(after).is_ok()
    });
    if checked {
        return Ok(());
    }
    std::str::from_utf8(text).map(|_| ())
}

/// The member without which a text is no JSON-RPC. Nearly always among the first bytes or the last ones.
fn names_jsonrpc(text: &[u8]) -> bool {
    static FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"jsonrpc"));
    FINDER.find(text).is_some()
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
        repeated: envelope.repeated,
        parts: envelope.parts,
        carrier,
        event_id: None,
        exchange,
        first,
        at,
    }
}
