//! Captures as bytes, and the engine over them.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use mcp_monitor::{
    alert::AlerterOptions,
    config::pins::Pins,
    decode::DecodeLimits,
    mcp::tracker::TrackerLimits,
    pipeline::{
        correlator::Wanted,
        replay::{ReplayOptions, replay},
        shard::ShardLimits,
    },
    source::{CaptureReader, Merged},
};
use serde_json::Value;

/// One frame of a capture: microseconds since 1970, and Ethernet.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) time: u64,
    pub(crate) data: Vec<u8>,
}

/// Reads a classic pcap of this byte order.
pub(crate) fn read(path: &Path) -> Vec<Frame> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let word = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 1), "{}", path.display());
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = usize::try_from(word(at + 8)).unwrap();
        frames.push(Frame {
            time: word(at) * 1_000_000 + word(at + 4),
            data: bytes[at + 16..at + 16 + length].to_vec(),
        });
        at += 16 + length;
    }
    frames
}

/// A classic pcap of these frames.
pub(crate) fn pcap<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Bytes {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for frame in frames {
        let length = frame.data.len() as u64;
        for word in [frame.time / 1_000_000, frame.time % 1_000_000, length, length] {
            out.extend_from_slice(&u32::try_from(word).unwrap().to_le_bytes());
        }
        out.extend_from_slice(&frame.data);
    }
    out.into()
}

/// What the engine says of a capture: all records as JSON, and the summary.
pub(crate) fn run(capture: Bytes) -> (Vec<Value>, Value) {
    let options = ReplayOptions {
        learning: None,
        origins: Default::default(),
        pins: Arc::new(Pins::default()),
        wanted: Wanted {
            alerts: false,
            messages: true,
            flows: true,
            observations: false,
            bodies: true,
        },
        threads: 1,
        decode: DecodeLimits::default(),
        shard: ShardLimits::default(),
        tracker: TrackerLimits::default(),
        alerts: AlerterOptions::default(),
        keys: Arc::default(),
        fingerprint_key: None,
    };
    let reader = CaptureReader::from_bytes(capture, Path::new("test.pcap"), 0).unwrap();
    let mut all = Vec::new();
    let outcome = replay(
        Merged::new(vec![reader]),
        options,
        |records| {
            all.extend(records.iter().map(|record| serde_json::to_value(record).unwrap()));
            Ok::<(), ()>(())
        },
        |_| {},
    )
    .unwrap();
    (all, serde_json::to_value(&outcome.summary).unwrap())
}

/// The records of one schema.
pub(crate) fn of<'a>(records: &'a [Value], schema: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    let name = format!("mcp-monitor.{schema}/1");
    records.iter().filter(move |r| r["schema"] == name.as_str())
}
