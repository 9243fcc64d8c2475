//! Each layer by itself, on the same generated traffic as `cargo xtask bench replay`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a benchmark may stop on what cannot be"
)]

use std::{hint::black_box, io::Write, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compression, write::GzEncoder};
use mcp_monitor::{
    alert::AlerterOptions,
    baseline::canonical::canonical_sha256,
    config::pins::Pins,
    decode::{DecodeLimits, Decoded, Decoder, UdpDatagram},
    flow::{Control, FlowEnd, FlowInfo, FlowLimits, FlowRef, FlowTable, Handler},
    mcp::{
        jsonrpc,
        tracker::{Tracker, TrackerLimits},
    },
    pipeline::{
        correlator::Wanted,
        replay::{ReplayOptions, replay},
        shard::{Shard, ShardLimits},
    },
    proto::{coding, dns, http::HttpEvent, http1, http2, sse, tls, websocket},
    source::{CaptureReader, Merged, Packet},
    types::{Anomaly, At, Direction},
};
use mcp_monitor_tests::generate::{Parameters, write_to};

/// Bytes of the capture that every layer is fed from.
const SIZE: u64 = 16_000_000;

/// One piece of a stream, as the flow table gave it out.
type Piece = (Direction, At, Bytes);

/// Keeps what it is given if asked to, and nothing else.
#[derive(Default)]
struct Streams {
    keep: bool,
    streams: Vec<Vec<Piece>>,
}

impl Handler for Streams {
    type App = usize;

    fn open(&mut self, _: &Arc<FlowInfo>) -> usize {
        self.streams.push(Vec::new());
        self.streams.len() - 1
    }

    fn data(&mut self, _: &FlowRef, app: &mut usize, direction: Direction, at: At, data: Bytes) -> Control {
        if self.keep
            && let Some(stream) = self.streams.get_mut(*app)
        {
            stream.push((direction, at, data));
        }
        Control::Continue
    }

    fn gap(&mut self, _: &FlowRef, _: &mut usize, _: Direction, _: At, _: u64) {}
    fn fin(&mut self, _: &FlowRef, _: &mut usize, _: Direction, _: At) {}
    fn anomaly(&mut self, _: &FlowRef, _: &mut usize, _: At, _: Anomaly) {}
    fn datagram(&mut self, _: &FlowRef, _: &mut usize, _: Direction, _: At, _: &UdpDatagram) {}
    fn close(&mut self, _: &FlowRef, _: usize, _: FlowEnd) {}
}

fn read(capture: &Bytes) -> Vec<Packet> {
    let mut reader = CaptureReader::from_bytes(capture.clone(), Path::new("bench.pcap"), 0).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push(packet);
    }
    packets
}

fn decode(packets: &[Packet]) -> Vec<Decoded> {
    let mut decoder = Decoder::new(DecodeLimits::default());
    packets.iter().map(|packet| decoder.decode(packet)).collect()
}

fn assemble(decoded: &[Decoded], keep: bool) -> Vec<Vec<Piece>> {
    let mut table = FlowTable::new(FlowLimits::default(), 0);
    let mut streams = Streams {
        keep,
        streams: Vec::new(),
    };
    let mut last = At::default();
    for item in decoded {
        match item {
            Decoded::Tcp(segment) => {
                last = segment.at;
                table.segment(segment, &mut streams);
            }
            Decoded::Udp(datagram) => table.datagram(datagram, &mut streams),
            Decoded::Other => {}
        }
    }
    table.finish(last.time, &mut streams);
    streams.streams
}

/// Every body of the streams, decoded from HTTP, in pieces; and how many bytes went in.
fn http(streams: &[Vec<Piece>], mut body: impl FnMut(usize, &HttpEvent)) {
    let mut events = Vec::new();
    for (index, stream) in streams.iter().enumerate() {
        let mut connection = http1::Connection::from_start(http1::Limits::default());
        for (direction, at, data) in stream {
            connection.data(*direction, *at, data.clone(), &mut events);
            for event in events.drain(..) {
                body(index, &event);
            }
        }
    }
}

