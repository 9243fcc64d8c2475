//! Capture files: pcap and pcapng, plain and compressed.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::source::CaptureReader;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = CaptureReader::from_bytes(Bytes::copy_from_slice(data), Path::new("fuzz"), 0) else {
        return;
    };
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.wire_len as usize >= packet.data.len());
    }
    let _ = (reader.take_comments(), reader.take_secrets());
});
