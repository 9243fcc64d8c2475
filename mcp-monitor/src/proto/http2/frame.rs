//! Frame headers (RFC 9113 section 4.1).

pub(super) const HEADER: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const CONTINUATION: u8 = 9;
/// RFC 7838 section 4.
pub(super) const ALTSVC: u8 = 10;

pub(super) const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;

/// Length that every receiver takes (`SETTINGS_MAX_FRAME_SIZE` at its default).
const USUAL_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    pub(super) fn parse(header: [u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
        Self {
            length: usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// After lost bytes: does `data`, the start of a segment, begin with a frame? Every header
/// that lies in it must make sense.
pub(super) fn plausible(data: &[u8]) -> bool {
    let mut rest = data;
    let mut found = false;
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let frame = Frame::parse(*header);
        let reserved = header.get(5).is_some_and(|b| b & 0x80 != 0);
        let (sized, flags, on_stream) = match frame.kind {
            DATA => (true, END_STREAM | PADDED, Some(true)),
            HEADERS => (
                frame.length > 0,
                END_STREAM | END_HEADERS | PADDED | PRIORITY,
                Some(true),
            ),
            2 => (frame.length == 5, 0, Some(true)),
            RST_STREAM => (frame.length == 4, 0, Some(true)),
            4 => (frame.length.checked_rem(6) == Some(0), END_STREAM, Some(false)),
            PUSH_PROMISE => (frame.length >= 4, END_HEADERS | PADDED, Some(true)),
            6 => (frame.length == 8, END_STREAM, Some(false)),
            7 => (frame.length >= 8, 0, Some(false)),
            8 => (frame.length == 4, 0, None),
            _ => return false,
        };
        let placed = on_stream.is_none_or(|yes| yes == (frame.stream != 0));
        if reserved || !sized || frame.length > USUAL_MAX || frame.flags & !flags != 0 || !placed {
            return false;
        }
        found = true;
        let end = HEADER.saturating_add(frame.length);
        rest = rest.get(end..).unwrap_or_default();
    }
    found
}
