#![allow(clippy::arithmetic_side_effects)] // small numbers

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    proto::http::HttpEvent,
    types::{
        At,
        Direction::{self, ToClient, ToServer},
    },
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn start() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, b""), &frame(8, 0, 0, b"\0\0\x10\0")].concat()
}

/// POST / with `a: b` added to the table.
const POST: &[u8] = b"\x83\x86\x84\x40\x01a\x01b";
/// The same by reference.
const AGAIN: &[u8] = b"\x83\x86\x84\xbe";

fn brief(events: &[HttpEvent]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for event in events {
        let text = |b: &[u8]| b.escape_ascii().to_string();
        let way = |d: &Direction| if *d == ToServer { "->" } else { "<-" };
        let line = match event {
            HttpEvent::Request { exchange, head } => {
                format!(
                    "{} {} {} {}",
                    exchange.0,
                    text(&head.method),
                    text(&head.target),
                    head.headers.len()
                )
            }
            HttpEvent::Response { exchange, head } => format!("{} {}", exchange.0, head.status),
            HttpEvent::Body {
                exchange,
                direction,
                data,
                ..
            } => {
                let prefix = format!("{} {} body ", exchange.0, way(direction));
                if let Some(last) = lines.last_mut().filter(|l| l.starts_with(&prefix)) {
                    last.push_str(&text(data));
                    continue;
                }
                prefix + &text(data)
            }
            HttpEvent::BodyGap {
                exchange,
                direction,
                bytes,
                ..
            } => format!("{} {} gap {bytes:?}", exchange.0, way(direction)),
            HttpEvent::End {
                exchange,
                direction,
                complete,
                ..
            } => format!(
                "{} {} {}",
                exchange.0,
                way(direction),
                if *complete { "end" } else { "cut" }
            ),
            HttpEvent::Anomaly { anomaly, .. } => format!("! {} {}", anomaly.kind.slug(), anomaly.detail),
            HttpEvent::Headless {
                exchange, direction, ..
            } => {
                format!("{} {} headless", exchange.0, way(direction))
            }
            HttpEvent::AlternativeService {
                exchange,
                origin,
                value,
                ..
            } => format!("alt {exchange:?} {} {}", text(origin), text(value)),
            other => format!("{other:?}"),
        };
        lines.push(line);
    }
    lines
}

enum Play {
    Data(Direction, Vec<u8>),
    Gap(Direction, u64),
    Abort,
}
use Play::{Abort, Data, Gap};

fn play_on(mut connection: Connection, steps: Vec<Play>) -> Vec<String> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Data(direction, data) => connection.data(direction, At::default(), data.into(), &mut out),
            Gap(direction, bytes) => connection.gap(direction, At::default(), bytes, &mut out),
            Abort => connection.abort(At::default(), &mut out),
        }
    }
    brief(&out)
}

fn play(steps: Vec<Play>) -> Vec<String> {
    play_on(Connection::new(Limits::default()), steps)
}

#[test]
fn interleaved_streams_with_padding_continuation_and_trailers() {
    let client = [
        start(),
        frame(
            1,
            0x08 | 0x20,
            1,
            &[&[2, 0, 0, 0, 0, 16][..], &POST[..3], b"pp"].concat(),
        ),
        frame(9, 0x04, 1, &POST[3..]),
        frame(0, 0x08, 1, b"\x03{\"a\"...".as_slice()),
        frame(1, 0x05, 3, AGAIN),
        frame(0, 0x01, 1, b":1}"),
    ]
    .concat();
    let server = [
        frame(4, 0, 0, b""),
        frame(1, 0x04, 1, b"\x08\x03103"),
        frame(1, 0x04, 3, b"\x88"),
        frame(1, 0x04, 1, b"\x8d"),
        frame(0, 0, 3, b"x"),
        frame(0, 0x01, 1, b""),
        frame(1, 0x05, 3, b"\x40\x01t\x01r"),
        frame(7, 0, 0, &[0; 8]),
    ]
    .concat();
    assert_eq!(
        play(vec![Data(ToServer, client), Data(ToClient, server), Abort]),
        [
            "1 POST / 1",
            "1 -> body {\\\"a\\\"",
            "3 POST / 1",
            "3 -> end",
            "1 -> body :1}",
            "1 -> end",
            "3 200",
            "1 404",
            "3 <- body x",
            "1 <- end",
            "3 <- end",
        ]
    );
}

#[test]
fn a_reset_cuts_a_stream() {
    let client = [
        start(),
        frame(1, 0x04, 1, POST),
        frame(0, 0, 1, b"x"),
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(0, 1, 1, b"late"),
    ]
    .concat();
    assert_eq!(
        play(vec![Data(ToServer, client)]),
        ["1 POST / 1", "1 -> body x", "1 -> cut", "1 <- cut"]
    );
}

