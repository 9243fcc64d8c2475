//! Connections and datagrams as packets, cut as the rendering wants.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::rendering::Rendering;
use crate::generate::turn::Side;
use crate::generate::wire::{ACK, Capture, FIN, PSH, SYN, Tcp};

/// RST.
const RST: u8 = 0x04;
/// 2026-11-22T08:00:00Z, in microseconds.
const BEGIN: u64 = 1_795_334_400_000_000;
/// Between two packets, microseconds.
const PACE: u64 = 20;
/// Largest payload of a segment.
const SEGMENT: usize = 1400;

#[derive(Debug)]
struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    next: [u32; 2],
    open: bool,
}

/// Everything that goes over the wire.
pub(super) struct Network {
    capture: Capture<Vec<u8>>,
    rendering: Rendering,
    connections: Vec<Connection>,
    next_port: u16,
    time: u64,
}

impl Network {
    pub(super) fn new(rendering: Rendering) -> Result<Self> {
        Ok(Self {
            capture: Capture::new(Vec::new())?,
            rendering,
            connections: Vec::new(),
            next_port: 40_000,
            time: BEGIN,
        })
    }

    /// The packets, as a capture.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        for connection in 0..self.connections.len() {
            self.close(connection)?;
        }
        Ok(self.capture.into_inner())
    }

    /// Bytes of the capture so far.
    pub(super) fn written(&self) -> usize {
        self.capture.inner().len()
    }

    pub(super) fn wait(&mut self, microseconds: u64) {
        self.time += microseconds;
    }

    /// A port that no connection of this transcript has had.
    pub(super) fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// Opens a connection.
    pub(super) fn open(&mut self, client: IpAddr, server: SocketAddr) -> Result<usize> {
        let index = self.connections.len();
        let client = SocketAddr::new(client, self.port());
        // Initial sequence numbers as far apart as any; the second wraps in mid-connection.
        let isn = (index as u32).wrapping_mul(0x1357_9bdf);
        self.connections.push(Connection {
            client,
            server,
            next: [isn.wrapping_add(1000), isn.wrapping_sub(200)],
            open: true,
        });
        self.control(index, Side::Client, SYN)?;
        self.control(index, Side::Server, SYN | ACK)?;
        self.control(index, Side::Client, ACK)?;
        Ok(index)
    }

    pub(super) fn is_open(&self, connection: usize) -> bool {
        self.connections[connection].open
    }

    /// Ends a connection, if it has not ended.
    pub(super) fn close(&mut self, connection: usize) -> Result<()> {
        if !std::mem::take(&mut self.connections[connection].open) {
            return Ok(());
        }
        self.wait(1_000);
        self.control(connection, Side::Client, FIN | ACK)?;
        self.control(connection, Side::Server, FIN | ACK)?;
        self.control(connection, Side::Client, ACK)
    }

    /// One end breaks a connection off.
    pub(super) fn reset(&mut self, connection: usize, from: Side) -> Result<()> {
        self.connections[connection].open = false;
        self.control(connection, from, RST | ACK)
    }

    /// Sends bytes; the other end acknowledges them.
    pub(super) fn send(&mut self, connection: usize, from: Side, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.wait(500);
        let first = self.connections[connection].next[from as usize];
        let size = match self.rendering {
            Rendering::Segments7 => 7,
            Rendering::Reordered | Rendering::Combined => bytes.len().div_ceil(5).clamp(1, SEGMENT),
            _ => SEGMENT,
        };
        let mut pieces: Vec<(u32, &[u8])> = Vec::new();
        let mut seq = first;
        for piece in bytes.chunks(size) {
            pieces.push((seq, piece));
            seq = seq.wrapping_add(piece.len() as u32);
        }
        if matches!(self.rendering, Rendering::Reordered | Rendering::Combined) {
            for pair in pieces.chunks_mut(3) {
                pair.reverse();
            }
        }
        for (seq, piece) in pieces {
            self.segment(connection, from, seq, PSH | ACK, piece)?;
        }
        self.connections[connection].next[from as usize] = seq;
        self.control(connection, from.peer(), ACK)
    }

    /// Sends bytes that the capture misses; their acknowledgement is there.
    pub(super) fn lose(&mut self, connection: usize, from: Side, bytes: &[u8]) -> Result<()> {
        self.wait(500);
        let next = &mut self.connections[connection].next[from as usize];
        *next = next.wrapping_add(bytes.len() as u32);
        self.control(connection, from.peer(), ACK)
    }

    /// Sends a segment again, at `back` bytes before what comes next, perhaps with other bytes.
    pub(super) fn again(&mut self, connection: usize, from: Side, back: u32, bytes: &[u8]) -> Result<()> {
        // Later than any copy that a capture point makes.
        self.wait(5_000);
        let seq = self.connections[connection].next[from as usize].wrapping_sub(back);
        self.segment(connection, from, seq, PSH | ACK, bytes)
    }

    /// Sends a datagram.
    pub(super) fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Result<()> {
        self.wait(500);
        self.copies(|capture, time| capture.udp(time, from, to, bytes))
    }

    fn control(&mut self, connection: usize, from: Side, flags: u8) -> Result<()> {
        let seq = self.connections[connection].next[from as usize];
        self.segment(connection, from, seq, flags, &[])?;
        if flags & (SYN | FIN) != 0 {
            let next = &mut self.connections[connection].next[from as usize];
            *next = next.wrapping_add(1);
        }
        Ok(())
    }

    fn segment(&mut self, connection: usize, from: Side, seq: u32, flags: u8, bytes: &[u8]) -> Result<()> {
        let it = &self.connections[connection];
        let (source, target) = match from {
            Side::Client => (it.client, it.server),
            Side::Server => (it.server, it.client),
        };
        let ack = it.next[from.peer() as usize];
        let clock = (self.time / 1000) as u32;
        let tcp = Tcp {
            seq,
            ack: if flags & ACK == 0 { 0 } else { ack },
            flags,
            clock: (clock, clock.wrapping_sub(1)),
        };
        self.copies(|capture, time| capture.tcp(time, source, target, tcp, bytes))
    }

    /// Writes a packet, and where every packet is captured twice its copy.
    fn copies(&mut self, write: impl Fn(&mut Capture<Vec<u8>>, u64) -> std::io::Result<()>) -> Result<()> {
        self.wait(PACE);
        let id = self.capture.next_id();
        write(&mut self.capture, self.time)?;
        if self.rendering == Rendering::Duplicated {
            self.capture.set_next_id(id);
            write(&mut self.capture, self.time + 2)?;
        }
        Ok(())
    }
}
