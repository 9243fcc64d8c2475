//! The whole engine: bytes in as a capture file, alerts and messages out.
#![no_main]

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
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

const YAML: &str = "version: 1\nendpoints:\n  - {name: a, url: 'http://mcp.test.internal:3101/mcp', addresses: [10.0.0.0/8]}\n";

static PINS: LazyLock<Arc<Pins>> = LazyLock::new(|| Arc::new(Pins::parse(YAML, "pins").unwrap_or_default()));

fuzz_target!(|data: &[u8]| {
    let Ok(reader) = CaptureReader::from_bytes(Bytes::copy_from_slice(data), Path::new("fuzz"), 0) else {
        return;
    };
    let options = ReplayOptions {
        pins: PINS.clone(),
        wanted: Wanted {
            alerts: true,
            messages: true,
            flows: true,
            observations: true,
            bodies: true,
        },
        threads: 1,
        decode: DecodeLimits::default(),
        shard: ShardLimits::default(),
        tracker: TrackerLimits::default(),
        alerts: AlerterOptions::default(),
        keys: Arc::default(),
        fingerprint_key: None,
        learning: None,
        origins: Default::default(),
    };
    let _ = replay(
        Merged::new(vec![reader]),
        options,
        |records| {
            for record in &records {
                let _ = record.text();
                serde_json::to_string(record).map_err(drop)?;
            }
            Ok::<(), ()>(())
        },
        |_| {},
    );
});
