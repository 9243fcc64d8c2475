//! Which plaintext belongs to which flow.
//!
//! A TLS object keeps the `client_random` of its connection, and the ClientHello on the wire shows it:
//! 32 random bytes that both ends know and no two connections share. That holds whatever thread or event
//! loop carries the bytes, and whether the library writes to the socket itself or to memory. What cannot be
//! linked so is a flow of its own, without addresses.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use hashbrown::{HashMap, HashSet};
use lru::LruCache;
use memchr::memmem;
use serde::Serialize;

use crate::{
    config::plaintext::{Mode, Plaintext},
    flow::{FlowId, FlowInfo},
    source::live::Object,
    types::{Direction, Process, Timestamp},
};

/// Connections whose `client_random` is remembered.
const MAX_HELLOS: usize = 65_536;
/// TLS objects that are remembered.
const MAX_OBJECTS: usize = 65_536;
/// Sockets whose process is remembered.
const MAX_SOCKETS: usize = 65_536;
/// Processes of which it is remembered why their TLS cannot be read.
const MAX_UNREADABLE: usize = 16_384;
/// Connections whose `client_random` is looked for in an object of a library that is new.
const MAX_SEARCHED: usize = 256;
/// Processes that are looked after at once, of those with TLS objects.
const MAX_LOOKED_AFTER: usize = 256;
/// How long after a process was found gone its objects are let go: what it said last may still lie in the ring.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long an encrypted flow waits for plaintext before it is called opaque.
const PATIENCE: Duration = Duration::from_secs(3);
const RANDOM: usize = 32;

/// How plaintext was matched with flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LinkCounters {
    /// TLS objects that were matched with the packets of their connection.
    pub linked: u64,
    /// TLS objects that were not: their plaintext is a flow without addresses.
    pub unlinked: u64,
    /// The second end of a connection both of whose ends are on this machine: its plaintext was seen already.
    pub second_ends: u64,
    /// Plaintext bytes of second ends.
    pub second_end_bytes: u64,
    /// Plaintext bytes that came after the end of their flow.
    pub late_bytes: u64,
    /// Plaintext bytes lost between the process and here.
    pub lost_bytes: u64,
    /// Plaintext bytes of processes whose plaintext is off, or of TLS objects that are not known.
    pub unclaimed_bytes: u64,
    /// TLS objects forgotten because the table was full.
    pub forgotten: u64,
    /// TLS objects whose process ended without freeing them.
    pub orphaned: u64,
}

/// Which end of its connection a TLS object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Client,
    Server,
}

/// A connection whose ClientHello was seen.
struct Hello {
    flow: Arc<FlowInfo>,
    /// Whose plaintext it is.
    feeder: Option<(Object, Role)>,
    /// Some of it came.
    fed: bool,
}

/// What became of a TLS object.
#[derive(Clone)]
pub(super) enum Standing {
    /// Not known which connection it is.
    Unknown,
    /// Its plaintext goes into this flow; the direction is that of what the process writes.
    Linked(Arc<FlowInfo>, Direction),
    /// The other end speaks for the connection.
    SecondEnd,
}

/// A TLS object.
struct Known {
    standing: Standing,
    process: Arc<Process>,
    /// Where the next bytes begin: written, read.
    next: [u64; 2],
}

/// A process with TLS objects.
#[derive(Default)]
struct Owner {
    objects: HashSet<Object>,
    /// Since when it is known to be gone.
    gone: Option<Timestamp>,
}

/// What to do with a piece of plaintext.
pub(super) enum Place {
    /// It goes there, after so many lost bytes.
    Flow {
        /// Which.
        flow: Arc<FlowInfo>,
        /// Its direction.
        direction: Direction,
        /// Lost before it.
        lost: u64,
    },
    /// A flow of its own is to be opened, for a process.
    Open(Arc<Process>),
    /// Nowhere.
    Drop,
}

