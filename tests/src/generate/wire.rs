//! Packets as a capture holds them: classic pcap, Ethernet, IPv4 or IPv6, TCP or UDP, with valid
//! lengths and checksums.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const RECORD: usize = 16;
const ACK_TO_PAYLOAD: usize = 64;

/// What a TCP header says besides the ports.
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Timestamps option: own clock and echoed one; milliseconds.
    pub clock: (u32, u32),
}

/// Writes packets into a capture.
#[derive(Debug)]
pub struct Capture<W> {
    to: W,
    packet: Vec<u8>,
    id: u16,
    /// Packets written.
    pub packets: u64,
    /// Bytes of them on the wire.
    pub bytes: u64,
}

impl<W: Write> Capture<W> {
    /// Begins a capture: little endian, microseconds, Ethernet.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        to.write_all(&[2, 0, 4, 0])?;
        to.write_all(&[0; 8])?;
        to.write_all(&262_144_u32.to_le_bytes())?;
        to.write_all(&1_u32.to_le_bytes())?;
        Ok(Self {
            to,
            packet: Vec::with_capacity(2048),
            id: 0,
            packets: 0,
            bytes: 0,
        })
    }

    /// IPv4 identification of the next packet.
    pub fn next_id(&self) -> u16 {
        self.id
    }

    /// The next packet is a copy of one that had this [`Self::next_id`].
    pub fn set_next_id(&mut self, id: u16) {
        self.id = id;
    }

    /// Where it is written to.
    pub fn inner(&self) -> &W {
        &self.to
    }

    /// Where it was written to.
    pub fn into_inner(self) -> W {
        self.to
    }

    /// A TCP segment. `time` is in microseconds since 1970.
    pub fn tcp(
        &mut self,
        time: u64,
        from: SocketAddr,
        to: SocketAddr,
        tcp: Tcp,
        data: &[u8],
    ) -> io::Result<()> {
        let mut header = [0_u8; ACK_TO_PAYLOAD];
        header[0..2].copy_from_slice(&from.port().to_be_bytes());
        header[2..4].copy_from_slice(&to.port().to_be_bytes());
        header[4..8].copy_from_slice(&tcp.seq.to_be_bytes());
        header[8..12].copy_from_slice(&tcp.ack.to_be_bytes());
        header[13] = tcp.flags;
        header[14..16].copy_from_slice(&502_u16.to_be_bytes());
        let mut length = 20;
        if tcp.flags & SYN != 0 {
            // MSS 1460, SACK permitted, no operation, window scale 7.
            header[length..length + 10].copy_from_slice(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 7]);
            length += 10;
        }
        let pad = if tcp.flags & SYN != 0 { 0 } else { 2 };
        header[length..length + pad].fill(1);
        length += pad;
        header[length..length + 2].copy_from_slice(&[8, 10]);
        header[length + 2..length + 6].copy_from_slice(&tcp.clock.0.to_be_bytes());
        header[length + 6..length + 10].copy_from_slice(&tcp.clock.1.to_be_bytes());
        length += 10;
        header[12] = ((length / 4) << 4) as u8;
        self.datagram(time, from.ip(), to.ip(), TCP, &mut header[..length], 16, data)
    }

    /// A UDP datagram. `time` is in microseconds since 1970.
    pub fn udp(&mut self, time: u64, from: SocketAddr, to: SocketAddr, data: &[u8]) -> io::Result<()> {
        let mut header = [0_u8; 8];
        header[0..2].copy_from_slice(&from.port().to_be_bytes());
        header[2..4].copy_from_slice(&to.port().to_be_bytes());
        header[4..6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
        self.datagram(time, from.ip(), to.ip(), UDP, &mut header, 6, data)
    }

    #[allow(clippy::too_many_arguments)]
    fn datagram(
        &mut self,
        time: u64,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        header: &mut [u8],
        checksum_at: usize,
        data: &[u8],
    ) -> io::Result<()> {
        let length = (header.len() + data.len()) as u32;
        let mut check = sum(header) + sum(data) + u64::from(length) + u64::from(protocol);
        self.packet.clear();
        self.packet.resize(RECORD, 0);
        self.packet
            .extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.id = self.id.wrapping_add(1);
                let mut ip = [0_u8; 20];
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
                ip[4..6].copy_from_slice(&self.id.to_be_bytes());
                ip[6] = 0x40;
                ip[8] = 64;
                ip[9] = protocol;
                ip[12..16].copy_from_slice(&from.octets());
                ip[16..20].copy_from_slice(&to.octets());
                check += sum(&ip[12..20]);
                let ip_check = fold(sum(&ip));
                ip[10..12].copy_from_slice(&ip_check);
                self.packet.extend_from_slice(&[0x08, 0x00]);
                self.packet.extend_from_slice(&ip);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut ip = [0_u8; 40];
                ip[0] = 0x60;
                ip[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                ip[6] = protocol;
                ip[7] = 64;
                ip[8..24].copy_from_slice(&from.octets());
                ip[24..40].copy_from_slice(&to.octets());
                check += sum(&ip[8..40]);
                self.packet.extend_from_slice(&[0x86, 0xdd]);
                self.packet.extend_from_slice(&ip);
            }
            _ => return Err(io::Error::other("addresses of two families")),
        }
        let check = match fold(check) {
            [0, 0] if protocol == UDP => [0xff, 0xff],
            check => check,
        };
        header[checksum_at..checksum_at + 2].copy_from_slice(&check);
        self.packet.extend_from_slice(header);
        self.packet.extend_from_slice(data);
        let size = (self.packet.len() - RECORD) as u32;
        self.packet[0..4].copy_from_slice(&((time / 1_000_000) as u32).to_le_bytes());
        self.packet[4..8].copy_from_slice(&((time % 1_000_000) as u32).to_le_bytes());
        self.packet[8..12].copy_from_slice(&size.to_le_bytes());
        self.packet[12..16].copy_from_slice(&size.to_le_bytes());
        self.packets += 1;
        self.bytes += u64::from(size);
        self.to.write_all(&self.packet)
    }

    /// Ends the capture.
    pub fn finish(mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Bytes that a TCP segment takes in the capture file.
pub fn tcp_size(v6: bool, payload: usize) -> u64 {
    (RECORD + ETHERNET + if v6 { 40 } else { 20 } + 32 + payload) as u64
}

/// The ones' complement sum of RFC 1071, not folded. An odd last byte counts as the high one.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum();
    let mut last = [0_u8; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_be_bytes(last));
    sum
}

fn fold(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_what_is_written_add_up() {
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:80"), ("[fd00::1]:1", "[fd00::2]:80")] {
            let mut bytes = Vec::new();
            let mut capture = Capture::new(&mut bytes).unwrap();
            let tcp = Tcp {
                seq: 1,
                ack: 2,
                flags: ACK,
                clock: (3, 4),
            };
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            capture.tcp(5, from, to, tcp, b"odd length!").unwrap();
            capture.finish().unwrap();
            let v6 = from.is_ipv6();
            assert_eq!(bytes.len() as u64, 24 + tcp_size(v6, 11));
            let ip = &bytes[24 + RECORD + ETHERNET..];
            let (addresses, segment) = if v6 {
                (&ip[8..40], &ip[40..])
            } else {
                (&ip[12..20], &ip[20..])
            };
            let all = sum(addresses) + sum(segment) + segment.len() as u64 + u64::from(TCP);
            assert_eq!(fold(all), [0, 0]);
            assert!(v6 || fold(sum(&ip[..20])) == [0, 0]);
        }
    }

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        // Its section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
        assert_eq!(
            fold(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])),
            (!0xddf2_u16).to_be_bytes()
        );
    }
}
