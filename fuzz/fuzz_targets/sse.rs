//! Event streams: cut in two anywhere, they give the same events.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::proto::sse::Decoder;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (cut, data) = input;
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    Decoder::new(1 << 16).push(Bytes::from(data.clone()), &mut whole);
    let (head, tail) = data.split_at(usize::from(cut).min(data.len()));
    let mut decoder = Decoder::new(1 << 16);
    decoder.push(Bytes::copy_from_slice(head), &mut parts);
    decoder.push(Bytes::copy_from_slice(tail), &mut parts);
    assert_eq!(whole, parts);
});
