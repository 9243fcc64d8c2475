//! One direction of a TCP connection put in order.
//!
//! Offsets are 64-bit positions in the stream, so that sequence numbers may wrap. What is in order is
//! given out at once; what is not waits for the hole before it, until
//!
//! - the receiver acknowledges bytes in the hole: it has them, the capture has not;
//!   [`FlowLimits::wait_acknowledged`] later the hole is a gap (the packet may only be late in the capture);
//! - nothing is seen of the receiver for [`FlowLimits::wait_unseen`];
//! - the receiver is seen and lacks the bytes too, and no retransmission comes for
//!   [`FlowLimits::wait_retransmission`];
//! - memory runs out. A receiver that still waits makes the farthest bytes go, as in Linux
//!   (`tcp_prune_ofo_queue`): jumping ahead would let anyone blind the monitor with one forged segment.

use bytes::Bytes;

use super::{
    DirectionStats, FlowLimits,
    history::{History, differs},
    pending::{OVERHEAD, Pending},
};
use crate::types::{AnomalyKind, At, Timestamp};

/// Where every stream starts, so that bytes before the first one seen have an offset too.
const ORIGIN: u64 = 1 << 33;
/// The largest window TCP can have (RFC 7323): what lies farther ahead was never acceptable.
const MAX_WINDOW: u64 = 1 << 30;
/// How far from the expected place a reset may be.
const RESET_WINDOW: u64 = 16 << 20;

/// Receives what one direction gives.
pub(super) trait Output {
    fn data(&mut self, at: At, data: Bytes);
    fn gap(&mut self, at: At, bytes: u64);
    fn fin(&mut self, at: At);
    fn anomaly(&mut self, at: At, kind: AnomalyKind, detail: String);
}

/// Memory accounts of the table.
#[derive(Default, Debug)]
pub(super) struct Memory {
    pub(super) pending: usize,
    pub(super) history: usize,
    pub(super) pending_dropped: u64,
    pub(super) without_history: u64,
    pub(super) out_of_window: u64,
    pub(super) keepalives: u64,
}

/// What a segment turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// No payload.
    Bare,
    /// The next bytes, or some of them.
    New,
    /// Only bytes seen before.
    Old,
    /// Ahead of its turn.
    Early,
    /// No payload, but it tells of bytes before it that did not come.
    Claim,
    /// A keep-alive probe.
    KeepAlive,
    /// Cannot belong to the stream.
    OutOfWindow,
}

/// Payload and place of one segment.
pub(super) struct Arrival<'a> {
    pub(super) at: At,
    /// Sequence number of the first byte (after SYN).
    pub(super) seq: u32,
    pub(super) data: &'a Bytes,
    pub(super) wire_len: u32,
    pub(super) fin: bool,
}

/// One direction.
#[derive(Default, Debug)]
pub(super) struct Half {
    known: bool,
    /// Offset and sequence number of the next byte to give out.
    next: u64,
    next_seq: u32,
    /// Sequence number that the stream started at.
    first_seq: u32,
    /// Whether payload was given out or buffered.
    carried: bool,
    pending: Pending,
    history: History,
    /// Where the sender's FIN is.
    fin: Option<u64>,
    pub(super) finished: bool,
    /// Up to where the receiver has the stream.
    acked: u64,
    /// Up to where the sender says to have sent, by bare acknowledgements.
    claimed: u64,
    /// When `next` last moved, or the hole opened.
    moved: Timestamp,
    /// Since when the receiver is known to have bytes of the hole.
    proven: Option<Timestamp>,
    /// The receiver was seen since the hole opened.
    receiver_seen: bool,
    /// No order is wanted any more, only its end.
    pub(super) ignored: bool,
    /// Nobody reads the bytes, only what is lost of them counts.
    unread: bool,
    /// What is kept of the stream's bytes stays as it is.
    no_history: bool,
    pub(super) stats: DirectionStats,
}

