//! From what a conversation does to packets: segments, acknowledgements, and the mishaps of a
//! network and of a capture.

use std::net::SocketAddr;

use super::random::Random;
use super::turn::{Act, Side, Turn, Write};
use super::wire::{self, ACK, FIN, PSH, SYN};

/// Payload bytes of a full segment: 1500 less the headers and the timestamps option.
const SEGMENT: usize = 1448;
/// The same over IPv6.
const SEGMENT_V6: usize = 1428;

/// Two ends.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who opened it.
    pub client: SocketAddr,
    /// Who was connected to.
    pub server: SocketAddr,
    /// UDP: every write is a datagram.
    pub udp: bool,
    /// Next sequence number, client's and server's.
    next: [u32; 2],
    /// Latest timestamp that the client, the server sent; milliseconds.
    pub clock: [u32; 2],
    /// A segment of an endless message of the client's, of the server's was lost.
    cut: [bool; 2],
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Microseconds since 1970.
    pub time: u64,
    /// Which connection.
    pub connection: usize,
    /// Who sends it.
    pub from: Side,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Payload in [`Turn::bytes`].
    pub start: usize,
    /// Its length.
    pub length: usize,
}

/// What goes wrong, and how much of it did.
#[derive(Clone, Debug)]
pub struct Mishaps {
    /// Share of data segments that arrive late.
    pub reordered: f64,
    /// Share of data segments that are sent twice.
    pub retransmitted: f64,
    /// Segments that the capture misses, over the whole capture.
    pub lost: u64,
    /// Bytes of the whole capture.
    pub size: u64,
    /// So far.
    pub done: Done,
}

/// Counts of [`Mishaps`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Done {
    /// Bytes planned.
    pub bytes: u64,
    /// Segments lost.
    pub lost: u64,
    /// Payload bytes of them.
    pub lost_bytes: u64,
    /// Segments sent twice.
    pub retransmitted: u64,
    /// Segments that came after later ones.
    pub reordered: u64,
}

impl Mishaps {
    /// Whether the next segment is to be lost. Losses are spread evenly over the capture; every
    /// third is MCP's.
    fn lose(&mut self, mcp: bool, random: &mut Random) -> bool {
        let due = self.done.bytes as f64 / self.size as f64 * (self.lost as f64 + 0.5);
        // One that is due does not take the first segment that comes, which would mostly be a request.
        self.lost.min(due as u64) > self.done.lost
            && (mcp || !self.done.lost.is_multiple_of(3))
            && random.chance(0.1)
    }
}

impl Connection {
    /// Not open yet.
    pub fn new(client: SocketAddr, server: SocketAddr, udp: bool, random: &mut Random) -> Self {
        let isn = random.bits();
        Self {
            client,
            server,
            udp,
            next: [isn as u32, (isn >> 32) as u32],
            clock: [0; 2],
            cut: [false; 2],
        }
    }

    fn segment(&self) -> usize {
        if self.client.is_ipv6() {
            SEGMENT_V6
        } else {
            SEGMENT
        }
    }
}

/// Cuts turns into packets.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The conversation's connections.
    pub connections: &'a mut [Connection],
    /// What goes wrong.
    pub mishaps: &'a mut Mishaps,
    /// The conversation's own.
    pub random: &'a mut Random,
    /// It is MCP.
    pub mcp: bool,
    /// Where the turn stands; microseconds since 1970.
    pub time: u64,
    /// Packets, not in order of time until the end.
    pub packets: Vec<Planned>,
}

struct Piece {
    time: u64,
    start: usize,
    length: usize,
    seq: u32,
    flags: u8,
    lost: bool,
}

