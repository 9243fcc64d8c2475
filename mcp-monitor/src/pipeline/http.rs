//! One HTTP connection: HTTP/1 or HTTP/2, what it is upgraded to, and MCP over all of them.

use std::sync::Arc;

use bytes::Bytes;

use super::application::{Application, ApplicationCounters, ApplicationLimits, Interest};
use crate::{
    mcp::conversation::{Conversation, Output},
    proto::{
        http::{ExchangeId, HttpEvent},
        http1, http2,
        tls::decrypt::KeyLog,
        websocket::{self, WsEvent},
    },
    types::{At, Direction, Plaintext},
};

/// Tunnels inside tunnels that are followed.
const MAX_DEPTH: u8 = 3;

#[derive(Debug)]
enum Parser {
    One(Box<http1::Connection>),
    Two(Box<http2::Connection>),
}

/// What a connection became after 101, or a 2xx to CONNECT.
#[derive(Debug)]
enum Tunnel {
    /// h2c: stream 1 is the exchange that asked for it.
    Http2 {
        connection: Box<http2::Connection>,
        asked_by: ExchangeId,
    },
    WebSocket {
        connection: Box<websocket::Connection>,
        exchange: ExchangeId,
    },
    /// CONNECT: anything may begin here.
    Any(Box<Application>),
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Http {
    limits: ApplicationLimits,
    parser: Parser,
    conversation: Conversation,
    tunnel: Option<Tunnel>,
    events: Vec<HttpEvent>,
    depth: u8,
    /// For TLS inside a tunnel.
    keys: Option<Arc<KeyLog>>,
}

impl Http {
    pub(super) fn http1(
        limits: ApplicationLimits,
        from_start: bool,
        depth: u8,
        keys: Option<Arc<KeyLog>>,
    ) -> Self {
        let connection = if from_start {
            http1::Connection::from_start(limits.http1)
        } else {
            http1::Connection::new(limits.http1)
        };
        Self::new(limits, Parser::One(Box::new(connection)), depth, keys)
    }

    pub(super) fn http2(limits: ApplicationLimits, depth: u8, keys: Option<Arc<KeyLog>>) -> Self {
        Self::new(
            limits,
            Parser::Two(Box::new(http2::Connection::new(limits.http2))),
            depth,
            keys,
        )
    }

    /// HTTP/2 that the capture joins in mid-connection.
    pub(super) fn joined_http2(limits: ApplicationLimits, depth: u8, keys: Option<Arc<KeyLog>>) -> Self {
        let connection = http2::Connection::joined(limits.http2);
        Self::new(limits, Parser::Two(Box::new(connection)), depth, keys)
    }

    /// A WebSocket that the capture joins after its upgrade.
    pub(super) fn joined_websocket(limits: ApplicationLimits, depth: u8, keys: Option<Arc<KeyLog>>) -> Self {
        let connection = http1::Connection::tunnel(limits.http1);
        let tunnel = Tunnel::WebSocket {
            connection: Box::new(websocket::Connection::joined(limits.websocket)),
            exchange: ExchangeId(1),
        };
        Self {
            tunnel: Some(tunnel),
            ..Self::new(limits, Parser::One(Box::new(connection)), depth, keys)
        }
    }

    /// Goes on with what was found before the protocol was known; `swapped`: client and server were taken for
    /// each other.
    pub(super) fn with(self, mut conversation: Conversation, swapped: bool) -> Self {
        if swapped {
            conversation.swap_strays();
        }
        Self { conversation, ..self }
    }

    fn new(limits: ApplicationLimits, parser: Parser, depth: u8, keys: Option<Arc<KeyLog>>) -> Self {
        Self {
            limits,
            parser,
            conversation: Conversation::new(limits.conversation),
            tunnel: None,
            events: Vec::new(),
            depth,
            keys,
        }
    }

    /// What runs inside a tunnel that was opened here.
    pub(super) fn tunnelled(&mut self) -> Option<&mut Application> {
        match &mut self.tunnel {
            Some(Tunnel::Any(inner)) => Some(inner),
            _ => None,
        }
    }

    pub(super) fn plaintext(&self) -> Plaintext {
        match &self.tunnel {
            Some(Tunnel::Any(inner)) => inner.plaintext(),
            _ => Plaintext::Packet,
        }
    }

    pub(super) fn interest(&self) -> Interest {
        match &self.tunnel {
            Some(Tunnel::Any(inner)) => inner.interest(),
            Some(Tunnel::Unknown) => Interest::Ignored,
            _ if self.conversation.is_mcp() => Interest::Captured,
            // Frames of HTTP/2 and WebSocket cannot be found again after bytes were left out.
            Some(_) => Interest::Captured,
            None if matches!(self.parser, Parser::Two(_)) => Interest::Captured,
            None if self.conversation.may_be_mcp() => Interest::Undecided,
            None => Interest::Watch,
        }
    }

    pub(super) fn data(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.parser {
            Parser::One(c) => c.data(direction, at, data, &mut self.events),
            Parser::Two(c) => c.data(direction, at, data, &mut self.events),
        }
        self.flush(counters, out);
    }

    pub(super) fn gap(
        &mut self,
        direction: Direction,
        at: At,
        bytes: u64,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.parser {
            Parser::One(c) => c.gap(direction, at, bytes, &mut self.events),
            Parser::Two(c) => c.gap(direction, at, bytes, &mut self.events),
        }
        self.flush(counters, out);
    }