fn len64(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

impl Half {
    /// Whether a sequence number of this direction is known.
    pub(super) fn known(&self) -> bool {
        self.known
    }

    /// Whether payload was seen.
    pub(super) fn carried(&self) -> bool {
        self.carried
    }

    pub(super) fn unread(&self) -> bool {
        self.unread
    }

    /// No more bytes are wanted. Those kept so far stay: what made the verdict may be said otherwise yet.
    pub(super) fn read_no_more(&mut self) {
        self.unread = true;
        self.no_history = true;
    }

    pub(super) fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// Whether the stream started at `seq`.
    pub(super) fn started_at(&self, seq: u32) -> bool {
        self.known && self.first_seq == seq
    }

    /// Whether bytes are known to follow that are not there.
    #[inline]
    pub(super) fn may_have_hole(&self) -> bool {
        !self.pending.is_empty() || self.claimed > self.next || self.fin.is_some_and(|fin| fin > self.next)
    }

    /// The stream continues (or starts) at `seq`.
    pub(super) fn start_at(&mut self, seq: u32, now: Timestamp) {
        self.known = true;
        self.next = self.next.max(ORIGIN);
        self.next_seq = seq;
        self.first_seq = seq;
        self.acked = 0;
        self.claimed = 0;
        self.moved = now;
    }

    /// Offset of a sequence number, the one nearest to the next byte.
    pub(super) fn offset(&self, seq: u32) -> u64 {
        let distance = seq.wrapping_sub(self.next_seq).cast_signed();
        self.next.saturating_add_signed(i64::from(distance))
    }

    /// Whether a reset of this direction's sender is one that a receiver could believe.
    pub(super) fn believes_reset(&self, seq: u32) -> bool {
        let at = self.offset(seq);
        !self.known
            || (at.saturating_add(1) >= self.next && at <= self.next.saturating_add(RESET_WINDOW))
            || self.fin.is_some_and(|fin| at.abs_diff(fin) <= 1)
    }

    /// Whether `seq` with `len` bytes brings bytes never seen.
    pub(super) fn is_news(&self, seq: u32, len: u32) -> bool {
        let end = self.offset(seq).saturating_add(u64::from(len));
        end > self.next && end <= self.next.saturating_add(MAX_WINDOW)
    }

    /// Live: what lies between was left out on purpose. `true` if something was.
    pub(super) fn resume(&mut self, seq: u32, now: Timestamp, memory: &mut Memory) -> bool {
        if self.known && self.next_seq == seq {
            return false;
        }
        let was = self.known;
        self.release(memory);
        self.start_at(seq, now);
        self.next = self.next.saturating_add(MAX_WINDOW);
        self.fin = None;
        self.proven = None;
        was
    }

    /// The receiver says up to where it has the stream.
    #[inline]
    pub(super) fn acknowledged(&mut self, ack: u32, now: Timestamp) {
        if !self.known {
            return;
        }
        let upto = self.offset(ack);
        self.receiver_seen = true;
        if upto > self.acked && upto <= self.next.saturating_add(MAX_WINDOW) {
            self.acked = upto;
        }
        if self.acked > self.next && self.proven.is_none() {
            self.proven = Some(now);
        }
    }

    /// Takes a segment.
    #[inline]
    pub(super) fn accept(
        &mut self,
        arrival: &Arrival<'_>,
        limits: &FlowLimits,
        memory: &mut Memory,
        out: &mut impl Output,
    ) -> Kind {
        let Arrival {
            at,
            seq,
            data,
            wire_len,
            fin,
        } = *arrival;
        if !self.known {
            if wire_len == 0 && !fin {
                return Kind::Bare;
            }
            self.start_at(seq, at.time);
        }
        let start = self.offset(seq);
        let end = start.saturating_add(u64::from(wire_len));
        if wire_len == 0 && !fin {
            return self.bare(start, memory);
        }
        if end > self.next.saturating_add(MAX_WINDOW) {
            memory.out_of_window = memory.out_of_window.saturating_add(1);
            return Kind::OutOfWindow;
        }
        if self.unread && start == self.next && !fin && self.in_order_only(data, wire_len) {
            self.forward(end, at.time);
            return Kind::New;
        }
        if fin && end >= self.next && !self.finished && self.fin.is_none() {
            if end > self.next && self.hole_end().is_none() {
                self.moved = at.time;
                self.receiver_seen = false;
            }
            self.fin = Some(end);
        }
        if self.ignored {
            return self.skim(at, end, out);
        }
        let kind = if wire_len == 0 {
            Kind::Bare
        } else if end <= self.next {
            self.old(at, start, data, wire_len, memory, out)
        } else if start <= self.next {
            self.carried = true;
            self.new_bytes(arrival, start, end, limits, memory, out);
            Kind::New
        } else {
            self.carried = true;
            self.early(arrival, start, limits, memory, out);
            Kind::Early
        };
        self.check_fin(at, out);
        kind
    }

    /// Whether a segment that is next brings nothing but the next bytes.
    #[inline]
    fn in_order_only(&self, data: &Bytes, wire_len: u32) -> bool {
        self.carried
            && !self.ignored
            && self.fin.is_none()
            && self.pending.is_empty()
            && len64(data) == u64::from(wire_len)
    }

    fn bare(&mut self, start: u64, memory: &mut Memory) -> Kind {
        if start.saturating_add(1) == self.next && self.carried {
            memory.keepalives = memory.keepalives.saturating_add(1);
            return Kind::KeepAlive;
        }
        // Behind a FIN the sender counts one more.
        if start > self.next && start <= self.next.saturating_add(MAX_WINDOW) && self.fin.is_none() {
            self.claimed = self.claimed.max(start);
            return Kind::Claim;
        }
        Kind::Bare
    }

    /// Follows the sequence numbers of a stream whose bytes nobody wants.
    fn skim(&mut self, at: At, end: u64, out: &mut impl Output) -> Kind {
        let kind = if end <= self.next { Kind::Old } else { Kind::New };
        self.forward(end.max(self.next), at.time);
        self.check_fin(at, out);
        kind
    }

    #[inline]
    fn forward(&mut self, to: u64, now: Timestamp) {
        let by = to.saturating_sub(self.next);
        self.next = to;
        // Never more than a window, so that the low 32 bits are all of it.
        self.next_seq = self
            .next_seq
            .wrapping_add(u32::try_from(by & 0xffff_ffff).unwrap_or(0));
        self.moved = now;
        self.receiver_seen = false;
        self.proven = (self.acked > to).then_some(now);
    }

    fn old(
        &mut self,
        at: At,
        start: u64,
        data: &Bytes,
        wire_len: u32,
        memory: &mut Memory,
        out: &mut impl Output,
    ) -> Kind {
        // One byte that was sent before, of any value (RFC 1122, 4.2.3.6).
        if wire_len == 1 && start.saturating_add(1) == self.next {
            memory.keepalives = memory.keepalives.saturating_add(1);
            return Kind::KeepAlive;
        }
        if self.history.conflicts(start, data) {
            conflict(at, out, "a retransmission differs from what was delivered");
        }
        Kind::Old
    }

    #[inline]
    fn new_bytes(
        &mut self,
        arrival: &Arrival<'_>,
        start: u64,
        end: u64,
        limits: &FlowLimits,
        memory: &mut Memory,
        out: &mut impl Output,
    ) {
        let Arrival { at, data, .. } = *arrival;
        if self.finished {
            // The FIN was not the end, so the receiver did not take it.
            self.finished = false;
            self.fin = None;
            out.anomaly(at, AnomalyKind::TcpDataAfterReset, "payload after FIN".to_owned());
        }
        let mut fresh = data.clone();
        if start < self.next {
            let known = usize::try_from(self.next.saturating_sub(start)).unwrap_or(usize::MAX);
            let known = known.min(fresh.len());
            let seen = fresh.split_to(known);
            if self.history.conflicts(start, &seen) {
                conflict(at, out, "a segment differs from what was delivered");
            }
        }
        self.deliver(at, fresh, limits, memory, out);
        if end > self.next {
            // The capture cut the packet.
            self.lose(at, self.until_pending(end), out);
        }
        self.drain(at, limits, memory, out);
    }

    /// The end of a hole that reaches to `end` at most.
    fn until_pending(&self, end: u64) -> u64 {
        self.pending
            .first()
            .map_or(end, |first| first.clamp(self.next, end))
    }

    #[inline]
    fn deliver(
        &mut self,
        at: At,
        data: Bytes,
        limits: &FlowLimits,
        memory: &mut Memory,
        out: &mut impl Output,
    ) {
        if data.is_empty() {
            return;
        }
        let start = self.next;
        self.keep(start, &data, limits, memory);
        self.forward(start.saturating_add(len64(&data)), at.time);
        if !self.pending.is_empty() {
            self.compare_covered(at, start, &data, memory, out);
        }
        out.data(at, data);
    }

    #[inline]
    fn keep(&mut self, start: u64, data: &[u8], limits: &FlowLimits, memory: &mut Memory) {
        if self.no_history {
            return;
        }
        let before = self.history.allocated();
        if before == 0 && memory.history >= limits.history_total {
            self.no_history = true;
            memory.without_history = memory.without_history.saturating_add(1);
            return;
        }
        // Where there is little left, streams that come keep less, so that more of them keep something.
        let cap = if memory.history < limits.history_total / 2 {
            limits.history
        } else {
            before.max(limits.history / 4).min(limits.history)
        };
        self.history.push(start, data, cap);
        memory.history = memory
            .history
            .saturating_sub(before)
            .saturating_add(self.history.allocated());
    }

    /// Bytes that waited and were now given out from another segment: the lower start wins.
    fn compare_covered(
        &mut self,
        at: At,
        start: u64,
        data: &[u8],
        memory: &mut Memory,
        out: &mut impl Output,
    ) {
        let mut differ = false;
        while self.pending.first().is_some_and(|first| first < self.next) {
            let cost = self.pending.cost();
            let Some((there, piece)) = self.pending.pop_until(self.next) else {
                break;
            };
            differ |= differs(start, data, there, &piece.data);
            let over = usize::try_from(self.next.saturating_sub(there)).unwrap_or(usize::MAX);
            if over < piece.data.len() {
                let rest = piece.data.slice(over..);
                self.pending.insert(self.next, &rest, piece.missing);
            }
            settle(memory, cost, self.pending.cost());
        }
        if differ {
            conflict(at, out, "a segment differs from one that came before it");
        }
    }

    /// Gives out what waited and is now in order.
    fn drain(&mut self, at: At, limits: &FlowLimits, memory: &mut Memory, out: &mut impl Output) {
        loop {
            let cost = self.pending.cost();
            let Some((_, piece)) = self.pending.pop_until(self.next) else {
                break;
            };
            settle(memory, cost, self.pending.cost());
            self.deliver(at, piece.data, limits, memory, out);
            if piece.missing > 0 {
                let end = self.next.saturating_add(u64::from(piece.missing));
                self.lose(at, self.until_pending(end), out);
            }
        }
    }

    fn early(
        &mut self,
        arrival: &Arrival<'_>,
        start: u64,
        limits: &FlowLimits,
        memory: &mut Memory,
        out: &mut impl Output,
    ) {
        let Arrival {
            at, data, wire_len, ..
        } = *arrival;
        if self.pending.is_empty() && self.claimed <= self.next {
            self.moved = at.time;
            self.receiver_seen = false;
        }
        let missing = wire_len.saturating_sub(u32::try_from(data.len()).unwrap_or(wire_len));
        let before = self.pending.cost();
        if self.pending.insert(start, data, missing) {
            conflict(at, out, "out-of-order segments differ where they overlap");
        }
        settle(memory, before, self.pending.cost());
        if self.pending.cost() <= limits.max_pending {
            return;
        }
        out.anomaly(
            at,
            AnomalyKind::TcpBufferLimit,
            format!("more than {} bytes out of order", limits.max_pending),
        );
        while self.pending.cost() > limits.max_pending {
            if self.proven.is_some() || !self.receiver_seen {
                self.give_up(at, true, limits, memory, out);
            } else {
                let cost = self.pending.cost();
                let dropped = self.pending.drop_last().unwrap_or(0);
                settle(memory, cost, self.pending.cost());
                memory.pending_dropped = memory
                    .pending_dropped
                    .saturating_add(u64::try_from(dropped).unwrap_or(0));
            }
        }
    }

    #[inline]
    fn check_fin(&mut self, at: At, out: &mut impl Output) {
        let Some(fin) = self.fin else { return };
        if fin == self.next && !self.finished {
            self.finished = true;
            out.fin(at);
        } else if fin < self.next && !self.finished {
            // Bytes went on past it: the receiver took those, not the FIN.
            self.fin = None;
        }
    }

    fn lose(&mut self, at: At, upto: u64, out: &mut impl Output) {
        let bytes = upto.saturating_sub(self.next);
        if bytes == 0 {
            return;
        }
        self.forward(upto, at.time);
        self.stats.gaps = self.stats.gaps.saturating_add(1);
        self.stats.lost_bytes = self.stats.lost_bytes.saturating_add(bytes);
        out.gap(at, bytes);
    }

    /// Where the hole after the last byte ends, if there is one.
    fn hole_end(&self) -> Option<u64> {
        let claimed = (!self.finished && self.claimed > self.next && self.acked >= self.claimed)
            .then_some(self.claimed);
        let fin = self.fin.filter(|fin| *fin > self.next);
        [self.pending.first(), claimed, fin].into_iter().flatten().min()
    }

    /// When the hole is to be given up, if nothing fills it.
    pub(super) fn deadline(&self, limits: &FlowLimits) -> Option<Timestamp> {
        if self.ignored {
            return None;
        }
        self.hole_end()?;
        Some(match self.proven {
            Some(since) => since.saturating_add(limits.wait_acknowledged),
            None if self.receiver_seen => self.moved.saturating_add(limits.wait_retransmission),
            None => self.moved.saturating_add(limits.wait_unseen),
        })
    }

    /// Gives up the first hole, or with `!whole` only as much of it as the receiver is known to have.
    pub(super) fn give_up(
        &mut self,
        at: At,
        whole: bool,
        limits: &FlowLimits,
        memory: &mut Memory,
        out: &mut impl Output,
    ) {
        let Some(end) = self.hole_end() else { return };
        let end = if !whole && self.proven.is_some() && self.acked > self.next {
            end.min(self.acked)
        } else {
            end
        };
        if self.claimed == end && self.pending.is_empty() && end == self.next.saturating_add(1) {
            // One place in the sequence and nothing behind it: the FIN, rather than a byte.
            self.fin = Some(self.next);
        } else {
            self.lose(at, end, out);
        }
        self.drain(at, limits, memory, out);
        self.check_fin(at, out);
    }

    /// Gives out all that waits, with the holes between as gaps.
    pub(super) fn flush(&mut self, at: At, limits: &FlowLimits, memory: &mut Memory, out: &mut impl Output) {
        while !self.ignored && self.hole_end().is_some() {
            self.give_up(at, true, limits, memory, out);
        }
    }

    /// Drops what is held.
    pub(super) fn release(&mut self, memory: &mut Memory) {
        settle(memory, self.pending.cost(), 0);
        memory.history = memory.history.saturating_sub(self.history.allocated());
        self.pending.clear();
        self.history.clear();
    }
}

/// Moves the table's account from what a stream held to what it holds.
fn settle(memory: &mut Memory, before: usize, after: usize) {
    memory.pending = memory.pending.saturating_sub(before).saturating_add(after);
}

#[cold]
fn conflict(at: At, out: &mut impl Output, what: &str) {
    out.anomaly(at, AnomalyKind::TcpOverlapConflict, what.to_owned());
}

/// What one out-of-order byte costs at least.
const _: () = assert!(OVERHEAD >= 64, "bookkeeping must be part of the price");