fn layers(c: &mut Criterion) {
    let mut capture = Vec::new();
    write_to(&Parameters::pure_mcp(SIZE), &mut capture).unwrap();
    let capture = Bytes::from(capture);
    let packets = read(&capture);
    let decoded = decode(&packets);
    let streams = assemble(&decoded, true);
    let carried: usize = streams.iter().flatten().map(|(_, _, data)| data.len()).sum();
    let (mut events, mut texts) = (Vec::new(), Vec::new());
    let mut open: Option<BytesMut> = None;
    http(&streams, |_, event| match event {
        HttpEvent::Response { head, .. } => {
            let sse = head.headers.media_type().as_deref() == Some("text/event-stream");
            open = Some(BytesMut::new()).filter(|_| !sse);
        }
        HttpEvent::Body {
            direction: Direction::ToClient,
            data,
            ..
        } => match &mut open {
            Some(text) => text.extend_from_slice(data),
            None => events.push(data.clone()),
        },
        HttpEvent::End {
            direction: Direction::ToClient,
            ..
        } => {
            texts.extend(open.take().map(BytesMut::freeze).filter(|text| !text.is_empty()));
        }
        _ => {}
    });
    let size = |of: &[Bytes]| of.iter().map(|b| b.len() as u64).sum();

    let mut group = c.benchmark_group("layers");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(capture.len() as u64));
    group.bench_function("source", |b| b.iter(|| read(black_box(&capture)).len()));
    group.bench_function("decode", |b| b.iter(|| decode(black_box(&packets)).len()));
    group.bench_function("flow", |b| b.iter(|| assemble(black_box(&decoded), false).len()));
    group.throughput(Throughput::Bytes(carried as u64));
    group.bench_function("http1", |b| {
        b.iter(|| {
            let mut count = 0_u64;
            http(black_box(&streams), |_, _| count += 1);
            count
        });
    });
    group.throughput(Throughput::Bytes(size(&events)));
    group.bench_function("sse", |b| {
        b.iter(|| {
            let (mut decoder, mut out, mut count) = (sse::Decoder::new(16 << 20), Vec::new(), 0);
            for data in black_box(&events) {
                decoder.push(data.clone(), &mut out);
                count += out.drain(..).count();
            }
            count
        });
    });
    group.throughput(Throughput::Bytes(size(&texts)));
    group.bench_function("jsonrpc", |b| {
        b.iter(|| {
            let messages = |text| matches!(jsonrpc::parse(text), jsonrpc::Parsed::Messages { .. });
            black_box(&texts).iter().filter(|text| messages(text)).count()
        });
    });
    group.bench_function("canonical", |b| {
        b.iter(|| {
            black_box(&texts)
                .iter()
                .filter_map(|text| canonical_sha256(text))
                .count()
        });
    });
    group.finish();
}

/// The texts as requests of HTTP/2, a stream each, in segments.
fn as_http2(texts: &[Bytes]) -> Vec<Bytes> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut wire = [http2::PREFACE, &frame(4, 0, 0, &[])].concat();
    for (stream, text) in (1_u32..).step_by(2).zip(texts) {
        // POST, https, path and authority by literal, which goes into the table.
        let block = b"\x83\x87\x44\x04/mcp\x41\x0bmcp.example";
        wire.extend(frame(1, 4, stream, block));
        let last = text.chunks(16_384).count();
        for (n, piece) in (1..).zip(text.chunks(16_384)) {
            wire.extend(frame(0, u8::from(n == last), stream, piece));
        }
    }
    let wire = Bytes::from(wire);
    (0..wire.len())
        .step_by(1400)
        .map(|at| wire.slice(at..wire.len().min(at + 1400)))
        .collect()
}

/// The texts as masked frames, in segments.
fn as_websocket(texts: &[Bytes]) -> Vec<Bytes> {
    let mut wire = Vec::new();
    for text in texts {
        wire.extend([0x81, 0x80 | 127]);
        wire.extend((text.len() as u64).to_be_bytes());
        wire.extend([1, 2, 3, 4]);
        wire.extend(
            text.iter()
                .zip([1, 2, 3, 4].into_iter().cycle())
                .map(|(a, b)| a ^ b),
        );
    }
    let wire = Bytes::from(wire);
    (0..wire.len())
        .step_by(1400)
        .map(|at| wire.slice(at..wire.len().min(at + 1400)))
        .collect()
}

