//! IP fragments put together, as Linux does: a fragment inside what is there already is ignored,
//! one that overlaps it in part makes the whole datagram void (RFC 5722, and IPv4 likewise).

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use bytes::Bytes;
use hashbrown::HashMap;

use super::{DecodeLimits, Decoded, Decoder, counters::bump, decoder::Place, ip::IpHeader};
use crate::types::{AnomalyKind, At, Scope, Timestamp};

/// No datagram is longer.
const MAX_DATAGRAM: u32 = 65_535;
/// What a piece or a datagram costs besides its bytes, roughly.
const OVERHEAD: usize = 128;

/// The fragment part of an IP header.
#[derive(Clone, Copy)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// In bytes.
    pub(super) offset: u32,
    pub(super) more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    scope: Scope,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

#[derive(Debug)]
struct Datagram {
    /// By offset, without overlaps.
    pieces: BTreeMap<u32, Vec<u8>>,
    have: u32,
    total: Option<u32>,
    serial: u64,
    cost: usize,
}

/// Datagrams waiting for fragments.
#[derive(Debug)]
pub(super) struct Fragments {
    waiting: HashMap<Key, Datagram>,
    /// In order of arrival; entries whose serial number is gone are stale.
    queue: VecDeque<(Timestamp, Key, u64)>,
    serial: u64,
    cost: usize,
    max_datagrams: usize,
    max_cost: usize,
    timeout: std::time::Duration,
}

impl Fragments {
    pub(super) fn new(limits: &DecodeLimits) -> Self {
        Self {
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            serial: 0,
            cost: 0,
            max_datagrams: limits.max_fragmented,
            max_cost: limits.max_fragment_bytes,
            timeout: limits.fragment_timeout,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.cost
    }

    /// Whether something waited too long.
    #[inline]
    pub(super) fn due(&self, now: Timestamp) -> bool {
        self.queue.front().is_some_and(|(deadline, _, _)| now > *deadline)
    }

    /// Removes the oldest. `Some(true)` if it was still waiting, `None` if there is none.
    fn drop_oldest(&mut self) -> Option<bool> {
        let (_, key, serial) = self.queue.pop_front()?;
        let live = self.waiting.get(&key).is_some_and(|d| d.serial == serial);
        if live {
            self.remove(&key);
        }
        Some(live)
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.waiting.remove(key)?;
        self.cost = self.cost.saturating_sub(datagram.cost);
        Some(datagram)
    }
}

enum Outcome {
    Waiting,
    Complete(Vec<u8>),
    /// Same place, other bytes; the first ones stay.
    Differs,
    /// Partly over others, or over the end: the datagram is void.
    Void,
}

impl Datagram {
    fn insert(&mut self, fragment: Fragment, data: &[u8]) -> Outcome {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let start = fragment.offset;
        let end = start.saturating_add(len);
        if let Some(total) = self.total {
            if end > total || (!fragment.more && end != total) {
                return Outcome::Void;
            }
        } else if !fragment.more {
            if self
                .pieces
                .last_key_value()
                .is_some_and(|(o, p)| end_of(*o, p) > end)
            {
                return Outcome::Void;
            }
            self.total = Some(end);
        }
        if let Some((&at, piece)) = self.pieces.range(..=start).next_back()
            && end_of(at, piece) > start
        {
            if end > end_of(at, piece) {
                return Outcome::Void;
            }
            let from = usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX);
            let same = piece.get(from..from.saturating_add(data.len())) == Some(data);
            return if same { Outcome::Waiting } else { Outcome::Differs };
        }
        if self.pieces.range(start..end).next().is_some() {
            return Outcome::Void;
        }
        self.have = self.have.saturating_add(len);
        self.pieces.insert(start, data.to_vec());
        if Some(self.have) != self.total {
            return Outcome::Waiting;
        }
        let mut whole = Vec::with_capacity(usize::try_from(self.have).unwrap_or(0));
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        Outcome::Complete(whole)
    }
}

fn end_of(offset: u32, piece: &[u8]) -> u32 {
    offset.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX))
}