/// See the module.
pub(super) struct Links {
    policy: Plaintext,
    /// Flows of whose messages no body is kept.
    metadata: HashSet<FlowId>,
    hellos: LruCache<[u8; RANDOM], Hello>,
    by_flow: HashMap<FlowId, [u8; RANDOM]>,
    objects: LruCache<Object, Known>,
    /// The same by process.
    by_process: BTreeMap<u32, Owner>,
    /// The process that was looked after last.
    looked_after: u32,
    /// Objects whose plaintext is a flow without packets.
    unlinked: HashMap<FlowId, Object>,
    /// Where objects of a library keep the random.
    offsets: HashMap<u32, u32>,
    /// Process that connected a socket.
    owners: LruCache<u64, u32>,
    /// Processes whose TLS cannot be read: which program, and why.
    unreadable: LruCache<u32, Arc<str>>,
    /// Flows that wait for plaintext, by time of their ClientHello.
    waiting: VecDeque<(Timestamp, [u8; RANDOM])>,
    counters: LinkCounters,
}

fn size(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}

impl Links {
    pub(super) fn new(policy: Plaintext) -> Self {
        Self {
            policy,
            metadata: HashSet::new(),
            hellos: LruCache::new(size(MAX_HELLOS)),
            by_flow: HashMap::new(),
            objects: LruCache::new(size(MAX_OBJECTS)),
            by_process: BTreeMap::new(),
            looked_after: 0,
            unlinked: HashMap::new(),
            offsets: HashMap::new(),
            owners: LruCache::new(size(MAX_SOCKETS)),
            unreadable: LruCache::new(size(MAX_UNREADABLE)),
            waiting: VecDeque::new(),
            counters: LinkCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// A process connected a socket.
    pub(super) fn connected(&mut self, cookie: u64, pid: u32) {
        self.owners.put(cookie, pid);
    }

    /// The TLS of a process cannot be read, for this reason; `None`: the process is gone.
    pub(super) fn unreadable(&mut self, pid: u32, why: Option<Arc<str>>) {
        match why {
            Some(why) => self.unreadable.put(pid, why),
            None => self.unreadable.pop(&pid),
        };
    }

    /// Why the TLS of the process that has a flow is not read, where that is known.
    pub(super) fn why_opaque(&self, flow: &FlowInfo) -> Option<Arc<str>> {
        let pid = self.owners.peek(&flow.cookie?)?;
        self.unreadable.peek(pid).cloned()
    }

    /// A ClientHello was seen on a flow.
    pub(super) fn hello(&mut self, flow: &Arc<FlowInfo>, random: [u8; RANDOM], now: Timestamp) {
        // A second hello, after HelloRetryRequest, has the same random.
        if self.hellos.contains(&random) || random == [0; RANDOM] {
            return;
        }
        let hello = Hello {
            flow: flow.clone(),
            feeder: None,
            fed: false,
        };
        if let Some((old, hello)) = self.hellos.push(random, hello)
            && old != random
        {
            self.by_flow.remove(&hello.flow.id);
        }
        self.by_flow.insert(flow.id, random);
        if self.waiting.len() >= MAX_HELLOS {
            self.waiting.pop_front();
        }
        self.waiting.push_back((now, random));
    }

    /// Whether the bodies of a flow's messages are to be forgotten.
    pub(super) fn is_metadata(&self, flow: FlowId) -> bool {
        self.metadata.contains(&flow)
    }

    /// A flow is over.
    pub(super) fn closed(&mut self, flow: FlowId) {
        self.metadata.remove(&flow);
        // What the process says later is another flow.
        if let Some(object) = self.unlinked.remove(&flow)
            && let Some(known) = self.objects.peek_mut(&object)
        {
            known.standing = Standing::Unknown;
        }
        if let Some(random) = self.by_flow.remove(&flow) {
            self.hellos.pop(&random);
        }
    }

    /// Flows that waited long enough.
    pub(super) fn impatient(&mut self, now: Timestamp) -> Vec<Arc<FlowInfo>> {
        let mut out = Vec::new();
        while let Some((since, random)) = self.waiting.front() {
            if since.saturating_add(PATIENCE) > now {
                break;
            }
            if let Some(hello) = self.hellos.peek(random).filter(|hello| !hello.fed) {
                out.push(hello.flow.clone());
            }
            self.waiting.pop_front();
        }
        out
    }

    /// A TLS object was announced. The place of the random in objects of this library, if it was found just
    /// now, and the socket that is its process's.
    pub(super) fn announced(&mut self, object: Object, seen: Announced<'_>) -> Found {
        let known = self.objects.get(&object);
        let settled = known.is_some_and(|known| !matches!(known.standing, Standing::Unknown));
        let mut found = Found::default();
        let mode = self.policy.mode_of(seen.process);
        if settled || mode == Mode::Off {
            return found;
        }
        let (random, at) = match (seen.memory_at, self.offsets.get(&seen.target)) {
            (None, _) => (within(seen.memory, Some(0)), None),
            (Some(memory_at), Some(at)) => (within(seen.memory, at.checked_sub(memory_at)), None),
            (Some(memory_at), None) => match self.search(seen.memory) {
                Some((random, at)) => (Some(random), at.checked_add(memory_at)),
                None => (None, None),
            },
        };
        if let Some(at) = at {
            self.offsets.insert(seen.target, at);
            found.random_at = Some(at);
        }
        let standing = match random {
            Some(random) => self.match_hello(object, &random, &seen),
            None => Standing::Unknown,
        };
        match &standing {
            Standing::Linked(flow, _) => {
                if mode == Mode::Metadata {
                    self.metadata.insert(flow.id);
                }
                self.counters.linked = self.counters.linked.saturating_add(1);
                found.socket = flow.cookie.filter(|cookie| !self.owners.contains(cookie));
            }
            Standing::SecondEnd => {
                self.counters.second_ends = self.counters.second_ends.saturating_add(1);
            }
            Standing::Unknown => {}
        }
        let next = known_next(self.objects.peek(&object));
        let known = Known {
            standing,
            process: seen.process.clone(),
            next,
        };
        if let Some((old, _)) = self.objects.push(object, known)
            && old != object
        {
            self.counters.forgotten = self.counters.forgotten.saturating_add(1);
            self.disown(old);
        }
        let owner = self.by_process.entry(object.pid).or_default();
        owner.gone = None;
        owner.objects.insert(object);
        found
    }

    /// Looks for the random of any connection that is waited for.
    fn search(&self, memory: &[u8]) -> Option<([u8; RANDOM], u32)> {
        if memory.len() <= RANDOM {
            return None;
        }
        // The newest first: it is this connection's as a rule.
        self.waiting
            .iter()
            .rev()
            .take(MAX_SEARCHED)
            .find_map(|(_, random)| {
                let at = memmem::find(memory, random)?;
                Some((*random, u32::try_from(at).ok()?))
            })
    }

    fn match_hello(&mut self, object: Object, random: &[u8; RANDOM], seen: &Announced<'_>) -> Standing {
        let Some(hello) = self.hellos.get_mut(random) else {
            return Standing::Unknown;
        };
        let connected = hello.flow.cookie.and_then(|cookie| self.owners.get(&cookie));
        let role = match connected {
            Some(pid) if *pid == object.pid => Role::Client,
            Some(_) => Role::Server,
            // Of both ends the client speaks first.
            None if hello.feeder.is_none() && seen.writes => Role::Client,
            None => Role::Server,
        };
        match &hello.feeder {
            // The client's end is asked as long as nothing was taken from the other.
            Some((_, Role::Server)) if role == Role::Client && !hello.fed => {}
            Some((other, _)) if *other != object => return Standing::SecondEnd,
            _ => {}
        }
        hello.feeder = Some((object, role));
        let direction = match role {
            Role::Client => Direction::ToServer,
            Role::Server => Direction::ToClient,
        };
        Standing::Linked(hello.flow.clone(), direction)
    }

    /// Where the plaintext of an object goes.
    pub(super) fn place(&mut self, object: Object, written: bool, offset: u64, length: u64) -> Place {
        let Some(known) = self.objects.get_mut(&object) else {
            // It is not wanted, its announcement was lost, or it was forgotten.
            self.counters.unclaimed_bytes = self.counters.unclaimed_bytes.saturating_add(length);
            return Place::Drop;
        };
        let [next_written, next_read] = &mut known.next;
        let next = if written { next_written } else { next_read };
        let lost = offset.saturating_sub(*next);
        *next = offset.saturating_add(length);
        match &known.standing {
            Standing::Linked(flow, direction) => {
                if let Some(random) = self.by_flow.get(&flow.id)
                    && let Some(hello) = self.hellos.get_mut(random)
                {
                    if hello.feeder.is_some_and(|(feeder, _)| feeder != object) {
                        known.standing = Standing::SecondEnd;
                        self.counters.second_end_bytes =
                            self.counters.second_end_bytes.saturating_add(length);
                        return Place::Drop;
                    }
                    hello.fed = true;
                }
                self.counters.lost_bytes = self.counters.lost_bytes.saturating_add(lost);
                Place::Flow {
                    flow: flow.clone(),
                    direction: if written { *direction } else { direction.reversed() },
                    lost,
                }
            }
            Standing::SecondEnd => {
                self.counters.second_end_bytes = self.counters.second_end_bytes.saturating_add(length);
                Place::Drop
            }
            Standing::Unknown => Place::Open(known.process.clone()),
        }
    }

    /// A flow was opened for an object of which it is not known which connection it is.
    pub(super) fn opened(&mut self, object: Object, flow: &Arc<FlowInfo>, written: bool) {
        self.counters.unlinked = self.counters.unlinked.saturating_add(1);
        if let Some(known) = self.objects.get_mut(&object) {
            // Who is met writing is taken for the client: HTTP/1's beginnings tell where that is wrong.
            let direction = if written {
                Direction::ToServer
            } else {
                Direction::ToClient
            };
            known.standing = Standing::Linked(flow.clone(), direction);
            self.unlinked.insert(flow.id, object);
            if self.policy.mode_of(&known.process) == Mode::Metadata {
                self.metadata.insert(flow.id);
            }
        }
    }

    /// Plaintext came for a flow that is over.
    pub(super) fn late(&mut self, bytes: u64) {
        self.counters.late_bytes = self.counters.late_bytes.saturating_add(bytes);
    }

    fn disown(&mut self, object: Object) {
        if let Some(owner) = self.by_process.get_mut(&object.pid) {
            owner.objects.remove(&object);
            if owner.objects.is_empty() {
                self.by_process.remove(&object.pid);
            }
        }
    }

    /// Looks after the next few processes: objects of those that are gone for a while, which nobody will free any
    /// more.
    pub(super) fn orphans(&mut self, now: Timestamp, lives: impl Fn(Object) -> bool) -> Vec<Object> {
        let after = (Bound::Excluded(self.looked_after), Bound::Unbounded);
        let mut orphans = Vec::new();
        let (mut last, mut count) = (0, 0_usize);
        for (pid, owner) in self.by_process.range_mut(after).take(MAX_LOOKED_AFTER) {
            (last, count) = (*pid, count.saturating_add(1));
            // The number may be another process's by now, whose objects are younger.
            let newest = owner.objects.iter().max_by_key(|object| object.born);
            if newest.is_some_and(|object| lives(*object)) {
                owner.gone = None;
            } else if owner.gone.get_or_insert(now).saturating_add(LAST_WORDS) <= now {
                orphans.extend(&owner.objects);
            }
        }
        // At the end of the row, from its beginning.
        self.looked_after = if count < MAX_LOOKED_AFTER { 0 } else { last };
        orphans
    }

    /// The process of an object ended: as [`Self::ended`], where nobody says how much there was.
    pub(super) fn orphaned(&mut self, object: Object) -> Option<Ended> {
        let [written, read] = known_next(self.objects.peek(&object));
        self.counters.orphaned = self.counters.orphaned.saturating_add(1);
        self.ended(object, written, read)
    }

    /// An object was freed: its flow, if it has one for itself, and bytes lost at its end in the direction of
    /// writing and of reading.
    pub(super) fn ended(&mut self, object: Object, written: u64, read: u64) -> Option<Ended> {
        let known = self.objects.pop(&object)?;
        self.disown(object);
        let Standing::Linked(flow, direction) = known.standing else {
            return None;
        };
        let [next_written, next_read] = known.next;
        let lost = [
            (direction, written.saturating_sub(next_written)),
            (direction.reversed(), read.saturating_sub(next_read)),
        ];
        for (_, bytes) in lost {
            self.counters.lost_bytes = self.counters.lost_bytes.saturating_add(bytes);
        }
        Some(Ended { flow, lost })
    }
}

fn known_next(known: Option<&Known>) -> [u64; 2] {
    known.map_or([0; 2], |known| known.next)
}

fn within(memory: &[u8], at: Option<u32>) -> Option<[u8; RANDOM]> {
    let at = usize::try_from(at?).ok()?;
    memory.get(at..)?.first_chunk().copied()
}

/// A TLS object as it was announced.
pub(super) struct Announced<'a> {
    pub(super) process: &'a Arc<Process>,
    pub(super) target: u32,
    /// `None`: the memory is the random itself.
    pub(super) memory_at: Option<u32>,
    pub(super) memory: &'a [u8],
    /// It writes; else it read already.
    pub(super) writes: bool,
}

/// What an announcement taught.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Found {
    /// Where objects of the library keep the random.
    pub(super) random_at: Option<u32>,
    /// A socket whose process was not known.
    pub(super) socket: Option<u64>,
}

