//! The event stream interpreter (WHATWG HTML, section 9.2.6).

use bytes::{Buf, Bytes, BytesMut};

use super::SseEvent;
use crate::types::{Anomaly, AnomalyKind};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Decodes one stream, in any pieces, in time linear in its length.
///
/// An event whose data lies in one piece of the input on one line is dispatched without a
/// copy. An event that is not finished by an empty line is never dispatched.
#[derive(Debug)]
pub struct Decoder {
    max_event: usize,
    /// Bytes of the byte order mark seen at the start of the stream; `None` once past it.
    bom: Option<usize>,
    /// The last byte was a CR: an LF now belongs to it.
    after_cr: bool,
    /// The line that has begun.
    line: BytesMut,
    /// Bytes of it, kept or not.
    line_begun: bool,
    /// The rest of this event is passed over.
    skipping: Skip,
    event: Bytes,
    data: Data,
    id: Option<Bytes>,
    /// `id` field of the current event, in force from its dispatch on.
    next_id: Option<Bytes>,
    oversize: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Skip {
    No,
    /// Until the next empty line.
    Event,
    /// The same, unless what comes first is the start of a line of an event.
    AfterGap,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(line) => line.len(),
            Self::Many(lines) => lines.len(),
        }
    }

    fn add(&mut self, line: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(line),
            Self::One(first) => {
                let size = first.len().saturating_add(line.len()).saturating_add(1);
                let mut all = BytesMut::with_capacity(size);
                all.extend_from_slice(&first);
                join(&mut all, &line);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                join(&mut all, &line);
                Self::Many(all)
            }
        };
    }
}

fn join(all: &mut BytesMut, line: &[u8]) {
    all.extend_from_slice(b"\n");
    all.extend_from_slice(line);
}

impl Decoder {
    /// A decoder at the start of a stream. Events (type, id and data together) and lines
    /// above `max_event` bytes are passed over.
    pub fn new(max_event: usize) -> Self {
        Self {
            max_event,
            bom: Some(0),
            after_cr: false,
            line: BytesMut::new(),
            line_begun: false,
            skipping: Skip::No,
            event: Bytes::new(),
            data: Data::None,
            id: None,
            next_id: None,
            oversize: 0,
        }
    }

    /// The next bytes. Says so when events in them were above the limit.
    pub fn push(&mut self, data: Bytes, out: &mut Vec<SseEvent>) -> Option<Anomaly> {
        let mut data = data;
        self.strip_bom(&mut data);
        if self.skipping == Skip::AfterGap && !data.is_empty() {
            self.skipping = Skip::Event;
            if begins_event(&data) {
                self.skipping = Skip::No;
                self.line_begun = false;
            }
        }
        while !data.is_empty() {
            if std::mem::take(&mut self.after_cr) && data.first() == Some(&b'\n') {
                data.advance(1);
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &data) else {
                self.line_begun = true;
                self.keep(&data);
                break;
            };
            self.after_cr = data.get(end) == Some(&b'\r');
            let piece = data.split_to(end);
            data.advance(1);
            if self.skipping != Skip::No {
                if piece.is_empty() && !self.line_begun {
                    self.reset(Skip::No);
                }
                self.line_begun = false;
                continue;
            }
            self.line_begun = false;
            let line = if self.line.is_empty() {
                piece
            } else {
                self.line.extend_from_slice(&piece);
                std::mem::take(&mut self.line).freeze()
            };
            if line.is_empty() {
                self.dispatch(out);
            } else {
                self.field(line);
            }
        }
        let oversize = std::mem::take(&mut self.oversize);
        (oversize > 0).then(|| {
            let detail = format!("{oversize} events above {} bytes", self.max_event);
            Anomaly::new(AnomalyKind::SseLimit, detail)
        })
    }

    /// Bytes are missing here: the event they belong to is given up. Decoding goes on at
    /// the next empty line, or at once where the next piece begins with a field.
    pub fn gap(&mut self) {
        self.reset(Skip::AfterGap);
        self.bom = None;
        self.after_cr = false;
        // Whether a line has begun is unknown; taking it as begun loses an event rather
        // than making one up.
        self.line_begun = true;
    }

