//! The drift verdict: a pinned name at an address outside its prefixes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    address::Address,
    name::NameWalk,
    pins::{HOST_HAS_ADDRESSES, HOST_REFUSES_DRIFT},
};

/// Where a drift was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum DriftKind {
    /// A or AAAA answer for a pinned name.
    DnsAnswer = 1,
    /// A connection to an address that a pinned name was resolved to.
    Connect = 2,
    /// A ClientHello that names a pinned host.
    Sni = 3,
}

impl DriftKind {
    /// From its number in a record.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::DnsAnswer),
            2 => Some(Self::Connect),
            3 => Some(Self::Sni),
            _ => None,
        }
    }
}

/// A pinned host as the verdict needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Host {
    /// Hash of its pattern: its identity across generations of pins.
    pub pattern: u64,
    /// Its index in these pins.
    pub host: u32,
    /// See [`HOST_HAS_ADDRESSES`] and [`HOST_REFUSES_DRIFT`].
    pub flags: u32,
}

impl Host {
    /// No host.
    pub const NONE: Self = Self {
        pattern: 0,
        host: 0,
        flags: 0,
    };

    #[inline(always)]
    const fn has_addresses(&self) -> bool {
        self.flags & HOST_HAS_ADDRESSES != 0
    }

    /// The pins ask that a connection which drifts be refused.
    #[inline(always)]
    #[must_use]
    pub const fn refuses_drift(&self) -> bool {
        self.flags & HOST_REFUSES_DRIFT != 0
    }
}

/// One verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drift {
    /// Where it was seen.
    pub kind: DriftKind,
    /// The host that drifted.
    pub host: Host,
    /// The offending address.
    pub address: Address,
}

/// Pinned hosts whose name was resolved to one address, the latest few.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Learned {
    patterns: [u64; Self::MAX],
    next: u32,
    reserved: u32,
}

impl Learned {
    /// Hosts remembered per address; a further one replaces the oldest.
    pub const MAX: usize = 4;

    /// With its first host.
    #[inline(always)]
    #[must_use]
    pub const fn new(pattern: u64) -> Self {
        Self {
            patterns: [pattern, 0, 0, 0],
            next: 1,
            reserved: 0,
        }
    }

    /// Adds a host.
    #[inline(always)]
    pub fn add(&mut self, pattern: u64) {
        let [a, b, c, d] = &mut self.patterns;
        if *a == pattern || *b == pattern || *c == pattern || *d == pattern {
            return;
        }
        let slot = match self.next & 3 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        *slot = pattern;
        self.next = self.next.wrapping_add(1) & 3;
    }
}

/// Where pins and what was learned are kept: BPF maps in the kernel, ordinary ones elsewhere.
pub trait Tables {
    /// Start of every [`NameHash`](crate::name::NameHash).
    fn seed(&self) -> u64;
    /// The pinned host of this pattern hash.
    fn pattern(&self, pattern: u64) -> Option<Host>;
    /// Whether `address` lies in a prefix of the host with this index.
    fn within(&self, host: u32, address: &Address) -> bool;
    /// What was learned of an address.
    fn learned(&self, address: &Address) -> Option<Learned>;
    /// Remembers that the pinned host was resolved to `address`.
    fn learn(&mut self, address: &Address, pattern: u64);
    /// Takes a verdict.
    fn drift(&mut self, drift: Drift);
}

/// Judges one address that a pinned host is said to be at.
#[inline(always)]
fn outside<T: Tables>(tables: &T, kind: DriftKind, host: Host, address: &Address) -> Option<Drift> {
    if !host.has_addresses() || tables.within(host.host, address) {
        return None;
    }
    Some(Drift {
        kind,
        host,
        address: *address,
    })
}

/// Judges and learns an address that a DNS answer gives for `host`.
#[inline(always)]
pub fn dns_answer<T: Tables>(tables: &mut T, host: Host, address: &Address) {
    tables.learn(address, host.pattern);
    if let Some(drift) = outside(tables, DriftKind::DnsAnswer, host, address) {
        tables.drift(drift);
    }
}

/// Judges a connection to `address`.
///
/// Several names may lead there. It is a drift only if every one of them pins addresses and none
/// allows this one: with a single name for which it is in order, nothing says which was meant. For the
/// same reason it is to be refused only if every one of them asks for that.
#[inline(always)]
pub fn connect<T: Tables>(tables: &T, address: &Address) -> Option<Drift> {
    let learned = tables.learned(address)?;
    let mut found = None;
    let mut refuses = HOST_REFUSES_DRIFT;
    for pattern in learned.patterns {
        if pattern == 0 {
            continue;
        }
        if let Some(host) = tables.pattern(pattern) {
            let mut drift = outside(tables, DriftKind::Connect, host, address)?;
            refuses &= drift.host.flags;
            drift.host.flags = (drift.host.flags & !HOST_REFUSES_DRIFT) | refuses;
            found = Some(drift);
        }
    }
    found
}

/// Judges a ClientHello for `host` sent to `address`.
#[inline(always)]
pub fn server_name<T: Tables>(tables: &T, host: Host, address: &Address) -> Option<Drift> {
    outside(tables, DriftKind::Sni, host, address)
}

/// The pinned host that a name in text form falls under.
pub fn host_of<T: Tables>(tables: &T, name: &str) -> Option<Host> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut walk = NameWalk::new(tables.seed());
    for byte in name.bytes().rev() {
        walk.before(byte, tables);
    }
    walk.finish(tables)
}
