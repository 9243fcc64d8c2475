//! Finds JSON-RPC messages in bytes whose framing was not captured.
//!
//! A capture that begins in the middle of a body, or lost the head of one, still holds whole messages. They
//! begin where a line does: a JSON body after the empty line that ends its head, an SSE event with `data:`. What
//! is found is a whole JSON text; whether it is a message is for [`super::jsonrpc`] to say.
//!
//! The chunked coding may cut a text anywhere. Inside a string a line break can be nothing else (RFC 8259 has
//! it escaped there), so that cut is mended; elsewhere only where a chunk size stood before the text.

use bytes::{Bytes, BytesMut};

use super::{held::Share, json};
use crate::types::{Anomaly, AnomalyKind, PacketId};

/// A JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) text: Bytes,
    /// It was the data of an SSE event.
    pub(super) sse: bool,
    /// Packet in which it began.
    pub(super) first: PacketId,
}

/// One direction of a connection, or one body. Takes bytes in any pieces, in time linear in their length, and
/// keeps no more than the text under way.
#[derive(Debug)]
pub(super) struct Scanner {
    cap: usize,
    state: State,
    /// The line before held a chunk size.
    sized: bool,
    text: BytesMut,
    first: PacketId,
    /// Bytes since a line break inside a text, until they say what it was.
    held: Vec<u8>,
    over: u64,
    share: Share,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes into a line that may still become `data:` or a chunk size.
    Line {
        len: usize,
        data: bool,
        size: bool,
    },
    /// After `data:`.
    Data,
    /// Nothing begins before the next line.
    Skip,
    Text(Text),
}

#[derive(Clone, Copy, Debug)]
struct Text {
    depth: u32,
    string: bool,
    escaped: bool,
    sse: bool,
    /// It began a chunk.
    chunked: bool,
}

const LINE: State = State::Line {
    len: 0,
    data: true,
    size: true,
};
const DATA: &[u8] = b"data:";
/// Digits of a chunk size that are believed: 4 GiB.
const MAX_SIZE_DIGITS: usize = 8;

/// What the bytes held since a line break are.
enum Break {
    /// More are needed to tell.
    Open,
    /// Not part of the text: the frame of a chunk, or the start of the next `data` line.
    Framing,
    /// White space of the text, and the byte that followed.
    Space,
    /// The end of a text that never ended.
    End,
}

impl Scanner {
    /// Texts above `cap` bytes are passed over; what is held is counted in `share`.
    pub(super) fn new(cap: usize, share: Share) -> Self {
        Self {
            cap,
            state: LINE,
            sized: false,
            text: BytesMut::new(),
            first: PacketId::default(),
            held: Vec::new(),
            over: 0,
            share,
        }
    }