/// A TLS object that was freed.
pub(super) struct Ended {
    pub(super) flow: Arc<FlowInfo>,
    pub(super) lost: [(Direction, u64); 2],
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::types::{At, Scope, Transport};

    const RANDOM_OF: [u8; 32] = [7; 32];

    fn flow(id: u64) -> Arc<FlowInfo> {
        Arc::new(FlowInfo {
            id: FlowId(id),
            transport: Transport::Tcp,
            scope: Scope::default(),
            client: "10.0.0.1:4000".parse().unwrap(),
            server: "10.0.0.2:443".parse().unwrap(),
            start: At::default(),
            from_start: true,
            cookie: Some(id),
            linked: true,
        })
    }

    fn object(pid: u32, born: u64) -> Object {
        Object {
            pid,
            address: 0x7f00,
            born,
        }
    }

    /// Memory of an object with the random at 100.
    fn memory(random: &[u8; 32]) -> Vec<u8> {
        let mut memory = vec![0xab; 400];
        memory[100..132].copy_from_slice(random);
        memory
    }

    fn announce(links: &mut Links, object: Object, memory_at: u32, memory: &[u8], writes: bool) -> Found {
        let process = Arc::new(Process {
            pid: object.pid,
            ..Process::default()
        });
        links.announced(
            object,
            Announced {
                process: &process,
                target: 1,
                memory_at: Some(memory_at),
                memory,
                writes,
            },
        )
    }

