//! From the network header to the payload of TCP or UDP.

use crate::address::{Address, from_v4};

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// IPv6 extension headers walked over; a packet with more is left alone (and counted).
pub const MAX_EXTENSIONS: u32 = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// A packet from its network header on.
pub trait Packet {
    /// `N` bytes at `at`.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
    /// Length, headers and all.
    fn length(&self) -> u32;
}

impl Packet for &[u8] {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = at as usize;
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// What the headers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Headers {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Port of the sender.
    pub source_port: [u8; 2],
    /// Port of the receiver.
    pub destination_port: [u8; 2],
    /// TCP sequence number.
    pub sequence: [u8; 4],
    /// TCP acknowledgement number.
    pub acknowledgement: [u8; 4],
    /// Offset of the payload from the network header.
    pub payload_at: u32,
    /// Length of the payload.
    pub payload_length: u32,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// TCP flags, low byte.
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}

impl Headers {
    /// Ready for [`read`](Self::read).
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            source: [0; 16],
            destination: [0; 16],
            source_port: [0; 2],
            destination_port: [0; 2],
            sequence: [0; 4],
            acknowledgement: [0; 4],
            payload_at: 0,
            payload_length: 0,
            protocol: 0,
            version: 0,
            flags: 0,
            reserved: 0,
        }
    }

    /// Reads a packet. `None` if it is neither TCP nor UDP, is a fragment, or contradicts itself.
    #[inline(always)]
    pub fn read<P: Packet>(&mut self, packet: &P) -> Option<()> {
        // Both headers have that much. Loads are what the walk costs in the kernel.
        let start = packet.load::<20>(0)?;
        let [first, ..] = start;
        let (at, end) = if first >> 4 == 4 {
            self.v4(packet, start)?
        } else if first >> 4 == 6 {
            self.v6(packet, start)?
        } else {
            return None;
        };
        let payload_at = if self.protocol == TCP {
            self.tcp(packet, at)?
        } else if self.protocol == UDP {
            let [a, b, c, d, ..] = packet.load::<8>(at)?;
            self.source_port = [a, b];
            self.destination_port = [c, d];
            at.wrapping_add(8)
        } else {
            return None;
        };
        if payload_at > end {
            return None;
        }
        self.payload_at = payload_at;
        self.payload_length = end.wrapping_sub(payload_at);
        Some(())
    }

    #[inline(always)]
    fn v4<P: Packet>(&mut self, packet: &P, header: [u8; 20]) -> Option<(u32, u32)> {
        let [
            first,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            _,
            protocol,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = header;
        // More fragments, or an offset.
        if u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
            return None;
        }
        self.version = 4;
        self.protocol = protocol;
        self.source = from_v4([s0, s1, s2, s3]);
        self.destination = from_v4([d0, d1, d2, d3]);
        let at = u32::from(first & 0x0f).wrapping_mul(4);
        let total = u32::from(u16::from_be_bytes([l0, l1]));
        (at >= 20).then_some((at, whole(total, packet.length())))
    }

    #[inline(always)]
    fn v6<P: Packet>(&mut self, packet: &P, start: [u8; 20]) -> Option<(u32, u32)> {
        let [_, _, _, _, l0, l1, mut next, ..] = start;
        self.version = 6;
        self.source = packet.load::<16>(8)?;
        self.destination = packet.load::<16>(24)?;
        let mut at = 40_u32;
        let payload = u32::from(u16::from_be_bytes([l0, l1]));
        // Zero where a jumbo option or a BIG TCP packet says the length elsewhere.
        let total = if payload == 0 { 0 } else { payload.wrapping_add(40) };
        for _ in 0..MAX_EXTENSIONS {
            if next == TCP || next == UDP {
                break;
            }
            if !matches!(
                next,
                HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
            ) {
                return None;
            }
            let [following, length, o0, o1] = packet.load::<4>(at)?;
            let size = match next {
                // An atomic fragment (RFC 6946) is whole; any other is not.
                FRAGMENT if u16::from_be_bytes([o0, o1]) & 0xfff9 != 0 => return None,
                FRAGMENT => 8,
                AUTHENTICATION => u32::from(length).wrapping_add(2).wrapping_mul(4),
                _ => u32::from(length).wrapping_add(1).wrapping_mul(8),
            };
            next = following;
            at = at.wrapping_add(size);
        }
        self.protocol = next;
        Some((at, whole(total, packet.length())))
    }

    #[inline(always)]
    fn tcp<P: Packet>(&mut self, packet: &P, at: u32) -> Option<u32> {
        let header = packet.load::<16>(at)?;
        let [a, b, c, d, s0, s1, s2, s3, k0, k1, k2, k3, offset, flags, _, _] = header;
        self.source_port = [a, b];
        self.destination_port = [c, d];
        self.sequence = [s0, s1, s2, s3];
        self.acknowledgement = [k0, k1, k2, k3];
        self.flags = flags;
        let length = u32::from(offset >> 4).wrapping_mul(4);
        (length >= 20).then(|| at.wrapping_add(length))
    }
}

/// End of the packet: what its header says, unless that is zero (segmentation offload) or too much.
#[inline(always)]
const fn whole(stated: u32, length: u32) -> u32 {
    if stated == 0 || stated > length {
        length
    } else {
        stated
    }
}
