//! Segments of a few connections, in any order, through the flow table, all parsers and all rules.
#![no_main]

use std::net::SocketAddr;

use bytes::Bytes;
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use mcp_monitor::{
    decode::{Decoded, TcpSegment, UdpDatagram},
    pipeline::{
        correlator::{Correlator, Wanted},
        shard::{Shard, ShardLimits},
    },
    types::{At, PacketId, Scope, Timestamp},
};

#[derive(Arbitrary, Debug)]
struct Step {
    port: u8,
    to_server: bool,
    /// Added to the next number of the direction; mostly nothing.
    skew: i8,
    flags: u8,
    /// Milliseconds.
    later: u16,
    cut: bool,
    payload: Vec<u8>,
}

fuzz_target!(|steps: Vec<Step>| {
    let mut shard = Shard::new(0, ShardLimits::default());
    let wanted = Wanted {
        alerts: true,
        messages: true,
        flows: true,
        observations: true,
        bodies: true,
    };
    let mut correlator = Correlator::new(
        Default::default(),
        Default::default(),
        Default::default(),
        wanted,
        true,
    );
    let mut next = [[0_u32; 2]; 256];
    let mut events = Vec::new();
    let mut at = At::default();
    for (order, step) in (1..).zip(steps) {
        at.time = Timestamp(at.time.0 + u64::from(step.later) * 1_000_000);
        at.packet = PacketId {
            order,
            number: order,
            file: 0,
        };
        // Ports of DNS, of the rest.
        let server: SocketAddr = ([192, 0, 2, 1], if step.port & 3 == 3 { 53 } else { 8080 }).into();
        let client: SocketAddr = ([10, 0, 0, step.port], 40_000).into();
        let (src, dst) = if step.to_server {
            (client, server)
        } else {
            (server, client)
        };
        let numbers = &mut next[usize::from(step.port)];
        let side = usize::from(!step.to_server);
        let payload = Bytes::from(step.payload);
        let length = u32::try_from(payload.len()).unwrap_or(0);
        let wire_len = length + if step.cut { 10 } else { 0 };
        let item = if step.port & 7 == 7 {
            Decoded::Udp(UdpDatagram {
                at,
                scope: Scope::default(),
                src,
                dst,
                payload,
                wire_len,
                cookie: None,
            })
        } else {
            let seq = numbers[side].wrapping_add_signed(step.skew.into());
            numbers[side] = seq.wrapping_add(wire_len + u32::from(step.flags & 2 != 0));
            Decoded::Tcp(TcpSegment {
                at,
                scope: Scope::default(),
                src,
                dst,
                seq,
                ack: numbers[1 - side],
                flags: step.flags & 0x17,
                payload,
                wire_len,
                cookie: None,
                resumed: step.flags & 0x80 != 0,
                duplicate: step.flags & 0x40 != 0,
            })
        };
        shard.feed(&item, &mut events);
        for event in events.drain(..) {
            correlator.event(event.event);
        }
        for record in correlator.take_records() {
            let _ = (record.text(), serde_json::to_string(&record));
        }
    }
    shard.finish(at, &mut events);
    for event in events.drain(..) {
        correlator.event(event.event);
    }
    correlator.finish(at);
    assert_eq!(shard.application_counters().conversation.held, 0);
});
