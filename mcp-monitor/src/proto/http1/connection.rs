//! Both directions of a connection and what passes between them.

use std::{mem, sync::Arc};

use bytes::{Buf, Bytes};

use super::{
    Limits,
    chunked::{self, Chunked, Step},
    framing::Framing,
    head::{self, Head, Start},
    pairing::{Method, Pairing},
    probe,
    side::{Body, Held, Partial, State, fresh},
};
use crate::{
    proto::{
        Probe,
        http::{ExchangeId, Headers, HttpEvent, RequestHead, ResponseHead, Version},
    },
    types::{Anomaly, AnomalyKind, At, Direction, PacketId},
};

/// As far as a probe looks.
const WINDOW: usize = 1024;

/// An HTTP/1 connection. Feed it [`Self::data`], [`Self::gap`] and [`Self::fin`] of each
/// direction in stream order, then [`Self::abort`] when the flow is over.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    pairing: Pairing,
    to_server: State,
    to_client: State,
    whole: bool,
    requests_seen: bool,
    /// The exchange that changed the protocol.
    upgraded: Option<ExchangeId>,
}

impl Connection {
    /// A connection that may be joined in the middle: bytes before the first plausible
    /// message start are passed over.
    pub fn new(limits: Limits) -> Self {
        Self {
            pairing: Pairing::new(limits.max_pipeline),
            limits,
            to_server: State::Seek,
            to_client: State::Seek,
            whole: false,
            requests_seen: false,
            upgraded: None,
        }
    }

    /// A connection seen from its first byte: what is not a message there is an anomaly.
    pub fn from_start(limits: Limits) -> Self {
        Self {
            to_server: fresh(),
            to_client: fresh(),
            whole: true,
            ..Self::new(limits)
        }
    }

    /// A connection joined after it became another protocol: every byte is passed on.
    pub fn tunnel(limits: Limits) -> Self {
        Self {
            to_server: State::Tunnel,
            to_client: State::Tunnel,
            upgraded: Some(ExchangeId(1)),
            ..Self::new(limits)
        }
    }

