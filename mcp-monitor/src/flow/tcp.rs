//! TCP connections: opening, ending, and what lies between.

use std::net::SocketAddr;

use super::{
    EndReason, FlowTable, Handler,
    counters::bump,
    entry::{Reopening, Reset, other, pair},
    half::{Arrival, Kind, Output as _},
    key::{Key, Side},
    lists::Class,
    table::Opening,
};
use crate::{
    decode::{TcpSegment, flags},
    types::{AnomalyKind, At, Transport},
};

/// Whether, with no handshake seen, the sender of a segment is rather the server.
fn sends_as_server(src: &SocketAddr, dst: &SocketAddr) -> bool {
    let (src, dst) = (src.port(), dst.port());
    // Well-known, registered, ephemeral (Linux starts at 32768).
    let rank = |port: u16| match port {
        0..1024 => 0,
        1024..32_768 => 1,
        _ => 2,
    };
    rank(src) < rank(dst)
}

impl<A> FlowTable<A> {
    /// Takes a TCP segment.
    pub fn segment<H: Handler<App = A>>(&mut self, segment: &TcpSegment, handler: &mut H) {
        self.tick(segment.at.time, handler);
        let (key, side) = Key::new(Transport::Tcp, segment.scope, &segment.src, &segment.dst);
        let slot = match self.index.get(&key) {
            Some(slot) => *slot,
            None => match self.open_tcp(key, side, segment, handler) {
                Some(slot) => slot,
                None => {
                    if !segment.duplicate {
                        bump(&mut self.counters.segments);
                    }
                    return;
                }
            },
        };
        if segment.flags & (flags::SYN | flags::RST) == 0 && !segment.resumed {
            self.ordinary(slot, side, segment, handler);
        } else {
            self.special(slot, side, segment, handler);
        }
    }

    /// A flow for the first segment seen of a connection, unless it can open none.
    fn open_tcp<H: Handler<App = A>>(
        &mut self,
        key: Key,
        side: Side,
        segment: &TcpSegment,
        handler: &mut H,
    ) -> Option<u32> {
        let syn = segment.flags & flags::SYN != 0;
        let ack = segment.flags & flags::ACK != 0;
        let mut after_reset = false;
        if syn {
            self.closed.remove(&key);
        } else if segment.wire_len == 0 {
            if self.closed.get(&key).is_some() {
                bump(&mut self.counters.after_close);
            } else {
                bump(&mut self.counters.stray);
            }
            return None;
        } else if let Some(closed) = self.closed.get(&key) {
            // New bytes from the side that reset the connection: the reset was none.
            after_reset = closed.reset_by == Some(side)
                && closed.next_seq.get(side).copied().flatten().is_some_and(|next| {
                    let ahead = segment.seq.wrapping_add(segment.wire_len).wrapping_sub(next);
                    ahead != 0 && ahead < 1 << 30
                });
            if !after_reset {
                bump(&mut self.counters.after_close);
                return None;
            }
            self.closed.remove(&key);
        }
        let from_server = if syn {
            ack
        } else {
            sends_as_server(&segment.src, &segment.dst)
        };
        let (client, server) = if from_server {
            ((segment.dst, other(side)), segment.src)
        } else {
            ((segment.src, side), segment.dst)
        };
        let slot = self.open_at(key, client, server, segment, segment.at, syn, handler);
        if syn && ack {
            // What the server acknowledges is where the client's stream starts.
            let now = self.now;
            if let Some(entry) = self.entry(slot) {
                pair(&mut entry.halves, side).1.start_at(segment.ack, now);
            }
        }
        if after_reset {
            let at = segment.at;
            self.with_half(slot, side, handler, |_, _, _, _, out| {
                let detail = "the connection went on after a reset".to_owned();
                out.anomaly(at, AnomalyKind::TcpDataAfterReset, detail);
            });
        }
        Some(slot)
    }

    #[expect(clippy::too_many_arguments, reason = "what is fixed about a flow")]
    fn open_at<H: Handler<App = A>>(
        &mut self,
        key: Key,
        client: (SocketAddr, Side),
        server: SocketAddr,
        segment: &TcpSegment,
        at: At,
        from_start: bool,
        handler: &mut H,
    ) -> u32 {
        bump(&mut self.counters.flows_tcp);
        self.open(
            Opening {
                key,
                transport: Transport::Tcp,
                scope: segment.scope,
                client,
                server,
                at,
                from_start,
                cookie: segment.cookie,
                class: Class::Opening,
            },
            handler,
        )
    }

