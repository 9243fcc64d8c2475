//! TCP and UDP headers.

use std::net::SocketAddr;

use super::{Decoded, Decoder, TcpSegment, UdpDatagram, counters::bump, decoder::Place, ip::IpHeader};

impl Decoder {
    #[inline]
    pub(super) fn tcp(&mut self, place: Place<'_>, ip: &IpHeader, data: &[u8]) -> Decoded {
        let Some(h) = data.first_chunk::<20>() else {
            return self.short(place, "a TCP header");
        };
        let header_len = usize::from(h[12] >> 4).saturating_mul(4);
        let header_wire = u32::from(h[12] >> 4).saturating_mul(4);
        if header_len < 20 || header_wire > ip.wire_len {
            return self.bad(place, "TCP header length");
        }
        // Options cut by the snap length leave a segment whose whole payload is missing.
        let payload = data.get(header_len..).unwrap_or_default();
        let ports = (u16::from_be_bytes([h[0], h[1]]), u16::from_be_bytes([h[2], h[3]]));
        let duplicate = self.duplicates.tcp(place, ip, h);
        if duplicate {
            bump(&mut self.counters.duplicates);
        }
        bump(&mut self.counters.tcp);
        Decoded::Tcp(TcpSegment {
            at: place.at,
            scope: place.scope,
            src: SocketAddr::new(ip.src, ports.0),
            dst: SocketAddr::new(ip.dst, ports.1),
            seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
            flags: h[13],
            payload: place.owner.slice_ref(payload),
            wire_len: ip.wire_len.saturating_sub(header_wire),
            cookie: None,
            resumed: false,
            duplicate,
        })
    }

    #[inline]
    pub(super) fn udp(&mut self, place: Place<'_>, ip: &IpHeader, data: &[u8]) -> Decoded {
        let Some((h, rest)) = data.split_first_chunk::<8>() else {
            return self.short(place, "a UDP header");
        };
        let (src, dst) = (u16::from_be_bytes([h[0], h[1]]), u16::from_be_bytes([h[2], h[3]]));
        let available = ip.wire_len.saturating_sub(8);
        // Zero: longer than the field can say. More than IP carries: IP is right.
        let wire = match u16::from_be_bytes([h[4], h[5]]) {
            0 => available,
            1..8 => return self.bad(place, "UDP length below 8"),
            n => u32::from(n).saturating_sub(8).min(available),
        };
        let payload = rest
            .get(..rest.len().min(usize::try_from(wire).unwrap_or(usize::MAX)))
            .unwrap_or_default();
        if let Some(inner) = self.udp_tunnel(place, dst, payload) {
            return inner;
        }
        if self.duplicates.udp(place, ip, h, payload) {
            bump(&mut self.counters.duplicates);
            return Decoded::Other;
        }
        bump(&mut self.counters.udp);
        Decoded::Udp(UdpDatagram {
            at: place.at,
            scope: place.scope,
            src: SocketAddr::new(ip.src, src),
            dst: SocketAddr::new(ip.dst, dst),
            payload: place.owner.slice_ref(payload),
            wire_len: wire,
            cookie: None,
        })
    }
}
