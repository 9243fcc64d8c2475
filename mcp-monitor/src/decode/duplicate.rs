//! Packets captured more than once: on `-i any`, on two interfaces, by a mirror of both directions.
//!
//! A retransmission is another packet: it has another IPv4 identification, and where there is none
//! (IPv6) it comes later, or with another TCP timestamp and so another checksum.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};

use hashbrown::DefaultHashBuilder;

use super::{DecodeLimits, decoder::Place, ip::IpHeader};
use crate::types::Timestamp;

/// Packets remembered; 96 KiB. At a million packets a second these are the last 4 ms.
const REMEMBERED: usize = 4096;

#[derive(Clone, Copy, Default)]
struct Seen {
    fingerprint: u64,
    time: Timestamp,
    point: u64,
}

/// Remembers the last packets by a keyed hash of what identifies them; a newer packet takes the
/// place of an older one. The key is random, so that nobody can make a packet that hides behind another.
pub(super) struct Duplicates {
    hasher: DefaultHashBuilder,
    seen: Box<[Seen]>,
    near: u64,
    across: u64,
}

impl Duplicates {
    pub(super) fn new(limits: &DecodeLimits) -> Self {
        let nanos = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Self {
            hasher: DefaultHashBuilder::default(),
            seen: vec![Seen::default(); REMEMBERED].into_boxed_slice(),
            near: nanos(limits.duplicate_window),
            across: nanos(limits.duplicate_window_across),
        }
    }

    /// By headers only: whether the bytes are the same is for the assembler to see.
    #[inline]
    pub(super) fn tcp(&mut self, place: Place<'_>, ip: &IpHeader, header: &[u8; 20]) -> bool {
        if self.near == 0 {
            return false;
        }
        let mut hash = self.hash(place, ip);
        hash.write(header);
        self.check(hash.finish(), place)
    }

    /// By headers and the whole payload: different answers to one question must both be seen.
    #[inline]
    pub(super) fn udp(&mut self, place: Place<'_>, ip: &IpHeader, header: &[u8; 8], payload: &[u8]) -> bool {
        if self.near == 0 {
            return false;
        }
        let mut hash = self.hash(place, ip);
        hash.write(header);
        hash.write(payload);
        self.check(hash.finish(), place)
    }

    pub(super) fn fragment(
        &mut self,
        place: Place<'_>,
        ip: &IpHeader,
        id: u32,
        offset: u32,
        payload: &[u8],
    ) -> bool {
        if self.near == 0 {
            return false;
        }
        let mut hash = self.hash(place, ip);
        hash.write_u8(ip.protocol);
        hash.write_u32(id);
        hash.write_u32(offset);
        hash.write(payload);
        self.check(hash.finish(), place)
    }

    #[inline]
    fn hash(
        &self,
        place: Place<'_>,
        ip: &IpHeader,
    ) -> <DefaultHashBuilder as std::hash::BuildHasher>::Hasher {
        let mut hash = self.hasher.build_hasher();
        hash.write_u64(place.scope.0 ^ (u64::from(ip.wire_len) << 16) ^ u64::from(ip.id));
        ip.src.hash(&mut hash);
        ip.dst.hash(&mut hash);
        hash
    }

    #[inline]
    fn check(&mut self, fingerprint: u64, place: Place<'_>) -> bool {
        let slot = usize::try_from(fingerprint >> 52).unwrap_or(0);
        let Some(seen) = self.seen.get_mut(slot) else {
            return false;
        };
        let window = if seen.point == place.point {
            self.near
        } else {
            self.across
        };
        let time = place.at.time;
        if seen.fingerprint == fingerprint && time.0.abs_diff(seen.time.0) <= window {
            return true;
        }
        *seen = Seen {
            fingerprint,
            time,
            point: place.point,
        };
        false
    }
}

impl std::fmt::Debug for Duplicates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duplicates").finish_non_exhaustive()
    }
}
