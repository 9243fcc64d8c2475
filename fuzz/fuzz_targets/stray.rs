//! Bytes outside of every message, cut anywhere: what is found does not depend on where.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    mcp::{
        FlowEventKind,
        conversation::{Conversation, ConversationShared, ConversationLimits},
    },
    types::{At, Direction},
};

fn found<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut conversation = Conversation::new(ConversationLimits::default());
    let (mut counters, mut out) = (ConversationShared::default(), Vec::new());
    for piece in pieces {
        let data = Bytes::copy_from_slice(piece);
        conversation.stray(Direction::ToClient, &data, At::default(), &mut counters, &mut out);
    }
    let messages = out.into_iter().filter_map(|(_, event)| match event {
        FlowEventKind::Message(message) => Some(message.body),
        _ => None,
    });
    messages.collect()
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, data) = input;
    let whole = found(std::iter::once(data));
    assert_eq!(whole, found(data.chunks(usize::from(size).max(1))));
});