    fn links() -> Links {
        let mut links = Links::new(Plaintext::default());
        links.hello(&flow(1), RANDOM_OF, Timestamp(1));
        links
    }

    fn direction(place: Place) -> Option<(FlowId, Direction, u64)> {
        match place {
            Place::Flow {
                flow,
                direction,
                lost,
            } => Some((flow.id, direction, lost)),
            Place::Open(_) | Place::Drop => None,
        }
    }

    #[test]
    fn the_place_of_the_random_is_found_once_and_kept() {
        let mut links = links();
        let found = announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        assert_eq!(found.random_at, Some(100));
        // The kernel sends just the random from then on.
        links.hello(&flow(2), [8; 32], Timestamp(2));
        let found = announce(&mut links, object(5, 2), 100, &[8; 32], true);
        assert_eq!(found.random_at, None);
        assert_eq!(links.counters().linked, 2);
        assert_eq!(
            direction(links.place(object(5, 2), true, 0, 10)),
            Some((FlowId(2), Direction::ToServer, 0))
        );
    }

    #[test]
    fn a_lost_record_is_a_gap_before_the_next() {
        let mut links = links();
        announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        let to_server = |lost| Some((FlowId(1), Direction::ToServer, lost));
        assert_eq!(direction(links.place(object(5, 1), true, 0, 10)), to_server(0));
        assert_eq!(direction(links.place(object(5, 1), true, 30, 10)), to_server(20));
        assert_eq!(
            direction(links.place(object(5, 1), false, 0, 10)),
            Some((FlowId(1), Direction::ToClient, 0))
        );
        let ended = links.ended(object(5, 1), 45, 10).unwrap();
        assert_eq!(ended.lost, [(Direction::ToServer, 5), (Direction::ToClient, 0)]);
        assert_eq!(links.counters().lost_bytes, 25);
    }