    pub(super) fn fin(
        &mut self,
        direction: Direction,
        at: At,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.parser {
            Parser::One(c) => c.fin(direction, at, &mut self.events),
            Parser::Two(c) => c.fin(direction, at, &mut self.events),
        }
        self.flush(counters, out);
    }

    pub(super) fn abort(&mut self, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        match &mut self.parser {
            Parser::One(c) => c.abort(at, &mut self.events),
            Parser::Two(c) => c.abort(at, &mut self.events),
        }
        self.flush(counters, out);
        if let Some(Tunnel::Any(inner)) = &mut self.tunnel {
            inner.close(at, counters, out);
        }
        self.conversation.release(&mut counters.conversation);
    }

    /// Live: bytes were left out on purpose; a request begins here.
    pub(super) fn restart(&mut self, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        if let Parser::One(connection) = &mut self.parser {
            connection.abort(at, &mut self.events);
            **connection = http1::Connection::new(self.limits.http1);
            self.flush(counters, out);
        }
    }

    fn flush(&mut self, counters: &mut ApplicationCounters, out: &mut Output) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                HttpEvent::Upgraded {
                    exchange, protocol, ..
                } => self.upgrade(exchange, &protocol),
                HttpEvent::Tunnel { direction, data, at } => self.inside(direction, at, data, counters, out),
                HttpEvent::TunnelGap { direction, bytes, at } => {
                    self.gap_inside(direction, at, bytes, counters, out);
                }
                event => self.conversation.handle(event, &mut counters.conversation, out),
            }
        }
        self.events = events;
    }

    fn upgrade(&mut self, exchange: ExchangeId, protocol: &str) {
        let depth = self.depth.saturating_add(1);
        self.tunnel = Some(match protocol {
            "h2c" => Tunnel::Http2 {
                connection: Box::new(http2::Connection::upgraded(self.limits.http2)),
                asked_by: exchange,
            },
            "websocket" => Tunnel::WebSocket {
                connection: Box::new(websocket::Connection::new(self.limits.websocket)),
                exchange,
            },
            "connect" if depth <= MAX_DEPTH => Tunnel::Any(Box::new(Application::tunnelled(
                self.limits,
                depth,
                self.keys.clone(),
            ))),
            _ => Tunnel::Unknown,
        });
    }

    fn inside(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.tunnel {
            Some(Tunnel::Http2 { connection, asked_by }) => {
                let mut events = Vec::new();
                connection.data(direction, at, data, &mut events);
                for event in events {
                    let event = renumber(event, *asked_by);
                    self.conversation.handle(event, &mut counters.conversation, out);
                }
            }
            Some(Tunnel::WebSocket { connection, exchange }) => {
                let mut events = Vec::new();
                connection.data(direction, at, data, &mut events);
                let held = connection.held();
                if self
                    .conversation
                    .held_outside(held, &mut counters.conversation, at, out)
                {
                    connection.give_up();
                    self.conversation
                        .held_outside(0, &mut counters.conversation, at, out);
                }
                for event in events {
                    match event {
                        WsEvent::Message {
                            direction, data, at, ..
                        } => {
                            let counters = &mut counters.conversation;
                            self.conversation
                                .websocket(*exchange, direction, &data, at, counters, out);
                        }
                        WsEvent::Anomaly { anomaly, at } => {
                            out.push((at, crate::mcp::FlowEventKind::Anomaly(anomaly)));
                        }
                        WsEvent::Close { .. } => {}
                    }
                }
            }
            Some(Tunnel::Any(inner)) => {
                inner.data(direction, at, data, counters, out);
            }
            Some(Tunnel::Unknown) | None => {}
        }
    }

    fn gap_inside(
        &mut self,
        direction: Direction,
        at: At,
        bytes: u64,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.tunnel {
            Some(Tunnel::Http2 { connection, asked_by }) => {
                let mut events = Vec::new();
                connection.gap(direction, at, bytes, &mut events);
                for event in events {
                    let event = renumber(event, *asked_by);
                    self.conversation.handle(event, &mut counters.conversation, out);
                }
            }
            Some(Tunnel::WebSocket { connection, .. }) => connection.gap(direction, bytes),
            Some(Tunnel::Any(inner)) => inner.gap(direction, at, bytes, counters, out),
            Some(Tunnel::Unknown) | None => {}
        }
    }
}

/// Streams of an upgraded connection, apart from the exchanges before the upgrade.
fn renumber(mut event: HttpEvent, asked_by: ExchangeId) -> HttpEvent {
    let renumber_id = |exchange: &mut ExchangeId| {
        *exchange = if exchange.0 == 1 {
            asked_by
        } else {
            ExchangeId(exchange.0 | 1 << 32)
        };
    };
    match &mut event {
        HttpEvent::Request { exchange, .. }
        | HttpEvent::Response { exchange, .. }
        | HttpEvent::Body { exchange, .. }
        | HttpEvent::BodyGap { exchange, .. }
        | HttpEvent::End { exchange, .. }
        | HttpEvent::Headless { exchange, .. }
        | HttpEvent::Upgraded { exchange, .. } => renumber_id(exchange),
        HttpEvent::AlternativeService {
            exchange: Some(exchange),
            ..
        } => renumber_id(exchange),
        HttpEvent::AlternativeService { exchange: None, .. }
        | HttpEvent::Stray { .. }
        | HttpEvent::StrayGap { .. }
        | HttpEvent::Tunnel { .. }
        | HttpEvent::TunnelGap { .. }
        | HttpEvent::Anomaly { .. } => {}
    }
    event
}
