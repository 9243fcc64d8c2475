//! Captures of any size whose content is known: MCP over every transport among other traffic,
//! with what networks and captures do to it. The same parameters give the same bytes.
//!
//! Conversations ([`mcp`], [`other`]) write messages into a [`turn::Turn`]; [`connection`] cuts
//! these into packets and has mishaps; [`wire`] puts them into the file; [`truth`] counts. All
//! conversations go on at once, each at its own pace, so that no more is held than the turns at
//! work.

pub mod connection;
pub mod http;
pub mod mcp;
pub mod other;
pub mod random;
pub mod text;
pub mod truth;
pub mod turn;
pub mod wire;

mod scene;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use self::connection::{Connection, Mishaps, Planned, Planner};
use self::random::Random;
use self::text::Text;
use self::truth::Truth;
use self::turn::{Act, Turn};
use self::wire::{Capture, SYN, Tcp};

/// Grows when the same parameters give other bytes.
pub const VERSION: u32 = 2;

/// What a conversation says next.
pub trait Script {
    /// Writes the next turn; the last one closes.
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool);
}

/// What to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Makes everything else certain.
    pub seed: u64,
    /// Bytes of the file, nearly.
    pub size: u64,
    /// MCP conversations.
    pub mcp_flows: usize,
    /// Others.
    pub other_flows: usize,
    /// Share of the bytes that is MCP's.
    pub mcp_share: f64,
    /// Share of data segments that arrive after later ones.
    pub reordered: f64,
    /// Share of data segments that are sent twice.
    pub retransmitted: f64,
    /// Segments that the capture misses, though they arrived.
    pub lost: u64,
    /// Seconds from the first packet to about the last.
    pub seconds: u64,
}

impl Parameters {
    /// The traffic of a node: one byte in six is MCP. Flows and losses grow with the size; at
    /// 1 GB there are 4,000 MCP conversations, 6,000 others and 57 losses.
    pub fn mixed(size: u64) -> Self {
        let scale = size as f64 / 1e9;
        let flows = |count: f64| (count * scale).ceil() as usize;
        Self {
            seed: 1,
            size,
            mcp_flows: flows(4_000.0),
            other_flows: flows(6_000.0),
            mcp_share: 0.165,
            reordered: 0.004,
            retransmitted: 0.003,
            lost: (57.0 * scale).round() as u64,
            seconds: 100,
        }
    }

    /// Nothing but MCP.
    pub fn pure_mcp(size: u64) -> Self {
        Self {
            mcp_flows: (4_000.0 * size as f64 / 2e8).ceil() as usize,
            other_flows: 0,
            mcp_share: 1.0,
            ..Self::mixed(size)
        }
    }
}

/// One conversation.
pub(crate) struct Flow {
    pub(crate) script: Box<dyn Script>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) mcp: bool,
    /// Microseconds since 1970.
    pub(crate) start: u64,
    /// Microseconds.
    pub(crate) duration: u64,
    /// Bytes of the file that it should take.
    pub(crate) budget: u64,
    pub(crate) random: Random,
    used: u64,
    turn: Turn,
    planned: VecDeque<Planned>,
    over: bool,
}

/// Writes a capture.
pub fn generate(parameters: &Parameters, to: &Path) -> io::Result<Truth> {
    write_to(parameters, BufWriter::with_capacity(1 << 20, File::create(to)?))
}

/// As [`generate`], to wherever.
pub fn write_to(parameters: &Parameters, to: impl Write) -> io::Result<Truth> {
    let mut random = Random::new(parameters.seed);
    let text = Text::new(&mut random);
    let mut flows = scene::flows(parameters, &mut random);
    let mut mishaps = Mishaps {
        reordered: parameters.reordered,
        retransmitted: parameters.retransmitted,
        lost: parameters.lost,
        size: parameters.size,
        done: connection::Done::default(),
    };
    let mut truth = Truth::default();
    let mut capture = Capture::new(to)?;
    // The index makes the order certain where times are equal.
    let mut next: BinaryHeap<Reverse<(u64, usize)>> = flows
        .iter()
        .enumerate()
        .map(|(index, flow)| Reverse((flow.start, index)))
        .collect();
    while let Some(Reverse((time, index))) = next.pop() {
        let flow = &mut flows[index];
        if let Some(packet) = flow.planned.pop_front() {
            flow.send(&packet, &mut capture)?;
            if flow.planned.is_empty() {
                // Most conversations are at rest most of the time.
                flow.turn = Turn::default();
            }
        } else if !flow.over {
            flow.plan(time, &text, &mut mishaps, &mut truth);
        } else {
            continue;
        }
        let due = match flow.planned.front() {
            Some(packet) => packet.time,
            None => flow.resume(time),
        };
        next.push(Reverse((due.max(time), index)));
    }
    truth.add("packets", capture.packets);
    truth.add("bytes", capture.bytes);
    truth.add("tcp.gaps", mishaps.done.lost);
    truth.add("tcp.lost_bytes", mishaps.done.lost_bytes);
    capture.finish()?;
    Ok(truth)
}