    #[test]
    fn of_two_local_ends_the_client_speaks() {
        let mut links = links();
        links.connected(1, 5);
        // The server's end is met first.
        announce(&mut links, object(9, 1), 0, &memory(&RANDOM_OF), false);
        announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        assert!(direction(links.place(object(9, 1), false, 0, 10)).is_none());
        assert_eq!(
            direction(links.place(object(5, 1), true, 0, 10)),
            Some((FlowId(1), Direction::ToServer, 0))
        );
        assert_eq!(links.counters().second_end_bytes, 10);
    }

    #[test]
    fn a_server_alone_speaks_for_its_connection() {
        let mut links = links();
        links.connected(1, 5);
        announce(&mut links, object(9, 1), 0, &memory(&RANDOM_OF), false);
        assert_eq!(
            direction(links.place(object(9, 1), false, 0, 10)),
            Some((FlowId(1), Direction::ToServer, 0))
        );
        // Once something came from it, the other end would say it twice.
        announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        assert!(direction(links.place(object(5, 1), true, 0, 10)).is_none());
    }

    #[test]
    fn an_unknown_connection_gets_a_flow_of_its_own() {
        let mut links = links();
        announce(&mut links, object(5, 1), 0, &memory(&[9; 32]), true);
        assert!(matches!(links.place(object(5, 1), false, 0, 10), Place::Open(_)));
        links.opened(object(5, 1), &flow(3), false);
        assert_eq!(
            direction(links.place(object(5, 1), false, 0, 10)),
            Some((FlowId(3), Direction::ToServer, 0))
        );
        assert_eq!(links.counters().unlinked, 1);
    }

