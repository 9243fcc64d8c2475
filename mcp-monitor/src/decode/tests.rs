//! The decoder against hand-made packets.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    source::{LinkType, Packet},
    types::{AnomalyKind, PacketId, Timestamp},
};

fn packet(link: LinkType, data: &[u8]) -> Packet {
    Packet {
        id: PacketId {
            order: 1,
            number: 1,
            file: 0,
        },
        time: Timestamp::from_secs(1000),
        link,
        interface: 0,
        data: Bytes::copy_from_slice(data),
        wire_len: u32::try_from(data.len()).unwrap(),
    }
}

fn decoder() -> Decoder {
    Decoder::new(DecodeLimits::default())
}

fn be(v: usize) -> [u8; 2] {
    u16::try_from(v).unwrap().to_be_bytes()
}

fn ipv4_with(id: u16, fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x45, 0];
    h.extend(be(20 + payload.len()));
    h.extend(id.to_be_bytes());
    h.extend(fragment.to_be_bytes());
    h.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    h.extend(payload);
    h
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(7, 0x4000, protocol, payload)
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0x60, 0, 0, 0];
    h.extend(be(payload.len()));
    h.extend([next, 64]);
    for last in [1, 2] {
        h.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    h.extend(payload);
    h
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    // Ports 40000 and 80, numbers 1 and 2, one option word.
    let mut h = vec![
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x18, 1, 0, 0, 0, 0, 0,
    ];
    h.extend([1, 1, 1, 1]);
    h.extend(payload);
    h
}

fn udp(dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut h = vec![0xc3, 0x50];
    h.extend(dst.to_be_bytes());
    h.extend(be(8 + payload.len()));
    h.extend([0, 0]);
    h.extend(payload);
    h
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
}

fn segment(decoder: &mut Decoder, packet: &Packet) -> TcpSegment {
    match decoder.decode(packet) {
        Decoded::Tcp(segment) => segment,
        other => panic!("{other:?}, {:?}", decoder.take_anomalies()),
    }
}

#[test]
fn a_segment_shares_the_packet_and_drops_the_padding() {
    let mut frame = ethernet(0x0800, &ipv4(6, &tcp(b"hi")));
    frame.extend([0xee; 9]);
    let p = packet(LinkType::ETHERNET, &frame);
    let s = segment(&mut decoder(), &p);
    assert_eq!(&s.payload[..], b"hi");
    assert_eq!(s.payload.as_ptr(), p.data[58..].as_ptr());
    assert_eq!(
        (s.seq, s.ack, s.flags, s.wire_len),
        (1, 2, flags::PSH | flags::ACK, 2)
    );
    assert_eq!(s.src, "10.0.0.1:40000".parse().unwrap());
    assert_eq!(s.dst, "10.0.0.2:80".parse().unwrap());
    assert!(!s.duplicate);
}