impl Flow {
    fn plan(&mut self, time: u64, text: &Text, mishaps: &mut Mishaps, truth: &mut Truth) {
        let room = self.budget.saturating_sub(self.used);
        let mut turn = Turn {
            room,
            ..Turn::default()
        };
        self.over = room == 0;
        self.script.turn(&mut turn, &mut self.random, text, self.over);
        let before = mishaps.done.bytes;
        let mut planner = Planner {
            connections: &mut self.connections,
            mishaps,
            random: &mut self.random,
            mcp: self.mcp,
            time,
            packets: Vec::from(std::mem::take(&mut self.planned)),
        };
        planner.turn(&mut turn);
        self.planned = planner.packets.into();
        self.used += mishaps.done.bytes - before;
        for message in &turn.messages {
            for unit in &message.units {
                truth.unit(*unit, message.hit);
            }
        }
        for act in &turn.acts {
            match act {
                Act::Open(_) => truth.add("flows.tcp", 1),
                Act::Write(write) if self.connections[write.connection].udp => {
                    // One flow for a question and its answer.
                    truth.add("flows.udp", u64::from(write.from == turn::Side::Client));
                }
                _ => {}
            }
        }
        self.turn = turn;
    }

    fn send<W: Write>(&mut self, packet: &Planned, capture: &mut Capture<W>) -> io::Result<()> {
        let connection = &mut self.connections[packet.connection];
        let (from, to) = match packet.from {
            turn::Side::Client => (connection.client, connection.server),
            turn::Side::Server => (connection.server, connection.client),
        };
        let data = &self.turn.bytes[packet.start..packet.start + packet.length];
        if connection.udp {
            return capture.udp(packet.time, from, to, data);
        }
        let milliseconds = (packet.time / 1000) as u32;
        // RFC 7323: each side echoes the other's latest; readers check that of the handshake.
        let echo = connection.clock[packet.from.peer() as usize];
        connection.clock[packet.from as usize] = milliseconds;
        let tcp = Tcp {
            seq: packet.seq,
            ack: if packet.flags == SYN { 0 } else { packet.ack },
            flags: packet.flags,
            clock: (milliseconds, echo),
        };
        capture.tcp(packet.time, from, to, tcp, data)
    }

    /// When to go on so that the bytes spread over the duration.
    fn resume(&mut self, time: u64) -> u64 {
        let done = self.used.min(self.budget) as f64 / self.budget.max(1) as f64;
        let due = self.start + (self.duration as f64 * done) as u64;
        due.max(time + 200) + self.random.range(0, 20_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(change: impl FnOnce(&mut Parameters)) -> (Truth, Vec<u8>) {
        let mut parameters = Parameters::mixed(6_000_000);
        change(&mut parameters);
        let mut bytes = Vec::new();
        let truth = write_to(&parameters, &mut bytes).unwrap();
        (truth, bytes)
    }

    #[test]
    fn the_same_parameters_give_the_same_bytes() {
        let (truth, bytes) = small(|_| {});
        assert!((5_500_000..7_500_000).contains(&bytes.len()), "{}", bytes.len());
        assert!(small(|_| {}) == (truth, bytes.clone()));
        assert!(small(|p| p.seed = 2).1 != bytes);
    }

    #[test]
    fn packets_are_in_order_of_time_and_as_many_as_said() {
        let (truth, bytes) = small(|_| {});
        let (mut at, mut last, mut packets) = (24, (0, 0), 0);
        while at < bytes.len() {
            let word =
                |offset: usize| u32::from_le_bytes(bytes[at + offset..at + offset + 4].try_into().unwrap());
            let time = (word(0), word(4));
            assert!(time >= last && word(4) < 1_000_000);
            last = time;
            at += 16 + word(8) as usize;
            packets += 1;
        }
        assert_eq!((at, truth.whole["packets"]), (bytes.len(), packets));
    }

    #[test]
    fn losses_are_as_many_as_asked_and_marked() {
        let (truth, _) = small(|p| {
            p.lost = 40;
            p.mcp_share = 1.0;
            p.other_flows = 0;
        });
        assert!((38..=40).contains(&truth.whole["tcp.gaps"]), "{truth:?}");
        assert!(
            truth.hit["mcp.responses"] >= 5 && truth.hit["mcp.requests"] >= 1,
            "{truth:?}"
        );
        let (truth, _) = small(|p| p.lost = 0);
        assert!(truth.hit.is_empty());
    }
}