    #[test]
    fn an_address_that_is_used_again_is_another_object() {
        let mut links = links();
        announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        assert!(links.ended(object(5, 1), 0, 0).is_some());
        assert!(matches!(links.place(object(5, 2), true, 0, 10), Place::Drop));
        assert_eq!(links.counters().unclaimed_bytes, 10);
    }

    #[test]
    fn a_stream_without_packets_that_ended_begins_again() {
        let mut links = links();
        announce(&mut links, object(5, 1), 0, &memory(&[9; 32]), true);
        assert!(matches!(links.place(object(5, 1), true, 0, 10), Place::Open(_)));
        links.opened(object(5, 1), &flow(3), true);
        assert!(direction(links.place(object(5, 1), true, 0, 10)).is_some());
        // It was silent for too long, or made room.
        links.closed(FlowId(3));
        assert!(matches!(links.place(object(5, 1), true, 10, 10), Place::Open(_)));
    }

    #[test]
    fn objects_of_a_process_that_is_gone_are_let_go() {
        let mut links = links();
        announce(&mut links, object(5, 1), 0, &memory(&RANDOM_OF), true);
        announce(&mut links, object(6, 1), 0, &memory(&[9; 32]), true);
        links.place(object(6, 1), true, 0, 10);
        links.opened(object(6, 1), &flow(3), true);
        let second = |n: u64| Timestamp(n.saturating_mul(1_000_000_000));
        assert!(links.orphans(second(1), |_| true).is_empty());
        let of_6 = |object: Object| object.pid == 5;
        assert!(
            links.orphans(second(2), of_6).is_empty(),
            "its last words may be on their way"
        );
        assert!(links.orphans(second(6), of_6).is_empty());
        assert_eq!(links.orphans(second(7), of_6), [object(6, 1)]);
        let ended = links.orphaned(object(6, 1)).unwrap();
        assert_eq!(
            (ended.flow.id, ended.lost.map(|(_, bytes)| bytes)),
            (FlowId(3), [0, 0])
        );
        assert_eq!(links.counters().orphaned, 1);
        links.orphans(second(8), |_| false);
        let orphans = links.orphans(second(13), |_| false);
        assert_eq!(orphans, [object(5, 1)], "of 6 nothing is left");
    }

    #[test]
    fn a_flow_waits_for_plaintext_and_no_longer() {
        let mut links = links();
        assert!(links.impatient(Timestamp(1_000_000_000)).is_empty());
        let late = links.impatient(Timestamp(4_000_000_000));
        assert_eq!(late.len(), 1);
        assert!(links.impatient(Timestamp(9_000_000_000)).is_empty());
    }
}
