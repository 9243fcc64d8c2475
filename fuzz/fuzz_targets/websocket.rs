//! Both directions of a WebSocket, cut into pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    proto::websocket::{Connection, Limits},
    types::{At, Direction},
};

fuzz_target!(|input: (bool, Vec<(bool, u8, Vec<u8>)>)| {
    let (joined, pieces) = input;
    // Small, so that the limit is reached.
    let limits = Limits { max_message: 4096 };
    let mut connection = if joined {
        Connection::joined(limits)
    } else {
        Connection::new(limits)
    };
    let mut out = Vec::new();
    for (to_server, gap, piece) in pieces {
        let direction = if to_server {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        match gap {
            255 => connection.gap(direction, piece.len() as u64),
            254 => connection.give_up(),
            _ => connection.data(direction, At::default(), Bytes::from(piece), &mut out),
        }
        assert!(connection.held() <= 2 * 4096);
        out.clear();
    }
});
