//! The walks against naive readers of the same formats, and against bytes of any kind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail"
)]

use std::collections::{BTreeMap, BTreeSet};

use mcp_monitor_common::{
    address::{Address, from_v4},
    client_hello, dns,
    headers::{self, Headers},
    name::NameHash,
    pins::HOST_HAS_ADDRESSES,
    verdict::{self, Drift, DriftKind, Host, Learned, Tables},
};
use proptest::prelude::*;

/// Pins and what was learned, in the plainest form.
#[derive(Default)]
struct Plain {
    /// Patterns, each with the addresses it may be at.
    pins: Vec<(String, Vec<Address>)>,
    learned: BTreeMap<Address, Learned>,
    drifts: Vec<Drift>,
}

impl Plain {
    fn new(pins: &[(&str, &[Address])]) -> Self {
        Self {
            pins: pins
                .iter()
                .map(|(pattern, addresses)| ((*pattern).to_owned(), addresses.to_vec()))
                .collect(),
            ..Self::default()
        }
    }

    fn found(&self) -> Vec<(u32, Address)> {
        self.drifts
            .iter()
            .map(|drift| (drift.host.host, drift.address))
            .collect()
    }
}

impl Tables for Plain {
    fn seed(&self) -> u64 {
        11
    }

    fn pattern(&self, pattern: u64) -> Option<Host> {
        let host = self
            .pins
            .iter()
            .position(|(name, _)| NameHash::of(11, name).0 == pattern)?;
        let has = !self.pins[host].1.is_empty();
        Some(Host {
            pattern,
            host: host as u32,
            flags: if has { HOST_HAS_ADDRESSES } else { 0 },
        })
    }

    fn within(&self, host: u32, address: &Address) -> bool {
        self.pins[host as usize].1.contains(address)
    }

    fn learned(&self, address: &Address) -> Option<Learned> {
        self.learned.get(address).copied()
    }

    fn learn(&mut self, address: &Address, pattern: u64) {
        self.learned
            .entry(*address)
            .and_modify(|learned| learned.add(pattern))
            .or_insert(Learned::new(pattern));
    }

    fn drift(&mut self, drift: Drift) {
        self.drifts.push(drift);
    }
}

/// What the naive reader expects: exact name, else the longest `*.suffix`.
fn naive_host(pins: &[(String, Vec<Address>)], name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let exact = pins.iter().position(|(pattern, _)| *pattern == name);
    exact.or_else(|| {
        (0..pins.len())
            .filter(|index| {
                pins[*index]
                    .0
                    .strip_prefix('*')
                    .is_some_and(|suffix| name.ends_with(suffix) && name.len() > suffix.len())
            })
            .max_by_key(|index| pins[*index].0.len())
    })
}

#[derive(Clone, Debug)]
enum Record {
    Alias(String),
    V4([u8; 4]),
    V6([u8; 16]),
    Other(Vec<u8>),
}

fn write_name(message: &mut Vec<u8>, name: &str, compress: bool, known: &mut BTreeMap<String, usize>) {
    let mut rest = name;
    loop {
        if rest.is_empty() {
            message.push(0);
            return;
        }
        if compress && let Some(at) = known.get(rest) {
            message.extend((0xc000_u16 | *at as u16).to_be_bytes());
            return;
        }
        if message.len() < 0x3fff {
            known.insert(rest.to_owned(), message.len());
        }
        let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
        rest = tail;
    }
}

fn message(question: &str, records: &[Record], compress: bool) -> Vec<u8> {
    let mut known = BTreeMap::new();
    let mut message = vec![0, 1, 0x81, 0x80, 0, 1];
    message.extend((records.len() as u16).to_be_bytes());
    message.extend([0; 4]);
    write_name(&mut message, question, compress, &mut known);
    message.extend([0, 1, 0, 1]);
    let mut owner = question.to_owned();
    for record in records {
        write_name(&mut message, &owner, compress, &mut known);
        let kind: u16 = match record {
            Record::Alias(_) => 5,
            Record::V4(_) => 1,
            Record::V6(_) => 28,
            Record::Other(_) => 16,
        };
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 9]);
        let length_at = message.len();
        message.extend([0, 0]);
        match record {
            Record::Alias(target) => {
                write_name(&mut message, target, compress, &mut known);
                owner.clone_from(target);
            }
            Record::V4(address) => message.extend(address),
            Record::V6(address) => message.extend(address),
            Record::Other(data) => message.extend(data),
        }
        let length = (message.len() - length_at - 2) as u16;
        message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
    message
}