    /// The next bytes of a direction; each call is taken for the start of a segment.
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes, out: &mut Vec<HttpEvent>) {
        let mut data = data;
        let mut at_start = true;
        while !data.is_empty() {
            let state = mem::replace(self.side(direction), State::Seek);
            let before = data.len();
            let next = self.step(direction, at, at_start, state, &mut data, out);
            *self.side(direction) = next;
            at_start &= data.len() == before;
        }
    }

    /// `bytes` of a direction will never come.
    pub fn gap(&mut self, direction: Direction, at: At, bytes: u64, out: &mut Vec<HttpEvent>) {
        if bytes == 0 {
            return;
        }
        let gap = |exchange, bytes| HttpEvent::BodyGap {
            exchange,
            direction,
            bytes,
            at,
        };
        let state = mem::replace(self.side(direction), State::Seek);
        let next = match state {
            State::Tunnel => {
                out.push(HttpEvent::TunnelGap { direction, bytes, at });
                State::Tunnel
            }
            State::Seek | State::Head(_) | State::Held(_) => {
                if let State::Head(partial) = state
                    && partial.unsure
                {
                    stray(direction, at, partial.bytes.freeze(), out);
                }
                out.push(HttpEvent::StrayGap { direction });
                self.out_of_step(direction)
            }
            State::SeekChunk(exchange) => {
                out.push(gap(exchange, None));
                State::SeekChunk(exchange)
            }
            State::Body(mut body) => {
                body.intact = false;
                match &mut body.framing {
                    Framing::Length(left) if bytes <= *left => {
                        out.push(gap(body.exchange, Some(bytes)));
                        *left = left.saturating_sub(bytes);
                        if *left == 0 {
                            self.body_end(direction, at, &body, out)
                        } else {
                            State::Body(body)
                        }
                    }
                    Framing::Length(left) => {
                        out.push(gap(body.exchange, Some(*left)));
                        end(out, body.exchange, direction, false, at);
                        out.push(HttpEvent::StrayGap { direction });
                        self.out_of_step(direction)
                    }
                    Framing::Chunked(chunked) if bytes <= chunked.skippable() => {
                        out.push(gap(body.exchange, Some(bytes)));
                        chunked.skip(bytes);
                        State::Body(body)
                    }
                    Framing::Chunked(_) => {
                        out.push(gap(body.exchange, None));
                        State::SeekChunk(body.exchange)
                    }
                    _ => {
                        out.push(gap(body.exchange, Some(bytes)));
                        State::Body(body)
                    }
                }
            }
        };
        *self.side(direction) = next;
    }

    /// The direction was closed in order.
    pub fn fin(&mut self, direction: Direction, at: At, out: &mut Vec<HttpEvent>) {
        match mem::replace(self.side(direction), State::Seek) {
            State::Head(partial) => cut_head(&partial, at, out),
            State::Body(body) => {
                let complete = body.intact && matches!(body.framing, Framing::UntilClose);
                end(out, body.exchange, direction, complete, at);
            }
            State::SeekChunk(exchange) => end(out, exchange, direction, false, at),
            // The response may still come.
            held @ (State::Held(_) | State::Tunnel) => *self.side(direction) = held,
            State::Seek => {}
        }
        if direction == Direction::ToClient {
            self.unanswered(at, out);
        }
    }

    /// The flow is over: reset, or the end of the input. What is open ends incomplete.
    pub fn abort(&mut self, at: At, out: &mut Vec<HttpEvent>) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            match mem::replace(self.side(direction), State::Seek) {
                State::Body(Body { exchange, .. }) | State::SeekChunk(exchange) => {
                    end(out, exchange, direction, false, at);
                }
                State::Held(held) => {
                    if !held.parts.is_empty() {
                        self.switch_by_evidence(held, at, out);
                    }
                }
                State::Tunnel => *self.side(direction) = State::Tunnel,
                State::Head(_) | State::Seek => {}
            }
        }
        self.unanswered(at, out);
        for exchange in self.pairing.orphans() {
            unpaired(exchange, at, out);
        }
    }

    fn unanswered(&mut self, at: At, out: &mut Vec<HttpEvent>) {
        for exchange in self.pairing.unanswered() {
            end(out, exchange, Direction::ToClient, false, at);
        }
    }

    fn side(&mut self, direction: Direction) -> &mut State {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Heads may have been lost: look for the next one.
    fn out_of_step(&mut self, direction: Direction) -> State {
        match direction {
            Direction::ToServer => self.pairing.requests_lost(),
            Direction::ToClient => self.pairing.responses_lost(),
        }
        State::Seek
    }

    fn step(
        &mut self,
        direction: Direction,
        at: At,
        at_start: bool,
        state: State,
        data: &mut Bytes,
        out: &mut Vec<HttpEvent>,
    ) -> State {
        match state {
            State::Tunnel => {
                out.push(HttpEvent::Tunnel {
                    direction,
                    data: mem::take(data),
                    at,
                });
                State::Tunnel
            }
            State::Body(body) => self.body(direction, at, body, data, out),
            State::Head(partial) => self.head(direction, at, partial, data, out),
            State::Seek => {
                let verdict = if at_start {
                    probe(data, direction)
                } else {
                    Probe::NotForUs
                };
                if verdict == Probe::NotForUs {
                    stray(direction, at, mem::take(data), out);
                    return State::Seek;
                }
                State::Head(Partial {
                    sought: true,
                    unsure: verdict == Probe::Unsure,
                    ..Partial::default()
                })
            }
            State::SeekChunk(exchange) => {
                if at_start && probe(data, direction) == Probe::Certain {
                    end(out, exchange, direction, false, at);
                    return self.out_of_step(direction);
                }
                let offset = chunked::find_chunk(data);
                let mut before = data.split_to(offset.unwrap_or(data.len()));
                if offset.is_some() && before.ends_with(b"\r\n") {
                    before.truncate(before.len().saturating_sub(2));
                }
                if !before.is_empty() {
                    // What is left of the chunk. Framing may be among it, which a reader of lines passes over.
                    out.push(HttpEvent::Body {
                        exchange,
                        direction,
                        data: before,
                        at,
                    });
                }
                if offset.is_none() {
                    return State::SeekChunk(exchange);
                }
                State::Body(Body {
                    exchange,
                    framing: Framing::Chunked(Chunked::resumed()),
                    intact: false,
                    upgrade: false,
                })
            }
            State::Held(held) => self.hold(at, held, data, out),
        }
    }

    fn body(
        &mut self,
        direction: Direction,
        at: At,
        mut body: Body,
        data: &mut Bytes,
        out: &mut Vec<HttpEvent>,
    ) -> State {
        let exchange = body.exchange;
        let mut push = |data| {
            out.push(HttpEvent::Body {
                exchange,
                direction,
                data,
                at,
            });
        };
        match &mut body.framing {
            Framing::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                *left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                push(data.split_to(take));
                if *left == 0 {
                    return self.body_end(direction, at, &body, out);
                }
            }
            Framing::Chunked(chunked) => match chunked.step(data) {
                Step::Data(bytes) => push(bytes),
                Step::Pending => {}
                Step::Done => {
                    if chunked.bare_lf() {
                        anomaly(out, AnomalyKind::HttpAmbiguous, "bare LF in chunked framing", at);
                    }
                    return self.body_end(direction, at, &body, out);
                }
                Step::Malformed(remark) => {
                    anomaly(out, AnomalyKind::HttpMalformed, remark, at);
                    end(out, exchange, direction, false, at);
                    stray(direction, at, mem::take(data), out);
                    return self.out_of_step(direction);
                }
            },
            Framing::UntilClose | Framing::Empty | Framing::Unknown => push(mem::take(data)),
        }
        State::Body(body)
    }

    fn body_end(&mut self, direction: Direction, at: At, body: &Body, out: &mut Vec<HttpEvent>) -> State {
        end(out, body.exchange, direction, body.intact, at);
        self.after_message(direction, body.exchange, body.upgrade)
    }

    fn after_message(&self, direction: Direction, exchange: ExchangeId, upgrade: bool) -> State {
        if direction == Direction::ToClient {
            fresh()
        } else if self.upgraded.is_some_and(|asked| asked <= exchange) {
            State::Tunnel
        } else if upgrade {
            State::Held(Held::new(exchange))
        } else {
            fresh()
        }
    }

    fn head(
        &mut self,
        direction: Direction,
        at: At,
        mut partial: Partial,
        data: &mut Bytes,
        out: &mut Vec<HttpEvent>,
    ) -> State {
        if partial.unsure {
            match probe(partial.with(data, WINDOW, &mut Vec::new()), direction) {
                Probe::Certain => partial.unsure = false,
                Probe::Unsure if probe(data, direction) != Probe::Certain => {}
                // What came before was none; this may be one.
                Probe::Unsure | Probe::NotForUs => {
                    stray(direction, at, partial.bytes.freeze(), out);
                    return State::Seek;
                }
            }
        }
        if partial.bytes.is_empty() {
            // RFC 9112 section 2.2: empty lines before a message are ignored.
            let blank = data.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            data.advance(blank);
            if data.is_empty() {
                return State::Head(partial);
            }
        }
        let first = *partial.first.get_or_insert(at.packet);
        let found = partial.scanner.scan(data);
        let taken = found.unwrap_or(data.len());
        if partial.bytes.len().saturating_add(taken) > self.limits.max_head {
            anomaly(out, AnomalyKind::HttpHeadLimit, "head above the limit", at);
            stray(direction, at, mem::take(data), out);
            return self.out_of_step(direction);
        }
        let piece = data.split_to(taken);
        if found.is_none() {
            partial.bytes.extend_from_slice(&piece);
            return State::Head(partial);
        }
        let raw = if partial.bytes.is_empty() {
            piece
        } else {
            partial.bytes.extend_from_slice(&piece);
            partial.bytes.freeze()
        };
        let request = direction == Direction::ToServer;
        match head::parse(&raw, request, self.limits.max_headers) {
            Ok(Head {
                start:
                    Start::Request {
                        method,
                        target,
                        version,
                    },
                headers,
                left_out,
                ambiguous,
            }) => {
                let line = Line { method, target };
                let rest = Rest {
                    version,
                    headers,
                    left_out,
                    ambiguous,
                };
                self.request(line, rest, first, at, out)
            }
            Ok(Head {
                start: Start::Response { status, version },
                headers,
                left_out,
                ambiguous,
            }) => {
                let rest = Rest {
                    version,
                    headers,
                    left_out,
                    ambiguous,
                };
                self.response(status, rest, first, at, out)
            }
            Err(remark) => {
                if !partial.sought {
                    anomaly(out, AnomalyKind::HttpMalformed, remark, at);
                }
                stray(direction, at, mem::take(data), out);
                self.out_of_step(direction)
            }
        }
    }

    fn request(
        &mut self,
        line: Line,
        mut rest: Rest,
        first: PacketId,
        at: At,
        out: &mut Vec<HttpEvent>,
    ) -> State {
        const DIRECTION: Direction = Direction::ToServer;
        self.requests_seen = true;
        let framing = Framing::of_request(&rest.headers, rest.version, &mut rest.ambiguous);
        let (scheme, authority) = addressed(&line, &mut rest);
        let method = match line.method.as_ref() {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        let upgrade = method == Method::Connect || asks_upgrade(&rest.headers);
        let mut orphans = Vec::new();
        let opened = self.pairing.request(method, first.order, &mut orphans);
        for exchange in orphans {
            unpaired(exchange, at, out);
        }
        if opened.above_limit {
            let remark = format!("more than {} requests in flight", self.limits.max_pipeline);
            anomaly(out, AnomalyKind::HttpPipelineLimit, remark, at);
        }
        rest.report(at, out);
        let exchange = opened.exchange;
        out.push(HttpEvent::Request {
            exchange,
            head: Arc::new(RequestHead {
                method: line.method,
                target: line.target,
                version: rest.version,
                scheme,
                authority,
                headers: rest.headers,
                partial: false,
                first,
                at,
            }),
        });
        if opened.above_limit {
            end(out, exchange, Direction::ToClient, false, at);
        }
        match framing {
            Framing::Empty => {
                end(out, exchange, DIRECTION, true, at);
                self.after_message(DIRECTION, exchange, upgrade)
            }
            Framing::Unknown => {
                end(out, exchange, DIRECTION, false, at);
                self.out_of_step(DIRECTION)
            }
            framing => State::Body(Body {
                exchange,
                framing,
                intact: true,
                upgrade,
            }),
        }
    }

    fn response(
        &mut self,
        status: u16,
        mut rest: Rest,
        first: PacketId,
        at: At,
        out: &mut Vec<HttpEvent>,
    ) -> State {
        const DIRECTION: Direction = Direction::ToClient;
        if (100..200).contains(&status) && status != 101 {
            rest.report(at, out);
            return fresh();
        }
        let in_step = (self.requests_seen || self.whole) && !matches!(self.to_server, State::Seek);
        let mut unanswered = Vec::new();
        let (paired, orphan) = self.pairing.response(first.order, in_step, &mut unanswered);
        for exchange in unanswered {
            end(out, exchange, DIRECTION, false, at);
        }
        let exchange = paired.exchange;
        if orphan {
            unpaired(exchange, at, out);
        }
        let switches = status == 101 || (paired.method == Method::Connect && (200..300).contains(&status));
        let framing = if switches || paired.method == Method::Head || matches!(status, 204 | 304) {
            Framing::Empty
        } else {
            Framing::of_response(&rest.headers, rest.version, &mut rest.ambiguous)
        };
        rest.report(at, out);
        let protocol = switches.then(|| protocol(status, &rest.headers));
        out.push(HttpEvent::Response {
            exchange,
            head: Arc::new(ResponseHead {
                status,
                version: rest.version,
                headers: rest.headers,
                partial: false,
                first,
                at,
            }),
        });
        if let Some(protocol) = protocol {
            end(out, exchange, DIRECTION, true, at);
            let early = !paired.matched && !orphan;
            self.switch(exchange, protocol, early, at, out);
            return State::Tunnel;
        }
        self.release(exchange, paired.matched, out);
        match framing {
            Framing::Empty => {
                end(out, exchange, DIRECTION, true, at);
                fresh()
            }
            Framing::Unknown => {
                end(out, exchange, DIRECTION, false, at);
                self.out_of_step(DIRECTION)
            }
            framing => State::Body(Body {
                exchange,
                framing,
                intact: true,
                upgrade: false,
            }),
        }
    }

    /// The rest of the connection is another protocol. `early`: the request that asked for it is still to come.
    fn switch(
        &mut self,
        exchange: ExchangeId,
        protocol: String,
        early: bool,
        at: At,
        out: &mut Vec<HttpEvent>,
    ) {
        if self.upgraded.is_some() {
            return;
        }
        self.upgraded = Some(exchange);
        out.push(HttpEvent::Upgraded {
            exchange,
            protocol,
            at,
        });
        let tunnel = |at, data| HttpEvent::Tunnel {
            direction: Direction::ToServer,
            data,
            at,
        };
        if early {
            return;
        }
        match mem::replace(&mut self.to_server, State::Tunnel) {
            State::Held(held) => out.extend(held.parts.into_iter().map(|(at, data)| tunnel(at, data))),
            State::Head(partial) if !partial.bytes.is_empty() => {
                out.push(tunnel(at, partial.bytes.freeze()));
            }
            // The request is still on its way; the tunnel begins after it.
            open @ (State::Body(_) | State::SeekChunk(_)) => self.to_server = open,
            State::Head(_) | State::Seek | State::Tunnel => {}
        }
    }

    /// No response says so, yet what the client sends is not HTTP any more.
    fn switch_by_evidence(&mut self, held: Held, at: At, out: &mut Vec<HttpEvent>) {
        let exchange = held.exchange;
        self.to_server = State::Held(held);
        self.switch(exchange, "unknown".to_owned(), false, at, out);
    }

    fn hold(&mut self, at: At, mut held: Held, data: &mut Bytes, out: &mut Vec<HttpEvent>) -> State {
        if held.parts.is_empty() && probe(data, Direction::ToServer) == Probe::Certain {
            return fresh();
        }
        held.size = held.size.saturating_add(data.len());
        held.parts.push((at, mem::take(data)));
        if held.size > self.limits.max_held || held.parts.len() > self.limits.max_held / 64 {
            self.switch_by_evidence(held, at, out);
            return State::Tunnel;
        }
        if probe(&held.prefix(WINDOW), Direction::ToServer) == Probe::Certain {
            // The client goes on in HTTP without waiting for the answer.
            *data = held.joined();
            return fresh();
        }
        State::Held(held)
    }

    /// The response was an ordinary one: what was held are requests.
    fn release(&mut self, exchange: ExchangeId, matched: bool, out: &mut Vec<HttpEvent>) {
        let held = match &mut self.to_server {
            State::Held(held) if held.exchange == exchange || !matched => {
                mem::replace(held, Held::new(exchange))
            }
            State::Body(body) if body.exchange == exchange => {
                body.upgrade = false;
                return;
            }
            _ => return,
        };
        self.to_server = fresh();
        for (at, data) in held.parts {
            self.data(Direction::ToServer, at, data, out);
        }
    }
}

