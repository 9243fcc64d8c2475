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
    pins::{HOST_HAS_ADDRESSES, HOST_REFUSES_DRIFT},
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
    /// Connections that drift are to be refused, where the source may.
    pub enforce: bool,
}

impl PinnedHost {
    /// Its flags in the tables.
    pub(crate) fn flags(&self) -> u32 {
        let addresses = if self.prefixes.is_empty() {
            0
        } else {
            HOST_HAS_ADDRESSES
        };
        let refuses = if self.enforce { HOST_REFUSES_DRIFT } else { 0 };
        addresses | refuses
    }
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
    /// The kernel program refused the connection.
    pub refused: bool,
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
                let flags = host.flags();
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
        refused: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(pattern: &str, prefixes: &[&str]) -> PinnedHost {
        PinnedHost {
            pattern: pattern.into(),
            prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            enforce: false,
        }
    }

    /// An answer with A records for a name.
    fn answer(name: &str, addresses: &[[u8; 4]]) -> Vec<u8> {
        let count = u8::try_from(addresses.len()).unwrap();
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        for address in addresses {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            message.extend(address);
        }
        message
    }

    fn dns(verdicts: &mut Verdicts, name: &str, addresses: &[[u8; 4]]) -> Vec<HostDrift> {
        let mut out = Vec::new();
        verdicts.dns_answer(&answer(name, addresses), &mut out);
        out
    }

    #[test]
    fn an_answer_outside_drifts_and_so_does_the_connection_that_follows() {
        let mut verdicts = Verdicts::new(&[pin("mcp.example.com", &["192.0.2.0/24"])]);
        let bad: IpAddr = "198.51.100.66".parse().unwrap();
        assert_eq!(verdicts.connect(bad, 443), None);
        let drifts = dns(
            &mut verdicts,
            "MCP.example.com",
            &[[192, 0, 2, 9], [198, 51, 100, 66]],
        );
        let expected = HostDrift {
            kind: DriftKind::DnsAnswer,
            host: 0,
            address: bad,
            port: None,
            refused: false,
        };
        assert_eq!(drifts, [expected]);
        let connect = verdicts.connect(bad, 443).unwrap();
        assert_eq!((connect.kind, connect.port), (DriftKind::Connect, Some(443)));
        assert_eq!(verdicts.connect("192.0.2.9".parse().unwrap(), 443), None);
    }

    #[test]
    fn the_more_specific_pattern_decides() {
        let mut verdicts = Verdicts::new(&[
            pin("*.example.com", &["192.0.2.0/24"]),
            pin("*.eu.example.com", &["198.51.100.0/24"]),
            pin("a.eu.example.com", &["203.0.113.0/24"]),
        ]);
        assert_eq!(dns(&mut verdicts, "example.com", &[[9, 9, 9, 9]]), []);
        assert_eq!(dns(&mut verdicts, "x.example.com", &[[192, 0, 2, 1]]), []);
        assert_eq!(dns(&mut verdicts, "x.y.eu.example.com", &[[198, 51, 100, 1]]), []);
        assert_eq!(dns(&mut verdicts, "a.eu.example.com", &[[203, 0, 113, 1]]), []);
        assert_eq!(
            dns(&mut verdicts, "a.eu.example.com", &[[192, 0, 2, 1]])[0].host,
            2
        );
        assert_eq!(
            dns(&mut verdicts, "b.eu.example.com", &[[192, 0, 2, 1]])[0].host,
            1
        );
    }

    #[test]
    fn server_names_are_judged_by_address() {
        let mut verdicts = Verdicts::new(&[pin("mcp.example.com", &["192.0.2.0/24"]), pin("free.test", &[])]);
        let bad: IpAddr = "198.51.100.66".parse().unwrap();
        assert_eq!(
            verdicts.sni("Mcp.Example.com.", bad).unwrap().kind,
            DriftKind::Sni
        );
        assert_eq!(
            verdicts.sni("mcp.example.com", "192.0.2.1".parse().unwrap()),
            None
        );
        assert_eq!(
            verdicts.sni("mcp.example.com", "::ffff:192.0.2.1".parse().unwrap()),
            None
        );
        assert_eq!(verdicts.sni("free.test", bad), None);
        assert_eq!(verdicts.sni("other.test", bad), None);
    }

    #[test]
    fn prefixes_of_both_families() {
        let mut verdicts = Verdicts::new(&[pin("a.test", &["192.0.2.128/25", "2001:db8:1::/48"])]);
        for (address, inside) in [
            ("192.0.2.127", false),
            ("192.0.2.128", true),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::", false),
        ] {
            let drift = verdicts.sni("a.test", address.parse().unwrap());
            assert_eq!(drift.is_none(), inside, "{address}");
        }
    }

    #[test]
    fn swapped_pins_judge_what_was_learned_before() {
        let mut verdicts = Verdicts::new(&[pin("a.test", &["192.0.2.0/24"])]);
        dns(&mut verdicts, "a.test", &[[198, 51, 100, 1]]);
        let address: IpAddr = "198.51.100.1".parse().unwrap();
        verdicts.swap(&[pin("b.test", &[]), pin("a.test", &["203.0.113.0/24"])]);
        assert_eq!(verdicts.connect(address, 80).unwrap().host, 1);
        verdicts.swap(&[pin("a.test", &["198.51.100.0/24"])]);
        assert_eq!(verdicts.connect(address, 80), None);
    }

    #[test]
    fn what_is_learned_is_bounded_and_what_is_used_stays() {
        let mut verdicts = Verdicts::new(&[pin("a.test", &["192.0.2.0/24"])]);
        dns(&mut verdicts, "a.test", &[[198, 51, 100, 1]]);
        for number in 0..40_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            dns(&mut verdicts, "a.test", &[[10, b, c, d]]);
            if number % 1000 == 0 {
                assert!(verdicts.connect("198.51.100.1".parse().unwrap(), 80).is_some());
            }
        }
        let held = verdicts.maps.learned.young.len() + verdicts.maps.learned.old.len();
        assert!(held <= LEARNED_MAX, "{held}");
        assert_eq!(verdicts.connect("10.0.0.1".parse().unwrap(), 80), None);
    }
}
