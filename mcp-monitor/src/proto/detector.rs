//! What a TCP connection carries, judged by its first bytes alone: ports prove nothing.

use bytes::{Bytes, BytesMut};

use super::{Probe, http1, http2, tls, websocket};
use crate::types::{At, Direction};

/// As far as any probe looks.
const WINDOW: usize = 1024;
/// Bytes looked through for a start, where a capture begins in mid-connection, before the
/// flow is given up: the largest message that counts.
const MAX_SCAN: u64 = 16 * 1024 * 1024;

/// A protocol that is told by first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// WebSocket, joined in the middle.
    WebSocket,
    /// TLS.
    Tls,
    /// None of these.
    Other,
}

/// The verdict of a [`Detector`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detected {
    /// What it is.
    pub protocol: Protocol,
    /// Client and server are the other way round than the flow has them. Only where the
    /// start of the connection was not seen.
    pub swapped: bool,
    /// The connection is joined in the middle: what tells it is no start of it.
    pub joined: bool,
}

/// A piece kept until the verdict; feed these to the parser, in order.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which way, as the flow has it.
    pub direction: Direction,
    /// When.
    pub at: At,
    /// The bytes.
    pub data: Bytes,
}

/// Judges one connection. Pieces go in with [`Self::data`] until it says what they are;
/// the deciding piece is among those that [`Self::take_held`] then gives.
#[derive(Debug)]
pub struct Detector {
    from_start: bool,
    to_server: BytesMut,
    to_client: BytesMut,
    held: Vec<Held>,
    stray: Vec<Held>,
    scanned: u64,
}

impl Detector {
    /// `from_start`: the first bytes of both directions will be seen. Else a start is
    /// looked for at every segment, up to 16 MiB.
    pub fn new(from_start: bool) -> Self {
        Self {
            from_start,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
            held: Vec::new(),
            stray: Vec::new(),
            scanned: 0,
        }
    }

    /// The next bytes of a direction; `None` while it cannot be told. In a connection not seen from its start,
    /// what turned out to be no start is in [`Self::take_stray`].
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes) -> Option<Detected> {
        if data.is_empty() {
            return None;
        }
        let swappable = !self.from_start;
        let prefix = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let mut verdict = if prefix.is_empty() {
            judge(&data, direction, swappable)
        } else {
            let room = WINDOW.saturating_sub(prefix.len()).min(data.len());
            prefix.extend_from_slice(data.get(..room).unwrap_or_default());
            judge(prefix, direction, swappable)
        };
        if verdict == Verdict::NotForUs && swappable && !prefix.is_empty() {
            // What was held was no start; this piece may be.
            prefix.clear();
            let_go(&mut self.held, &mut self.stray, direction);
            verdict = judge(&data, direction, swappable);
        }
        match verdict {
            Verdict::Certain(detected) => {
                self.held.push(Held { direction, at, data });
                Some(detected)
            }
            Verdict::Unsure => {
                if prefix.is_empty() {
                    prefix.extend_from_slice(data.get(..WINDOW).unwrap_or(&data));
                }
                self.held.push(Held { direction, at, data });
                None
            }
            Verdict::NotForUs => {
                self.scanned = self
                    .scanned
                    .saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
                if !self.from_start {
                    self.stray.push(Held { direction, at, data });
                }
                (self.from_start || self.scanned > MAX_SCAN).then_some(Detected {
                    protocol: Protocol::Other,
                    swapped: false,
                    joined: false,
                })
            }
        }
    }

    /// Bytes of a direction are missing: from here on a start may come at any segment.
    pub fn gap(&mut self, direction: Direction) {
        self.from_start = false;
        match direction {
            Direction::ToServer => self.to_server.clear(),
            Direction::ToClient => self.to_client.clear(),
        }
        let_go(&mut self.held, &mut self.stray, direction);
    }

    /// The pieces that began nothing, in the order they came; bytes may be missing between them.
    pub fn take_stray(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.stray)
    }

    /// The pieces kept, in the order they came.
    pub fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }
}

