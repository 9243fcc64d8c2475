//! The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, packets, secrets, comments.

use std::io;

use super::{
    LinkType, Packet,
    blocks::Blocks,
    file::{Comment, Extras, HeaderError, MAX_COMMENTS, MAX_PACKET, MAX_SECRETS, Secrets, Step},
};
use crate::types::{PacketId, Timestamp};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;

/// Largest block that is read whole, as in Wireshark. Larger ones of unknown types are passed over.
const MAX_BLOCK: u32 = 16 << 20;
/// Largest packet block: the packet and 64 KiB of options.
const MAX_PACKET_BLOCK: u32 = MAX_PACKET + (64 << 10);
/// Interfaces described in one section; packets of later ones are counted as errors.
const MAX_INTERFACES: usize = 65_536;
/// Text of one comment that is kept.
const MAX_COMMENT: usize = 4096;

/// One interface description.
#[derive(Clone, Copy)]
struct Interface {
    link: LinkType,
    /// 0 is no limit.
    snaplen: u32,
    resolution: Resolution,
    /// Seconds to add to every time stamp.
    offset: i64,
}

/// `if_tsresol`: units per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Resolution {
    /// 10^-n seconds.
    Decimal(u8),
    /// 2^-n seconds.
    Binary(u8),
}

impl Resolution {
    fn nanos(self, units: u64) -> u64 {
        match self {
            Self::Decimal(9) => units,
            Self::Decimal(n @ 0..9) => {
                units.saturating_mul(10_u64.saturating_pow(u32::from(9_u8.saturating_sub(n))))
            }
            Self::Decimal(n) => 10_u64
                .checked_pow(u32::from(n.saturating_sub(9)))
                .and_then(|by| units.checked_div(by))
                .unwrap_or(0),
            Self::Binary(n) => u128::from(units)
                .saturating_mul(1_000_000_000)
                .checked_shr(u32::from(n))
                .map_or(0, |v| u64::try_from(v).unwrap_or(u64::MAX)),
        }
    }
}

/// Reader of one pcapng file.
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    number: u64,
    /// Time of the last packet that had one, for simple packet blocks.
    last: Timestamp,
}

impl PcapNg {
    /// Reads the first section header.
    pub(super) fn open(blocks: &mut Blocks, extras: &mut Extras) -> Result<Self, HeaderError> {
        let mut new = Self {
            big_endian: false,
            interfaces: Vec::new(),
            number: 0,
            last: Timestamp::default(),
        };
        match new.step(blocks, extras)? {
            Step::Broken(found) => Err(HeaderError::Bad {
                found: format!("a pcapng section header where {found}"),
                expected: "a whole section header block",
            }),
            _ => Ok(new),
        }
    }

    /// Bytes of the next block, as far as what is ahead tells.
    pub(super) fn next_len(&self, blocks: &Blocks) -> Option<usize> {
        let head = blocks.ahead().first_chunk::<8>()?;
        usize::try_from(self.u32([head[4], head[5], head[6], head[7]])).ok()
    }

    /// Reads one block.
    pub(super) fn step(&mut self, blocks: &mut Blocks, extras: &mut Extras) -> io::Result<Step> {
        if !blocks.want(8)? {
            return Ok(match blocks.ahead().len() {
                0 => Step::End,
                n => Step::Broken(format!("found {n} bytes of the next block's 8-byte head")),
            });
        }
        let Some(head) = blocks.ahead().first_chunk::<8>() else {
            return Ok(Step::End);
        };
        let kind = [head[0], head[1], head[2], head[3]];
        let len = [head[4], head[5], head[6], head[7]];
        // The section header's own type reads the same in both orders; the order follows it.
        if u32::from_le_bytes(kind) == SECTION {
            if !blocks.want(12)? {
                return Ok(Step::Broken("the section header is cut".to_owned()));
            }
            self.big_endian = match blocks.ahead().get(8..12) {
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => false,
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => true,
                _ => return Ok(Step::Broken("the byte-order magic is none".to_owned())),
            };
        }
        let kind = self.u32(kind);
        let len = self.u32(len);
        let limit = match kind {
            ENHANCED_PACKET | SIMPLE_PACKET | OLD_PACKET => MAX_PACKET_BLOCK,
            SECTION | INTERFACE | DECRYPTION_SECRETS => MAX_BLOCK,
            _ => u32::MAX,
        };
        let least = if kind == SECTION { 28 } else { 12 };
        if len < least || !len.is_multiple_of(4) || len > limit {
            return Ok(Step::Broken(format!(
                "the next block (type {kind:#x}) claims a length of {len} bytes, expected a multiple of 4 from {least} to {limit}"
            )));
        }
        if limit == u32::MAX {
            extras.counters.skipped_blocks = extras.counters.skipped_blocks.saturating_add(1);
            return Ok(if blocks.skip(u64::from(len))? {
                Step::Again
            } else {
                Step::Broken("the last block is cut".to_owned())
            });
        }
        let len = usize::try_from(len).unwrap_or(0);
        if !blocks.want(len)? {
            let n = blocks.ahead().len();
            return Ok(Step::Broken(format!("found {n} bytes of the next block's {len}")));
        }
        let body = 8..len.saturating_sub(4);
        Ok(match kind {
            ENHANCED_PACKET => self.enhanced(blocks, len, extras),
            SIMPLE_PACKET => self.simple(blocks, len, extras),
            OLD_PACKET => self.old(blocks, len, extras),
            other => {
                let block = blocks.take(len);
                let body = block.get(body).unwrap_or_default();
                match other {
                    SECTION => {
                        self.interfaces.clear();
                        self.comments(body.get(16..).unwrap_or_default(), None, extras);
                    }
                    INTERFACE => self.interface(body, extras),
                    _ => self.secrets(body, extras),
                }
                Step::Again
            }
        })
    }

