//! What the engine holds, counted in allocated bytes: one hostile flow and many flows stay under the bounds that
//! docs/LIMITS.md states.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test may fail"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use mcp_monitor::{
    alert::AlerterOptions,
    config::{pins::Pins, program::Limits},
    decode::{Decoded, TcpSegment, flags},
    mcp::tracker::TrackerLimits,
    pipeline::{
        correlator::{Correlator, Wanted},
        shard::Shard,
    },
    types::{At, PacketId, Scope, Timestamp},
};

const MIB: usize = 1 << 20;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Of this thread: what other tests allocate at the same time does not count.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn more(size: usize) {
    // A thread that is ending has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + size as isize);
        PEAK.with(|peak| peak.set(peak.get().max(now.get())));
    });
}

fn less(size: usize) {
    // What another thread allocated may be freed here: below zero is no mistake.
    let _ = NOW.try_with(|now| now.set(now.get() - size as isize));
}

#[allow(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; all is passed on"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may both be there for a moment.
        more(size);
        less(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is counted is of the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// One shard of an engine and what looks across flows, with the limits that a configuration without any gives.
struct Engine {
    shard: Shard,
    correlator: Correlator,
    packets: u64,
    events: Vec<mcp_monitor::pipeline::shard::Event>,
}

impl Engine {
    fn new(shards: usize) -> Self {
        let wanted = Wanted {
            alerts: true,
            messages: true,
            flows: true,
            observations: true,
            bodies: true,
        };
        Self {
            shard: Shard::new(0, Limits::default().shard(shards)),
            correlator: Correlator::new(
                Arc::new(Pins::default()),
                TrackerLimits::default(),
                AlerterOptions::default(),
                wanted,
                true,
            ),
            packets: 0,
            events: Vec::new(),
        }
    }

    fn send(&mut self, flow: &mut Flow, from: End, flag: u8, payload: Bytes) {
        let (src, dst, side) = match from {
            End::Client => (flow.client, flow.server, 0),
            End::Server => (flow.server, flow.client, 1),
        };
        let first = flag & flags::SYN != 0 && side == 0;
        let acknowledges = if first { 0 } else { flags::ACK };
        self.packets += 1;
        let length = u32::try_from(payload.len()).unwrap();
        let segment = TcpSegment {
            at: At {
                time: Timestamp(1_790_000_000_000_000_000 + self.packets * 1000),
                packet: PacketId {
                    order: self.packets,
                    number: self.packets,
                    file: 0,
                },
            },
            scope: Scope::default(),
            src,
            dst,
            seq: flow.next[side],
            ack: flow.next[1 - side],
            flags: flag | acknowledges,
            payload,
            wire_len: length,
            cookie: None,
            resumed: false,
            duplicate: false,
        };
        flow.next[side] = flow.next[side].wrapping_add(length + u32::from(flag & flags::SYN != 0));
        self.shard.feed(&Decoded::Tcp(segment), &mut self.events);
        for event in self.events.drain(..) {
            self.correlator.event(event.event);
        }
        drop(self.correlator.take_records());
    }

    fn open(&mut self, number: u32) -> Flow {
        let mut flow = Flow::new(number);
        self.send(&mut flow, End::Client, flags::SYN, Bytes::new());
        self.send(&mut flow, End::Server, flags::SYN, Bytes::new());
        flow
    }

    fn held(&self) -> u64 {
        self.shard.application_counters().conversation.held
    }
}

#[derive(Clone, Copy)]
enum End {
    Client,
    Server,
}

struct Flow {
    client: SocketAddr,
    server: SocketAddr,
    next: [u32; 2],
}

impl Flow {
    fn new(number: u32) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self {
            client: ([10, a, b, c], 40_000).into(),
            server: ([192, 0, 2, 1], 8080).into(),
            next: [1000, 2000],
        }
    }
}

/// Peak of what is allocated while `work` runs, beyond what was before, without the input itself.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).unwrap()
}