fn mapped(record: &Record) -> Option<Address> {
    match record {
        Record::V4(address) => Some(from_v4(*address)),
        Record::V6(address) => Some(*address),
        _ => None,
    }
}

const FINE: Address = from_v4([192, 0, 2, 1]);

fn pins() -> Vec<(&'static str, &'static [Address])> {
    vec![
        ("mcp.example.com", &[FINE]),
        ("*.example.com", &[FINE]),
        ("*.b.example.com", &[FINE]),
        ("free.example.com", &[]),
        ("cdn.net", &[FINE]),
    ]
}

fn some_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("mcp.example.com".to_owned()),
        Just("MCP.Example.com".to_owned()),
        Just("example.com".to_owned()),
        Just("free.example.com".to_owned()),
        Just("cdn.net".to_owned()),
        "[a-c]{1,3}(\\.[ab]){0,3}\\.example\\.com",
        "[a-z]{1,20}(\\.[a-z]{1,20}){0,5}",
    ]
}

fn some_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        some_name().prop_map(Record::Alias),
        Just(Record::V4([192, 0, 2, 1])),
        any::<[u8; 4]>().prop_map(Record::V4),
        any::<[u8; 16]>().prop_map(Record::V6),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Record::Other),
    ]
}

proptest! {
    #[test]
    fn dns_agrees_with_a_naive_reader(
        question in some_name(),
        records in prop::collection::vec(some_record(), 1..12),
        compress in any::<bool>(),
    ) {
        let mut tables = Plain::new(&pins());
        let bytes = message(&question, &records, compress);
        prop_assert!(dns::walk(&bytes, &mut tables));

        let names = std::iter::once(question.clone()).chain(records.iter().filter_map(|record| match record {
            Record::Alias(target) => Some(target.clone()),
            _ => None,
        }));
        let hosts: Vec<usize> = names
            .filter_map(|name| naive_host(&tables.pins, &name))
            .take(dns::MAX_HOSTS)
            .collect();
        let mut expected = Vec::new();
        let mut learned = BTreeSet::new();
        for address in records.iter().filter_map(mapped) {
            for host in &hosts {
                learned.insert(address);
                if !tables.pins[*host].1.is_empty() && address != FINE {
                    expected.push((*host as u32, address));
                }
            }
        }
        prop_assert_eq!(tables.found(), expected);
        prop_assert_eq!(tables.learned.keys().copied().collect::<BTreeSet<_>>(), learned);
    }

    /// Cut anywhere, it finds no more than in the whole, and what it finds comes first there.
    #[test]
    fn a_cut_answer_gives_a_prefix_of_the_verdicts(
        records in prop::collection::vec(some_record(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        // Names first, so that a cut leaves out addresses only.
        let mut records = records;
        records.sort_by_key(|record| mapped(record).is_some());
        let bytes = message("mcp.example.com", &records, true);
        let mut whole = Plain::new(&pins());
        dns::walk(&bytes, &mut whole);
        let mut part = Plain::new(&pins());
        dns::walk(&bytes[..cut.index(bytes.len())], &mut part);
        let found = part.found();
        if !found.is_empty() {
            let hosts: BTreeSet<u32> = found.iter().map(|(host, _)| *host).collect();
            let of_these: Vec<_> = whole.found().into_iter().filter(|(host, _)| hosts.contains(host)).collect();
            prop_assert_eq!(&of_these[..found.len()], &found[..]);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut tables = Plain::new(&pins());
        dns::walk(&bytes, &mut tables);
        let mut answer = vec![0, 0, 0x80, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];
        answer.extend(&bytes);
        dns::walk(&answer, &mut tables);
        client_hello::walk(&bytes, &tables);
        let mut hello = vec![22, 3, 1, 0, 0, 1];
        hello.extend(&bytes);
        client_hello::walk(&hello, &tables);
        Headers::new().read(&bytes.as_slice());
    }

    #[test]
    fn patterns_agree_with_a_naive_reader(name in some_name()) {
        let tables = Plain::new(&pins());
        let found = verdict::host_of(&tables, &name).map(|host| host.host as usize);
        prop_assert_eq!(found, naive_host(&tables.pins, &name));
    }

    #[test]
    fn server_name_is_found_wherever_it_stands(
        name in some_name(),
        before in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        after in prop::collection::vec(any::<u8>(), 0..60),
        session in prop::collection::vec(any::<u8>(), 0..33),
    ) {
        let mut extensions = Vec::new();
        for data in &before {
            extensions.extend([0x12, 0x34]);
            extensions.extend((data.len() as u16).to_be_bytes());
            extensions.extend(data);
        }
        let length = name.len() as u16;
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name.as_bytes());
        extensions.extend(&after);
        let mut hello = vec![22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
        hello.extend([9; 32]);
        hello.push(session.len() as u8);
        hello.extend(&session);
        hello.extend([0, 4, 0x13, 1, 0x13, 2, 1, 0]);
        hello.extend((extensions.len() as u16).to_be_bytes());
        hello.extend(&extensions);
        let tables = Plain::new(&pins());
        let found = client_hello::walk(&hello, &tables).map(|host| host.host as usize);
        prop_assert_eq!(found, naive_host(&tables.pins, &name));
    }

    #[test]
    fn headers_are_walked_to_the_payload(
        extensions in prop::collection::vec((prop::sample::select(vec![0_u8, 43, 60, 51, 44]), 0_u8..4), 0..8),
        payload in prop::collection::vec(any::<u8>(), 0..50),
        padding in 0_usize..10,
        udp in any::<bool>(),
    ) {
        let mut transport = vec![0x12, 0x34, 0, 53];
        if udp {
            transport.extend([0; 4]);
        } else {
            transport.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x60, 0x12, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        }
        let header = transport.len();
        transport.extend(&payload);
        let protocol = if udp { headers::UDP } else { headers::TCP };

        let mut chain = Vec::new();
        for (index, (kind, length)) in extensions.iter().enumerate() {
            let next = extensions.get(index + 1).map_or(protocol, |(kind, _)| *kind);
            let size = match kind {
                44 => 8,
                51 => (usize::from(*length) + 2) * 4,
                _ => (usize::from(*length) + 1) * 8,
            };
            let mut extension = vec![0; size];
            extension[0] = next;
            extension[1] = if *kind == 44 { 0 } else { *length };
            chain.extend(extension);
        }
        let first = extensions.first().map_or(protocol, |(kind, _)| *kind);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(((chain.len() + transport.len()) as u16).to_be_bytes());
        packet.extend([first, 64]);
        packet.extend([0x20; 16]);
        packet.extend([0x21; 16]);
        packet.extend(&chain);
        packet.extend(&transport);
        packet.extend(vec![0xee; padding]);
        let mut read = Headers::new();
        let result = read.read(&packet.as_slice());
        if extensions.len() > headers::MAX_EXTENSIONS as usize {
            prop_assert_eq!(result, None);
        } else {
            prop_assert_eq!(result, Some(()));
            prop_assert_eq!(read.payload_at as usize, 40 + chain.len() + header);
            prop_assert_eq!(read.payload_length as usize, payload.len());
            prop_assert_eq!(read.destination_port, [0, 53]);
            prop_assert_eq!((read.source, read.protocol, read.version), ([0x20; 16], protocol, 6));
        }
    }
}

#[test]
fn v4_options_are_skipped_and_fragments_left_alone() {
    let mut packet = vec![
        0x46, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1,
    ];
    packet.extend([0, 53, 0, 99, 0, 11, 0, 0]);
    packet.extend(b"abc");
    packet[3] = packet.len() as u8;
    let mut read = Headers::new();
    assert_eq!(read.read(&packet.as_slice()), Some(()));
    assert_eq!((read.payload_at, read.payload_length), (32, 3));
    assert_eq!(read.source, from_v4([10, 0, 0, 1]));
    packet[6] = 0x20;
    assert_eq!(Headers::new().read(&packet.as_slice()), None, "more fragments");
    packet[6] = 0x00;
    packet[7] = 0x04;
    assert_eq!(Headers::new().read(&packet.as_slice()), None, "not the first");
}

#[test]
fn a_name_with_a_dot_in_a_label_is_another_name() {
    let mut tables = Plain::new(&pins());
    let mut bytes = vec![0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    bytes.extend(b"\x0bmcp.example\x03com\0\0\x01\0\x01");
    bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x09\x09\x09\x09");
    dns::walk(&bytes, &mut tables);
    assert_eq!(tables.found(), []);
}

#[test]
fn addresses_before_their_cname_count() {
    let mut tables = Plain::new(&pins());
    let records = [Record::V4([9, 9, 9, 9]), Record::Alias("cdn.net".into())];
    dns::walk(&message("unknown.org", &records, false), &mut tables);
    assert_eq!(tables.found(), [(4, from_v4([9, 9, 9, 9]))]);
}

#[test]
fn a_query_and_an_empty_answer_say_nothing() {
    let mut tables = Plain::new(&pins());
    let mut bytes = message("mcp.example.com", &[Record::V4([9, 9, 9, 9])], false);
    bytes[2] &= 0x7f;
    dns::walk(&bytes, &mut tables);
    assert_eq!(tables.found(), []);
}

#[test]
fn hostile_names_end() {
    // A pointer to itself, one forward, and a long chain of pointers.
    for tail in [
        b"\xc0\x0c\0\x01\0\x01".to_vec(),
        b"\xc0\xff\0\x01\0\x01".to_vec(),
        [b"\x01a".as_slice(), &[0xc0, 0x0c].repeat(200), b"\0\x01\0\x01"].concat(),
    ] {
        let mut bytes = vec![0, 0, 0x80, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];
        bytes.extend(tail);
        bytes.resize(16_384, 0xc0);
        assert!(dns::walk(&bytes, &mut Plain::new(&pins())));
    }
}

#[test]
fn no_message_reaches_the_step_limit_by_length_alone() {
    // The most expensive that is known: aliases of the longest name, then tiny owners.
    let label = "a".repeat(62);
    let long = [label.as_str(); 4].join(".");
    let long = &long[..250];
    let mut records = vec![Record::Alias(long.to_owned()); 16];
    records.extend(vec![Record::V4([9, 9, 9, 9]); 400]);
    let mut pins = pins();
    pins.push((long, &[FINE]));
    let mut tables = Plain::new(&pins);
    assert!(dns::walk(&message(long, &records, true), &mut tables));
    assert_eq!(tables.drifts.len(), 400 * dns::MAX_HOSTS);
}

/// A connection is judged by every name that leads to its address.
#[test]
fn one_name_in_order_is_enough_for_a_connection() {
    let other = from_v4([198, 51, 100, 1]);
    let mut tables = Plain::new(&[("a.test", &[FINE]), ("b.test", &[other]), ("c.test", &[])]);
    let pattern = |name: &str| NameHash::of(11, name).0;
    assert_eq!(verdict::connect(&tables, &other), None, "never resolved");
    tables.learn(&other, pattern("a.test"));
    let drift = verdict::connect(&tables, &other).unwrap();
    assert_eq!((drift.kind, drift.host.host), (DriftKind::Connect, 0));
    tables.learn(&other, pattern("b.test"));
    assert_eq!(verdict::connect(&tables, &other), None, "b may be there");
    let third = from_v4([198, 51, 100, 2]);
    tables.learn(&third, pattern("a.test"));
    tables.learn(&third, pattern("c.test"));
    assert_eq!(verdict::connect(&tables, &third), None, "c pins no addresses");
    tables.learn(&FINE, pattern("gone.test"));
    assert_eq!(verdict::connect(&tables, &FINE), None, "no longer pinned");
}
