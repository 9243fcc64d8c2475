//! The kernel's drift verdicts without the kernel: the same code over ordinary tables.
//!
//! Replay judges captures with it; live it stands in where the kernel lacks what the walks need.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;
pub use mcp_monitor_common::verdict::DriftKind;
use mcp_monitor_common::{
    address::{Address, from_v4},
    client_hello, dns,
    name::NameHash,
    pins::HOST_HAS_ADDRESSES,
    verdict::{self, Drift, Host, Learned, Tables},
};

/// A host that pins name, with every address that it may be at.
///
/// Several endpoints may name one host; its prefixes are then those of all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedHost {
    /// Lower-case host name, or `*.host` for every name at any depth below (not `host` itself).
    pub pattern: Box<str>,
    /// Where it may be. Empty: the host is known, and never drifts.
    pub prefixes: Vec<IpNet>,
}

/// A pinned host at an address outside its prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostDrift {
    /// Where it was seen.
    pub kind: DriftKind,
    /// Index of the host among the [`PinnedHost`]s given.
    pub host: usize,
    /// The offending address.
    pub address: IpAddr,
    /// Port of the connection, where there is one.
    pub port: Option<u16>,
}

/// Addresses remembered, the most recently learned or asked for.
const LEARNED_MAX: usize = 1 << 14;

/// Pins, and the addresses that pinned names were resolved to.
#[derive(Debug)]
pub struct Verdicts {
    maps: Maps,
    given_up: u64,
}

impl Verdicts {
    /// With these pins and nothing learned.
    #[must_use]
    pub fn new(hosts: &[PinnedHost]) -> Self {
        let mut verdicts = Self {
            maps: Maps::default(),
            given_up: 0,
        };
        verdicts.swap(hosts);
        verdicts
    }

    /// Replaces the pins; what was learned stays.
    pub fn swap(&mut self, hosts: &[PinnedHost]) {
        self.maps.hosts = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let flags = if host.prefixes.is_empty() {
                    0
                } else {
                    HOST_HAS_ADDRESSES
                };
                let pattern = NameHash::of(0, &host.pattern).0;
                let host = Host {
                    pattern,
                    host: u32::try_from(index).unwrap_or(u32::MAX),
                    flags,
                };
                (pattern, host)
            })
            .collect();
        self.maps.prefixes = hosts
            .iter()
            .map(|host| host.prefixes.iter().map(Prefix::new).collect())
            .collect();
    }

    /// Judges and learns the addresses of a DNS answer; other messages change nothing.
    pub fn dns_answer(&mut self, payload: &[u8], out: &mut Vec<HostDrift>) {
        if !dns::walk(payload, &mut self.maps) {
            self.given_up = self.given_up.saturating_add(1);
        }
        out.extend(self.maps.drifts.drain(..).map(|drift| host_drift(&drift, None)));
    }

    /// Judges a connection to `address`.
    pub fn connect(&mut self, address: IpAddr, port: u16) -> Option<HostDrift> {
        let address = mapped(address);
        let drift = verdict::connect(&self.maps, &address);
        self.maps.learned.touch(&address);
        drift.map(|drift| host_drift(&drift, Some(port)))
    }

    /// Judges a ClientHello for `name` sent to `address`.
    pub fn sni(&mut self, name: &str, address: IpAddr) -> Option<HostDrift> {
        let host = verdict::host_of(&self.maps, name)?;
        let drift = verdict::server_name(&self.maps, host, &mapped(address))?;
        Some(host_drift(&drift, None))
    }

    /// The same from the bytes of the first segment.
    pub fn client_hello(&mut self, payload: &[u8], address: IpAddr, port: u16) -> Option<HostDrift> {
        let host = client_hello::walk(payload, &self.maps)?;
        let drift = verdict::server_name(&self.maps, host, &mapped(address))?;
        Some(host_drift(&drift, Some(port)))
    }

    /// DNS answers that took more than [`dns::MAX_STEPS`] and were given up.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

fn host_drift(drift: &Drift, port: Option<u16>) -> HostDrift {
    HostDrift {
        kind: drift.kind,
        host: drift.host.host as usize,
        address: unmapped(&drift.address),
        port,
    }
}

/// In the one form that the tables hold.
pub(crate) fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => from_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Back from the form that the tables hold.
pub(crate) fn unmapped(address: &Address) -> IpAddr {
    IpAddr::from(*address).to_canonical()
}

#[derive(Debug, Default)]
struct Maps {
    hosts: HashMap<u64, Host>,
    prefixes: Vec<Box<[Prefix]>>,
    learned: Recent,
    drifts: Vec<Drift>,
}

impl Tables for Maps {
    fn seed(&self) -> u64 {
        0
    }

    fn pattern(&self, pattern: u64) -> Option<Host> {
        self.hosts.get(&pattern).copied()
    }

    fn within(&self, host: u32, address: &Address) -> bool {
        let address = u128::from_be_bytes(*address);
        self.prefixes
            .get(host as usize)
            .is_some_and(|prefixes| prefixes.iter().any(|prefix| prefix.holds(address)))
    }

    fn learned(&self, address: &Address) -> Option<Learned> {
        self.learned.get(address)
    }

    fn learn(&mut self, address: &Address, pattern: u64) {
        self.learned.add(address, pattern);
    }

    fn drift(&mut self, drift: Drift) {
        self.drifts.push(drift);
    }
}

/// A prefix in the space where IPv4 is mapped into IPv6, as the kernel's trie holds it.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    network: u128,
    mask: u128,
}

impl Prefix {
    fn new(net: &IpNet) -> Self {
        let mask = match net {
            IpNet::V4(net) => !(u128::from(u32::MAX) & u128::from(!u32::from(net.netmask()))),
            IpNet::V6(net) => u128::from(net.netmask()),
        };
        let network = u128::from_be_bytes(mapped(net.network()));
        Self { network, mask }
    }

    fn holds(self, address: u128) -> bool {
        address & self.mask == self.network
    }
}

/// A table that forgets what was longest out of use, in two halves: the young one, when full, becomes
/// the old one, and the old one is dropped.
#[derive(Debug, Default)]
struct Recent {
    young: HashMap<Address, Learned>,
    old: HashMap<Address, Learned>,
}

impl Recent {
    fn get(&self, address: &Address) -> Option<Learned> {
        self.young.get(address).or_else(|| self.old.get(address)).copied()
    }

    /// Moves an entry to the young half.
    fn touch(&mut self, address: &Address) {
        if let Some(learned) = self.old.remove(address) {
            self.insert(*address, learned);
        }
    }

    fn add(&mut self, address: &Address, pattern: u64) {
        self.touch(address);
        match self.young.get_mut(address) {
            Some(learned) => learned.add(pattern),
            None => self.insert(*address, Learned::new(pattern)),
        }
    }

    fn insert(&mut self, address: Address, learned: Learned) {
        if self.young.len() >= LEARNED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(address, learned);
    }
}
