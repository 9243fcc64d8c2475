//! Frame headers (RFC 9113 section 4.1).

pub(super) const HEADER: usize = 9;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const GOAWAY: u8 = 7;
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
            GOAWAY => (frame.length >= 8, 0, Some(false)),
            8 => (frame.length == 4, 0, None),
            CONTINUATION => (true, END_HEADERS, Some(true)),
            ALTSVC => (frame.length >= 2, 0, None),
            // ORIGIN (RFC 8336) and PRIORITY_UPDATE (RFC 9218).
            12 => (true, 0, Some(false)),
            16 => (frame.length >= 4, 0, Some(false)),
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

/// Does a connection of which the start was not captured speak HTTP/2? More is asked than by [`plausible`], since
/// nothing else says so: frames end where the segment does, or follow one another, or DATA holds what MCP sends.
///
/// `Some(true)` where a header block shows that the client sent it, `Some(false)` that the server did.
pub(super) fn joins(data: &[u8]) -> Option<Option<bool>> {
    if !plausible(data) {
        return None;
    }
    let (mut rest, mut frames, mut sender, mut mcp) = (data, 0usize, None, false);
    while let Some(header) = rest.first_chunk::<HEADER>() {
        let frame = Frame::parse(*header);
        let end = HEADER.saturating_add(frame.length);
        let payload = rest.get(HEADER..end.min(rest.len())).unwrap_or_default();
        frames = frames.saturating_add(1);
        match frame.kind {
            DATA => {
                mcp |= [&b"{"[..], b"[{", b"data:", b"event:", b"id:", b":"]
                    .iter()
                    .any(|start| payload.starts_with(start));
            }
            HEADERS if !frame.has(PADDED) => {
                let block = if frame.has(PRIORITY) { 5 } else { 0 };
                // RFC 7541 appendix A: a block begins with a pseudo-header field.
                sender = match payload.get(block) {
                    Some(0x82..=0x87) => Some(true),
                    Some(0x88..=0x8e) => Some(false),
                    _ => sender,
                };
            }
            _ => {}
        }
        match rest.get(end..) {
            Some(after) => rest = after,
            None => return (frames > 1 || mcp).then_some(sender),
        }
    }
    // An empty SETTINGS or the like alone is little, but nine octets that fit in every field are enough.
    (rest.is_empty() || frames > 1).then_some(sender)
}