    /// Neither SYN nor RST.
    #[inline]
    fn ordinary<H: Handler<App = A>>(
        &mut self,
        slot: u32,
        side: Side,
        segment: &TcpSegment,
        handler: &mut H,
    ) {
        self.account(slot, side, segment);
        if self
            .peek(slot)
            .is_some_and(|e| e.reopening.is_some() || e.reset.is_some())
            && self.ended_otherwise(slot, side, segment, handler)
        {
            return;
        }
        self.payload(slot, side, segment, segment.seq, handler);
    }

    /// Counts a segment, keeps the flow fresh, and passes on what it acknowledges.
    #[inline]
    fn account(&mut self, slot: u32, side: Side, segment: &TcpSegment) {
        self.touch(slot);
        let now = self.now;
        let Some(entry) = self.entry(slot) else { return };
        entry.last = segment.at;
        let first_answer = entry.link.class == Class::Opening;
        let (sender, receiver) = pair(&mut entry.halves, side);
        if !segment.duplicate {
            sender.stats.packets = sender.stats.packets.saturating_add(1);
            sender.stats.bytes = sender.stats.bytes.saturating_add(u64::from(segment.wire_len));
        }
        let mut alarm = false;
        if segment.flags & flags::ACK != 0 && segment.flags & flags::RST == 0 {
            if receiver.known() {
                receiver.acknowledged(segment.ack, now);
                alarm = receiver.may_have_hole();
            } else if entry.flow.info.from_start && !sender.carried() {
                // The client's first acknowledgement says where the server's stream starts.
                receiver.start_at(segment.ack, now);
            }
        }
        if first_answer && (segment.wire_len > 0 || side != entry.client) {
            self.move_to(slot, Class::Open);
        }
        if alarm {
            self.set_alarm(slot, false);
        }
        if !segment.duplicate {
            bump(&mut self.counters.segments);
        }
    }

    /// Hands the payload to its direction.
    #[inline]
    fn payload<H: Handler<App = A>>(
        &mut self,
        slot: u32,
        side: Side,
        segment: &TcpSegment,
        seq: u32,
        handler: &mut H,
    ) {
        let arrival = Arrival {
            at: segment.at,
            seq,
            data: &segment.payload,
            wire_len: segment.wire_len,
            fin: segment.flags & flags::FIN != 0,
        };
        let kind = self.with_half(slot, side, handler, |half, _, limits, memory, out| {
            let kind = half.accept(&arrival, limits, memory, out);
            match kind {
                Kind::Old if !segment.duplicate => {
                    bump(&mut half.stats.retransmitted);
                    bump(&mut out.counters.retransmitted);
                }
                Kind::Early if !segment.duplicate => {
                    bump(&mut half.stats.reordered);
                    bump(&mut out.counters.reordered);
                }
                _ => {}
            }
            kind
        });
        if segment.duplicate {
            bump(&mut self.counters.duplicates);
        }
        match kind {
            // The way of nearly all: nothing waits, nothing ends.
            Some(Kind::New) if self.memory.pending == 0 && !arrival.fin => {}
            Some(Kind::Bare | Kind::KeepAlive) if !arrival.fin => {}
            None => {}
            Some(_) => {
                self.set_alarm(slot, false);
                self.half_closed(slot);
                self.settle(slot, handler);
            }
        }
    }

    /// A connection of which one side is seen, and that side ended.
    fn half_closed(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let [low, high] = &entry.halves;
        let one_sided =
            (low.finished && high.stats.packets == 0) || (high.finished && low.stats.packets == 0);
        if one_sided && entry.link.class == Class::Open {
            self.move_to(slot, Class::HalfClosed);
        }
    }

    /// SYN, RST, and the live source's mark that bytes were left out.
    fn special<H: Handler<App = A>>(&mut self, slot: u32, side: Side, segment: &TcpSegment, handler: &mut H) {
        if segment.resumed {
            let at = segment.at;
            self.with_half(slot, side, handler, |half, _, _, memory, out| {
                if half.resume(segment.seq, at.time, memory) {
                    out.handler.restart(out.flow, out.app, out.direction, at);
                }
            });
        }
        if segment.flags & flags::SYN != 0 {
            self.syn(slot, side, segment, handler);
        } else if segment.flags & flags::RST != 0 {
            self.account(slot, side, segment);
            self.reset(slot, side, segment);
        } else {
            self.ordinary(slot, side, segment, handler);
        }
    }