const REQUEST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: a\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";

/// Sends `start` once and then `piece` until 96 MiB went out.
fn endless(name: &str, from: End, start: Vec<u8>, piece: Vec<u8>, bound: usize) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Engine::new(16);
    // Its first flow brings tables that every engine has.
    let mut flow = engine.open(1);
    engine.send(&mut flow, End::Client, 0, Bytes::from_static(REQUEST));
    let (start, piece) = (Bytes::from(start), Bytes::from(piece));
    let peak = peak_of(|| {
        engine.send(&mut flow, from, 0, start);
        for _ in 0..96 * MIB / piece.len() {
            // As from a ring or a file: each packet has its own bytes.
            engine.send(&mut flow, from, 0, Bytes::copy_from_slice(&piece));
        }
    });
    println!("{name}: {peak} bytes");
    assert!(peak < bound, "{name}: {peak} bytes, the bound is {bound}");
    drop(turn);
}

/// A message of the largest size, grown by doubling, and what parsing copies of it.
const ONE_FLOW: usize = 64 * MIB;
const SMALL: usize = 2 * MIB;

#[test]
fn an_endless_head() {
    endless(
        "head",
        End::Server,
        b"HTTP/1.1 200 OK\r\nA: ".to_vec(),
        vec![b'a'; 16_384],
        SMALL,
    );
    let line = b"X-Field: value value value value value\r\n".repeat(400);
    endless(
        "fields",
        End::Server,
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        line,
        SMALL,
    );
}

#[test]
fn an_endless_chunk_or_event() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let start = [&head[..], b"fffffffffff\r\ndata: {\"jsonrpc\":\"2.0\",\"x\":\""].concat();
    endless("event", End::Server, start, vec![b'a'; 16_384], ONE_FLOW);
    let start = [&head[..], b"fffffffffff\r\n"].concat();
    endless("lines", End::Server, start, b"data: x\n".repeat(2048), ONE_FLOW);
    let start = [&head[..], b"5;"].concat();
    endless("extension", End::Server, start, vec![b'a'; 16_384], SMALL);
    let json = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{\"jsonrpc\":\"";
    endless("json", End::Server, json.to_vec(), vec![b'a'; 16_384], ONE_FLOW);
}

#[test]
fn bytes_that_belong_to_nothing() {
    // The head is broken; what follows might be a message.
    let start = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{\"jsonrpc\":\"";
    endless("stray", End::Server, start.to_vec(), vec![b'a'; 16_384], ONE_FLOW);
}

#[test]
fn json_too_deep() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n\r\n";
    endless("deep", End::Server, head.to_vec(), vec![b'['; 16_384], ONE_FLOW);
}

#[test]
fn a_body_that_inflates() {
    let mut compressor = Compress::new(Compression::best(), false);
    let mut coded = Vec::with_capacity(MIB);
    let zeros = vec![b' '; 16 * MIB];
    compressor
        .compress_vec(&zeros, &mut coded, FlushCompress::Full)
        .unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: deflate\r\n\r\n";
    endless("deflate", End::Server, head.to_vec(), coded, ONE_FLOW);
}

