//! HTTP/2 with prior knowledge (RFC 9113), header blocks without indexing or Huffman (RFC 7541).

use super::http::Request;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// Initial SETTINGS_MAX_FRAME_SIZE.
const MAX_FRAME: usize = 16_384;

/// Who has said hello.
#[derive(Default)]
pub(super) struct Preface {
    client: bool,
    server: bool,
}

impl Preface {
    pub(super) fn client(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.client, true) {
            out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            frame(out, SETTINGS, 0, 0, &[]);
        }
    }

    pub(super) fn server(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.server, true) {
            frame(out, SETTINGS, 0, 0, &[]);
            frame(out, SETTINGS, ACK, 0, &[]);
        }
    }
}

/// A request on a stream.
pub(super) fn request(out: &mut Vec<u8>, stream: u32, request: &Request) {
    let host = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut block = Vec::new();
    field(&mut block, ":method", &request.method);
    field(&mut block, ":scheme", "http");
    if let Some((_, host)) = host {
        field(&mut block, ":authority", host);
    }
    field(&mut block, ":path", &request.target);
    fields(&mut block, &request.headers);
    let end = request.body.is_empty();
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(out, HEADERS, flags, stream, &block);
    if !end {
        data(out, stream, &request.body, true);
    }
}

/// A response; `end`: there is no more of it.
pub(super) fn response(
    out: &mut Vec<u8>,
    stream: u32,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    end: bool,
) {
    let mut block = Vec::new();
    field(&mut block, ":status", &status.to_string());
    fields(&mut block, headers);
    let last = end && body.is_empty();
    let flags = END_HEADERS | if last { END_STREAM } else { 0 };
    frame(out, HEADERS, flags, stream, &block);
    if !body.is_empty() {
        data(out, stream, body, end);
    }
}

/// Part of a body.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, bytes: &[u8], end: bool) {
    let mut pieces = bytes.chunks(MAX_FRAME).peekable();
    if pieces.peek().is_none() && end {
        frame(out, DATA, END_STREAM, stream, &[]);
    }
    while let Some(piece) = pieces.next() {
        let last = end && pieces.peek().is_none();
        frame(out, DATA, if last { END_STREAM } else { 0 }, stream, piece);
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn fields(block: &mut Vec<u8>, headers: &[(String, String)]) {
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        // Section 8.2.2: these belong to one connection.
        if !matches!(
            name.as_str(),
            "host" | "connection" | "keep-alive" | "transfer-encoding" | "upgrade"
        ) {
            field(block, &name, value);
        }
    }
}

/// Literal without indexing, new name.
fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        integer(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// With a prefix of 7 bits, the first bit (Huffman) zero.
fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}