/// A request line without its version.
struct Line {
    method: Bytes,
    target: Bytes,
}

/// What heads of both kinds have.
struct Rest {
    version: Version,
    headers: Headers,
    left_out: usize,
    ambiguous: Vec<&'static str>,
}

impl Rest {
    fn report(&self, at: At, out: &mut Vec<HttpEvent>) {
        if self.left_out > 0 {
            let remark = format!("{} fields above the limit", self.left_out);
            anomaly(out, AnomalyKind::HttpHeadLimit, remark, at);
        }
        for what in &self.ambiguous {
            anomaly(out, AnomalyKind::HttpAmbiguous, *what, at);
        }
    }
}

/// Scheme and authority that a request names (RFC 9112 section 3.2).
fn addressed(line: &Line, rest: &mut Rest) -> (Option<Bytes>, Option<Bytes>) {
    let mut hosts = rest.headers.get_all("host");
    let host = hosts.next();
    if hosts.any(|other| Some(other) != host) {
        rest.ambiguous.push("Host fields that differ");
    }
    let host = host.map(Bytes::copy_from_slice);
    let target = &line.target;
    if line.method.as_ref() == b"CONNECT" {
        return (None, Some(target.clone()));
    }
    if target.starts_with(b"/") {
        return (None, host);
    }
    let Some(colon) = memchr::memmem::find(target, b"://") else {
        return (None, host);
    };
    let begin = colon.saturating_add(3);
    let end = target
        .get(begin..)
        .and_then(|after| memchr::memchr3(b'/', b'?', b'#', after))
        .map_or(target.len(), |i| begin.saturating_add(i));
    // RFC 9112 section 3.2.2: the absolute form counts, `Host` does not.
    (Some(target.slice(..colon)), Some(target.slice(begin..end)))
}