/// What was held of a direction was no start.
fn let_go(held: &mut Vec<Held>, stray: &mut Vec<Held>, direction: Direction) {
    let (none, others): (Vec<_>, Vec<_>) = std::mem::take(held)
        .into_iter()
        .partition(|piece| piece.direction == direction);
    *held = others;
    stray.extend(none);
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Certain(Detected),
    Unsure,
    NotForUs,
}

fn judge(bytes: &[u8], direction: Direction, swappable: bool) -> Verdict {
    let plain = judge_as(bytes, direction);
    let (probe, swapped) = match plain {
        (_, Probe::NotForUs) if swappable => (judge_as(bytes, direction.reversed()), true),
        plain => (plain, false),
    };
    if probe.1 == Probe::NotForUs
        && swappable
        && let Some(sender) = http2::joins(bytes)
    {
        return Verdict::Certain(Detected {
            protocol: Protocol::Http2,
            swapped: sender.is_some_and(|sender| sender != direction),
            joined: true,
        });
    }
    if probe.1 == Probe::NotForUs
        && swappable
        && let Some(sender) = websocket::joins(bytes)
    {
        return Verdict::Certain(Detected {
            protocol: Protocol::WebSocket,
            swapped: sender != direction,
            joined: true,
        });
    }
    match probe {
        (protocol, Probe::Certain) => Verdict::Certain(Detected {
            protocol,
            swapped,
            joined: false,
        }),
        (_, Probe::Unsure) => Verdict::Unsure,
        (_, Probe::NotForUs) => Verdict::NotForUs,
    }
}

/// The first protocol that is certain, else unsure if one is.
fn judge_as(bytes: &[u8], direction: Direction) -> (Protocol, Probe) {
    let verdicts = [
        (Protocol::Tls, tls::probe(bytes, direction)),
        (Protocol::Http2, preface(bytes, direction)),
        (Protocol::Http1, http1::probe(bytes, direction)),
    ];
    let with = |wanted| verdicts.iter().find(|(_, probe)| *probe == wanted).copied();
    with(Probe::Certain)
        .or_else(|| with(Probe::Unsure))
        .unwrap_or((Protocol::Other, Probe::NotForUs))
}