    fn enhanced(&mut self, blocks: &mut Blocks, len: usize, extras: &mut Extras) -> Step {
        self.number = self.number.saturating_add(1);
        // Block head (8) and the fixed fields (20).
        let Some(h) = blocks.ahead().first_chunk::<28>().filter(|_| len >= 32) else {
            return skip_bad(blocks, len, extras);
        };
        let interface = self.u32([h[8], h[9], h[10], h[11]]);
        let high = self.u32([h[12], h[13], h[14], h[15]]);
        let low = self.u32([h[16], h[17], h[18], h[19]]);
        let captured = self.u32([h[20], h[21], h[22], h[23]]);
        let wire = self.u32([h[24], h[25], h[26], h[27]]);
        self.packet(
            blocks,
            len,
            28,
            interface,
            Some((high, low)),
            captured,
            wire,
            extras,
        )
    }

    fn old(&mut self, blocks: &mut Blocks, len: usize, extras: &mut Extras) -> Step {
        self.number = self.number.saturating_add(1);
        let Some(h) = blocks.ahead().first_chunk::<28>().filter(|_| len >= 32) else {
            return skip_bad(blocks, len, extras);
        };
        let interface = u32::from(self.u16([h[8], h[9]]));
        let high = self.u32([h[12], h[13], h[14], h[15]]);
        let low = self.u32([h[16], h[17], h[18], h[19]]);
        let captured = self.u32([h[20], h[21], h[22], h[23]]);
        let wire = self.u32([h[24], h[25], h[26], h[27]]);
        self.packet(
            blocks,
            len,
            28,
            interface,
            Some((high, low)),
            captured,
            wire,
            extras,
        )
    }

    fn simple(&mut self, blocks: &mut Blocks, len: usize, extras: &mut Extras) -> Step {
        self.number = self.number.saturating_add(1);
        let Some(h) = blocks.ahead().first_chunk::<12>().filter(|_| len >= 16) else {
            return skip_bad(blocks, len, extras);
        };
        let wire = self.u32([h[8], h[9], h[10], h[11]]);
        let room = u32::try_from(len.saturating_sub(16)).unwrap_or(0);
        let snaplen = self.interfaces.first().map_or(0, |i| i.snaplen);
        let snapped = if snaplen == 0 { wire } else { wire.min(snaplen) };
        self.packet(blocks, len, 12, 0, None, snapped.min(room), wire, extras)
    }