fn asks_upgrade(headers: &Headers) -> bool {
    headers.get("upgrade").is_some()
        && headers
            .get_all("connection")
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn protocol(status: u16, headers: &Headers) -> String {
    if status != 101 {
        return "connect".to_owned();
    }
    let value = headers.get("upgrade").unwrap_or_default();
    String::from_utf8_lossy(value).to_ascii_lowercase()
}

/// What no message could be told of may still hold some.
fn stray(direction: Direction, at: At, data: Bytes, out: &mut Vec<HttpEvent>) {
    if !data.is_empty() {
        out.push(HttpEvent::Stray { direction, data, at });
    }
}

fn cut_head(partial: &Partial, at: At, out: &mut Vec<HttpEvent>) {
    if !partial.bytes.is_empty() && !partial.sought {
        anomaly(out, AnomalyKind::HttpMalformed, "closed inside a head", at);
    }
}

fn unpaired(exchange: ExchangeId, at: At, out: &mut Vec<HttpEvent>) {
    let remark = format!("exchange {}: no request seen", exchange.0);
    anomaly(out, AnomalyKind::HttpUnpaired, remark, at);
}

fn end(out: &mut Vec<HttpEvent>, exchange: ExchangeId, direction: Direction, complete: bool, at: At) {
    out.push(HttpEvent::End {
        exchange,
        direction,
        complete,
        at,
    });
}

fn anomaly(out: &mut Vec<HttpEvent>, kind: AnomalyKind, detail: impl Into<String>, at: At) {
    out.push(HttpEvent::Anomaly {
        anomaly: Anomaly::new(kind, detail),
        at,
    });
}
