//! Forms that a capture of real software can be given without changing what was said: cut, shuffled, doubled, wrapped,
//! with other addresses.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};

use crate::transcript::{encapsulate, twin};

/// How the packets are changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Form {
    /// As recorded.
    Plain,
    /// TCP segments of 7 bytes.
    Segments7,
    /// Of every two TCP segments with data that follow each other in one direction, the second first.
    Reordered,
    /// Every packet twice.
    Duplicated,
    /// Inside VXLAN.
    Vxlan,
    /// IPv6; DNS, which would speak of other addresses, is left out.
    Ipv6,
}

impl Form {
    /// All of them, the plain one first.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Segments7,
        Self::Reordered,
        Self::Duplicated,
        Self::Vxlan,
        Self::Ipv6,
    ];

    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Segments7 => "segments7",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Vxlan => "vxlan",
            Self::Ipv6 => "ipv6",
        }
    }
}

const FILE_HEADER: usize = 24;
const RECORD: usize = 16;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const DNS: u16 = 53;

/// One packet of a capture that tcpdump wrote: Ethernet, IPv4, TCP or UDP, no fragments.
#[derive(Clone, Debug)]
struct Packet {
    /// Seconds and microseconds, as in the record.
    time: [u8; 8],
    ethernet: [u8; ETHERNET],
    /// IPv4 header without options.
    ip: [u8; 20],
    /// TCP or UDP header.
    transport: Vec<u8>,
    data: Vec<u8>,
}

impl Packet {
    fn is_tcp(&self) -> bool {
        self.ip[9] == TCP
    }

    fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.transport[at], self.transport[at + 1]])
    }

    /// Addresses and ports, in the direction of the packet.
    fn flow(&self) -> ([u8; 8], u16, u16) {
        let mut addresses = [0; 8];
        addresses.copy_from_slice(&self.ip[12..20]);
        (addresses, self.port(0), self.port(2))
    }

    fn seq(&self) -> u32 {
        u32::from_be_bytes([
            self.transport[4],
            self.transport[5],
            self.transport[6],
            self.transport[7],
        ])
    }

    fn piece(&self, offset: usize, data: &[u8], last: bool) -> Self {
        /// FIN and PSH belong to the last piece.
        const FIN_PSH: u8 = 0x09;
        let mut piece = self.clone();
        let seq = self.seq().wrapping_add(offset as u32);
        piece.transport[4..8].copy_from_slice(&seq.to_be_bytes());
        if !last {
            piece.transport[13] &= !FIN_PSH;
        }
        piece.data = data.to_vec();
        piece
    }

    /// As a record of a capture. Checksums are left as they were: the monitor leaves them to the receiver.
    fn write(&self, ipv6: bool, out: &mut Vec<u8>) {
        let payload = self.transport.len() + self.data.len();
        let mut frame = self.ethernet.to_vec();
        if ipv6 {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame.extend_from_slice(&[0x60, 0, 0, 0]);
            frame.extend_from_slice(&(payload as u16).to_be_bytes());
            frame.extend_from_slice(&[self.ip[9], self.ip[8]]);
            for at in [12, 16] {
                let v4 = Ipv4Addr::new(self.ip[at], self.ip[at + 1], self.ip[at + 2], self.ip[at + 3]);
                frame.extend_from_slice(&twin(v4).octets());
            }
        } else {
            let mut ip = self.ip;
            ip[2..4].copy_from_slice(&((20 + payload) as u16).to_be_bytes());
            frame.extend_from_slice(&ip);
        }
        frame.extend_from_slice(&self.transport);
        frame.extend_from_slice(&self.data);
        out.extend_from_slice(&self.time);
        let length = (frame.len() as u32).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&length);
        out.extend_from_slice(&frame);
    }
}

