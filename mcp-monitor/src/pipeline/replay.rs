//! The engine over capture files.

use std::{sync::Arc, time::Instant};

use super::{
    correlator::{Correlator, Wanted},
    record::Record,
    shard::{Event, Shard, ShardLimits},
    shards::{End, Shards},
    summary::Summary,
};
use crate::{
    alert::AlerterOptions,
    config::pins::Pins,
    decode::{Decoded, Decoder},
    mcp::tracker::TrackerLimits,
    proto::tls::decrypt::KeyLog,
    source::{CaptureError, Merged, Secrets},
    types::{Anomaly, At, Severity},
};

/// Packets of one batch. Batches end at the same packets whatever the number of threads, because the
/// timers of flows run between them.
const BATCH_PACKETS: usize = 8192;
/// Payload bytes that end a batch early, so that two batches in flight stay small.
const BATCH_BYTES: usize = 4 << 20;

/// How a replay runs.
pub struct ReplayOptions {
    /// What must hold.
    pub pins: Arc<Pins>,
    /// Records wanted.
    pub wanted: Wanted,
    /// Threads, at least 1. Does not change the output.
    pub threads: usize,
    /// Caps of the decoder.
    pub decode: crate::decode::DecodeLimits,
    /// Caps of one shard.
    pub shard: ShardLimits,
    /// Caps of the tracker.
    pub tracker: TrackerLimits,
    /// Dedup of alerts.
    pub alerts: AlerterOptions,
    /// Logged secrets of TLS connections; those that captures carry are added.
    pub keys: Arc<KeyLog>,
    /// Key of fingerprints; a fixed one by default, so that replays agree.
    pub fingerprint_key: Option<[u8; 32]>,
}

/// What a replay found.
#[derive(Debug)]
pub struct Outcome {
    /// Counts.
    pub summary: Summary,
    /// Most severe alert.
    pub worst: Option<Severity>,
    /// Reading stopped here; everything before it has been dealt with.
    pub error: Option<CaptureError>,
}

/// Runs all of `input` through the engine. `emit` takes records as they become final and says whether to
/// go on; `progress` is told how many bytes of packets have been read.
///
/// # Errors
///
/// Only those of `emit`. What goes wrong while reading is in the [`Outcome`].
pub fn replay<E>(
    mut input: Merged,
    options: ReplayOptions,
    mut emit: impl FnMut(Vec<Record>) -> Result<(), E>,
    mut progress: impl FnMut(u64),
) -> Result<Outcome, E> {
    let started = Instant::now();
    let mut decoder = Decoder::new(options.decode);
    let mut correlator = Correlator::new(
        options.pins,
        options.tracker,
        options.alerts,
        options.wanted,
        true,
    );
    if let Some(key) = &options.fingerprint_key {
        correlator.set_fingerprint_key(key);
    }
    let mut shards =
        Shards::new(|index| Shard::new(index, options.shard.clone()).with_keys(options.keys.clone()));
    let mut reader = BatchReader {
        input: &mut input,
        decoder: &mut decoder,
        last: At::default(),
        error: None,
    };
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.saturating_sub(1) {
            scope.spawn(shards.worker());
        }
        let mut batch: Vec<Decoded> = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        let mut anomalies = Vec::new();
        let mut result = Ok(());
        let mut more = true;
        while more && result.is_ok() {
            more = reader.read(&mut batch, &mut totals);
            let next_anomalies = reader.decoder.take_anomalies();
            shards.collect(&mut events);
            // Between two batches, so that it does not depend on threads which packets find them.
            reader.take_keys(&options.keys);
            let end = if more {
                End::Tick(reader.last)
            } else {
                End::Finish(reader.last)
            };
            shards.dispatch(&mut batch, end);
            // The previous batch goes through the cross-flow half while the shards work on this one.
            result = correlate(&mut correlator, &mut events, &mut anomalies, &mut emit);
            anomalies = next_anomalies;
            progress(totals.bytes);
        }
        shards.collect(&mut events);
        if result.is_ok() {
            result = correlate(&mut correlator, &mut events, &mut anomalies, &mut emit);
        }
        if result.is_ok() {
            correlator.finish(reader.last);
            result = emit(correlator.take_records());
        }
        shards.close();
        result
    })?;
    let error = reader.error;
    for warning in input.truncated() {
        tracing::warn!("{warning}");
    }
    let mut summary = Summary::collect(&decoder, shards.iter(), &correlator);
    summary.packets = totals.packets;
    summary.bytes = totals.bytes;
    summary.capture_errors = (input.truncated().count() as u64).saturating_add(u64::from(error.is_some()));
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(Outcome {
        summary,
        worst: correlator.worst(),
        error,
    })
}

#[derive(Clone, Copy, Default)]
struct Totals {
    packets: u64,
    bytes: u64,
}

struct BatchReader<'a> {
    input: &'a mut Merged,
    decoder: &'a mut Decoder,
    last: At,
    error: Option<CaptureError>,
}

impl BatchReader<'_> {
    /// Takes the secrets that came with the packets read so far.
    fn take_keys(&mut self, keys: &KeyLog) {
        if !self.input.has_secrets() {
            return;
        }
        for secrets in self.input.take_secrets() {
            if secrets.kind == Secrets::TLS_KEY_LOG {
                let added = keys.add(&secrets.data);
                if added.malformed > 0 {
                    tracing::warn!(
                        lines = added.malformed,
                        "the capture carries lines of a key log that cannot be read"
                    );
                }
            }
        }
    }

    /// Decodes the next packets into `batch`; false at the end of the input.
    fn read(&mut self, batch: &mut Vec<Decoded>, totals: &mut Totals) -> bool {
        let mut bytes = 0_usize;
        while batch.len() < BATCH_PACKETS && bytes < BATCH_BYTES {
            let packet = match self.input.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return false,
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            };
            self.last = At {
                time: self.last.time.max(packet.time),
                packet: packet.id,
            };
            totals.packets = totals.packets.saturating_add(1);
            totals.bytes = totals.bytes.saturating_add(u64::from(packet.wire_len));
            bytes = bytes.saturating_add(packet.data.len());
            batch.push(self.decoder.decode(&packet));
        }
        true
    }
}

/// Shows one batch to the cross-flow half, in order of the packets.
fn correlate<E>(
    correlator: &mut Correlator,
    events: &mut Vec<Event>,
    anomalies: &mut Vec<(At, Anomaly)>,
    emit: &mut impl FnMut(Vec<Record>) -> Result<(), E>,
) -> Result<(), E> {
    let mut anomalies = std::mem::take(anomalies).into_iter().peekable();
    for event in events.drain(..) {
        while let Some((at, anomaly)) = anomalies.next_if(|(at, _)| at.packet.order <= event.order) {
            correlator.packet_anomaly(at, &anomaly);
        }
        correlator.event(&event.event);
    }
    for (at, anomaly) in anomalies {
        correlator.packet_anomaly(at, &anomaly);
    }
    let records = correlator.take_records();
    if records.is_empty() { Ok(()) } else { emit(records) }
}