#[test]
fn gaps_inside_data_and_past_a_block() {
    let data = frame(0, 1, 1, b"0123456789");
    let next = [
        frame(1, 0x05, 3, AGAIN),
        frame(1, 0x05, 5, POST),
        frame(1, 0x05, 7, AGAIN),
    ]
    .concat();
    assert_eq!(
        play(vec![
            Data(
                ToServer,
                [start(), frame(1, 0x04, 1, POST), data[..12].to_vec()].concat()
            ),
            Gap(ToServer, 5),
            Data(ToServer, [data[17..].to_vec(), frame(1, 0x04, 9, POST)].concat()),
            Gap(ToServer, 1000),
            Data(ToServer, b"not a frame at all".to_vec()),
            Data(ToServer, next),
        ]),
        [
            "1 POST / 1",
            "1 -> body 012",
            "1 -> gap Some(5)",
            "1 -> body 89",
            "1 -> cut",
            "9 POST / 1",
            "9 -> gap None",
            "! http2-error 1 fields unknown after lost bytes",
            "3 -> headless",
            "3 -> end",
            "5 POST / 1",
            "5 -> end",
            "7 POST / 1",
            "7 -> end",
        ]
    );
}

#[test]
fn joined_in_the_middle() {
    assert_eq!(
        play_on(
            Connection::joined(Limits::default()),
            vec![
                Data(ToClient, b"rest of something".to_vec()),
                Data(ToClient, [frame(0, 0, 5, b"tail"), frame(0, 1, 5, b"!")].concat()),
                Data(ToClient, frame(1, 0x05, 7, b"\x88\xbe")),
            ]
        ),
        [
            "5 <- headless",
            "5 <- body tail!",
            "5 <- end",
            "5 -> cut",
            "! http2-error 1 fields unknown after lost bytes",
            "! http-unpaired stream 7: no request seen",
            "7 200",
            "7 <- end",
            "7 -> cut",
        ]
    );
}

#[test]
fn upgraded_from_http1() {
    assert_eq!(
        play_on(
            Connection::upgraded(Limits::default()),
            vec![
                Data(ToServer, start()),
                Data(ToClient, frame(1, 0x05, 1, b"\x89")),
            ]
        ),
        ["1 204", "1 <- end"]
    );
}

#[test]
fn limits_and_errors_are_said() {
    let limits = Limits {
        max_streams: 1,
        max_block: 20,
        max_headers: 3,
        ..Limits::default()
    };
    let run = |frames: &[Vec<u8>]| {
        play_on(
            Connection::new(limits),
            vec![Data(ToServer, [start(), frames.concat()].concat())],
        )
    };
    assert_eq!(
        run(&[
            frame(1, 0x04, 1, &[POST, &POST[..1]].concat()),
            frame(1, 0x05, 3, AGAIN),
            frame(0, 1, 3, b"x"),
            frame(1, 0x04, 5, &[0x82; 21]),
        ]),
        [
            "! http-head-limit 2 fields above the limit",
            "1 POST / 0",
            "! http-head-limit 1 fields above the limit",
            "! http-pipeline-limit more than 1 streams open",
            "1 -> cut",
            "1 <- cut",
            "3 POST / 0",
            "3 -> end",
            "! http-head-limit header block above the limit",
        ]
    );
    assert_eq!(
        run(&[frame(1, 0, 1, POST), frame(6, 0, 0, &[0; 8])]),
        ["! http2-error header block interrupted by another frame"]
    );
    assert_eq!(
        run(&[frame(1, 0x04, 1, b"\xff\x00"), frame(0, 8, 1, b"\x09")]),
        [
            "! http2-error index beyond the table",
            "! http2-error padding longer than its frame"
        ]
    );
    assert_eq!(
        play(vec![Data(ToServer, b"PRI * HTTP/2.0\r\n\r\nXX".to_vec())]),
        ["! http2-error no connection preface"]
    );
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(POST.to_vec()),
        Just(AGAIN.to_vec()),
        Just(b"\x88".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    (
        prop::sample::select(vec![0u8, 1, 1, 3, 4, 5, 9, 11]),
        any::<u8>(),
        0u32..6,
        payload,
    )
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags & 0x2d, stream, &payload))
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        client in prop::collection::vec(any_frame(), 0..10),
        server in prop::collection::vec(any_frame(), 0..10),
        cuts in prop::collection::vec(1usize..20, 1..6),
    ) {
        let streams = [(ToServer, [start(), client.concat()].concat()), (ToClient, server.concat())];
        let mut whole = Vec::new();
        let mut split = Vec::new();
        for (direction, bytes) in streams {
            whole.push(Data(direction, bytes.clone()));
            let mut rest = Bytes::from(bytes);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                split.push(Data(direction, rest.split_to((*cut).min(rest.len())).to_vec()));
            }
        }
        whole.push(Abort);
        split.push(Abort);
        prop_assert_eq!(play(whole), play(split));
    }

    #[test]
    fn nothing_panics_and_ends_come_once(
        steps in prop::collection::vec((any::<bool>(), any_frame(), 0u64..40, any::<bool>()), 0..30),
        joined in any::<bool>(),
    ) {
        let limits = Limits { max_streams: 2, max_block: 30, max_headers: 2, max_table: 80 };
        let connection = if joined { Connection::joined(limits) } else { Connection::upgraded(limits) };
        let mut play = Vec::new();
        for (to_server, frame, gap, raw) in steps {
            let direction = if to_server { ToServer } else { ToClient };
            play.push(Data(direction, if raw { frame[..frame.len() / 2].to_vec() } else { frame }));
            play.push(Gap(direction, gap.saturating_sub(20)));
        }
        play.push(Abort);
        let lines = play_on(connection, play);
        let ends = lines.iter().filter(|l| l.ends_with("end") || l.ends_with("cut")).count();
        let requests = lines.iter().filter(|l| l.contains(" POST ")).count();
        prop_assert!(ends >= requests);
    }
}

