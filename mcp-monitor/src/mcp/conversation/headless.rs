//! Bodies that lack bytes, and bytes that belong to no known message.

use bytes::Bytes;

use super::{
    super::{
        FlowEventKind,
        exchange::{Exchange, Sink},
        message::Carrier,
        stray::{Found, Scanner},
    },
    Conversation, ConversationShared, Output, STRAY,
};
use crate::{
    proto::http::ExchangeId,
    types::{At, Direction},
};

impl Conversation {
    pub(super) fn body_gap(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        at: At,
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        let mut scanner = self.new_scanner();
        let Some(sink) = self.sink(id, direction) else {
            return;
        };
        match sink {
            Sink::Events { decoder, sse, .. } if decoder.is_none() => sse.gap(),
            Sink::Headless(scanner) => scanner.gap(),
            Sink::Whole {
                decoder, collected, ..
            } => {
                // In HTTP/2 it is not known whose bytes are missing: the text may be whole already.
                let mut found = Vec::new();
                let first = collected.first.unwrap_or(at.packet);
                // No longer than the body, so it cannot be above the limit.
                _ = scanner.push(&collected.take(), first, &mut found);
                scanner.gap();
                *sink = if decoder.is_none() {
                    Sink::Headless(scanner)
                } else {
                    Sink::Ignore
                };
                self.found(id, direction, found, at, counters, out);
            }
            other => *other = Sink::Ignore,
        }
    }

    /// Takes bytes that belong to no known message: a capture began, or lost bytes, in the middle of one. Whole
    /// JSON-RPC messages among them are found; that they are MCP must show in them.
    pub fn stray(
        &mut self,
        direction: Direction,
        data: &Bytes,
        at: At,
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        let mut scanner = match self.scanner(direction).take() {
            Some(scanner) => scanner,
            None => self.new_scanner(),
        };
        let mut found = Vec::new();
        let anomaly = scanner.push(data, at.packet, &mut found);
        out.extend(anomaly.map(|a| (at, FlowEventKind::Anomaly(a))));
        if self.above_total(counters, at, out) {
            scanner.gap();
        }
        *self.scanner(direction) = Some(scanner);
        self.found(STRAY, direction, found, at, counters, out);
        self.settle(counters);
    }

    pub(super) fn new_scanner(&mut self) -> Box<Scanner> {
        Box::new(Scanner::new(self.limits.message, self.gauge.share()))
    }

    /// Client and server were taken for each other so far.
    pub fn swap_strays(&mut self) {
        self.strays.reverse();
    }

    pub(super) fn scanner(&mut self, direction: Direction) -> &mut Option<Box<Scanner>> {
        let [to_server, to_client] = &mut self.strays;
        match direction {
            Direction::ToServer => to_server,
            Direction::ToClient => to_client,
        }
    }

    pub(super) fn found(
        &mut self,
        id: ExchangeId,
        direction: Direction,
        found: Vec<Found>,
        at: At,
        counters: &mut ConversationShared,
        out: &mut Output,
    ) {
        for Found { text, sse, first } in found {
            if memchr::memmem::find(&text, b"\"jsonrpc\"").is_some() {
                let carrier = if sse { Carrier::Sse } else { Carrier::Body };
                self.json(id, direction, &text, carrier, first, at, counters, out);
            }
        }
    }

    pub(super) fn headless(&mut self, id: ExchangeId, direction: Direction, at: At, out: &mut Output) {
        let scanner = Sink::Headless(self.new_scanner());
        if !self.exchanges.contains_key(&id) {
            self.make_room(at, out);
        }
        self.exchanges
            .entry(id)
            .or_insert_with(|| Box::new(Exchange::unseen()));
        if let Some(sink) = self.sink(id, direction) {
            *sink = scanner;
        }
    }
}