/// What other traffic than HTTP/1 goes through, and the layers above.
fn protocols(c: &mut Criterion) {
    let mut capture = Vec::new();
    write_to(&Parameters::mixed(SIZE), &mut capture).unwrap();
    let capture = Bytes::from(capture);
    let decoded = decode(&read(&capture));
    let streams = assemble(&decoded, true);
    let mut texts = Vec::new();
    http(&streams, |_, event| {
        if let HttpEvent::Body {
            direction: Direction::ToServer,
            data,
            ..
        } = event
            // Longer than any text frame of the short forms.
            && data.len() > 0xffff
        {
            texts.push(data.clone());
        }
    });
    let text = Bytes::from(vec![b'x'; 70_000]);
    texts.resize(64, text);
    let size = |of: &[Bytes]| of.iter().map(|b| b.len() as u64).sum();

    let mut group = c.benchmark_group("protocols");
    group.sample_size(20);
    let wire = as_http2(&texts);
    group.throughput(Throughput::Bytes(size(&wire)));
    group.bench_function("http2", |b| {
        b.iter(|| {
            let (mut out, mut count) = (Vec::new(), 0);
            let mut connection = http2::Connection::new(http2::Limits::default());
            for data in black_box(&wire) {
                connection.data(Direction::ToServer, At::default(), data.clone(), &mut out);
                count += out.drain(..).count();
            }
            count
        });
    });
    let wire = as_websocket(&texts);
    group.throughput(Throughput::Bytes(size(&wire)));
    group.bench_function("websocket", |b| {
        b.iter(|| {
            let (mut out, mut count) = (Vec::new(), 0);
            let mut connection = websocket::Connection::new(websocket::Limits::default());
            for data in black_box(&wire) {
                connection.data(Direction::ToServer, At::default(), data.clone(), &mut out);
                count += out.drain(..).count();
            }
            count
        });
    });
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for data in streams.iter().flatten().map(|(_, _, data)| data).take(2000) {
        encoder.write_all(data).unwrap();
    }
    let coded = encoder.finish().unwrap();
    group.throughput(Throughput::Bytes(coded.len() as u64));
    group.bench_function("coding", |b| {
        b.iter(|| {
            let codings = [b"gzip".as_slice()].into_iter();
            let mut decoder = coding::Decoder::new(codings, coding::Limits::default())
                .unwrap()
                .unwrap();
            let mut out = Vec::new();
            decoder.push(black_box(&coded), &mut out);
            out.len()
        });
    });
    let datagrams: Vec<Bytes> = decoded
        .iter()
        .filter_map(|item| match item {
            Decoded::Udp(datagram) => Some(datagram.payload.clone()),
            _ => None,
        })
        .collect();
    group.throughput(Throughput::Elements(datagrams.len() as u64));
    group.bench_function("dns", |b| {
        b.iter(|| {
            black_box(&datagrams)
                .iter()
                .filter(|data| dns::parse(data).0.is_some())
                .count()
        });
    });
    let handshakes: Vec<&Vec<Piece>> = streams
        .iter()
        .filter(|stream| {
            stream
                .first()
                .is_some_and(|(_, _, data)| data.starts_with(&[22, 3]))
        })
        .collect();
    group.throughput(Throughput::Elements(handshakes.len() as u64));
    group.bench_function("tls", |b| {
        b.iter(|| {
            let (mut out, mut count) = (Vec::new(), 0);
            for pieces in black_box(&handshakes) {
                let mut stream = tls::Stream::new(tls::Limits::default());
                for (direction, at, data) in *pieces {
                    stream.data(*direction, *at, data.clone(), &mut out);
                }
                count += out.drain(..).count();
            }
            count
        });
    });
    let mut shard = Shard::new(0, ShardLimits::default());
    let mut events = Vec::new();
    for item in &decoded {
        shard.feed(item, &mut events);
    }
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("tracker", |b| {
        b.iter(|| {
            let mut tracker = Tracker::new(TrackerLimits::default(), Arc::new(Pins::default()));
            for event in black_box(&events) {
                black_box(tracker.handle(&event.event));
            }
            tracker.counters().requests
        });
    });
    group.throughput(Throughput::Bytes(capture.len() as u64));
    group.bench_function("engine", |b| b.iter(|| engine(black_box(&capture))));
    group.finish();
}

/// Everything, without output.
fn engine(capture: &Bytes) -> u64 {
    let options = ReplayOptions {
        learning: None,
        origins: Default::default(),
        pins: Arc::default(),
        wanted: Wanted {
            alerts: true,
            messages: false,
            flows: false,
            observations: false,
            bodies: false,
        },
        threads: 1,
        decode: DecodeLimits::default(),
        shard: ShardLimits::default(),
        tracker: TrackerLimits::default(),
        alerts: AlerterOptions::default(),
        keys: Arc::default(),
        fingerprint_key: None,
    };
    let reader = CaptureReader::from_bytes(capture.clone(), Path::new("bench.pcap"), 0).unwrap();
    let done = replay(Merged::new(vec![reader]), options, |_| Ok::<(), ()>(()), |_| {}).unwrap();
    done.summary.mcp.requests
}

criterion_group!(benches, layers, protocols);
criterion_main!(benches);