impl Decoder {
    /// Takes a fragment; gives what the datagram holds when it is whole.
    pub(super) fn fragment(
        &mut self,
        place: Place<'_>,
        ip: &IpHeader,
        fragment: Fragment,
        data: &[u8],
    ) -> Decoded {
        bump(&mut self.counters.fragments);
        if self
            .duplicates
            .fragment(place, ip, fragment.id, fragment.offset, data)
        {
            bump(&mut self.counters.duplicates);
            return Decoded::Other;
        }
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if len < ip.wire_len {
            self.lost(place.at, "a fragment was cut by the capture");
            return Decoded::Other;
        }
        let fits = fragment
            .offset
            .checked_add(len)
            .is_some_and(|end| end <= MAX_DATAGRAM);
        if !fits || len == 0 || (fragment.more && !len.is_multiple_of(8)) {
            return self.bad(place, "fragment offset or length");
        }
        let key = Key {
            scope: place.scope,
            src: ip.src,
            dst: ip.dst,
            protocol: ip.protocol,
            id: fragment.id,
        };
        let fragments = &mut self.fragments;
        let mut new = 0;
        let datagram = fragments.waiting.entry(key).or_insert_with(|| {
            fragments.serial = fragments.serial.wrapping_add(1);
            let deadline = place.at.time.saturating_add(fragments.timeout);
            fragments.queue.push_back((deadline, key, fragments.serial));
            new = OVERHEAD;
            Datagram {
                pieces: BTreeMap::new(),
                have: 0,
                total: None,
                serial: fragments.serial,
                cost: 0,
            }
        });
        let had = datagram.have;
        let outcome = datagram.insert(fragment, data);
        if datagram.have > had {
            new = new.saturating_add(data.len()).saturating_add(OVERHEAD);
        }
        datagram.cost = datagram.cost.saturating_add(new);
        fragments.cost = fragments.cost.saturating_add(new);
        match outcome {
            Outcome::Waiting => {}
            Outcome::Differs => {
                bump(&mut self.counters.fragment_overlaps);
                self.report(
                    place.at,
                    AnomalyKind::FragmentOverlap,
                    format!("other bytes at offset {}; the first ones count", fragment.offset),
                );
            }
            Outcome::Void => {
                fragments.remove(&key);
                bump(&mut self.counters.fragment_overlaps);
                bump(&mut self.counters.fragments_lost);
                self.report(
                    place.at,
                    AnomalyKind::FragmentOverlap,
                    format!(
                        "partial overlap at offset {}; the datagram is void",
                        fragment.offset
                    ),
                );
            }
            Outcome::Complete(whole) => {
                fragments.remove(&key);
                bump(&mut self.counters.reassembled);
                let Some(place) = self.deeper(place) else {
                    return Decoded::Other;
                };
                let whole = Bytes::from(whole);
                let header = IpHeader {
                    wire_len: u32::try_from(whole.len()).unwrap_or(u32::MAX),
                    ..*ip
                };
                let place = Place {
                    owner: &whole,
                    cut: 0,
                    ..place
                };
                return self.transport(place, &header, &whole);
            }
        }
        self.bound_fragments(place.at);
        Decoded::Other
    }

    fn bound_fragments(&mut self, at: At) {
        while self.fragments.cost > self.fragments.max_cost
            || self.fragments.waiting.len() > self.fragments.max_datagrams
            || self.fragments.queue.len() > self.fragments.max_datagrams.saturating_mul(4)
        {
            match self.fragments.drop_oldest() {
                Some(true) => self.lost(at, "too many fragments waiting"),
                Some(false) => {}
                None => break,
            }
        }
    }

    #[cold]
    pub(super) fn expire_fragments(&mut self, at: At) {
        while self.fragments.due(at.time) {
            if self.fragments.drop_oldest() == Some(true) {
                self.lost(at, "fragments missing after the timeout");
            }
        }
    }

    #[cold]
    fn lost(&mut self, at: At, why: &'static str) {
        bump(&mut self.counters.fragments_lost);
        self.report(at, AnomalyKind::FragmentLost, why);
    }
}
