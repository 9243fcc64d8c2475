//! Frame headers (RFC 6455 section 5.2).

use crate::proto::reader::Reader;

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;

/// Longest header.
pub(super) const MAX_HEADER: usize = 14;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    /// RSV1: the message is compressed.
    pub(super) compressed: bool,
    pub(super) opcode: u8,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
    /// Octets of the header.
    pub(super) header: usize,
}

impl Frame {
    pub(super) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }

    /// Reads a header; `Ok(None)` while it is not whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut reader = Reader::new(bytes);
        let (Some(first), Some(second)) = (reader.u8(), reader.u8()) else {
            return Ok(None);
        };
        let opcode = first & 0x0f;
        if first & 0x30 != 0 {
            return Err("reserved bits set");
        }
        if !matches!(opcode, CONTINUATION..=BINARY | CLOSE..=10) {
            return Err("unknown opcode");
        }
        let short = second & 0x7f;
        let length = match short {
            126 => reader.u16().map(u64::from),
            127 => reader.array().map(u64::from_be_bytes),
            n => Some(u64::from(n)),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let minimal = match short {
            126 => length > 125,
            127 => length > 0xffff && length <= u64::MAX.wrapping_shr(1),
            _ => true,
        };
        if !minimal {
            return Err("length not in its shortest form");
        }
        let fin = first & 0x80 != 0;
        if opcode >= CLOSE && (!fin || length > 125) {
            return Err("control frame that is fragmented or too long");
        }
        let mask = if second & 0x80 != 0 {
            match reader.array() {
                Some(key) => Some(key),
                None => return Ok(None),
            }
        } else {
            None
        };
        Ok(Some(Self {
            fin,
            compressed: first & 0x40 != 0,
            opcode,
            mask,
            length,
            header: bytes.len().saturating_sub(reader.rest().len()),
        }))
    }
}

/// After lost bytes: does `data`, the start of a segment, begin with frames of a sender
/// that masks or does not?
pub(super) fn plausible(data: &[u8], masked: bool) -> bool {
    let mut rest = data;
    let mut found = false;
    while !rest.is_empty() {
        let Ok(frame) = Frame::parse(rest) else {
            return false;
        };
        let Some(frame) = frame else {
            return found;
        };
        if frame.mask.is_some() != masked {
            return false;
        }
        found = true;
        let end = usize::try_from(frame.length)
            .unwrap_or(usize::MAX)
            .saturating_add(frame.header);
        rest = rest.get(end..).unwrap_or_default();
    }
    found
}
/// Does `data` begin with a plain text frame that holds JSON? If so, whether it is masked. Two octets of header are
/// too little to go by for any other frame.
pub(super) fn joins(data: &[u8]) -> Option<bool> {
    let frame = Frame::parse(data).ok()??;
    let masked = frame.mask.is_some();
    let first = data.get(frame.header)? ^ frame.mask.map_or(0, |[key, ..]| key);
    let json = matches!(first, b'{' | b'[');
    (json && frame.opcode == TEXT && !frame.compressed && plausible(data, masked)).then_some(masked)
}