    fn strip_bom(&mut self, data: &mut Bytes) {
        let Some(mut seen) = self.bom else {
            return;
        };
        while let Some(byte) = data.first() {
            if BOM.get(seen) != Some(byte) {
                self.bom = None;
                if seen > 0 && seen < BOM.len() {
                    // It was none; its bytes belong to the first line.
                    self.line.extend_from_slice(BOM.get(..seen).unwrap_or_default());
                    self.line_begun = true;
                }
                return;
            }
            data.advance(1);
            seen = seen.saturating_add(1);
            if seen == BOM.len() {
                self.bom = None;
                return;
            }
        }
        self.bom = Some(seen);
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.skipping != Skip::No {
            return;
        }
        if self.size().saturating_add(piece.len()) > self.max_event {
            return self.give_up();
        }
        self.line.extend_from_slice(piece);
    }

    /// Bytes held of the event under way.
    pub fn held(&self) -> usize {
        self.size()
    }

    fn size(&self) -> usize {
        [self.data.len(), self.event.len(), self.line.len()]
            .iter()
            .chain(self.next_id.as_ref().map(Bytes::len).iter())
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn give_up(&mut self) {
        self.oversize = self.oversize.saturating_add(1);
        self.reset(Skip::Event);
    }

    fn reset(&mut self, skipping: Skip) {
        self.skipping = skipping;
        self.line = BytesMut::new();
        self.event = Bytes::new();
        self.data = Data::None;
        self.next_id = None;
    }

    fn field(&mut self, line: Bytes) {
        if self.size().saturating_add(line.len()) > self.max_event {
            return self.give_up();
        }
        let (name, value) = match memchr::memchr(b':', &line) {
            Some(0) => return,
            Some(colon) => {
                let mut value = line.slice(colon.saturating_add(1)..);
                if value.first() == Some(&b' ') {
                    value.advance(1);
                }
                (line.get(..colon).unwrap_or_default(), value)
            }
            None => (line.as_ref(), Bytes::new()),
        };
        match name {
            b"data" => self.data.add(value),
            b"event" => self.event = value,
            b"id" if memchr::memchr(0, &value).is_none() => self.next_id = Some(value),
            // `retry` only concerns who reconnects; other fields are ignored.
            _ => {}
        }
    }

    fn dispatch(&mut self, out: &mut Vec<SseEvent>) {
        if let Some(id) = self.next_id.take() {
            // Kept for the life of the stream: it must not keep a packet alive.
            self.id = Some(Bytes::copy_from_slice(&id));
        }
        let event = std::mem::take(&mut self.event);
        let data = match std::mem::take(&mut self.data) {
            Data::None => return,
            Data::One(line) => line,
            Data::Many(lines) => lines.freeze(),
        };
        out.push(SseEvent {
            event,
            data,
            id: self.id.clone(),
        });
    }
}

/// What comes right after lost bytes looks like the first line of an event.
fn begins_event(data: &[u8]) -> bool {
    [&b"event:"[..], b"data:", b"id:", b"retry:", b":"]
        .iter()
        .any(|field| data.starts_with(field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut decoder = Decoder::new(1 << 20);
        let mut out = Vec::new();
        for piece in pieces {
            assert_eq!(decoder.push(Bytes::copy_from_slice(piece), &mut out), None);
        }
        out
    }

    fn brief(events: &[SseEvent]) -> Vec<(&str, &str, Option<&str>)> {
        let text = |b| std::str::from_utf8(b).unwrap();
        events
            .iter()
            .map(|e| (text(&e.event), text(&e.data), e.id.as_deref().map(text)))
            .collect()
    }

    #[test]
    fn the_examples_of_the_specification() {
        let stock = decode(&[b"data: YHOO\ndata: +2\ndata: 10\n\n"]);
        assert_eq!(brief(&stock), [("", "YHOO\n+2\n10", None)]);
        let ids = decode(&[
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        ]);
        assert_eq!(
            brief(&ids),
            [
                ("", "first event", Some("1")),
                ("", "second event", Some("")),
                ("", " third event", Some(""))
            ]
        );
        let empty = decode(&[b"data\n\ndata\ndata\n\ndata:"]);
        assert_eq!(brief(&empty), [("", "", None), ("", "\n", None)]);
        let space = decode(&[b"data:test\n\ndata: test\n\n"]);
        assert_eq!(brief(&space), [("", "test", None), ("", "test", None)]);
    }

    #[test]
    fn the_priming_event_of_mcp_servers_is_an_event() {
        assert_eq!(brief(&decode(&[b"id: x\ndata: \n\n"])), [("", "", Some("x"))]);
    }

    #[test]
    fn without_data_nothing_is_dispatched_but_the_id_holds() {
        assert_eq!(
            brief(&decode(&[b"event: a\nid: 7\nretry: 10\n\ndata: x\nid: n\0l\n\n"])),
            [("", "x", Some("7"))]
        );
    }

    #[test]
    fn every_line_end_and_a_byte_order_mark() {
        for text in [
            &b"\xef\xbb\xbfevent: e\r\ndata: x\r\n\r\n"[..],
            b"event: e\rdata: x\r\r",
            b"event: e\ndata: x\r\r\n",
        ] {
            assert_eq!(brief(&decode(&[text])), [("e", "x", None)], "{text:?}");
        }
        assert_eq!(decode(&[b"\xef\xbbdata: x\n\n"]), []);
    }

    #[test]
    fn one_line_in_one_piece_shares_the_input() {
        let input = Bytes::from_static(b"event: message\ndata: {\"jsonrpc\":\"2.0\"}\n\n");
        let mut out = Vec::new();
        Decoder::new(1024).push(input.clone(), &mut out);
        let data = &out[0].data;
        assert!(input.as_ptr_range().contains(&data.as_ptr()));
    }

    #[test]
    fn an_event_above_the_limit_is_passed_over_and_said_once() {
        let mut decoder = Decoder::new(20);
        let mut out = Vec::new();
        let mut said = 0;
        for _ in 0..10 {
            said += usize::from(decoder.push("data: 01234\n".into(), &mut out).is_some());
        }
        said += usize::from(decoder.push("\ndata: y\n\n".into(), &mut out).is_some());
        assert_eq!((said, brief(&out)), (1, vec![("", "y", None)]));
        let anomaly = decoder.push(
            format!("data: {}\n\ndata: z\n\n", "x".repeat(30)).into(),
            &mut out,
        );
        assert_eq!(anomaly.map(|a| a.kind), Some(AnomalyKind::SseLimit));
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn after_a_gap_the_next_whole_event_counts() {
        let mut decoder = Decoder::new(1024);
        let mut out = Vec::new();
        decoder.push("data: lost".into(), &mut out);
        decoder.gap();
        decoder.push("tail\ndata: also lost\n\ndata: a\n\ndata: b".into(), &mut out);
        decoder.gap();
        decoder.push("event: c\ndata: c\n\n".into(), &mut out);
        assert_eq!(brief(&out), [("", "a", None), ("c", "c", None)]);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let token = prop::sample::select(vec![
            &b"data: x"[..],
            b"data:",
            b"id: 1",
            b"event: e",
            b":c",
            b"\n",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"retry: 1",
            b"\xef\xbb\xbf",
            b"\xef",
            b" ",
            b"long line of text",
        ]);
        prop::collection::vec(token, 0..40).prop_map(|t| t.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(text in stream(), cuts in prop::collection::vec(1usize..9, 1..6), limit in 4usize..60) {
            let mut whole = Vec::new();
            let mut over = Decoder::new(limit);
            over.push(Bytes::copy_from_slice(&text), &mut whole);
            let mut parts = Vec::new();
            let mut decoder = Decoder::new(limit);
            let mut rest = Bytes::from(text);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let piece = rest.split_to((*cut).min(rest.len()));
                decoder.push(piece, &mut parts);
            }
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn nothing_panics(pieces in prop::collection::vec((any::<Vec<u8>>(), any::<bool>()), 0..20)) {
            let mut decoder = Decoder::new(32);
            let mut out = Vec::new();
            for (piece, gap) in pieces {
                if gap { decoder.gap(); }
                decoder.push(piece.into(), &mut out);
            }
            prop_assert!(out.iter().all(|e| e.data.len().saturating_add(e.event.len()) <= 32));
        }
    }
}