#[test]
fn every_link_type_and_encapsulation_leads_to_the_segment() {
    let v4 = ipv4(6, &tcp(b"inner"));
    let v6 = ipv6(6, &tcp(b"inner"));
    let frame = ethernet(0x0800, &v4);
    let outer = |protocol, payload: &[u8]| ethernet(0x0800, &ipv4(protocol, payload));
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &frame].concat();
    let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4][..], &frame].concat();
    let gtp = [&[0x34, 255, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 0, 0][..], &v4].concat();
    let cases: Vec<(&str, LinkType, Vec<u8>, bool)> = vec![
        ("ipv6", LinkType::ETHERNET, ethernet(0x86dd, &v6), false),
        ("mislabelled", LinkType::ETHERNET, ethernet(0x0800, &v6), false),
        ("raw", LinkType::RAW, v6.clone(), false),
        (
            "null le",
            LinkType::NULL,
            [&[2, 0, 0, 0][..], &v4].concat(),
            false,
        ),
        (
            "null be",
            LinkType::NULL,
            [&[0, 0, 0, 30][..], &v6].concat(),
            false,
        ),
        ("loop", LinkType::LOOP, [&[0, 0, 0, 2][..], &v4].concat(), false),
        (
            "sll",
            LinkType::LINUX_SLL,
            [&[0; 14][..], &[8, 0], &v4].concat(),
            false,
        ),
        (
            "sll2",
            LinkType::LINUX_SLL2,
            [&[8, 0][..], &[0; 18], &v4].concat(),
            false,
        ),
        (
            "vlan",
            LinkType::ETHERNET,
            ethernet(0x8100, &[&[0, 5, 8, 0][..], &v4].concat()),
            false,
        ),
        (
            "qinq",
            LinkType::ETHERNET,
            ethernet(0x9100, &[&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &v4].concat()),
            false,
        ),
        (
            "snap",
            LinkType::ETHERNET,
            ethernet(1000, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &v4].concat()),
            false,
        ),
        (
            "mpls",
            LinkType::ETHERNET,
            ethernet(0x8847, &[&[0, 6, 0x40, 64, 0, 0xc, 0x81, 64][..], &v4].concat()),
            false,
        ),
        (
            "mpls pseudowire",
            LinkType::ETHERNET,
            ethernet(0x8847, &[&[0, 6, 0x41, 64, 0, 0, 0, 0][..], &frame].concat()),
            false,
        ),
        (
            "pppoe",
            LinkType::ETHERNET,
            ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 9, 0, 0x21][..], &v4].concat()),
            false,
        ),
        ("ipip", LinkType::ETHERNET, outer(4, &v4), true),
        ("6in4", LinkType::ETHERNET, outer(41, &v6), true),
        ("4in6", LinkType::RAW, ipv6(4, &v4), true),
        (
            "gre",
            LinkType::ETHERNET,
            outer(47, &[&[0, 0, 8, 0][..], &v4].concat()),
            true,
        ),
        (
            "gre with all fields",
            LinkType::ETHERNET,
            outer(
                47,
                &[&[0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9][..], &v4].concat(),
            ),
            true,
        ),
        (
            "gretap",
            LinkType::ETHERNET,
            outer(47, &[&[0, 0, 0x65, 0x58][..], &frame].concat()),
            true,
        ),
        (
            "erspan 2",
            LinkType::ETHERNET,
            outer(
                47,
                &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10; 8], &frame].concat(),
            ),
            true,
        ),
        ("vxlan", LinkType::ETHERNET, outer(17, &udp(4789, &vxlan)), true),
        ("geneve", LinkType::ETHERNET, outer(17, &udp(6081, &geneve)), true),
        ("gtp-u", LinkType::ETHERNET, outer(17, &udp(2152, &gtp)), true),
        (
            "hop by hop, destination options, atomic fragment",
            LinkType::RAW,
            ipv6(
                0,
                &[
                    &[60, 0, 1, 4, 0, 0, 0, 0][..],
                    &[44, 0, 1, 4, 0, 0, 0, 0],
                    &[6, 0, 0, 0, 0, 0, 0, 9],
                    &tcp(b"inner"),
                ]
                .concat(),
            ),
            false,
        ),
        (
            "authentication header",
            LinkType::RAW,
            ipv4(51, &[&[6, 1, 0, 0][..], &[9; 8], &tcp(b"inner")].concat()),
            false,
        ),
    ];
    for (name, link, data, scoped) in cases {
        let mut d = decoder();
        let s = segment(&mut d, &packet(link, &data));
        assert_eq!(&s.payload[..], b"inner", "{name}");
        assert_eq!(s.scope != Scope(0), scoped, "{name}");
        assert!(!d.has_anomalies(), "{name}");
        // Cut anywhere, it is never taken for something else, and never a panic.
        for cut in 0..data.len() {
            let mut p = packet(link, &data[..cut]);
            p.wire_len = u32::try_from(data.len()).unwrap();
            if let Decoded::Tcp(s) = decoder().decode(&p) {
                assert!(b"inner".starts_with(&s.payload), "{name} cut at {cut}");
                assert_eq!(s.wire_len, 5, "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn scopes_tell_tunnels_apart_but_not_directions() {
    let inner = |src: u8, dst: u8| {
        let mut v4 = ipv4(6, &tcp(b"x"));
        v4[15] = src;
        v4[19] = dst;
        v4
    };
    let gre = |key: u8, outer_src: u8, payload: &[u8]| {
        let mut v4 = ipv4(47, &[&[0x20, 0, 8, 0, 0, 0, 0, key][..], payload].concat());
        v4[15] = outer_src;
        packet(LinkType::RAW, &v4)
    };
    let mut d = decoder();
    let there = segment(&mut d, &gre(1, 5, &inner(1, 2))).scope;
    let back = segment(&mut d, &gre(1, 6, &inner(2, 1))).scope;
    let other = segment(&mut d, &gre(2, 5, &inner(1, 2))).scope;
    let nested = segment(&mut d, &gre(1, 5, &ipv4(4, &inner(1, 2)))).scope;
    assert_eq!(there, back);
    assert_ne!(there, other);
    assert_ne!(there, nested);
}

#[test]
fn segments_longer_than_the_length_field_can_say() {
    let big = vec![b'g'; 70_000];
    let mut v4 = ipv4(6, &tcp(b""));
    v4[2..4].copy_from_slice(&[0, 0]);
    v4.extend(&big);
    let mut p = packet(LinkType::RAW, &v4);
    let s = segment(&mut decoder(), &p);
    assert_eq!((s.payload.len(), s.wire_len), (70_000, 70_000));
    p.data.truncate(1000);
    let s = segment(&mut decoder(), &p);
    assert_eq!((s.payload.len(), s.wire_len), (956, 70_000));
}

#[test]
fn what_is_wrong_is_said_and_what_is_cut_is_not() {
    let kinds = |data: &[u8], wire: usize| {
        let mut d = decoder();
        let mut p = packet(LinkType::ETHERNET, data);
        p.wire_len = u32::try_from(wire).unwrap();
        let _: Decoded = d.decode(&p);
        d.take_anomalies()
            .into_iter()
            .map(|a| a.1.kind)
            .collect::<Vec<_>>()
    };
    let whole = ethernet(0x0800, &ipv4(6, &tcp(b"hi")));
    assert_eq!(kinds(&whole, whole.len()), []);
    assert_eq!(kinds(&whole[..40], whole.len()), []);
    assert_eq!(kinds(&whole[..40], 40)[0], AnomalyKind::TruncatedPacket);
    let mut bad = whole.clone();
    bad[14] = 0x41;
    assert_eq!(kinds(&bad, bad.len()), [AnomalyKind::BadHeader]);
    let mut bad = whole.clone();
    bad[46] = 0x10;
    assert_eq!(kinds(&bad, bad.len()), [AnomalyKind::BadHeader]);
    let deep = (0..40).fold(ipv4(6, &tcp(b"x")), |inner, _| ipv4(4, &inner));
    assert_eq!(kinds(&ethernet(0x0800, &deep), 5000), [AnomalyKind::TunnelDepth]);
    let mut d = decoder();
    let _: Decoded = d.decode(&packet(LinkType(127), &[0; 60]));
    assert_eq!(d.counters().undecoded, 1);
    let _: Decoded = d.decode(&packet(LinkType::ETHERNET, &ethernet(0x0806, &[0; 28])));
    assert_eq!(d.counters().not_ip, 1);
}

fn fragments(id: u16, data: &[u8], size: usize) -> Vec<Packet> {
    data.chunks(size)
        .enumerate()
        .map(|(i, chunk)| {
            let more = if (i + 1) * size < data.len() { 0x2000 } else { 0 };
            let field = more | u16::try_from(i * size / 8).unwrap();
            packet(LinkType::RAW, &ipv4_with(id, field, 6, chunk))
        })
        .collect()
}

#[test]
fn fragments_make_the_segment_in_any_order() {
    let data = tcp(&[b'f'; 100]);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut d = decoder();
        let parts = fragments(9, &data, 32);
        let mut whole = None;
        for i in order {
            // Each captured twice.
            for _ in 0..2 {
                if let Decoded::Tcp(s) = d.decode(&parts[i]) {
                    assert!(whole.replace(s).is_none());
                }
            }
        }
        assert_eq!(&whole.unwrap().payload[..], [b'f'; 100]);
        assert_eq!(d.counters().reassembled, 1);
        assert_eq!(d.counters().duplicates, 4);
        assert_eq!(d.fragment_bytes(), 0);
        assert!(!d.has_anomalies());
    }
}

#[test]
fn ipv6_fragments_too() {
    let data = tcp(b"0123456789");
    let part = |offset: usize, more: u8| {
        let end = (offset + 16).min(data.len());
        let [hi, lo] = be(offset);
        let head = [6, 0, hi, lo | more, 0, 0, 0, 5];
        packet(
            LinkType::RAW,
            &ipv6(44, &[&head[..], &data[offset..end]].concat()),
        )
    };
    let mut d = decoder();
    for p in [part(16, 1), part(0, 1)] {
        assert!(matches!(d.decode(&p), Decoded::Other));
    }
    let s = segment(&mut d, &part(32, 0));
    assert_eq!(&s.payload[..], b"0123456789");
}

#[test]
fn overlapping_fragments_are_reported_and_never_joined_in_part() {
    let data = tcp(&[b'f'; 100]);
    // Inside what is there, with other bytes: the first ones stay.
    let mut d = decoder();
    let parts = fragments(9, &data, 32);
    let forged = packet(LinkType::RAW, &ipv4_with(9, 0x2000 | 8, 6, &[b'X'; 16]));
    let mut whole = None;
    for p in [&parts[0], &parts[1], &parts[2], &forged, &parts[3]] {
        if let Decoded::Tcp(s) = d.decode(p) {
            whole = Some(s);
        }
    }
    assert_eq!(&whole.unwrap().payload[..], [b'f'; 100]);
    assert_eq!(d.take_anomalies()[0].1.kind, AnomalyKind::FragmentOverlap);
    // Partly over: void, as in Linux.
    let mut d = decoder();
    let forged = packet(LinkType::RAW, &ipv4_with(9, 0x2000 | 2, 6, &[b'X'; 32]));
    for p in [&parts[0], &forged, &parts[1], &parts[2], &parts[3]] {
        assert!(matches!(d.decode(p), Decoded::Other));
    }
    assert_eq!(d.take_anomalies()[0].1.kind, AnomalyKind::FragmentOverlap);
}

#[test]
fn fragments_are_bounded_in_time_and_memory() {
    let limits = DecodeLimits {
        max_fragmented: 10,
        max_fragment_bytes: 5_000,
        ..DecodeLimits::default()
    };
    let mut d = Decoder::new(limits);
    for id in 0..1000 {
        let p = packet(LinkType::RAW, &ipv4_with(id, 0x2000, 6, &[1; 800]));
        assert!(matches!(d.decode(&p), Decoded::Other));
        assert!(d.fragment_bytes() <= 5_000);
    }
    assert!(d.counters().fragments_lost >= 990);
    let mut later = packet(LinkType::ETHERNET, &ethernet(0x0806, &[0; 28]));
    later.time = later.time.saturating_add(Duration::from_secs(31));
    let _: Decoded = d.decode(&later);
    assert_eq!(d.fragment_bytes(), 0);
    assert_eq!(d.counters().fragments_lost, 1000);
    assert!(
        d.take_anomalies()
            .iter()
            .all(|a| a.1.kind == AnomalyKind::FragmentLost)
    );
}

#[test]
fn a_packet_seen_twice_is_not_a_retransmission() {
    let frame = ethernet(0x0800, &ipv4(6, &tcp(b"hi")));
    let at = |micros: u64, interface: u32, data: &[u8]| {
        let mut p = packet(LinkType::ETHERNET, data);
        p.time = p.time.saturating_add(Duration::from_micros(micros));
        p.interface = interface;
        p
    };
    let mut d = decoder();
    assert!(!segment(&mut d, &at(0, 0, &frame)).duplicate);
    assert!(segment(&mut d, &at(1, 0, &frame)).duplicate);
    assert!(segment(&mut d, &at(50_000, 1, &frame)).duplicate);
    // The same bytes a retransmission timeout later, and another identification at once.
    assert!(!segment(&mut d, &at(200_000, 0, &frame)).duplicate);
    let mut again = frame.clone();
    again[19] ^= 1;
    assert!(!segment(&mut d, &at(200_001, 0, &again)).duplicate);
    // Through one hop more: the same.
    again[22] -= 1;
    assert!(segment(&mut d, &at(200_002, 0, &again)).duplicate);
    // Answers that differ only in their payload are two.
    for (payload, given) in [(b"a", true), (b"b", true), (b"a", false)] {
        let p = at(0, 0, &ethernet(0x0800, &ipv4(17, &udp(53, payload))));
        assert_eq!(matches!(d.decode(&p), Decoded::Udp(_)), given);
    }
}

#[test]
fn udp_lengths() {
    let mut short = udp(53, b"dns");
    short[5] = 3;
    let mut d = decoder();
    assert!(matches!(
        d.decode(&packet(LinkType::RAW, &ipv4(17, &short))),
        Decoded::Other
    ));
    assert_eq!(d.counters().bad_headers, 1);
    // Longer than IP says: IP is right. A tunnel's port without a tunnel's header: a datagram.
    let mut long = udp(4789, b"dns");
    long[4] = 0xff;
    match d.decode(&packet(LinkType::RAW, &ipv4(17, &long))) {
        Decoded::Udp(u) => assert_eq!((&u.payload[..], u.wire_len), (&b"dns"[..], 3)),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(
        link in prop_oneof![Just(0_u32), Just(1), Just(101), Just(113), Just(276), any::<u32>()],
        head in prop_oneof![
            Just(vec![]),
            Just(ethernet(0x0800, &[])),
            Just(ethernet(0x0800, &ipv4(47, &[]))),
            Just(ethernet(0x86dd, &[0x60, 0, 0, 0, 0, 0, 44, 1])),
            Just(ethernet(0x8847, &[])),
            Just(ethernet(0x0800, &ipv4_with(1, 0x2000, 17, &[]))),
        ],
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        extra in 0_u32..100,
    ) {
        let mut data = head;
        data.extend(tail);
        // Lengths that fit, so that the walk goes on.
        if data.len() > 18 && data[12..14] == [8, 0] {
            data[16..18].copy_from_slice(&[0, 0]);
        }
        let mut p = packet(LinkType(link), &data);
        p.wire_len += extra;
        let mut d = decoder();
        for _ in 0..2 {
            let _: Decoded = d.decode(&p);
        }
        prop_assert_eq!(d.counters().packets, 2);
    }
}
