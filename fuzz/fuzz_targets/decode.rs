//! Frames of every link type, with fragments among them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    decode::{DecodeLimits, Decoder},
    source::{LinkType, Packet},
    types::{PacketId, Timestamp},
};

const LINKS: [LinkType; 9] = [
    LinkType::ETHERNET,
    LinkType::NULL,
    LinkType::RAW,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
    // 802.11, which is counted and not read.
    LinkType(105),
];

fuzz_target!(|frames: Vec<(u8, u16, Vec<u8>)>| {
    let mut decoder = Decoder::new(DecodeLimits {
        max_fragment_bytes: 64 * 1024,
        ..DecodeLimits::default()
    });
    let mut time = 0_u64;
    for (order, (link, later, data)) in (1..).zip(frames) {
        time += u64::from(later) * 1_000_000;
        let wire_len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let packet = Packet {
            id: PacketId {
                order,
                number: order,
                file: 0,
            },
            time: Timestamp(time),
            link: LINKS[usize::from(link) % LINKS.len()],
            interface: 0,
            data: Bytes::from(data),
            wire_len,
        };
        let _ = decoder.decode(&packet);
        assert!(decoder.fragment_bytes() <= 64 * 1024);
    }
    let _ = decoder.take_anomalies();
});
