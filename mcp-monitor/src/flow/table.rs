//! The flow table: who is open, who is due, who must go.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use super::{
    EndReason, FlowCounters, FlowId, FlowInfo, FlowLimits, FlowRef, Handler,
    closed::ClosedTable,
    counters::bump,
    delivery::Delivery,
    entry::{Entry, other},
    half::{Half, Memory, Output as _},
    key::{Key, Side},
    lists::{Class, Link, Lists},
};
use crate::{
    decode::UdpDatagram,
    types::{AnomalyKind, At, Plaintext, Scope, Timestamp, Transport},
};

/// How often idle flows are looked for, in capture time.
const SWEEP: Duration = Duration::from_millis(250);
/// How fresh a flow's place in its list is kept.
const TOUCH: Duration = Duration::from_secs(1);

/// All flows of one shard, with the handler's state for each.
///
/// Give [`segment`](Self::segment) and [`datagram`](Self::datagram) what was decoded, in order;
/// [`tick`](Self::tick) when time passes without packets; [`finish`](Self::finish) at the end. What is
/// due by a packet's time is done before the packet. The same calls give the same events.
pub struct FlowTable<A> {
    pub(super) limits: FlowLimits,
    pub(super) counters: FlowCounters,
    pub(super) memory: Memory,
    pub(super) index: HashMap<Key, u32>,
    pub(super) entries: Vec<Option<Box<Entry<A>>>>,
    free: Vec<u32>,
    lists: Lists,
    pub(super) closed: ClosedTable,
    /// When holes are to be given up: time and slot.
    alarms: BTreeSet<(Timestamp, u32)>,
    next_id: u64,
    pub(super) now: Timestamp,
    wake: Timestamp,
}