    /// The next bytes. Says so where a text was above the cap.
    pub(super) fn push(&mut self, data: &[u8], packet: PacketId, out: &mut Vec<Found>) -> Option<Anomaly> {
        let mut rest = data;
        while let Some(byte) = rest.first().copied() {
            let run = match self.state {
                State::Skip => memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()),
                State::Text(text) if self.held.is_empty() => self.run(text, rest),
                _ => 0,
            };
            if run > 0 {
                rest = rest.get(run..).unwrap_or_default();
                continue;
            }
            self.byte(byte, packet, out);
            rest = rest.get(1..).unwrap_or_default();
        }
        self.share.set(self.text.len());
        let over = std::mem::take(&mut self.over);
        (over > 0).then(|| {
            let detail = format!("{over} JSON texts above {} bytes", self.cap);
            Anomaly::new(AnomalyKind::BodyLimit, detail)
        })
    }

    /// Bytes are missing here; a line may begin after them.
    pub(super) fn gap(&mut self) {
        self.drop_text();
        self.state = LINE;
        self.sized = false;
    }

    fn drop_text(&mut self) {
        self.text = BytesMut::new();
        self.share.set(0);
        self.held = Vec::new();
    }

    /// Takes what needs no look at each byte: the inside of a string. How many bytes it took.
    fn run(&mut self, text: Text, rest: &[u8]) -> usize {
        if !text.string || text.escaped {
            return 0;
        }
        let plain = rest
            .iter()
            .take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f))
            .count();
        if self.room(plain) {
            self.text.extend_from_slice(rest.get(..plain).unwrap_or_default());
        }
        plain
    }

    /// Room for so many bytes more; else the text is given up.
    fn room(&mut self, more: usize) -> bool {
        let fits = self.text.len().saturating_add(more) <= self.cap;
        if !fits {
            self.over = self.over.saturating_add(1);
            self.drop_text();
            self.state = State::Skip;
        }
        fits
    }

    fn byte(&mut self, byte: u8, packet: PacketId, out: &mut Vec<Found>) {
        match self.state {
            State::Text(text) => self.text_byte(text, byte, packet, out),
            State::Line { len: 0, .. } | State::Data if matches!(byte, b'{' | b'[') => {
                let text = Text {
                    depth: 1,
                    string: false,
                    escaped: false,
                    sse: matches!(self.state, State::Data),
                    chunked: self.sized,
                };
                self.first = packet;
                self.text.extend_from_slice(&[byte]);
                self.state = State::Text(text);
            }
            State::Data if byte == b' ' => {}
            State::Line { len, size, .. } if matches!(byte, b'\r' | b'\n') => {
                // The LF of a CR LF is an empty line that says nothing.
                if len > 0 {
                    self.sized = size;
                }
                self.state = LINE;
            }
            State::Skip | State::Data => {
                if matches!(byte, b'\r' | b'\n') {
                    self.sized = false;
                    self.state = LINE;
                } else {
                    self.state = State::Skip;
                }
            }
            State::Line { len, data, size } => {
                let data = data && DATA.get(len) == Some(&byte);
                let len = len.saturating_add(1);
                let size = size && byte.is_ascii_hexdigit() && len <= MAX_SIZE_DIGITS;
                self.state = if data && len == DATA.len() {
                    State::Data
                } else if data || size {
                    State::Line { len, data, size }
                } else {
                    State::Skip
                };
            }
        }
    }

    fn text_byte(&mut self, mut text: Text, byte: u8, packet: PacketId, out: &mut Vec<Found>) {
        let breaks = matches!(byte, b'\r' | b'\n') && (text.string || text.sse || text.chunked);
        if breaks || !self.held.is_empty() {
            self.held.push(byte);
            match resolve(&self.held, text) {
                Break::Open => return,
                Break::Framing => return self.held.clear(),
                Break::Space => {
                    let held = std::mem::take(&mut self.held);
                    let before = held.len().saturating_sub(1);
                    if !self.room(before) {
                        return;
                    }
                    self.text
                        .extend_from_slice(held.get(..before).unwrap_or_default());
                }
                Break::End => {
                    let held = std::mem::take(&mut self.held);
                    self.drop_text();
                    self.state = State::Skip;
                    // None of these but the last can begin a text, so this does not go on.
                    return held.into_iter().for_each(|byte| self.byte(byte, packet, out));
                }
            }
        }
        let legal = if text.string {
            byte >= 0x20
        } else {
            matches!(
                byte,
                b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':'
            ) || matches!(byte, b'-' | b'+' | b'.')
                || byte.is_ascii_alphanumeric()
        };
        if !legal || text.depth > json::MAX_DEPTH {
            self.drop_text();
            self.state = State::Skip;
            return;
        }
        if !self.room(1) {
            return;
        }
        self.text.extend_from_slice(&[byte]);
        if text.string {
            let escaped = std::mem::take(&mut text.escaped);
            text.escaped = byte == b'\\' && !escaped;
            text.string = byte != b'"' || escaped;
        } else {
            match byte {
                b'"' => text.string = true,
                b'{' | b'[' => text.depth = text.depth.saturating_add(1),
                b'}' | b']' => text.depth = text.depth.saturating_sub(1),
                _ => {}
            }
        }
        if text.depth > 0 {
            self.state = State::Text(text);
            return;
        }
        self.state = LINE;
        self.sized = false;
        out.push(Found {
            text: self.text.split().freeze(),
            sse: text.sse,
            first: self.first,
        });
    }
}

