//! The per-flow half alone, over a capture file: what a profiler is pointed at.
//!
//! `cargo bench -p mcp-monitor --bench front -- CAPTURE [ROUNDS]` reads, decodes, assembles and parses as
//! `replay` does, in batches and shards, and drops the events. Without a capture it generates a small one.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a benchmark may stop on what cannot be"
)]

use std::{path::Path, time::Instant};

use bytes::Bytes;
use mcp_monitor::{
    decode::{DecodeLimits, Decoded, Decoder},
    flow::shard_of,
    pipeline::shard::{Event, Shard, ShardLimits},
    source::{CaptureReader, Merged},
    types::At,
};
use mcp_monitor_tests::generate::{Parameters, write_to};

/// As the engine has them.
const SHARDS: usize = 16;
const BATCH_PACKETS: usize = 4096;
const BATCH_BYTES: usize = 2 << 20;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let rounds = arguments.get(1).map_or(1, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let reader = match arguments.first() {
            Some(path) => CaptureReader::open(Path::new(path), 0).unwrap(),
            None => {
                let mut capture = Vec::new();
                write_to(&Parameters::mixed(16_000_000), &mut capture).unwrap();
                CaptureReader::from_bytes(Bytes::from(capture), Path::new("generated"), 0).unwrap()
            }
        };
        let started = Instant::now();
        let (packets, bytes, events) = run(Merged::new(vec![reader]));
        println!(
            "{packets} packets, {bytes} bytes, {events} events: {:.3} s",
            started.elapsed().as_secs_f64()
        );
    }
}

/// Packets, their bytes, and the events that came of them.
fn run(mut input: Merged) -> (usize, usize, usize) {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let mut shards: Vec<Shard> = (0..SHARDS)
        .map(|index| Shard::new(index, ShardLimits::default()))
        .collect();
    let mut batches: Vec<Vec<Decoded>> = shards.iter().map(|_| Vec::new()).collect();
    let mut events: Vec<Event> = Vec::new();
    let (mut packets, mut bytes, mut seen) = (0, 0, 0);
    let mut last = At::default();
    let mut ended = false;
    while !ended {
        let (mut batch_packets, mut batch_bytes) = (0, 0);
        while batch_packets < BATCH_PACKETS && batch_bytes < BATCH_BYTES {
            let Some(packet) = input.next_packet().unwrap() else {
                ended = true;
                break;
            };
            last = At {
                time: last.time.max(packet.time),
                packet: packet.id,
            };
            batch_packets += 1;
            batch_bytes += packet.data.len();
            let item = decoder.decode(&packet);
            let shard = match &item {
                Decoded::Tcp(s) => shard_of(&s.src, &s.dst, s.scope, SHARDS),
                Decoded::Udp(d) => shard_of(&d.src, &d.dst, d.scope, SHARDS),
                Decoded::Other => continue,
            };
            batches.get_mut(shard).unwrap().push(item);
        }
        packets += batch_packets;
        bytes += batch_bytes;
        for (shard, batch) in shards.iter_mut().zip(&mut batches) {
            events.clear();
            for item in batch.drain(..) {
                shard.feed(&item, &mut events);
            }
            if ended {
                shard.finish(last, &mut events);
            } else {
                shard.tick(last, &mut events);
            }
            seen += events.len();
        }
    }
    (packets, bytes, seen)
}