impl Planner<'_> {
    /// Plans a whole turn and marks what was hit in its messages.
    pub fn turn(&mut self, turn: &mut Turn) {
        for index in 0..turn.acts.len() {
            match &turn.acts[index] {
                Act::Open(connection) => self.open(*connection),
                Act::Close(connection) => self.close(*connection),
                Act::Write(write) => {
                    let write = write.clone();
                    let answered = matches!(turn.acts.get(index + 1), Some(Act::Write(next))
                        if next.connection == write.connection && next.from != write.from && next.after < 40_000);
                    self.time += write.after;
                    let connection = &mut self.connections[write.connection];
                    if connection.udp {
                        self.packet(
                            write.connection,
                            write.from,
                            0,
                            0,
                            write.range.start,
                            write.range.len(),
                        );
                    } else if self.write(&write, answered) {
                        turn.messages[write.message].hit = true;
                    }
                    let side = write.from as usize;
                    let message = &mut turn.messages[write.message];
                    let cut = &mut self.connections[write.connection].cut[side];
                    *cut |= message.hit && message.endless;
                    message.hit |= *cut;
                }
            }
        }
        self.packets.sort_by_key(|packet| packet.time);
    }

    fn packet(&mut self, connection: usize, from: Side, seq: u32, flags: u8, start: usize, length: usize) {
        let ack = self.connections[connection].next[from.peer() as usize];
        let time = self.time;
        self.push(Planned {
            time,
            connection,
            from,
            seq,
            ack,
            flags,
            start,
            length,
        });
    }

    fn push(&mut self, packet: Planned) {
        let v6 = self.connections[packet.connection].client.is_ipv6();
        self.mishaps.done.bytes += wire::tcp_size(v6, packet.length);
        self.packets.push(packet);
    }

    fn control(&mut self, connection: usize, from: Side, flags: u8) {
        let seq = self.connections[connection].next[from as usize];
        self.packet(connection, from, seq, flags, 0, 0);
        if flags & (SYN | FIN) != 0 {
            let next = &mut self.connections[connection].next[from as usize];
            *next = next.wrapping_add(1);
        }
    }

    fn open(&mut self, connection: usize) {
        let round_trip = self.random.range(100, 8_000);
        self.control(connection, Side::Client, SYN);
        self.time += round_trip;
        self.control(connection, Side::Server, SYN | ACK);
        self.time += 30;
        self.control(connection, Side::Client, ACK);
        self.time += 20;
    }

    fn close(&mut self, connection: usize) {
        if self.connections[connection].udp {
            return;
        }
        self.time += 100;
        self.control(connection, Side::Client, FIN | ACK);
        self.time += self.random.range(50, 3_000);
        self.control(connection, Side::Server, FIN | ACK);
        self.time += 30;
        self.control(connection, Side::Client, ACK);
    }

    /// Sends the bytes and what the receiver answers on the way; true if a segment was lost.
    fn write(&mut self, write: &Write, answered: bool) -> bool {
        let side = write.from as usize;
        let size = self.connections[write.connection].segment();
        let mut seq = self.connections[write.connection].next[side];
        let first = seq;
        let gap = self.random.range(8, 40);
        let (mut pieces, mut lost) = (Vec::new(), false);
        let mut start = write.range.start;
        while start < write.range.end {
            let length = size.min(write.range.end - start);
            let last = start + length == write.range.end;
            let lose = write.may_lose && self.mishaps.lose(self.mcp, self.random);
            if lose {
                self.mishaps.done.lost += 1;
                self.mishaps.done.lost_bytes += length as u64;
                lost = true;
            }
            pieces.push(Piece {
                time: self.time,
                start,
                length,
                seq,
                flags: if last { PSH | ACK } else { ACK },
                lost: lose,
            });
            self.time += gap;
            seq = seq.wrapping_add(length as u32);
            start += length;
        }
        self.connections[write.connection].next[side] = seq;
        self.disturb(&mut pieces, gap);
        for piece in pieces.iter().filter(|piece| !piece.lost) {
            self.data(write, piece, piece.time);
            if self.random.chance(self.mishaps.retransmitted) {
                let late = match self.random.chance(0.7) {
                    // Another millisecond, and so another timestamp: else it would be the same packet over IPv6.
                    true => self.random.range(1_000, 4_000),
                    false => self.random.range(20_000, 200_000),
                };
                self.mishaps.done.retransmitted += 1;
                self.data(write, piece, piece.time + late);
            }
        }
        self.acknowledge(write, &pieces, first, answered);
        lost
    }

    fn data(&mut self, write: &Write, piece: &Piece, time: u64) {
        self.push(Planned {
            time,
            connection: write.connection,
            from: write.from,
            seq: piece.seq,
            ack: self.connections[write.connection].next[write.from.peer() as usize],
            flags: piece.flags,
            start: piece.start,
            length: piece.length,
        });
    }

    /// Some segments arrive after one to three of their successors.
    fn disturb(&mut self, pieces: &mut [Piece], gap: u64) {
        if pieces.len() < 2 {
            return;
        }
        let before = pieces.len();
        for piece in &mut pieces[..before - 1] {
            if self.random.chance(self.mishaps.reordered) && !piece.lost {
                piece.time += gap * self.random.range(1, 4) + gap / 2;
                self.mishaps.done.reordered += 1;
            }
        }
        pieces.sort_by_key(|piece| piece.time);
        self.time = self.time.max(pieces[before - 1].time + gap);
    }

    /// Every second segment, and at the end what is not carried by an answer. Nothing is
    /// acknowledged before it has arrived; what the capture misses did arrive.
    fn acknowledge(&mut self, write: &Write, pieces: &[Piece], first: u32, answered: bool) {
        let mut frontier = first;
        let mut early: Vec<(u32, u32)> = Vec::new();
        let (mut count, mut said) = (0, first);
        let from = write.from.peer();
        for (index, piece) in pieces.iter().enumerate() {
            early.push((piece.seq, piece.seq.wrapping_add(piece.length as u32)));
            while let Some(at) = early.iter().position(|(start, _)| *start == frontier) {
                frontier = early.swap_remove(at).1;
            }
            count += 1;
            let last = index + 1 == pieces.len();
            if (count % 2 == 0 && !(last && answered)) || (last && !answered && said != frontier) {
                said = frontier;
                self.push(Planned {
                    time: piece.time + if last { 40 } else { 5 },
                    connection: write.connection,
                    from,
                    seq: self.connections[write.connection].next[from as usize],
                    ack: frontier,
                    flags: ACK,
                    start: 0,
                    length: 0,
                });
            }
        }
        self.time += 45;
    }
}