    /// Cuts the packet out of a block that is wholly ahead.
    #[expect(clippy::too_many_arguments, reason = "the fields of three block types")]
    fn packet(
        &mut self,
        blocks: &mut Blocks,
        len: usize,
        head: usize,
        interface: u32,
        stamp: Option<(u32, u32)>,
        captured: u32,
        wire: u32,
        extras: &mut Extras,
    ) -> Step {
        let described = usize::try_from(interface)
            .ok()
            .and_then(|i| self.interfaces.get(i))
            .copied();
        let size = usize::try_from(captured).unwrap_or(usize::MAX);
        // The fixed fields and the trailing length.
        let room = len.saturating_sub(head).saturating_sub(4);
        let (Some(described), true) = (described, size <= room && captured <= MAX_PACKET) else {
            return skip_bad(blocks, len, extras);
        };
        let padded = size.next_multiple_of(4).min(room);
        let mut block = blocks.take(len);
        if room > padded {
            let options = block
                .get(head.saturating_add(padded)..len.saturating_sub(4))
                .unwrap_or_default();
            self.comments(options, Some(self.number), extras);
        }
        drop(block.split_to(head.min(block.len())));
        block.truncate(size);
        if let Some((high, low)) = stamp {
            let units = (u64::from(high) << 32) | u64::from(low);
            let nanos = described.resolution.nanos(units);
            let offset = i128::from(described.offset).saturating_mul(1_000_000_000);
            let nanos = i128::from(nanos)
                .saturating_add(offset)
                .clamp(0, i128::from(u64::MAX));
            self.last = Timestamp(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        Step::Packet(Packet {
            id: PacketId {
                order: 0,
                number: self.number,
                file: 0,
            },
            time: self.last,
            link: described.link,
            interface,
            data: block,
            wire_len: wire.max(captured),
        })
    }

    fn interface(&mut self, body: &[u8], extras: &mut Extras) {
        let Some((h, options)) = body.split_first_chunk::<8>() else {
            extras.counters.errors = extras.counters.errors.saturating_add(1);
            return;
        };
        let mut new = Interface {
            link: LinkType(u32::from(self.u16([h[0], h[1]]))),
            snaplen: self.u32([h[4], h[5], h[6], h[7]]),
            resolution: Resolution::Decimal(6),
            offset: 0,
        };
        for (code, value) in self.options(options) {
            match (code, value) {
                // if_tsresol
                (9, [n, ..]) if n & 0x80 != 0 => new.resolution = Resolution::Binary(n & 0x7f),
                (9, [n, ..]) => new.resolution = Resolution::Decimal(*n),
                // if_tsoffset
                (14, value) => {
                    if let Some(v) = value.first_chunk::<8>() {
                        new.offset = if self.big_endian {
                            i64::from_be_bytes(*v)
                        } else {
                            i64::from_le_bytes(*v)
                        };
                    }
                }
                _ => {}
            }
        }
        self.comments(options, None, extras);
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(new);
        }
    }

    fn secrets(&self, body: &[u8], extras: &mut Extras) {
        let Some((h, rest)) = body.split_first_chunk::<8>() else {
            extras.counters.errors = extras.counters.errors.saturating_add(1);
            return;
        };
        let kind = self.u32([h[0], h[1], h[2], h[3]]);
        let len = usize::try_from(self.u32([h[4], h[5], h[6], h[7]])).unwrap_or(usize::MAX);
        let data = rest.get(..len.min(rest.len())).unwrap_or_default();
        let kept: usize = extras
            .secrets
            .iter()
            .map(|s| s.data.len().saturating_add(64))
            .sum();
        if kept.saturating_add(data.len()) > MAX_SECRETS {
            extras.counters.not_kept = extras.counters.not_kept.saturating_add(1);
        } else {
            extras.secrets.push(Secrets {
                kind,
                // A copy: keys are kept long, and must not keep the block alive.
                data: data.to_vec().into(),
            });
        }
    }

    fn comments(&self, options: &[u8], packet: Option<u64>, extras: &mut Extras) {
        for (code, value) in self.options(options) {
            if code != 1 {
                continue;
            }
            if extras.comments.len() >= MAX_COMMENTS {
                extras.counters.not_kept = extras.counters.not_kept.saturating_add(1);
                continue;
            }
            let text = value.get(..value.len().min(MAX_COMMENT)).unwrap_or_default();
            extras.comments.push(Comment {
                packet,
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
    }

    /// Options until `opt_endofopt` or the end.
    fn options<'a>(&self, mut rest: &'a [u8]) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let big_endian = self.big_endian;
        std::iter::from_fn(move || {
            let (h, after) = rest.split_first_chunk::<4>()?;
            let read = |b| {
                if big_endian {
                    u16::from_be_bytes(b)
                } else {
                    u16::from_le_bytes(b)
                }
            };
            let code = read([h[0], h[1]]);
            let len = usize::from(read([h[2], h[3]]));
            if code == 0 {
                return None;
            }
            let value = after.get(..len)?;
            rest = after.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((code, value))
        })
    }

    #[inline]
    fn u32(&self, b: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        }
    }

    #[inline]
    fn u16(&self, b: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(b)
        } else {
            u16::from_le_bytes(b)
        }
    }
}

/// Passes over a packet block whose fields make no sense; the block structure is still good.
fn skip_bad(blocks: &mut Blocks, len: usize, extras: &mut Extras) -> Step {
    blocks.advance(len);
    extras.counters.errors = extras.counters.errors.saturating_add(1);
    Step::Again
}

#[cfg(test)]
mod tests {
    use super::Resolution;

    #[test]
    fn units_become_nanoseconds() {
        assert_eq!(Resolution::Decimal(6).nanos(1_500_000), 1_500_000_000);
        assert_eq!(Resolution::Decimal(9).nanos(7), 7);
        assert_eq!(Resolution::Decimal(12).nanos(7_000), 7);
        assert_eq!(Resolution::Decimal(127).nanos(u64::MAX), 0);
        assert_eq!(Resolution::Decimal(0).nanos(2), 2_000_000_000);
        assert_eq!(Resolution::Decimal(0).nanos(u64::MAX), u64::MAX);
        assert_eq!(Resolution::Binary(10).nanos(1024), 1_000_000_000);
        assert_eq!(Resolution::Binary(127).nanos(u64::MAX), 0);
    }
}
