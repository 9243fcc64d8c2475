//! The library over a capture in memory: thousands of replays in seconds.

use std::path::Path;
use std::sync::Arc;

use mcp_monitor::{
    alert::{AlerterOptions, Mode},
    config::{pins::Pins, program::Program},
    pipeline::{
        correlator::Wanted,
        record::Record,
        replay::{ReplayOptions, replay},
        shards::SHARDS,
    },
    proto::tls::decrypt::KeyLog,
    source::{CaptureReader, Merged},
};
use serde_json::Value;

/// The alerts of a capture, as records.
///
/// # Errors
/// If pins or capture cannot be read.
pub fn alerts(capture: Vec<u8>, pins: Option<&str>) -> Result<Vec<Value>, String> {
    alerts_with_keys(capture, pins, &[])
}

/// As [`alerts`], with the text of a key log.
///
/// # Errors
/// If pins or capture cannot be read.
pub fn alerts_with_keys(capture: Vec<u8>, pins: Option<&str>, log: &[u8]) -> Result<Vec<Value>, String> {
    let keys = KeyLog::default();
    keys.add(log);
    let pins = match pins {
        Some(text) => {
            // From a file, because what a pins file names is loaded with it.
            let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
            std::fs::write(file.path(), text).map_err(|error| error.to_string())?;
            Pins::load(file.path()).map_err(|error| error.to_string())?
        }
        None => Pins::default(),
    };
    let program = Program::default();
    let options = ReplayOptions {
        learning: None,
        origins: Default::default(),
        pins: Arc::new(pins),
        wanted: Wanted {
            alerts: true,
            ..Wanted::default()
        },
        threads: 1,
        decode: program.limits.decode(),
        shard: program.limits.shard(SHARDS),
        tracker: program.limits.tracker(),
        alerts: AlerterOptions {
            mode: Mode::Settled,
            captures: vec!["transcript.pcap".to_owned()],
            ..program.alerts.alerter()
        },
        keys: Arc::new(keys),
        fingerprint_key: None,
    };
    let reader = CaptureReader::from_bytes(capture.into(), Path::new("transcript.pcap"), 0)
        .map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let outcome = replay(
        Merged::new(vec![reader]),
        options,
        |records| {
            for record in records {
                if let Record::Alert(alert) = record {
                    out.push(serde_json::to_value(&alert).map_err(|error| error.to_string())?);
                }
            }
            Ok::<(), String>(())
        },
        |_| {},
    )?;
    match outcome.error {
        Some(error) => Err(error.to_string()),
        None => Ok(out),
    }
}
