//! The library over a capture in memory: thousands of replays in seconds.

use std::path::Path;
use std::sync::Arc;

use mcp_monitor::{
    alert::{AlerterOptions, Mode},
    config::{origin::OriginTables, pins::Pins, program::Program},
    pipeline::{
        correlator::Wanted,
        keep::{Changes, Learning},
        record::Record,
        replay::{ReplayOptions, replay},
        shards::SHARDS,
    },
    proto::tls::decrypt::KeyLog,
    source::{CaptureReader, Merged},
};
use serde_json::Value;

/// What a capture is replayed with.
#[derive(Default)]
pub struct Given<'a> {
    /// Text of the pins file.
    pub pins: Option<&'a str>,
    /// Text of the program configuration.
    pub config: Option<&'a str>,
    /// Text of a key log.
    pub keys: &'a [u8],
    /// What an earlier run left, and whether to keep what is learned.
    pub learning: Option<Learning>,
}

/// The alerts of a capture, as records.
///
/// # Errors
/// If pins or capture cannot be read.
#[allow(dead_code, reason = "each suite uses what it needs")]
pub fn alerts(capture: Vec<u8>, pins: Option<&str>) -> Result<Vec<Value>, String> {
    let given = Given {
        pins,
        ..Given::default()
    };
    run(capture, given).map(|(alerts, _)| alerts)
}

/// The alerts of a capture, as records, and what a state file should have.
///
/// # Errors
/// If pins, configuration or capture cannot be read.
pub fn run(capture: Vec<u8>, given: Given<'_>) -> Result<(Vec<Value>, Changes), String> {
    let keys = KeyLog::default();
    keys.add(given.keys);
    // From files, because what they name is loaded with them.
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), text).map_err(|error| error.to_string())?;
        Ok::<_, String>(file)
    };
    let pins = match given.pins {
        Some(text) => Pins::load(file(text)?.path()).map_err(|error| error.to_string())?,
        None => Pins::default(),
    };
    let program = match given.config {
        Some(text) => Program::load(file(text)?.path()).map_err(|error| error.to_string())?,
        None => Program::default(),
    };
    let origins = OriginTables::load(&program.origins).map_err(|error| error.to_string())?;
    let options = ReplayOptions {
        learning: given.learning,
        origins: Arc::new(origins),
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
        None => Ok((out, outcome.changes)),
    }
}