#[test]
fn goaway_closes_what_will_not_be_answered_and_altsvc_is_said() {
    let altsvc = |stream, origin: &[u8]| {
        let length = u16::try_from(origin.len()).unwrap().to_be_bytes();
        frame(
            10,
            0,
            stream,
            &[&length[..], origin, b"h2=\"b.example:443\""].concat(),
        )
    };
    assert_eq!(
        play(vec![
            Data(
                ToServer,
                [start(), frame(1, 0x05, 1, POST), frame(1, 0x05, 3, AGAIN)].concat()
            ),
            Data(ToClient, altsvc(0, b"https://a.example")),
            Data(ToClient, altsvc(1, b"")),
            // Said by the client, without an origin, or with one on a stream: not valid.
            Data(ToServer, altsvc(0, b"https://a.example")),
            Data(
                ToClient,
                [
                    altsvc(0, b""),
                    altsvc(1, b"https://a.example"),
                    frame(10, 0, 1, b"\0\x09x")
                ]
                .concat()
            ),
            Data(ToClient, frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0debug")),
            Data(ToClient, frame(1, 0x05, 1, b"\x89")),
        ]),
        [
            "1 POST / 1",
            "1 -> end",
            "3 POST / 1",
            "3 -> end",
            "alt None https://a.example h2=\\\"b.example:443\\\"",
            "alt Some(ExchangeId(1))  h2=\\\"b.example:443\\\"",
            "! http2-error ALTSVC shorter than its origin",
            "3 <- cut",
            "1 204",
            "1 <- end",
        ]
    );
}

#[test]
fn a_pushed_stream_is_no_message_even_after_a_loss() {
    let promise = frame(5, 0x04, 1, &[b"\0\0\0\x02", POST].concat());
    assert_eq!(
        play_on(
            Connection::joined(Limits::default()),
            vec![Data(
                ToClient,
                [promise, frame(1, 0x04, 2, b"\x88"), frame(0, 1, 2, b"{}")].concat()
            )]
        ),
        [""; 0]
    );
}

#[test]
fn segments_in_mid_connection_are_known() {
    let json = br#"{"jsonrpc":"2.0"}"#;
    for (segment, want) in [
        (frame(1, 0x04, 5, POST), Some(Some(ToServer))),
        (
            frame(1, 0x24, 5, &[b"\0\0\0\0\x10", POST].concat()),
            Some(Some(ToServer)),
        ),
        (frame(1, 0x04, 5, b"\x88\xbe"), Some(Some(ToClient))),
        (frame(0, 0, 5, json), Some(None)),
        (frame(0, 0, 5, json)[..12].to_vec(), Some(None)),
        (frame(0, 0, 5, b"opaque")[..12].to_vec(), None),
        (frame(6, 0, 0, b"12345678"), Some(None)),
        (b"GET / HTTP/1.1\r\n".to_vec(), None),
        (b"\x17\x03\x03\x00\x20abcdefghijklmnop".to_vec(), None),
        (b"\0\0\x04\x08\0\0".to_vec(), None),
    ] {
        assert_eq!(joins(&segment), want, "{}", segment.escape_ascii());
    }
}
