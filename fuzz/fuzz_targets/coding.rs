//! Content codings, alone and stacked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::proto::coding::{Decoder, Limits};

const CODINGS: [&[u8]; 6] = [b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"zstd, gzip"];

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (which, data) = input;
    let coding = CODINGS[usize::from(which) % CODINGS.len()];
    let Ok(Some(mut decoder)) = Decoder::new([coding].into_iter(), Limits::default()) else {
        return;
    };
    let mut out = Vec::new();
    for piece in data.chunks(97) {
        if decoder.push(piece, &mut out).is_some() {
            return;
        }
        out.clear();
    }
    let _ = decoder.finish();
});
