//! The engine over capture files.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    comments::Comments,
    correlator::{Correlator, Wanted},
    keep::{Changes, Learning},
    reading::Reading,
    record::Record,
    shard::{Shard, ShardLimits},
    shards::{Shards, Yield},
    summary::Summary,
};
use crate::{
    alert::AlerterOptions,
    baseline::{Row, TallyRow},
    config::{origin::OriginTables, pins::Pins},
    decode::Decoder,
    mcp::tracker::TrackerLimits,
    proto::tls::decrypt::KeyLog,
    source::{CaptureError, Merged},
    types::Severity,
};

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
    /// Learn, from what an earlier run left.
    pub learning: Option<Learning>,
    /// Where addresses are announced from.
    pub origins: Arc<OriginTables>,
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
    /// What a state file should have, where [`Learning::keep`] was asked for.
    pub changes: Changes,
    /// Every fact seen, where learning was asked for without it.
    pub facts: Vec<Row>,
    /// What was verified, likewise.
    pub tallies: Vec<TallyRow>,
}

/// Runs all of `input` through the engine. `emit` takes records as they become final and says whether to
/// go on; `progress` is told how many bytes of packets have been dealt with.
///
/// # Errors
///
/// Only those of `emit`. What goes wrong while reading is in the [`Outcome`].
pub fn replay<E>(
    input: Merged,
    options: ReplayOptions,
    mut emit: impl FnMut(Vec<Record>) -> Result<(), E>,
    mut progress: impl FnMut(u64),
) -> Result<Outcome, E> {
    let started = Instant::now();
    let mut correlator = Correlator::new(
        options.pins,
        options.tracker,
        options.alerts,
        options.wanted,
        true,
    );
    correlator.set_origins(options.origins);
    if options.threads > 1 {
        // Two for each thread, since they are not alike; more of them would read the batch more often.
        correlator.defer(options.threads.saturating_mul(2));
    }
    if let Some(key) = &options.fingerprint_key {
        correlator.set_fingerprint_key(key);
    }
    let keep = options.learning.as_ref().is_some_and(|learning| learning.keep);
    if let Some(learning) = options.learning {
        correlator.learn(learning);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let comments = Comments::default();
    let mut emit = |mut records: Vec<Record>| {
        comments.add_to(&mut records);
        emit(records)
    };
    let decoder = Decoder::new(options.decode);
    let reading = Reading::new(input, decoder, comments.clone(), stop.clone());
    let mut shards = Shards::new(reading, options.keys.clone(), |index| {
        Shard::new(index, options.shard.clone()).with_keys(options.keys.clone())
    });
    let reading = std::thread::scope(|scope| {
        for _ in 0..options.threads.saturating_sub(1) {
            scope.spawn(shards.worker());
        }
        let mut batch = Yield::default();
        let result = loop {
            // While this batch goes through the cross-flow half, the next ones are on their way.
            shards.next(&mut batch);
            correlate(&mut correlator, &mut batch);
            if options.threads > 1 {
                let spent = correlator.judge_with(|parts| shards.judge(parts));
                shards.spent(spent);
            }
            let records = correlator.take_records();
            let result = if records.is_empty() { Ok(()) } else { emit(records) };
            progress(batch.bytes);
            match (result, batch.ended.take()) {
                (Ok(()), None) => {}
                (Ok(()), Some(reading)) => break Ok(reading),
                (Err(error), _) => break Err(error),
            }
        };
        stop.store(true, Ordering::Relaxed);
        shards.close();
        result
    })?;
    correlator.finish(reading.last);
    emit(correlator.take_records())?;
    for warning in reading.input.truncated() {
        tracing::warn!("{warning}");
    }
    let mut summary = Summary::collect(&reading.decoder, shards.iter(), &correlator);
    summary.packets = reading.packets;
    summary.bytes = reading.bytes;
    let broken = reading.input.truncated().count() as u64;
    summary.capture_errors = broken.saturating_add(u64::from(reading.error.is_some()));
    let not_kept = reading.input.counters().not_kept;
    summary.dropped(
        "capture_notes_over_limit",
        not_kept.saturating_add(comments.not_kept()),
    );
    summary.seconds = started.elapsed().as_secs_f64();
    let changes = correlator.take_changes();
    let (facts, tallies) = match keep {
        true => Default::default(),
        false => correlator.take_learned(),
    };
    Ok(Outcome {
        summary,
        worst: correlator.worst(),
        error: reading.error,
        changes,
        facts,
        tallies,
    })
}

/// Shows one batch to the cross-flow half, in order of the packets.
fn correlate(correlator: &mut Correlator, batch: &mut Yield) {
    let mut anomalies = std::mem::take(&mut batch.anomalies).into_iter().peekable();
    for event in batch.events() {
        while let Some((at, anomaly)) = anomalies.next_if(|(at, _)| at.packet.order <= event.order) {
            correlator.packet_anomaly(at, &anomaly);
        }
        correlator.event(event.event);
    }
    for (at, anomaly) in anomalies {
        correlator.packet_anomaly(at, &anomaly);
    }
}
