//! Reads and decodes ahead: the next batch of packets, already spread over the shards.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{comments::Comments, shards::SHARDS};
use crate::{
    decode::{Decoded, Decoder},
    flow::shard_of,
    source::{CaptureError, Merged, Secrets},
    types::{Anomaly, At},
};

/// Packets of one batch. Batches end at the same packets whatever the number of threads, because the
/// timers of flows run between them.
const BATCH_PACKETS: usize = 2048;
/// Payload bytes that end a batch early, so that the batches in flight stay small.
const BATCH_BYTES: usize = 1 << 20;

/// The input with the decoder behind it. Goes from thread to thread, whichever has time to read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) input: Merged,
    pub(super) decoder: Decoder,
    /// The last packet; its time is the latest of all.
    pub(super) last: At,
    /// Packets so far.
    pub(super) packets: u64,
    /// Their bytes on the wire.
    pub(super) bytes: u64,
    /// Reading stopped here.
    pub(super) error: Option<CaptureError>,
    /// What [`Self::read`] read, by shard.
    pub(super) batch: Vec<Vec<Decoded>>,
    /// Anomalies of the batch's packets that belong to no flow.
    pub(super) anomalies: Vec<(At, Anomaly)>,
    /// Decryption secrets that came with the batch's packets.
    pub(super) secrets: Vec<Secrets>,
    /// What people wrote on packets.
    comments: Comments,
    /// The input is at its end, or given up.
    pub(super) ended: bool,
    /// The batch is short, since the rest has yet to be written.
    pub(super) waits: bool,
    /// Nobody wants more.
    stop: Arc<AtomicBool>,
}

impl Reading {
    /// Ends early once `stop` is set.
    pub(super) fn new(input: Merged, decoder: Decoder, comments: Comments, stop: Arc<AtomicBool>) -> Self {
        Self {
            input,
            decoder,
            last: At::default(),
            packets: 0,
            bytes: 0,
            error: None,
            batch: (0..SHARDS).map(|_| Vec::new()).collect(),
            anomalies: Vec::new(),
            secrets: Vec::new(),
            comments,
            ended: false,
            waits: false,
            stop,
        }
    }

    /// Decodes the next packets into the batch, which must be empty.
    pub(super) fn read(&mut self) {
        let (mut packets, mut bytes) = (0_usize, 0_usize);
        self.waits = false;
        while packets < BATCH_PACKETS && bytes < BATCH_BYTES {
            if packets > 0 && self.input.waits() {
                self.waits = true;
                break;
            }
            let packet = match self.input.next_packet() {
                Ok(Some(packet)) if !self.stop.load(Ordering::Relaxed) => packet,
                Ok(_) => {
                    self.ended = true;
                    break;
                }
                Err(error) => {
                    self.error = Some(error);
                    self.ended = true;
                    break;
                }
            };
            self.last = At {
                time: self.last.time.max(packet.time),
                packet: packet.id,
            };
            packets = packets.saturating_add(1);
            bytes = bytes.saturating_add(packet.data.len());
            self.bytes = self.bytes.saturating_add(u64::from(packet.wire_len));
            let item = self.decoder.decode(&packet);
            let shard = match &item {
                Decoded::Tcp(s) => shard_of(&s.src, &s.dst, s.scope, SHARDS),
                Decoded::Udp(d) => shard_of(&d.src, &d.dst, d.scope, SHARDS),
                Decoded::Other => continue,
            };
            if let Some(items) = self.batch.get_mut(shard) {
                items.push(item);
            }
        }
        self.packets = self.packets.saturating_add(packets as u64);
        self.anomalies = self.decoder.take_anomalies();
        if self.input.has_secrets() {
            self.secrets = self.input.take_secrets();
        }
        if self.input.has_comments() {
            self.comments.keep(self.input.take_comments());
        }
    }
}
