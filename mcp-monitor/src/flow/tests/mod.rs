//! The flow table against hand-made segments, random ones, and real captures.

mod golden;
mod lifecycle;
mod properties;
mod reassembly;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::*;
use crate::{
    decode::{TcpSegment, UdpDatagram, flags},
    types::{Anomaly, AnomalyKind, At, PacketId, Scope, Timestamp},
};

/// What a handler saw of one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) info: Option<Arc<FlowInfo>>,
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    pub(super) gaps: Vec<(Direction, u64)>,
    pub(super) fins: Vec<Direction>,
    pub(super) restarts: Vec<Direction>,
    pub(super) anomalies: Vec<AnomalyKind>,
    pub(super) datagrams: Vec<(Direction, Bytes)>,
    pub(super) chunks: Vec<(Direction, At, usize)>,
    pub(super) end: Option<FlowEnd>,
}

impl Seen {
    pub(super) fn reason(&self) -> EndReason {
        self.end.expect("closed").reason
    }
}

/// Keeps all it is told, in order of the flows' opening.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) flows: Vec<Seen>,
    pub(super) control: Control,
}

impl Handler for Recorder {
    type App = usize;

    fn open(&mut self, flow: &Arc<FlowInfo>) -> usize {
        self.flows.push(Seen {
            info: Some(Arc::clone(flow)),
            ..Seen::default()
        });
        self.flows.len() - 1
    }

    fn data(
        &mut self,
        flow: &FlowRef,
        app: &mut usize,
        direction: Direction,
        at: At,
        data: Bytes,
    ) -> Control {
        let seen = &mut self.flows[*app];
        assert!(seen.end.is_none());
        seen.info = Some(Arc::clone(&flow.info));
        seen.chunks.push((direction, at, data.len()));
        match direction {
            Direction::ToServer => seen.to_server.extend_from_slice(&data),
            Direction::ToClient => seen.to_client.extend_from_slice(&data),
        }
        std::mem::take(&mut self.control)
    }

    fn gap(&mut self, flow: &FlowRef, app: &mut usize, direction: Direction, _: At, bytes: u64) {
        assert!(bytes > 0 && flow.lost_bytes >= bytes);
        self.flows[*app].gaps.push((direction, bytes));
    }

    fn restart(&mut self, _: &FlowRef, app: &mut usize, direction: Direction, _: At) {
        self.flows[*app].restarts.push(direction);
    }

    fn fin(&mut self, _: &FlowRef, app: &mut usize, direction: Direction, _: At) {
        self.flows[*app].fins.push(direction);
    }

    fn anomaly(&mut self, _: &FlowRef, app: &mut usize, _: At, anomaly: Anomaly) {
        self.flows[*app].anomalies.push(anomaly.kind);
    }

    fn datagram(
        &mut self,
        _: &FlowRef,
        app: &mut usize,
        direction: Direction,
        _: At,
        datagram: &UdpDatagram,
    ) {
        self.flows[*app]
            .datagrams
            .push((direction, datagram.payload.clone()));
    }

    fn close(&mut self, flow: &FlowRef, app: usize, end: FlowEnd) {
        let seen = &mut self.flows[app];
        assert!(seen.end.is_none(), "closed twice");
        seen.info = Some(Arc::clone(&flow.info));
        seen.end = Some(end);
    }
}

/// A table, a recorder, and a clock that steps a millisecond per segment.
pub(super) struct Bench {
    pub(super) table: FlowTable<usize>,
    pub(super) recorder: Recorder,
    pub(super) millis: u64,
    order: u64,
}

pub(super) const FIN: u8 = flags::FIN | flags::ACK;
pub(super) const ACK: u8 = flags::ACK;
pub(super) const SYN: u8 = flags::SYN;
pub(super) const SYN_ACK: u8 = flags::SYN | flags::ACK;
pub(super) const RST: u8 = flags::RST | flags::ACK;

pub(super) fn client() -> SocketAddr {
    "10.0.0.1:40000".parse().unwrap()
}

pub(super) fn server() -> SocketAddr {
    "10.0.0.2:8080".parse().unwrap()
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(FlowLimits::default())
    }

    pub(super) fn with(limits: FlowLimits) -> Self {
        Self {
            table: FlowTable::new(limits, 100),
            recorder: Recorder::default(),
            millis: 1_000_000,
            order: 0,
        }
    }

    pub(super) fn at(&mut self) -> At {
        self.millis += 1;
        self.order += 1;
        At {
            time: Timestamp(self.millis * 1_000_000),
            packet: PacketId {
                order: self.order,
                number: self.order,
                file: 0,
            },
        }
    }

    /// A segment from the client (`>`) or the server (`<`).
    pub(super) fn make(&mut self, way: char, flags: u8, seq: u32, ack: u32, data: &[u8]) -> TcpSegment {
        let (src, dst) = if way == '>' {
            (client(), server())
        } else {
            (server(), client())
        };
        TcpSegment {
            at: self.at(),
            scope: Scope(0),
            src,
            dst,
            seq,
            ack,
            flags,
            payload: Bytes::copy_from_slice(data),
            wire_len: u32::try_from(data.len()).unwrap(),
            cookie: None,
            resumed: false,
            duplicate: false,
        }
    }

    pub(super) fn give(&mut self, segment: &TcpSegment) {
        self.table.segment(segment, &mut self.recorder);
    }

    pub(super) fn send(&mut self, way: char, flags: u8, seq: u32, ack: u32, data: &[u8]) {
        let segment = self.make(way, flags, seq, ack, data);
        self.give(&segment);
    }

    /// SYN, SYN-ACK, ACK with the given initial sequence numbers.
    pub(super) fn handshake(&mut self, client: u32, server: u32) {
        self.send('>', SYN, client, 0, b"");
        self.send('<', SYN_ACK, server, client.wrapping_add(1), b"");
        self.send('>', ACK, client.wrapping_add(1), server.wrapping_add(1), b"");
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.millis += millis;
        let now = Timestamp(self.millis * 1_000_000);
        self.table.tick(now, &mut self.recorder);
    }

    pub(super) fn finish(&mut self) -> &[Seen] {
        let now = Timestamp(self.millis * 1_000_000);
        self.table.finish(now, &mut self.recorder);
        assert!(self.table.is_empty());
        assert_eq!(self.table.pending_bytes(), 0);
        &self.recorder.flows
    }
}
