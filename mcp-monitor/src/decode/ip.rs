//! IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Decoded, Decoder, counters::bump, decoder::Place, fragment::Fragment};

/// IP protocol numbers that are looked through.
pub(super) mod protocol {
    pub(in super::super) const HOP_BY_HOP: u8 = 0;
    pub(in super::super) const IPV4: u8 = 4;
    pub(in super::super) const TCP: u8 = 6;
    pub(in super::super) const UDP: u8 = 17;
    pub(in super::super) const IPV6: u8 = 41;
    pub(in super::super) const ROUTING: u8 = 43;
    pub(in super::super) const FRAGMENT: u8 = 44;
    pub(in super::super) const GRE: u8 = 47;
    pub(in super::super) const AUTHENTICATION: u8 = 51;
    pub(in super::super) const DESTINATION: u8 = 60;
    pub(in super::super) const MOBILITY: u8 = 135;
    pub(in super::super) const HIP: u8 = 139;
    pub(in super::super) const SHIM6: u8 = 140;
}

/// What the IP header says about its payload.
#[derive(Clone, Copy)]
pub(super) struct IpHeader {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    /// IPv4 identification, 0 for IPv6: tells a retransmission from a packet captured twice.
    pub(super) id: u16,
    /// Length of the payload on the wire.
    pub(super) wire_len: u32,
}

impl Decoder {
    /// An IP packet. Its version is the first nibble, whatever the header before says: tunnels mislabel.
    #[inline]
    pub(super) fn ip(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        match data.first().map(|b| b >> 4) {
            Some(4) => self.ipv4(place, data),
            Some(6) => self.ipv6(place, data),
            Some(_) => self.bad(place, "IP version is neither 4 nor 6"),
            None => self.short(place, "an IP header"),
        }
    }

    #[inline]
    fn ipv4(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        let Some(h) = data.first_chunk::<20>() else {
            return self.short(place, "an IPv4 header");
        };
        let header_len = u16::from(h[0] & 0x0f).saturating_mul(4);
        let total = u16::from_be_bytes([h[2], h[3]]);
        if header_len < 20 || (total != 0 && total < header_len) {
            return self.bad(place, "IPv4 lengths contradict each other");
        }
        let captured = u32::try_from(data.len()).unwrap_or(u32::MAX);
        // Zero: a segment that the network card was to cut up (GSO), longer than the field can say.
        let wire = if total == 0 {
            captured.saturating_add(place.cut)
        } else {
            u32::from(total)
        };
        // Behind the packet's end there may be padding or a frame check sequence.
        let end = data.len().min(usize::try_from(wire).unwrap_or(usize::MAX));
        let Some(payload) = data.get(usize::from(header_len)..end) else {
            return self.short(place, "IPv4 options");
        };
        if wire > captured.saturating_add(place.cut) {
            self.lies(place);
        }
        let header = IpHeader {
            src: IpAddr::V4(Ipv4Addr::new(h[12], h[13], h[14], h[15])),
            dst: IpAddr::V4(Ipv4Addr::new(h[16], h[17], h[18], h[19])),
            protocol: h[9],
            id: u16::from_be_bytes([h[4], h[5]]),
            wire_len: wire.saturating_sub(u32::from(header_len)),
        };
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        if fragment & 0x3fff == 0 {
            self.transport(place, &header, payload)
        } else {
            let fragment = Fragment {
                id: u32::from(header.id),
                offset: u32::from(fragment & 0x1fff).saturating_mul(8),
                more: fragment & 0x2000 != 0,
            };
            self.fragment(place, &header, fragment, payload)
        }
    }