impl<A> std::fmt::Debug for FlowTable<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowTable")
            .field("flows", &self.index.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// What opens a flow.
pub(super) struct Opening {
    pub(super) key: Key,
    pub(super) transport: Transport,
    pub(super) scope: Scope,
    pub(super) client: (SocketAddr, Side),
    pub(super) server: SocketAddr,
    pub(super) at: At,
    pub(super) from_start: bool,
    pub(super) cookie: Option<u64>,
    pub(super) class: Class,
}

impl<A> FlowTable<A> {
    /// An empty table; its flows are numbered from `id_base` upwards.
    pub fn new(limits: FlowLimits, id_base: u64) -> Self {
        Self {
            limits,
            counters: FlowCounters::default(),
            memory: Memory::default(),
            index: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            lists: Lists::default(),
            closed: ClosedTable::default(),
            alarms: BTreeSet::new(),
            next_id: id_base,
            now: Timestamp::default(),
            wake: Timestamp::default(),
        }
    }

    /// Counts so far.
    pub fn counters(&self) -> FlowCounters {
        let mut counters = self.counters;
        counters.pending_dropped = self.memory.pending_dropped;
        counters.without_history = self.memory.without_history;
        counters.out_of_window = counters.out_of_window.saturating_add(self.memory.out_of_window);
        counters.keepalives = self.memory.keepalives;
        counters
    }

    /// Flows open now.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no flow is open.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Out-of-order bytes held now, bookkeeping included.
    pub fn pending_bytes(&self) -> usize {
        self.memory.pending
    }

    /// Takes a UDP datagram.
    pub fn datagram<H: Handler<App = A>>(&mut self, datagram: &UdpDatagram, handler: &mut H) {
        self.tick(datagram.at.time, handler);
        let (key, side) = Key::new(Transport::Udp, datagram.scope, &datagram.src, &datagram.dst);
        let slot = match self.index.get(&key) {
            Some(slot) => *slot,
            None => {
                bump(&mut self.counters.flows_udp);
                // An answer whose question was not seen comes from a well-known port.
                let answer = datagram.src.port() < 1024 && datagram.dst.port() >= 1024;
                let (client, server) = if answer {
                    ((datagram.dst, other(side)), datagram.src)
                } else {
                    ((datagram.src, side), datagram.dst)
                };
                self.open(
                    Opening {
                        key,
                        transport: Transport::Udp,
                        scope: datagram.scope,
                        client,
                        server,
                        at: datagram.at,
                        from_start: false,
                        cookie: datagram.cookie,
                        class: Class::Datagram,
                    },
                    handler,
                )
            }
        };
        self.touch(slot);
        let Some(entry) = self.entry(slot) else { return };
        entry.last = datagram.at;
        if let Some(half) = entry.halves.get_mut(side) {
            half.stats.packets = half.stats.packets.saturating_add(1);
            half.stats.bytes = half.stats.bytes.saturating_add(u64::from(datagram.wire_len));
        }
        let direction = entry.direction(side);
        handler.datagram(&entry.flow, &mut entry.app, direction, datagram.at, datagram);
    }

    /// Runs `work` on an open flow for which something came another way than in packets. `None` if the flow
    /// is over.
    pub fn with_flow<R>(
        &mut self,
        info: &FlowInfo,
        at: At,
        work: impl FnOnce(&mut FlowRef, &mut A) -> R,
    ) -> Option<R> {
        let (key, _) = Key::new(info.transport, info.scope, &info.client, &info.server);
        let slot = *self.index.get(&key)?;
        self.touch(slot);
        let entry = self.entry(slot)?;
        if entry.flow.info.id != info.id {
            return None;
        }
        entry.last = at;
        Some(work(&mut entry.flow, &mut entry.app))
    }

    /// A number for a flow that has no packets.
    pub fn number(&mut self) -> FlowId {
        let id = FlowId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    /// Does what is due by `now`: holes to be given up, idle flows to be ended. Cheap when nothing is.
    #[inline]
    pub fn tick<H: Handler<App = A>>(&mut self, now: Timestamp, handler: &mut H) {
        if now > self.now {
            self.now = now;
        }
        if self.now >= self.wake {
            self.wake_up(handler);
        }
    }

    #[cold]
    fn wake_up<H: Handler<App = A>>(&mut self, handler: &mut H) {
        while let Some(&(due, slot)) = self.alarms.first() {
            if due > self.now {
                break;
            }
            self.ring(slot, handler);
        }
        for class in Class::ALL {
            let timeout = class.timeout(&self.limits);
            while let Some(slot) = self.lists.ends(class).first {
                let now = self.now;
                let Some(entry) = self.entry(slot) else { break };
                if entry.link.since.saturating_add(timeout) > now {
                    break;
                }
                let last = entry.last.time;
                if class != Class::Reset && last.saturating_add(timeout) > now {
                    self.move_to(slot, class);
                    continue;
                }
                let reason = if class == Class::Reset {
                    EndReason::Reset
                } else {
                    EndReason::Idle
                };
                self.close(slot, reason, handler);
            }
        }
        self.closed.expire(self.now);
        self.wake = self.now.saturating_add(SWEEP);
        if let Some((due, _)) = self.alarms.first() {
            self.wake = self.wake.min(*due);
        }
    }

    /// Gives up what is due on one flow.
    fn ring<H: Handler<App = A>>(&mut self, slot: u32, handler: &mut H) {
        let now = self.now;
        for side in [0, 1] {
            self.with_half(slot, side, handler, |half, at, limits, memory, out| {
                if half.deadline(limits).is_some_and(|due| due <= now) {
                    half.give_up(At { time: now, ..at }, false, limits, memory, out);
                }
            });
        }
        self.set_alarm(slot, true);
        self.settle(slot, handler);
    }

    /// The input ended: all that waits is given out, and every flow closed, in order of their opening.
    pub fn finish<H: Handler<App = A>>(&mut self, now: Timestamp, handler: &mut H) {
        self.tick(now, handler);
        let mut slots: Vec<(FlowId, u32)> = self
            .index
            .values()
            .filter_map(|slot| Some((self.peek(*slot)?.flow.info.id, *slot)))
            .collect();
        slots.sort_unstable();
        for (_, slot) in slots {
            self.close(slot, EndReason::EndOfInput, handler);
        }
    }

    pub(super) fn peek(&self, slot: u32) -> Option<&Entry<A>> {
        self.entries.get(usize::try_from(slot).ok()?)?.as_deref()
    }

    #[inline]
    pub(super) fn entry(&mut self, slot: u32) -> Option<&mut Entry<A>> {
        self.entries.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()
    }

    /// Opens a flow; its slot.
    pub(super) fn open<H: Handler<App = A>>(&mut self, opening: Opening, handler: &mut H) -> u32 {
        while self.index.len() >= self.limits.max_flows.max(1) && self.evict(handler) {}
        let info = Arc::new(FlowInfo {
            id: FlowId(self.next_id),
            transport: opening.transport,
            scope: opening.scope,
            client: opening.client.0,
            server: opening.server,
            start: opening.at,
            from_start: opening.from_start,
            cookie: opening.cookie,
            linked: true,
        });
        self.next_id = self.next_id.wrapping_add(1);
        let app = handler.open(&info);
        let entry = Box::new(Entry {
            key: opening.key,
            flow: FlowRef {
                info,
                lost_bytes: 0,
                plaintext: Plaintext::Packet,
            },
            app,
            client: opening.client.1,
            halves: [Half::default(), Half::default()],
            last: opening.at,
            reset: None,
            reopening: None,
            alarm: None,
            anomalies_left: self.limits.max_anomalies,
            link: Link {
                class: opening.class,
                previous: None,
                next: None,
                since: self.now,
            },
        });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = usize::try_from(slot).ok().and_then(|i| self.entries.get_mut(i)) {
                    *place = Some(entry);
                }
                slot
            }
            None => {
                let slot = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push(Some(entry));
                slot
            }
        };
        self.index.insert(opening.key, slot);
        self.append(slot, opening.class);
        slot
    }

    fn evict<H: Handler<App = A>>(&mut self, handler: &mut H) -> bool {
        let Some(slot) = Class::ALL.iter().find_map(|class| self.lists.ends(*class).first) else {
            return false;
        };
        bump(&mut self.counters.evictions);
        let now = self.now;
        self.with_half(slot, 0, handler, |_, at, _, _, out| {
            let at = At { time: now, ..at };
            out.anomaly(at, AnomalyKind::FlowEvicted, "flow table full".to_owned());
        });
        self.close(slot, EndReason::Evicted, handler);
        true
    }

    /// Gives out what waits, tells the end, and forgets all but the key.
    pub(super) fn close<H: Handler<App = A>>(&mut self, slot: u32, reason: EndReason, handler: &mut H) {
        for side in [0, 1] {
            self.with_half(slot, side, handler, |half, at, limits, memory, out| {
                half.flush(at, limits, memory, out);
                half.release(memory);
            });
        }
        self.unlink(slot);
        let taken = usize::try_from(slot)
            .ok()
            .and_then(|i| self.entries.get_mut(i))
            .and_then(Option::take);
        let Some(entry) = taken else { return };
        if let Some(alarm) = entry.alarm {
            self.alarms.remove(&(alarm, slot));
        }
        self.index.remove(&entry.key);
        self.free.push(slot);
        let reason = if entry.reset.is_some() {
            EndReason::Reset
        } else {
            reason
        };
        if matches!(reason, EndReason::Finished | EndReason::Reset) {
            let next_seq = entry
                .halves
                .each_ref()
                .map(|half| half.known().then(|| half.next_seq()));
            self.closed.insert(
                entry.key,
                next_seq,
                entry.reset.map(|reset| reset.by),
                self.now.saturating_add(self.limits.remember_closed),
                self.limits.max_closed,
            );
        }
        let end = entry.end(reason);
        let Entry { flow, app, .. } = *entry;
        handler.close(&flow, app, end);
    }

    /// Runs `work` on one direction with its way to the handler, and keeps what the handler decided.
    pub(super) fn with_half<H: Handler<App = A>, R>(
        &mut self,
        slot: u32,
        side: Side,
        handler: &mut H,
        work: impl FnOnce(&mut Half, At, &FlowLimits, &mut Memory, &mut Delivery<'_, H>) -> R,
    ) -> Option<R> {
        let Self {
            entries,
            limits,
            memory,
            counters,
            ..
        } = self;
        let entry = entries.get_mut(usize::try_from(slot).ok()?)?.as_deref_mut()?;
        let direction = entry.direction(side);
        let at = entry.last;
        let half = entry.halves.get_mut(side)?;
        let mut out = Delivery {
            handler,
            flow: &mut entry.flow,
            app: &mut entry.app,
            direction,
            counters,
            anomalies_left: &mut entry.anomalies_left,
            flipped: false,
            ignored: half.ignored,
            unread: half.unread(),
        };
        let result = work(half, at, limits, memory, &mut out);
        let (flipped, ignored, unread) = (out.flipped, out.ignored, out.unread);
        if flipped {
            entry.client = other(entry.client);
        }
        if unread && !half.unread() {
            entry.halves.iter_mut().for_each(Half::read_no_more);
        }
        let half = entry.halves.get(side)?;
        if ignored && !half.ignored {
            for half in &mut entry.halves {
                half.release(memory);
                half.ignored = true;
            }
        }
        let pending = u64::try_from(memory.pending).unwrap_or(u64::MAX);
        if pending > counters.pending_high_water {
            counters.pending_high_water = pending;
        }
        Some(result)
    }

    /// Sets the timer of a flow to its next deadline. A later deadline than the one set waits for that,
    /// unless the timer `rang`.
    #[inline]
    pub(super) fn set_alarm(&mut self, slot: u32, rang: bool) {
        let Some(entry) = self.entries.get_mut(usize::try_from(slot).unwrap_or(usize::MAX)) else {
            return;
        };
        let Some(entry) = entry else { return };
        let [low, high] = &entry.halves;
        let due = match (low.deadline(&self.limits), high.deadline(&self.limits)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if due == entry.alarm && !rang {
            return;
        }
        if let (Some(set), Some(due)) = (entry.alarm, due)
            && !rang
            && set <= due
        {
            return;
        }
        if let Some(set) = entry.alarm.take() {
            self.alarms.remove(&(set, slot));
        }
        if let Some(due) = due {
            // Never in the past: a timer that rang has done all it could.
            let due = if rang {
                due.max(Timestamp(self.now.0.saturating_add(1)))
            } else {
                due
            };
            entry.alarm = Some(due);
            self.alarms.insert((due, slot));
            self.wake = self.wake.min(due);
        }
    }

    /// After an event: total memory, and the end of the flow where both directions ended.
    #[inline]
    pub(super) fn settle<H: Handler<App = A>>(&mut self, slot: u32, handler: &mut H) {
        let finished = self
            .peek(slot)
            .is_some_and(|e| e.halves.iter().all(|half| half.finished) && e.reset.is_none());
        if finished {
            self.close(slot, EndReason::Finished, handler);
        }
        while self.memory.pending > self.limits.max_pending_total {
            let Some(&(_, oldest)) = self.alarms.first() else {
                break;
            };
            bump(&mut self.counters.pending_evicted);
            let now = self.now;
            for side in [0, 1] {
                self.with_half(oldest, side, handler, |half, at, limits, memory, out| {
                    let at = At { time: now, ..at };
                    if half.deadline(limits).is_some() {
                        let detail = "too many bytes out of order over all flows".to_owned();
                        out.anomaly(at, AnomalyKind::TcpBufferLimit, detail);
                    }
                    half.flush(at, limits, memory, out);
                });
            }
            self.set_alarm(oldest, true);
        }
    }

    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let now = self.now;
        let stale = self
            .entry(slot)
            .filter(|e| e.link.class != Class::Reset && e.link.since.saturating_add(TOUCH) <= now);
        if let Some(entry) = stale {
            let class = entry.link.class;
            self.move_to(slot, class);
        }
    }

    pub(super) fn move_to(&mut self, slot: u32, class: Class) {
        self.unlink(slot);
        self.append(slot, class);
    }

    fn append(&mut self, slot: u32, class: Class) {
        let last = self.lists.ends(class).last.replace(slot);
        let now = self.now;
        if let Some(entry) = self.entry(slot) {
            entry.link = Link {
                class,
                previous: last,
                next: None,
                since: now,
            };
        }
        match last.and_then(|last| self.entry(last)) {
            Some(entry) => entry.link.next = Some(slot),
            None => self.lists.ends(class).first = Some(slot),
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(link) = self.entry(slot).map(|e| e.link) else {
            return;
        };
        match link.previous.and_then(|previous| self.entry(previous)) {
            Some(entry) => entry.link.next = link.next,
            None => self.lists.ends(link.class).first = link.next,
        }
        match link.next.and_then(|next| self.entry(next)) {
            Some(entry) => entry.link.previous = link.previous,
            None => self.lists.ends(link.class).last = link.previous,
        }
    }
}
