//! HTTP/1.1 and server-sent events as clients and servers write them.

use std::io::Write;

/// A body framed by `Content-Length`, after `head` (lines, each with its CRLF).
pub fn with_length(out: &mut Vec<u8>, head: &str, body: &[u8]) {
    let _ = write!(out, "{head}content-length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// A head that announces chunks.
pub fn chunked_head(out: &mut Vec<u8>, head: &str) {
    let _ = write!(out, "{head}transfer-encoding: chunked\r\n\r\n");
}

/// One chunk. An empty one ends the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// A whole body in chunks of this size.
pub fn chunks(out: &mut Vec<u8>, data: &[u8], size: usize) {
    for piece in data.chunks(size) {
        chunk(out, piece);
    }
    chunk(out, b"");
}

/// How a server writes its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventStyle {
    /// Ends its lines with CRLF.
    pub crlf: bool,
    /// Names the type of ordinary events.
    pub named: bool,
    /// Numbers its events.
    pub ids: bool,
}

/// One event.
pub fn event(style: EventStyle, name: &str, id: u64, data: &[u8]) -> Vec<u8> {
    let end = if style.crlf { "\r\n" } else { "\n" };
    let mut out = Vec::with_capacity(data.len() + 64);
    if style.named || name != "message" {
        let _ = write!(out, "event: {name}{end}");
    }
    if style.ids {
        let _ = write!(out, "id: {id:016x}{end}");
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    let _ = write!(out, "{end}{end}");
    out
}