    fn syn<H: Handler<App = A>>(&mut self, slot: u32, side: Side, segment: &TcpSegment, handler: &mut H) {
        let first = segment.seq.wrapping_add(1);
        let now = self.now;
        let Some(entry) = self.entry(slot) else { return };
        let from_start = entry.flow.info.from_start;
        let (sender, receiver) = pair(&mut entry.halves, side);
        let answered = receiver.known() && receiver.stats.packets > 0;
        let again = sender.started_at(first);
        if segment.flags & flags::ACK != 0 {
            if let Some(reopening) = entry.reopening
                && reopening.side == other(side)
                && segment.ack == reopening.seq.wrapping_add(1)
            {
                let at = reopening.at;
                self.reopen(slot, other(side), segment, at, handler);
                return;
            }
            if !sender.known() || (from_start && !sender.carried() && sender.stats.packets == 0) {
                sender.start_at(first, now);
            } else if !again {
                bump(&mut self.counters.out_of_window);
            }
        } else if !sender.known() {
            // The first of the flow, or the second of a simultaneous open.
            sender.start_at(first, now);
        } else if !again {
            let ended = entry.reset.is_some() || entry.halves.iter().any(|half| half.finished);
            if ended || !answered {
                self.reopen(slot, side, segment, segment.at, handler);
            } else {
                // Believed when the other side answers it: a forged SYN must not end a connection.
                entry.reopening = Some(Reopening {
                    side,
                    seq: segment.seq,
                    at: segment.at,
                });
                self.account(slot, side, segment);
            }
            return;
        }
        self.account(slot, side, segment);
        if segment.wire_len > 0 || segment.flags & flags::FIN != 0 {
            // TCP Fast Open: the payload follows the SYN.
            self.payload(slot, side, segment, first, handler);
        }
    }

    /// Ends the flow and opens the next one with the same addresses and ports.
    fn reopen<H: Handler<App = A>>(
        &mut self,
        slot: u32,
        client: Side,
        segment: &TcpSegment,
        at: At,
        handler: &mut H,
    ) {
        let Some(key) = self.peek(slot).map(|entry| entry.key) else {
            return;
        };
        self.close(slot, EndReason::Reused, handler);
        self.closed.remove(&key);
        let from_client = segment.flags & flags::ACK == 0;
        let (client_address, server) = if from_client {
            (segment.src, segment.dst)
        } else {
            (segment.dst, segment.src)
        };
        let slot = self.open_at(key, (client_address, client), server, segment, at, true, handler);
        let now = self.now;
        if !from_client && let Some(entry) = self.entry(slot) {
            pair(&mut entry.halves, client).0.start_at(segment.ack, now);
        }
        let side = if from_client { client } else { other(client) };
        self.syn(slot, side, segment, handler);
    }

    fn reset(&mut self, slot: u32, side: Side, segment: &TcpSegment) {
        let Some(entry) = self.entry(slot) else { return };
        let (sender, _) = pair(&mut entry.halves, side);
        if !sender.believes_reset(segment.seq) {
            bump(&mut self.counters.out_of_window);
            return;
        }
        if entry.reset.is_none() {
            let from = if sender.known() {
                sender.offset(segment.seq)
            } else {
                0
            };
            entry.reset = Some(Reset { by: side, from });
            self.move_to(slot, Class::Reset);
        }
    }

    /// Bytes after a reset, and the first bytes of a connection that took this one's place.
    /// `true` if the segment went to another flow.
    #[cold]
    fn ended_otherwise<H: Handler<App = A>>(
        &mut self,
        slot: u32,
        side: Side,
        segment: &TcpSegment,
        handler: &mut H,
    ) -> bool {
        let Some(entry) = self.entry(slot) else {
            return true;
        };
        let (sender, receiver) = pair(&mut entry.halves, side);
        if let Some(reopening) = entry.reopening
            && reopening.side == side
            && segment.seq == reopening.seq.wrapping_add(1)
            && sender.next_seq() != segment.seq
            && receiver.stats.packets == 0
        {
            // Only one direction is seen, so no answer to the SYN ever will be.
            let at = reopening.at;
            let syn = TcpSegment {
                seq: reopening.seq,
                flags: flags::SYN,
                payload: bytes::Bytes::new(),
                wire_len: 0,
                ..segment.clone()
            };
            self.reopen(slot, side, &syn, at, handler);
            let (key, _) = Key::new(Transport::Tcp, segment.scope, &segment.src, &segment.dst);
            if let Some(slot) = self.index.get(&key).copied() {
                self.payload(slot, side, segment, segment.seq, handler);
            }
            return true;
        }
        let end = sender
            .offset(segment.seq)
            .saturating_add(u64::from(segment.wire_len));
        if entry
            .reset
            .is_some_and(|reset| reset.by == side && end > reset.from)
            && segment.wire_len > 0
            && sender.is_news(segment.seq, segment.wire_len)
        {
            entry.reset = None;
            self.move_to(slot, Class::Open);
            self.with_half(slot, side, handler, |_, _, _, _, out| {
                let detail = "payload after a reset".to_owned();
                out.anomaly(segment.at, AnomalyKind::TcpDataAfterReset, detail);
            });
        }
        false
    }
}
