//! Link layers and what may stand between them and IP: tags, labels, PPPoE.

use super::{Decoded, Decoder, counters::bump, decoder::Place};
use crate::source::LinkType;

/// EtherTypes (IEEE 802 numbers) that are looked through.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    pub(super) const VLAN: u16 = 0x8100;
    pub(super) const PROVIDER_BRIDGE: u16 = 0x88a8;
    pub(super) const OLD_QINQ: u16 = 0x9100;
    pub(super) const MPLS: u16 = 0x8847;
    pub(super) const MPLS_MULTICAST: u16 = 0x8848;
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
    /// Ethernet inside GRE, Geneve.
    pub(super) const BRIDGED: u16 = 0x6558;
}

impl Decoder {
    #[inline]
    pub(super) fn link(&mut self, place: Place<'_>, link: LinkType, data: &[u8]) -> Decoded {
        match link {
            LinkType::ETHERNET => self.ethernet(place, data),
            other => self.other_link(place, other, data),
        }
    }

    #[inline]
    pub(super) fn ethernet(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        let Some((h, rest)) = data.split_first_chunk::<14>() else {
            return self.short(place, "an Ethernet header");
        };
        match u16::from_be_bytes([h[12], h[13]]) {
            ethertype::IPV4 | ethertype::IPV6 => self.ip(place, rest),
            other => self.ethertype(place, other, rest),
        }
    }

    fn other_link(&mut self, place: Place<'_>, link: LinkType, data: &[u8]) -> Decoded {
        match link {
            // 12 and 14 are what BSDs write for raw IP.
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 | LinkType(12 | 14) => self.ip(place, data),
            LinkType::NULL | LinkType::LOOP => {
                let Some((h, rest)) = data.split_first_chunk::<4>() else {
                    return self.short(place, "a loopback header");
                };
                // Families are small numbers, whichever the byte order.
                match u32::from_le_bytes(*h).min(u32::from_be_bytes(*h)) {
                    // AF_INET, and AF_INET6 of Linux, the BSDs, macOS and Windows.
                    2 | 10 | 23 | 24 | 28 | 30 => self.ip(place, rest),
                    _ => self.not_ip(),
                }
            }
            LinkType::LINUX_SLL => match data.split_first_chunk::<16>() {
                Some((h, rest)) => self.ethertype(place, u16::from_be_bytes([h[14], h[15]]), rest),
                None => self.short(place, "a cooked capture header"),
            },
            LinkType::LINUX_SLL2 => match data.split_first_chunk::<20>() {
                Some((h, rest)) => {
                    let interface = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
                    let place = Place {
                        point: place.point ^ (u64::from(interface) << 16),
                        ..place
                    };
                    self.ethertype(place, u16::from_be_bytes([h[0], h[1]]), rest)
                }
                None => self.short(place, "a cooked capture header"),
            },
            LinkType(105 | 119 | 127 | 163 | 192) => self.undecoded(place, "802.11"),
            LinkType(other) => self.undecoded(place, format!("link type {other}")),
        }
    }

    /// What follows an EtherType, at any depth.
    pub(super) fn ethertype(&mut self, place: Place<'_>, kind: u16, data: &[u8]) -> Decoded {
        let (mut place, mut kind, mut data) = (place, kind, data);
        loop {
            match kind {
                ethertype::IPV4 | ethertype::IPV6 => return self.ip(place, data),
                ethertype::VLAN | ethertype::PROVIDER_BRIDGE | ethertype::OLD_QINQ => {
                    let Some((h, rest)) = data.split_first_chunk::<4>() else {
                        return self.short(place, "a VLAN tag");
                    };
                    kind = u16::from_be_bytes([h[2], h[3]]);
                    data = rest;
                }
                ethertype::BRIDGED => {
                    let Some((h, rest)) = data.split_first_chunk::<14>() else {
                        return self.short(place, "an inner Ethernet header");
                    };
                    kind = u16::from_be_bytes([h[12], h[13]]);
                    data = rest;
                }
                ethertype::MPLS | ethertype::MPLS_MULTICAST => return self.mpls(place, data),
                ethertype::PPPOE_SESSION => return self.pppoe(place, data),
                // 802.3: a length, then LLC; SNAP holds an EtherType again.
                0..=1500 => match data.split_first_chunk::<8>() {
                    Some(([0xaa, 0xaa, 3, 0, 0, 0, hi, lo], rest)) => {
                        kind = u16::from_be_bytes([*hi, *lo]);
                        data = rest;
                    }
                    _ => return self.not_ip(),
                },
                _ => return self.not_ip(),
            }
            let Some(deeper) = self.deeper(place) else {
                return Decoded::Other;
            };
            place = deeper;
        }
    }

    /// RFC 3032: labels until the bottom of the stack, then IP or (RFC 4448) an Ethernet frame.
    fn mpls(&mut self, mut place: Place<'_>, mut data: &[u8]) -> Decoded {
        loop {
            let Some((h, rest)) = data.split_first_chunk::<4>() else {
                return self.short(place, "an MPLS label");
            };
            let Some(deeper) = self.deeper(place) else {
                return Decoded::Other;
            };
            place = deeper;
            data = rest;
            if h[2] & 1 == 1 {
                break;
            }
        }
        match data {
            [first, ..] if matches!(first >> 4, 4 | 6) => self.ip(place, data),
            // A pseudowire control word starts with four zero bits.
            [0..=0x0f, _, _, _, frame @ ..] => self.ethernet(place, frame),
            _ => self.not_ip(),
        }
    }

    /// RFC 2516 session stage, with the protocol field of PPP in one or two bytes (RFC 1661).
    fn pppoe(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        let Some(place) = self.deeper(place) else {
            return Decoded::Other;
        };
        match data.split_first_chunk::<6>() {
            Some(([0x11, 0, ..], [0x00, 0x21 | 0x57, rest @ ..] | [0x21 | 0x57, rest @ ..])) => {
                self.ip(place, rest)
            }
            Some(_) => self.not_ip(),
            None => self.short(place, "a PPPoE header"),
        }
    }

    pub(super) fn not_ip(&mut self) -> Decoded {
        bump(&mut self.counters.not_ip);
        Decoded::Other
    }
}
