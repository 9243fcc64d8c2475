//! Tunnels: IP, Ethernet and MPLS inside GRE, ERSPAN, IP, VXLAN, Geneve and GTP-U.
//!
//! What is inside a tunnel gets a scope of its own, made from the kind of the tunnel and the number
//! that keeps its address spaces apart (VNI, GRE key), never from the outer addresses: both directions
//! and all paths of one inner connection must have one scope.

use super::{Decoded, Decoder, counters::bump, decoder::Place};
use crate::types::Scope;

/// Kinds of tunnel, as they enter the scope.
#[derive(Clone, Copy)]
enum Kind {
    Ip = 1,
    Gre = 2,
    /// The session id differs by mirror, and so by direction: it is left out.
    Erspan = 3,
    Vxlan = 4,
    Geneve = 5,
    /// The tunnel endpoint id differs by direction: it is left out.
    GtpU = 6,
}

/// Well-known ports (IANA), and Linux's older default for VXLAN.
const VXLAN: [u16; 2] = [4789, 8472];
const GENEVE: u16 = 6081;
const GTP_U: u16 = 2152;

impl Decoder {
    /// IPv4 or IPv6 right inside IP.
    pub(super) fn ip_in_ip(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        match self.enter(place, Kind::Ip, 0) {
            Some(place) => self.ip(place, data),
            None => Decoded::Other,
        }
    }

    /// GRE (RFC 2784, 2890), gretap, ERSPAN types I to III.
    pub(super) fn gre(&mut self, place: Place<'_>, data: &[u8]) -> Decoded {
        let Some((h, mut rest)) = data.split_first_chunk::<4>() else {
            return self.short(place, "a GRE header");
        };
        let flags = u16::from_be_bytes([h[0], h[1]]);
        let kind = u16::from_be_bytes([h[2], h[3]]);
        // Source routes (RFC 1701) and version 1 (PPTP).
        if flags & 0x4007 != 0 {
            return self.undecoded(place, "GRE with source routes or of version 1");
        }
        let mut word = |present: bool| {
            if !present {
                return Some(0);
            }
            let (w, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_be_bytes(*w))
        };
        let sequence = flags & 0x1000 != 0;
        let (Some(_), Some(key), Some(_)) = (
            word(flags & 0x8000 != 0),
            word(flags & 0x2000 != 0),
            word(sequence),
        ) else {
            return self.short(place, "a GRE header");
        };
        let (kind, inner) = match kind {
            // ERSPAN I has no sequence number and no header of its own.
            0x88be if !sequence => (Kind::Erspan, Some(rest)),
            0x88be => (Kind::Erspan, rest.get(8..)),
            0x22eb => {
                // ERSPAN III: the lowest bit says that a platform subheader follows.
                let len = if rest.get(11).is_some_and(|b| b & 1 == 1) {
                    20
                } else {
                    12
                };
                (Kind::Erspan, rest.get(len..))
            }
            other => {
                return match self.enter(place, Kind::Gre, key) {
                    Some(place) => self.ethertype(place, other, rest),
                    None => Decoded::Other,
                };
            }
        };
        match (inner, self.enter(place, kind, 0)) {
            (Some(inner), Some(place)) => self.ethernet(place, inner),
            (None, _) => self.short(place, "an ERSPAN header"),
            (_, None) => Decoded::Other,
        }
    }

    /// A tunnel in UDP, judged by the destination port and a header that fits. `None` if it is none.
    #[inline]
    pub(super) fn udp_tunnel(&mut self, place: Place<'_>, port: u16, data: &[u8]) -> Option<Decoded> {
        match port {
            _ if VXLAN.contains(&port) => self.vxlan(place, data),
            GENEVE => self.geneve(place, data),
            GTP_U => self.gtp_u(place, data),
            _ => None,
        }
    }

    /// RFC 7348: the I flag, a VNI, reserved zeros.
    fn vxlan(&mut self, place: Place<'_>, data: &[u8]) -> Option<Decoded> {
        let (h, frame) = data.split_first_chunk::<8>()?;
        if h[0] & 0x08 == 0 || h[7] != 0 || frame.len() < 14 {
            return None;
        }
        let vni = u32::from_be_bytes([0, h[4], h[5], h[6]]);
        Some(match self.enter(place, Kind::Vxlan, vni) {
            Some(place) => self.ethernet(place, frame),
            None => Decoded::Other,
        })
    }

    /// RFC 8926, version 0.
    fn geneve(&mut self, place: Place<'_>, data: &[u8]) -> Option<Decoded> {
        let (h, rest) = data.split_first_chunk::<8>()?;
        if h[0] & 0xc0 != 0 || h[7] != 0 {
            return None;
        }
        let inner = rest.get(usize::from(h[0] & 0x3f).saturating_mul(4)..)?;
        let vni = u32::from_be_bytes([0, h[4], h[5], h[6]]);
        Some(match self.enter(place, Kind::Geneve, vni) {
            Some(place) => self.ethertype(place, u16::from_be_bytes([h[2], h[3]]), inner),
            None => Decoded::Other,
        })
    }

    /// 3GPP TS 29.281, version 1, G-PDU, with its optional fields and extension headers.
    fn gtp_u(&mut self, place: Place<'_>, data: &[u8]) -> Option<Decoded> {
        let (h, mut rest) = data.split_first_chunk::<8>()?;
        if h[0] & 0xf0 != 0x30 || h[1] != 255 {
            return None;
        }
        if h[0] & 0x07 != 0 {
            let (options, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            let mut next = options[3];
            // Each extension is at least four bytes long, so this ends with the data.
            while h[0] & 0x04 != 0 && next != 0 {
                let len = usize::from(*rest.first()?).saturating_mul(4);
                let (extension, after) = rest.split_at_checked(len)?;
                next = *extension.last()?;
                rest = after;
            }
        }
        if !matches!(rest.first()? >> 4, 4 | 6) {
            return None;
        }
        Some(match self.enter(place, Kind::GtpU, 0) {
            Some(place) => self.ip(place, rest),
            None => Decoded::Other,
        })
    }

    fn enter<'a>(&mut self, place: Place<'a>, kind: Kind, number: u32) -> Option<Place<'a>> {
        let place = self.deeper(place)?;
        bump(&mut self.counters.tunnelled);
        let step = (u64::from(kind as u8) << 32) | u64::from(number);
        // Nesting matters: the same tunnel inside another is another space. (The multiplier is the
        // 64-bit golden ratio, odd, so different steps stay different.)
        let mixed = place
            .scope
            .0
            .rotate_left(23)
            .wrapping_add(step)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(Place {
            scope: Scope(mixed.max(1)),
            ..place
        })
    }
}