    fn ipv6(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        let Some((h, rest)) = data.split_first_chunk::<40>() else {
            return self.short(place, "an IPv6 header");
        };
        let captured = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let declared = u16::from_be_bytes([h[4], h[5]]);
        // Zero: a jumbogram (RFC 2675) or a segment longer than the field can say.
        let mut wire = if declared == 0 {
            captured.saturating_add(place.cut)
        } else {
            u32::from(declared)
        };
        if wire > captured.saturating_add(place.cut) {
            self.lies(place);
        }
        let end = rest.len().min(usize::try_from(wire).unwrap_or(usize::MAX));
        let mut payload = rest.get(..end).unwrap_or_default();
        let mut next = h[6];
        let (_, addresses) = h.split_at(8);
        let (src, dst) = addresses.split_at(16);
        let address = |a: &[u8]| IpAddr::V6(Ipv6Addr::from(a.first_chunk().copied().unwrap_or([0_u8; 16])));
        let (src, dst) = (address(src), address(dst));
        let mut place = place;
        loop {
            // RFC 8200 section 4; the length of AH (RFC 4302) counts in words.
            let len = match next {
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DESTINATION
                | protocol::MOBILITY
                | protocol::HIP
                | protocol::SHIM6 => match payload {
                    [_, n, ..] => usize::from(*n).saturating_add(1).saturating_mul(8),
                    _ => return self.short(place, "an IPv6 extension header"),
                },
                protocol::AUTHENTICATION => match payload {
                    [_, n, ..] => usize::from(*n).saturating_add(2).saturating_mul(4),
                    _ => return self.short(place, "an authentication header"),
                },
                protocol::FRAGMENT => 8,
                _ => break,
            };
            let Some((extension, rest)) = payload.split_at_checked(len) else {
                return self.short(place, "an IPv6 extension header");
            };
            let Some(deeper) = self.deeper(place) else {
                return Decoded::Other;
            };
            place = deeper;
            wire = wire.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
            payload = rest;
            if next == protocol::FRAGMENT
                && let Some(f) = extension.first_chunk::<8>()
            {
                let bits = u16::from_be_bytes([f[2], f[3]]);
                // An atomic fragment (RFC 6946) is a whole packet.
                if bits & 0xfff9 != 0 {
                    let header = IpHeader {
                        src,
                        dst,
                        protocol: f[0],
                        id: 0,
                        wire_len: wire,
                    };
                    let fragment = Fragment {
                        id: u32::from_be_bytes([f[4], f[5], f[6], f[7]]),
                        offset: u32::from(bits & 0xfff8),
                        more: bits & 1 == 1,
                    };
                    return self.fragment(place, &header, fragment, payload);
                }
            }
            next = extension.first().copied().unwrap_or(59);
        }
        let header = IpHeader {
            src,
            dst,
            protocol: next,
            id: 0,
            wire_len: wire,
        };
        self.transport(place, &header, payload)
    }

    /// The IP length is more than there was on the wire.
    #[cold]
    fn lies(&mut self, place: Place<'_>) {
        let _: Decoded = self.short(place, "the length in the IP header");
    }

    /// What follows the IP header.
    #[inline]
    pub(super) fn transport(&mut self, place: Place<'_>, ip: &IpHeader, data: &[u8]) -> Decoded {
        match ip.protocol {
            protocol::TCP => self.tcp(place, ip, data),
            protocol::UDP => self.udp(place, ip, data),
            protocol::GRE => self.gre(place, data),
            protocol::IPV4 | protocol::IPV6 => self.ip_in_ip(place, data),
            // After reassembly, and AH in IPv4.
            protocol::AUTHENTICATION => self.authentication(place, ip, data),
            protocol::DESTINATION | protocol::HOP_BY_HOP | protocol::ROUTING if ip.src.is_ipv6() => {
                self.extension_after_fragment(place, ip, data)
            }
            _ => {
                bump(&mut self.counters.other_ip);
                Decoded::Other
            }
        }
    }

    fn authentication(&mut self, place: Place<'_>, ip: &IpHeader, data: &[u8]) -> Decoded {
        let Some(place) = self.deeper(place) else {
            return Decoded::Other;
        };
        let next_and_rest = match data {
            [next, n, ..] => {
                let len = usize::from(*n).saturating_add(2).saturating_mul(4);
                data.get(len..).map(|rest| (*next, len, rest))
            }
            _ => None,
        };
        let Some((next, len, rest)) = next_and_rest else {
            return self.short(place, "an authentication header");
        };
        self.after(place, ip, next, len, rest)
    }

    /// Destination options and the like inside the fragmentable part.
    fn extension_after_fragment(&mut self, place: Place<'_>, ip: &IpHeader, data: &[u8]) -> Decoded {
        let Some(place) = self.deeper(place) else {
            return Decoded::Other;
        };
        let next_and_rest = match data {
            [next, n, ..] => {
                let len = usize::from(*n).saturating_add(1).saturating_mul(8);
                data.get(len..).map(|rest| (*next, len, rest))
            }
            _ => None,
        };
        let Some((next, len, rest)) = next_and_rest else {
            return self.short(place, "an IPv6 extension header");
        };
        self.after(place, ip, next, len, rest)
    }

    fn after(&mut self, place: Place<'_>, ip: &IpHeader, next: u8, len: usize, rest: &[u8]) -> Decoded {
        let header = IpHeader {
            protocol: next,
            wire_len: ip.wire_len.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX)),
            ..*ip
        };
        self.transport(place, &header, rest)
    }
}