fn preface(bytes: &[u8], direction: Direction) -> Probe {
    if direction == Direction::ToClient {
        // RFC 9113 section 3.4: SETTINGS, on stream 0, not an acknowledgement. Where both directions are
        // captured the client's preface has told already.
        match bytes.first_chunk() {
            Some([0, 0, length, 4, 0, 0, 0, 0, 0]) if length.checked_rem(6) == Some(0) => Probe::Certain,
            None if [0, 0].starts_with(bytes.get(..2).unwrap_or(bytes)) => Probe::Unsure,
            _ => Probe::NotForUs,
        }
    } else if bytes.starts_with(http2::PREFACE) {
        Probe::Certain
    } else if http2::PREFACE.starts_with(bytes) {
        Probe::Unsure
    } else {
        Probe::NotForUs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToServer};

    fn run(from_start: bool, pieces: &[(Direction, &'static str)]) -> (Option<Detected>, usize) {
        let mut detector = Detector::new(from_start);
        for (direction, text) in pieces {
            let data = Bytes::from_static(text.as_bytes());
            if let Some(detected) = detector.data(*direction, At::default(), data) {
                return (Some(detected), detector.take_held().len());
            }
        }
        (None, detector.take_held().len())
    }

    fn is(protocol: Protocol) -> Option<Detected> {
        Some(Detected {
            protocol,
            swapped: false,
            joined: false,
        })
    }

    #[test]
    fn from_the_start() {
        for (pieces, want) in [
            (&["POST /mcp HTTP/1.1\r\n"][..], (is(Protocol::Http1), 1)),
            (&["P", "OST", " /"], (is(Protocol::Http1), 3)),
            (
                &["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n\0"],
                (is(Protocol::Http2), 2),
            ),
            (&["\x16\x03\x01\x02", "\x00\x01"], (is(Protocol::Tls), 2)),
            (&["SSH-2.0-x\r\n"], (is(Protocol::Other), 0)),
            (&["SMTP * HTTP/2.0"], (is(Protocol::Other), 0)),
            (&["GE"], (None, 1)),
        ] {
            let pieces: Vec<_> = pieces.iter().map(|text| (ToServer, *text)).collect();
            assert_eq!(run(true, &pieces), want, "{pieces:?}");
        }
        assert_eq!(run(true, &[(ToClient, "220 mail\r\n")]), (is(Protocol::Other), 0));
    }

    /// Protocols that begin in the clear and may turn to TLS later.
    #[test]
    fn starttls_is_not_misread() {
        for pieces in [
            &[
                (ToClient, "220 mail ESMTP\r\n"),
                (ToServer, "EHLO me\r\n"),
                (ToServer, "STARTTLS\r\n"),
            ][..],
            &[(ToClient, "* OK IMAP4rev1\r\n"), (ToServer, "a STARTTLS\r\n")],
            &[(ToClient, "+OK POP3\r\n"), (ToServer, "STLS\r\n")],
            &[(ToClient, "220 ftp\r\n"), (ToServer, "AUTH TLS\r\n")],
            // PostgreSQL's SSLRequest, and XMPP.
            &[(ToServer, "\0\0\0\x08\x04\u{12}\x16/"), (ToClient, "S")],
            &[(ToServer, "<?xml version='1.0'?><stream:stream to='x'>")],
        ] {
            assert_eq!(run(true, pieces), (is(Protocol::Other), 0), "{pieces:?}");
        }
        // Seen from the middle, TLS is found where it begins.
        let pieces = [
            (ToClient, "220 mail ESMTP\r\n"),
            (ToServer, "STARTTLS\r\n"),
            (ToServer, "\x16\x03\x01\x02\x00\x01"),
        ];
        assert_eq!(run(false, &pieces), (is(Protocol::Tls), 1));
    }

    #[test]
    fn joined_in_the_middle() {
        let pieces = [
            (ToClient, "data: {}\n\n"),
            (ToServer, "tail of a body"),
            (ToServer, "PO"),
            (ToServer, "ST / HTTP/1.1"),
        ];
        assert_eq!(run(false, &pieces), (is(Protocol::Http1), 2));
        let swapped = Some(Detected {
            protocol: Protocol::Http1,
            swapped: true,
            joined: false,
        });
        assert_eq!(run(false, &[(ToClient, "GET / HTTP/1.1\r\n")]), (swapped, 1));
        assert_eq!(
            run(true, &[(ToClient, "GET / HTTP/1.1\r\n")]),
            (is(Protocol::Other), 0)
        );
    }

    #[test]
    fn joined_in_a_protocol_that_was_agreed_before() {
        for (direction, segment, protocol, swapped) in [
            (ToServer, &b"\x81\x82\0\0\0\0{}"[..], Protocol::WebSocket, false),
            (ToServer, b"\x81\x02{}", Protocol::WebSocket, true),
            (
                ToClient,
                b"\0\0\x01\x01\x04\0\0\0\x01\x88",
                Protocol::Http2,
                false,
            ),
            (ToClient, b"\0\0\x01\x01\x04\0\0\0\x01\x83", Protocol::Http2, true),
        ] {
            let mut detector = Detector::new(false);
            let got = detector.data(direction, At::default(), Bytes::from_static(segment));
            let joined = true;
            assert_eq!(
                got,
                Some(Detected {
                    protocol,
                    swapped,
                    joined
                }),
                "{segment:?}"
            );
        }
    }

    #[test]
    fn gives_up_after_the_scan_limit() {
        let mut detector = Detector::new(false);
        let piece = Bytes::from(vec![b'{'; 1 << 20]);
        let verdicts: Vec<_> = (0..17)
            .map(|_| detector.data(ToClient, At::default(), piece.clone()))
            .collect();
        assert_eq!(verdicts.iter().position(Option::is_some), Some(16));
    }

    #[test]
    fn a_gap_makes_any_segment_a_possible_start() {
        let mut detector = Detector::new(true);
        assert_eq!(detector.data(ToServer, At::default(), "GE".into()), None);
        detector.gap(ToServer);
        assert_eq!(detector.data(ToServer, At::default(), "body".into()), None);
        let detected = detector.data(ToServer, At::default(), "GET / HTTP/1.1".into());
        assert_eq!(detected, is(Protocol::Http1));
        assert_eq!(detector.take_held().len(), 2);
    }
}