/// What bytes that begin with a line break inside a text mean.
fn resolve(held: &[u8], text: Text) -> Break {
    let mut open = false;
    if text.string || text.chunked {
        match chunk_frame(held) {
            Some(true) => return Break::Framing,
            Some(false) => open = true,
            None => {}
        }
    }
    if text.sse && !text.string {
        let line = held
            .strip_prefix(b"\r\n")
            .or_else(|| held.strip_prefix(b"\n"))
            .or_else(|| held.strip_prefix(b"\r"))
            .unwrap_or(held);
        if line == DATA {
            return Break::Framing;
        }
        open |= DATA.starts_with(line);
    }
    match (open, text.string || text.sse) {
        (true, _) => Break::Open,
        (false, true) => Break::End,
        (false, false) => Break::Space,
    }
}

/// CR LF, a chunk size, CR LF: all of it, or its beginning; `None` if it is not that.
fn chunk_frame(held: &[u8]) -> Option<bool> {
    if b"\r\n".starts_with(held) {
        return Some(false);
    }
    let rest = held.strip_prefix(b"\r\n")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits > MAX_SIZE_DIGITS {
        return None;
    }
    match rest.get(digits..).unwrap_or_default() {
        [] => Some(false),
        b"\r" if digits > 0 => Some(false),
        b"\r\n" if digits > 0 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(pieces: &[&[u8]], cap: usize) -> (Vec<(String, bool)>, usize) {
        let mut scanner = Scanner::new(cap, Share::default());
        let mut found = Vec::new();
        let mut push = |piece: &&[u8]| scanner.push(piece, PacketId::default(), &mut found).is_some();
        let anomalies = pieces.iter().filter(|piece| push(piece)).count();
        let text = |f: Found| (String::from_utf8(f.text.to_vec()).unwrap(), f.sse);
        (found.into_iter().map(text).collect(), anomalies)
    }

    const STREAM: &[u8] = b"tail of something\"}\r\n\r\n\
        2f\r\nevent: message\r\ndata: {\"id\":1,\"a\":\"{\\\"}\"}\r\n\r\n\r\n\
        10\r\ndata: {\"split\r\n3\r\n\":[\r\n4\r\n2,3]\r\n5\r\n}\n\n: \r\n\
        0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"id\":2,\r\n \"b\":[ 1 ]}\
        HTTP/1.1 200 OK\r\n\r\n[{\"id\":3}]HTTP/1.1 204 No Content\r\n\r\n\
        data: {\"id\":4,\ndata: \"c\":5}\n\ndata: {\"cut\":\ndata: not json\n\n";

    fn expected() -> Vec<(String, bool)> {
        [
            (r#"{"id":1,"a":"{\"}"}"#, true),
            (r#"{"split":[2,3]}"#, true),
            ("{\"id\":2,\r\n \"b\":[ 1 ]}", false),
            (r#"[{"id":3}]"#, false),
            (r#"{"id":4, "c":5}"#, true),
        ]
        .map(|(text, sse)| (text.to_owned(), sse))
        .into()
    }

    #[test]
    fn finds_texts_at_the_starts_of_lines() {
        assert_eq!(scan(&[STREAM], 1000).0, expected());
    }

    #[test]
    fn a_text_that_lost_its_beginning_or_its_end_is_none() {
        let mut scanner = Scanner::new(100, Share::default());
        let mut out = Vec::new();
        scanner.push(b"\"x\":1}\n{\"cut\":", PacketId::default(), &mut out);
        scanner.gap();
        scanner.push(b"1}\n{\"whole\":1}", PacketId::default(), &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn the_cap_and_the_depth_hold() {
        let long = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(200));
        assert_eq!(scan(&[long.as_bytes()], 100), (vec![("{}".to_owned(), false)], 1));
        let deep = format!("{}\n{{}}", "[".repeat(1000));
        assert_eq!(scan(&[deep.as_bytes()], 10_000).0.len(), 1);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in prop::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| &STREAM[w[0]..w[1]]).collect();
            prop_assert_eq!(scan(&pieces, 1000).0, expected());
        }

        #[test]
        fn any_bytes(pieces in prop::collection::vec("[{}\"\\\\\r\ndat:a1, ]{0,20}", 0..20)) {
            let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
            let whole = pieces.concat();
            prop_assert_eq!(scan(&pieces, 30).0, scan(&[&whole], 30).0);
        }
    }
}