#[test]
fn a_hole_that_is_never_filled() {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Engine::new(16);
    let mut flow = engine.open(1);
    let peak = peak_of(|| {
        for _ in 0..64_000 {
            flow.next[1] = flow.next[1].wrapping_add(1);
            engine.send(&mut flow, End::Server, 0, Bytes::copy_from_slice(&[b'a'; 1400]));
        }
    });
    println!("holes: {peak} bytes");
    assert!(peak < 4 * MIB, "{peak}");
    drop(turn);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn header_compression_that_expands_and_streams_that_never_end() {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Engine::new(16);
    let mut flow = engine.open(1);
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(4, 0, 0, &[]),
    ]
    .concat();
    // One field of 4,000 bytes in the table, then named 16,000 times in each of many blocks.
    let field = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4000]].concat();
    let bomb = [vec![0x83, 0x86, 0x84], vec![0xbe; 16_000]].concat();
    let peak = peak_of(|| {
        engine.send(&mut flow, End::Client, 0, preface.into());
        engine.send(
            &mut flow,
            End::Client,
            0,
            frame(1, 4, 1, &[&[0x83, 0x86, 0x84][..], &field].concat()).into(),
        );
        for n in 1..3000_u32 {
            engine.send(&mut flow, End::Client, 0, frame(1, 4, 2 * n + 1, &bomb).into());
        }
    });
    println!("hpack: {peak} bytes");
    assert!(peak < ONE_FLOW, "{peak}");

    // Bodies of many streams at once: each below the cap of a message, together above what may be held.
    let mut flow = engine.open(2);
    let start = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &frame(4, 0, 0, &[]),
    ]
    .concat();
    let peak = peak_of(|| {
        engine.send(&mut flow, End::Client, 0, start.into());
        for n in 0..1000_u32 {
            engine.send(
                &mut flow,
                End::Client,
                0,
                frame(1, 4, 2 * n + 1, &[0x83, 0x86, 0x84]).into(),
            );
        }
        for _ in 0..64 {
            for n in 0..1000_u32 {
                engine.send(
                    &mut flow,
                    End::Client,
                    0,
                    frame(0, 0, 2 * n + 1, &[b'{'; 4096]).into(),
                );
            }
        }
    });
    println!("streams: {peak} bytes, {} held", engine.held());
    // 64 MiB is the share of one shard; growing by doubling takes up to as much again.
    assert!(peak < 160 * MIB, "{peak}");
    assert!(
        engine
            .correlator
            .anomalies()
            .iter()
            .any(|(kind, _)| kind.slug() == "body-limit")
    );
    drop(turn);
}

#[test]
fn many_flows_with_a_body_each_share_what_may_be_held() {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Engine::new(16);
    let head = b"POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n";
    let mut flows: Vec<Flow> = Vec::new();
    let peak = peak_of(|| {
        for n in 0..400 {
            let mut flow = engine.open(n);
            engine.send(&mut flow, End::Client, 0, Bytes::from_static(head));
            for _ in 0..64 {
                engine.send(&mut flow, End::Client, 0, Bytes::copy_from_slice(&[b'{'; 16_384]));
            }
            flows.push(flow);
        }
    });
    println!("bodies: {peak} bytes, {} held", engine.held());
    assert!(peak < 160 * MIB, "{peak}");
    for mut flow in flows {
        engine.send(&mut flow, End::Client, flags::RST, Bytes::new());
    }
    let now = At {
        time: Timestamp(1_790_000_000_000_000_000 + 3_600_000_000_000),
        packet: PacketId::default(),
    };
    engine.shard.finish(now, &mut engine.events);
    assert_eq!(engine.held(), 0, "all is given back");
    drop(turn);
}

/// Bytes a flow takes, while it is open: after the handshake, and after an MCP exchange.
#[test]
fn a_million_flows() {
    const FLOWS: usize = 1_000_000;
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (what, talk, bound) in [("handshake", false, 2048), ("exchange", true, 8192)] {
        let mut engine = Engine::new(1);
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{  }}";
        // Tables double: a fraction of a million just above a power of two shows what each takes at worst.
        let count = FLOWS / 119;
        let peak = peak_of(|| {
            for n in 0..count {
                let mut flow = engine.open(u32::try_from(n).unwrap());
                if talk {
                    engine.send(&mut flow, End::Client, 0, Bytes::from_static(REQUEST));
                    engine.send(&mut flow, End::Server, 0, Bytes::from_static(answer.as_bytes()));
                }
            }
        });
        println!("{what}: {} bytes a flow", peak / count);
        assert!(
            peak / count < bound,
            "{what}: {} bytes a flow, the bound is {bound}",
            peak / count
        );
    }
    drop(turn);
}
