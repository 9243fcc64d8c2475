//! The decoder's state and its entry point.

use bytes::Bytes;

use super::{
    DecodeCounters, DecodeLimits, Decoded, counters::bump, duplicate::Duplicates, fragment::Fragments,
};
use crate::{
    source::Packet,
    types::{Anomaly, AnomalyKind, At, Scope},
};

/// Packets to segments and datagrams.
///
/// Call [`decode`](Self::decode) for each packet in order, and [`take_anomalies`](Self::take_anomalies)
/// whenever [`has_anomalies`](Self::has_anomalies) says so.
#[derive(Debug)]
pub struct Decoder {
    pub(super) limits: DecodeLimits,
    pub(super) counters: DecodeCounters,
    pub(super) fragments: Fragments,
    pub(super) duplicates: Duplicates,
    anomalies: Vec<(At, Anomaly)>,
}

/// Where in a packet the walk stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Owner of the bytes that are walked, for slices of it.
    pub(super) owner: &'a Bytes,
    pub(super) at: At,
    pub(super) scope: Scope,
    /// Bytes that the capture cut off at the end of the packet.
    pub(super) cut: u32,
    /// Headers looked through.
    pub(super) depth: u8,
    /// Tells capture points apart.
    pub(super) point: u64,
}

impl Decoder {
    /// A decoder within `limits`.
    pub fn new(limits: DecodeLimits) -> Self {
        Self {
            fragments: Fragments::new(&limits),
            duplicates: Duplicates::new(&limits),
            limits,
            counters: DecodeCounters::default(),
            anomalies: Vec::new(),
        }
    }

    /// Decodes one packet. Never fails: what is wrong with it is an anomaly and a count.
    #[inline]
    pub fn decode(&mut self, packet: &Packet) -> Decoded {
        bump(&mut self.counters.packets);
        self.counters.bytes = self.counters.bytes.saturating_add(u64::from(packet.wire_len));
        let captured = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
        let at = At {
            time: packet.time,
            packet: packet.id,
        };
        let cut = packet.wire_len.saturating_sub(captured);
        if cut > 0 {
            bump(&mut self.counters.cut);
        }
        if self.fragments.due(at.time) {
            self.expire_fragments(at);
        }
        let place = Place {
            owner: &packet.data,
            at,
            scope: Scope::default(),
            cut,
            depth: 0,
            point: (u64::from(packet.id.file) << 32) | u64::from(packet.interface),
        };
        self.link(place, packet.link, &packet.data)
    }

    /// Counts so far.
    pub fn counters(&self) -> DecodeCounters {
        self.counters
    }

    /// Bytes held in fragments now.
    pub fn fragment_bytes(&self) -> usize {
        self.fragments.bytes()
    }

    /// Whether [`take_anomalies`](Self::take_anomalies) has something.
    #[inline]
    pub fn has_anomalies(&self) -> bool {
        !self.anomalies.is_empty()
    }

    /// Anomalies since the last call, in order.
    pub fn take_anomalies(&mut self) -> Vec<(At, Anomaly)> {
        std::mem::take(&mut self.anomalies)
    }

    #[cold]
    pub(super) fn report(&mut self, at: At, kind: AnomalyKind, detail: impl Into<String>) {
        if self.anomalies.len() < self.limits.max_anomalies {
            self.anomalies.push((at, Anomaly::new(kind, detail)));
        } else {
            bump(&mut self.counters.anomalies_dropped);
        }
    }

    /// A header that does not fit in what was captured.
    #[cold]
    pub(super) fn short(&mut self, place: Place<'_>, what: &'static str) -> Decoded {
        bump(&mut self.counters.truncated);
        // Cut by the snap length is no fault of the packet.
        if place.cut == 0 {
            self.report(
                place.at,
                AnomalyKind::TruncatedPacket,
                format!("{what} does not fit in the packet"),
            );
        }
        Decoded::Other
    }

    #[cold]
    pub(super) fn bad(&mut self, place: Place<'_>, what: &'static str) -> Decoded {
        bump(&mut self.counters.bad_headers);
        self.report(place.at, AnomalyKind::BadHeader, what);
        Decoded::Other
    }

    #[cold]
    pub(super) fn undecoded(&mut self, place: Place<'_>, what: impl Into<String>) -> Decoded {
        bump(&mut self.counters.undecoded);
        self.report(place.at, AnomalyKind::UndecodedLink, what);
        Decoded::Other
    }

    /// One header deeper, unless that is too deep.
    pub(super) fn deeper<'a>(&mut self, place: Place<'a>) -> Option<Place<'a>> {
        if place.depth >= self.limits.max_depth {
            bump(&mut self.counters.too_deep);
            self.report(
                place.at,
                AnomalyKind::TunnelDepth,
                format!("more than {} headers around TCP or UDP", self.limits.max_depth),
            );
            return None;
        }
        Some(Place {
            depth: place.depth.saturating_add(1),
            ..place
        })
    }
}
