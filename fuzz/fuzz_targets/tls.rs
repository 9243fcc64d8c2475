//! Records and handshakes of both directions.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    proto::tls::{Limits, Stream},
    types::{At, Direction},
};

fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let mut stream = Stream::new(Limits::default());
    let mut events = Vec::new();
    for (to_server, piece) in pieces {
        let direction = if to_server {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        stream.data(direction, At::default(), Bytes::from(piece), &mut events);
        events.clear();
    }
});
