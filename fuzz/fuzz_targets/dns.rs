//! DNS messages, and their framing over TCP.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::proto::dns;

fuzz_target!(|data: &[u8]| {
    let _ = dns::parse(data);
    let mut messages = Vec::new();
    dns::TcpStream::new().push(Bytes::copy_from_slice(data), &mut messages);
});
