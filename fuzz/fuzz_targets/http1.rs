//! Both directions of a connection, cut into pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    mcp::conversation::{Conversation, ConversationShared, ConversationLimits},
    proto::http1::{Connection, Limits},
    types::{At, Direction},
};

fuzz_target!(|pieces: Vec<(bool, u8, Vec<u8>)>| {
    let mut connection = Connection::new(Limits::default());
    let mut conversation = Conversation::new(ConversationLimits::default());
    let (mut counters, mut events, mut out) = (ConversationShared::default(), Vec::new(), Vec::new());
    for (to_server, gap, piece) in pieces {
        let direction = if to_server {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        if gap == 255 {
            connection.gap(direction, At::default(), piece.len() as u64, &mut events);
        } else {
            connection.data(direction, At::default(), Bytes::from(piece), &mut events);
        }
        for event in events.drain(..) {
            conversation.handle(event, &mut counters, &mut out);
        }
        out.clear();
    }
    connection.abort(At::default(), &mut events);
});