fn read(pcap: &[u8]) -> Result<Vec<Packet>> {
    ensure!(
        pcap.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]) && pcap[20..24] == [1, 0, 0, 0],
        "a little-endian pcap of Ethernet frames"
    );
    let mut packets = Vec::new();
    let mut at = FILE_HEADER;
    while at < pcap.len() {
        let size = u32::from_le_bytes([pcap[at + 8], pcap[at + 9], pcap[at + 10], pcap[at + 11]]) as usize;
        let frame = &pcap[at + RECORD..at + RECORD + size];
        ensure!(
            frame[12..15] == [8, 0, 0x45],
            "IPv4 without options in packet {}",
            packets.len() + 1
        );
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let body = &frame[ETHERNET + 20..ETHERNET + total];
        let header = match frame[23] {
            TCP => usize::from(body[12] >> 4) * 4,
            _ => 8,
        };
        let mut packet = Packet {
            time: [0; 8],
            ethernet: [0; ETHERNET],
            ip: [0; 20],
            transport: body[..header].to_vec(),
            data: body[header..].to_vec(),
        };
        packet.time.copy_from_slice(&pcap[at..at + 8]);
        packet.ethernet.copy_from_slice(&frame[..ETHERNET]);
        packet.ip.copy_from_slice(&frame[ETHERNET..ETHERNET + 20]);
        packets.push(packet);
        at += RECORD + size;
    }
    Ok(packets)
}

/// The capture in this form.
pub(super) fn transform(pcap: &[u8], form: Form) -> Result<Vec<u8>> {
    match form {
        Form::Plain => return Ok(pcap.to_vec()),
        Form::Vxlan => return Ok(encapsulate(pcap)),
        _ => {}
    }
    let mut packets = read(pcap)?;
    let is_dns = |packet: &Packet| packet.port(0) == DNS || packet.port(2) == DNS;
    match form {
        Form::Ipv6 => packets.retain(|packet| !is_dns(packet)),
        Form::Segments7 => packets = packets.iter().flat_map(cut).collect(),
        Form::Reordered => shuffle(&mut packets),
        Form::Duplicated => {
            packets = packets
                .into_iter()
                .flat_map(|packet| [packet.clone(), packet])
                .collect()
        }
        _ => {}
    }
    let mut out = pcap[..FILE_HEADER].to_vec();
    for packet in &packets {
        packet.write(form == Form::Ipv6, &mut out);
    }
    Ok(out)
}

fn cut(packet: &Packet) -> Vec<Packet> {
    const SIZE: usize = 7;
    if !packet.is_tcp() || packet.data.len() <= SIZE {
        return vec![packet.clone()];
    }
    let count = packet.data.len().div_ceil(SIZE);
    let pieces = packet.data.chunks(SIZE).enumerate();
    pieces
        .map(|(n, data)| packet.piece(n * SIZE, data, n + 1 == count))
        .collect()
}

/// Cuts each segment in two and sends the second half first; what comes first of a connection stays where it is.
fn shuffle(packets: &mut Vec<Packet>) {
    let mut begun: HashMap<_, ()> = HashMap::new();
    *packets = packets
        .drain(..)
        .flat_map(|packet| {
            let first =
                packet.is_tcp() && !packet.data.is_empty() && begun.insert(packet.flow(), ()).is_none();
            if !packet.is_tcp() || packet.data.len() < 2 || first {
                return vec![packet];
            }
            let middle = packet.data.len() / 2;
            let (head, tail) = packet.data.split_at(middle);
            vec![packet.piece(middle, tail, true), packet.piece(0, head, false)]
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_say_the_same_bytes() {
        let folder = crate::paths::captures().join("attacks");
        let pcap = std::fs::read(folder.join("TD-01-attack-1.pcap")).unwrap();
        let whole = |pcap: &[u8]| {
            let mut streams: HashMap<_, HashMap<u32, u8>> = HashMap::new();
            for packet in read(pcap).unwrap().iter().filter(|packet| packet.is_tcp()) {
                let stream = streams.entry(packet.flow()).or_default();
                for (n, byte) in packet.data.iter().enumerate() {
                    stream.insert(packet.seq().wrapping_add(n as u32), *byte);
                }
            }
            streams
        };
        for form in [Form::Segments7, Form::Reordered, Form::Duplicated] {
            let changed = transform(&pcap, form).unwrap();
            assert_ne!(changed, pcap);
            assert_eq!(whole(&changed), whole(&pcap), "{form:?}");
        }
    }
}
