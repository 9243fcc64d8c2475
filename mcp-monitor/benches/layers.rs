//! Each layer by itself, on the same generated traffic as `cargo xtask bench replay`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a benchmark may stop on what cannot be"
)]

use std::{hint::black_box, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_monitor::{
    baseline::canonical::canonical_sha256,
    decode::{DecodeLimits, Decoded, Decoder, UdpDatagram},
    flow::{Control, FlowEnd, FlowInfo, FlowLimits, FlowRef, FlowTable, Handler},
    mcp::jsonrpc,
    proto::{http::HttpEvent, http1, sse},
    source::{CaptureReader, Packet},
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

criterion_group!(benches, layers);
criterion_main!(benches);
