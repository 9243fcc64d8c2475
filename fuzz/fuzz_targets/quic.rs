//! Datagrams of both directions, each after its length (two bytes, whose first bit is the direction).
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    proto::quic::{Connection, Limits, probe},
    types::{At, Direction},
};

fuzz_target!(|data: &[u8]| {
    let mut connection = Connection::new(Limits::default());
    let mut events = Vec::new();
    let mut rest = data;
    while let Some(([high, low], after)) = rest.split_first_chunk::<2>() {
        let direction = if high & 0x80 == 0 {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(after.len());
        let (datagram, after) = after.split_at(length);
        let _ = probe(datagram);
        connection.datagram(direction, At::default(), datagram, &mut events);
        events.clear();
        rest = after;
    }
});
