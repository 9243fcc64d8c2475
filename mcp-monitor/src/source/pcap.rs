//! The classic pcap format (draft-ietf-opsawg-pcap) and its variants.

use std::io;

use super::{
    LinkType, Packet,
    blocks::Blocks,
    file::{Extras, HeaderError, MAX_PACKET, Step, timestamp},
};
use crate::types::PacketId;

/// What the magic number says.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    big_endian: bool,
    nanos: bool,
    /// Eight more bytes in each record header ("modified" pcap of Kuznetzov's patches).
    modified: bool,
}

/// Reader of one pcap file.
pub(super) struct Pcap {
    variant: Variant,
    link: LinkType,
    number: u64,
}

impl Pcap {
    /// The variant that starts with `magic`.
    pub(super) fn recognise(magic: [u8; 4]) -> Option<Variant> {
        let of = |value, big_endian| {
            let (nanos, modified) = match value {
                0xa1b2_c3d4_u32 => (false, false),
                0xa1b2_3c4d => (true, false),
                0xa1b2_cd34 => (false, true),
                _ => return None,
            };
            Some(Variant {
                big_endian,
                nanos,
                modified,
            })
        };
        of(u32::from_le_bytes(magic), false).or_else(|| of(u32::from_be_bytes(magic), true))
    }

    /// Bytes of the next record, as far as what is ahead tells.
    pub(super) fn next_len(&self, blocks: &Blocks) -> Option<usize> {
        let head = blocks.ahead().first_chunk::<16>()?;
        let captured = self.variant.u32([head[8], head[9], head[10], head[11]]);
        let head_len = if self.variant.modified { 24 } else { 16 };
        usize::try_from(captured).ok()?.checked_add(head_len)
    }

    /// Reads one record.
    #[inline]
    pub(super) fn step(&mut self, blocks: &mut Blocks, _: &mut Extras) -> io::Result<Step> {
        let head_len = if self.variant.modified { 24 } else { 16 };
        if !blocks.want(head_len)? {
            return Ok(match blocks.ahead().len() {
                0 => Step::End,
                n => Step::Broken(format!(
                    "found {n} bytes of the next record's {head_len}-byte header"
                )),
            });
        }
        let Some(head) = blocks.ahead().first_chunk::<16>() else {
            return Ok(Step::End);
        };
        let v = self.variant;
        let secs = v.u32([head[0], head[1], head[2], head[3]]);
        let fraction = v.u32([head[4], head[5], head[6], head[7]]);
        let captured = v.u32([head[8], head[9], head[10], head[11]]);
        let wire = v.u32([head[12], head[13], head[14], head[15]]);
        if captured > MAX_PACKET {
            return Ok(Step::Broken(format!(
                "the next record claims {captured} captured bytes, the limit is {MAX_PACKET}"
            )));
        }
        let len = usize::try_from(captured).unwrap_or(0);
        blocks.advance(head_len);
        if !blocks.want(len)? {
            let n = blocks.ahead().len();
            return Ok(Step::Broken(format!(
                "found {n} bytes of the next packet's {len}"
            )));
        }
        self.number = self.number.saturating_add(1);
        let nanos = if v.nanos {
            fraction
        } else {
            fraction.saturating_mul(1000)
        };
        Ok(Step::Packet(Packet {
            id: PacketId {
                order: 0,
                number: self.number,
                file: 0,
            },
            time: timestamp(secs, nanos),
            link: self.link,
            interface: 0,
            data: blocks.take(len),
            wire_len: wire.max(captured),
        }))
    }
}

impl Variant {
    #[inline]
    fn u32(self, b: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        }
    }

    /// Reads the file header.
    pub(super) fn open(self, blocks: &mut Blocks) -> Result<Pcap, HeaderError> {
        let whole = blocks.want(24)?;
        let Some(head) = blocks.ahead().first_chunk::<24>().filter(|_| whole) else {
            return Err(HeaderError::Bad {
                found: format!("a pcap header cut after {} bytes", blocks.ahead().len()),
                expected: "24 bytes",
            });
        };
        let link = self.u32([head[20], head[21], head[22], head[23]]);
        blocks.advance(24);
        Ok(Pcap {
            variant: self,
            // The upper bits tell of frame check sequences, which the IP length takes care of.
            link: LinkType(link & 0x03ff_ffff),
            number: 0,
        })
    }
}
