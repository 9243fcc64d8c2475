#![allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)] // small numbers

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::*;
use Direction::{ToClient, ToServer};

fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let bit = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        n @ 0..=125 => bytes.push(bit | n as u8),
        n => {
            bytes.push(bit | 126);
            bytes.extend((n as u16).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i % 4]));
    bytes
}

const KEY: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn deflate(compressor: &mut Compress, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    compressor
        .compress_vec(text, &mut out, FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - 4);
    out
}

fn brief(events: &[WsEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            WsEvent::Message { text, data, .. } => {
                format!(
                    "{} {}",
                    if *text { "text" } else { "binary" },
                    data.escape_ascii()
                )
            }
            WsEvent::Close { code, .. } => format!("close {code:?}"),
            WsEvent::Anomaly { anomaly, .. } => format!("! {} {}", anomaly.kind.slug(), anomaly.detail),
        })
        .collect()
}

fn run(direction: Direction, pieces: &[Vec<u8>]) -> Vec<String> {
    let mut connection = Connection::new(Limits { max_message: 2000 });
    let mut out = Vec::new();
    for piece in pieces {
        connection.data(direction, At::default(), piece.clone().into(), &mut out);
    }
    brief(&out)
}

#[test]
fn messages_whole_fragmented_and_masked_with_control_frames_between() {
    let bytes = [
        frame(0x81, KEY, b"{\"id\":1}"),
        frame(0x02, KEY, b"one "),
        frame(0x89, KEY, b"ping"),
        frame(0x00, KEY, b"two "),
        frame(0x80, KEY, b"three"),
        frame(0x81, KEY, &[b'x'; 300]),
        frame(0x88, KEY, &[3, 232]),
    ]
    .concat();
    let long = "x".repeat(300);
    assert_eq!(
        run(ToServer, &[bytes]),
        [
            "text {\\\"id\\\":1}",
            "binary one two three",
            &format!("text {long}"),
            "close Some(1000)"
        ]
    );
}

#[test]
fn compressed_messages_share_a_context() {
    let mut compressor = Compress::new(Compression::default(), false);
    let text = br#"{"jsonrpc":"2.0","method":"tools/list","id":1}"#;
    let first = deflate(&mut compressor, text);
    let second = deflate(&mut compressor, text);
    assert!(second.len() < first.len());
    let bytes = [
        frame(0xc1, None, &first),
        frame(0x41, None, &second[..2]),
        frame(0x80, None, &second[2..]),
    ]
    .concat();
    let line = format!("text {}", text.escape_ascii());
    assert_eq!(run(ToClient, &[bytes]), [line.clone(), line]);
}

#[test]
fn a_gap_costs_its_message_alone() {
    let mut connection = Connection::new(Limits::default());
    let mut out = Vec::new();
    let mut feed = |connection: &mut Connection, bytes: &[u8]| {
        connection.data(ToClient, At::default(), Bytes::copy_from_slice(bytes), &mut out);
    };
    let lost = frame(0x81, None, b"0123456789");
    feed(&mut connection, &lost[..5]);
    connection.gap(ToClient, 4);
    feed(&mut connection, &[&lost[9..], &frame(0x81, None, b"a")].concat());
    connection.gap(ToClient, 100);
    feed(&mut connection, b"in the middle of something");
    feed(&mut connection, &frame(0x81, None, b"b"));
    feed(&mut connection, &frame(0xc1, None, b"c"));
    assert_eq!(
        brief(&out),
        [
            "text a",
            "text b",
            "! websocket-error compressed message that depends on lost bytes"
        ]
    );
}

#[test]
fn after_a_loss_what_needs_no_context_is_read_again() {
    let text = br#"{"jsonrpc":"2.0","method":"tools/list","id":1}"#;
    let mut compressor = Compress::new(Compression::default(), false);
    let shared: Vec<Vec<u8>> = (0..2).map(|_| deflate(&mut compressor, text)).collect();
    compressor.reset();
    let own = deflate(&mut compressor, text);
    let after = deflate(&mut compressor, text);
    let mut connection = Connection::new(Limits::default());
    let mut out = Vec::new();
    connection.gap(ToClient, 10);
    for coded in [&shared[1], &own, &after] {
        connection.data(ToClient, At::default(), frame(0xc1, None, coded).into(), &mut out);
    }
    let line = format!("text {}", text.escape_ascii());
    assert_eq!(
        brief(&out),
        [
            "! websocket-error compressed message that depends on lost bytes",
            &line,
            &line
        ]
    );
}

#[test]
fn limits_and_errors_are_said() {
    let mut compressor = Compress::new(Compression::default(), false);
    let bomb = frame(0xc1, None, &deflate(&mut compressor, &[0; 50_000]));
    assert_eq!(
        run(ToClient, &[bomb]),
        ["! inflate-limit WebSocket message above the limit"]
    );
    let large = [frame(0x81, None, &[0; 2001]), frame(0x81, None, b"y")].concat();
    assert_eq!(
        run(ToClient, &[large]),
        ["! body-limit WebSocket message above the limit", "text y"]
    );
    for (bytes, want) in [
        (&b"\xb1\x00"[..], "reserved bits set"),
        (b"\x83\x00", "unknown opcode"),
        (b"\x81\x7e\x00\x01", "length not in its shortest form"),
        (b"\x09\x00", "control frame that is fragmented or too long"),
    ] {
        assert_eq!(
            run(ToClient, &[bytes.to_vec()]),
            [format!("! websocket-error {want}")]
        );
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(
        parts in prop::collection::vec((prop::sample::select(vec![0x81u8, 0x02, 0x80, 0x89, 0x88, 0x01]), prop::collection::vec(any::<u8>(), 0..200)), 0..12),
        cuts in prop::collection::vec(1usize..30, 1..6),
        masked in any::<bool>(),
    ) {
        let bytes = parts.iter().map(|(first, payload)| {
            let payload = if *first >= 0x88 { &payload[..payload.len().min(100)] } else { payload };
            frame(*first, if masked { KEY } else { None }, payload)
        }).collect::<Vec<_>>().concat();
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        prop_assert_eq!(run(ToServer, std::slice::from_ref(&bytes)), run(ToServer, &pieces));
    }

    #[test]
    fn nothing_panics(steps in prop::collection::vec((any::<bool>(), any::<Vec<u8>>(), 0u64..50), 0..12)) {
        let mut connection = Connection::new(Limits { max_message: 50 });
        let mut out = Vec::new();
        for (to_server, bytes, gap) in steps {
            let direction = if to_server { ToServer } else { ToClient };
            connection.data(direction, At::default(), frame(0xc1, None, &bytes).into(), &mut out);
            connection.data(direction, At::default(), bytes.into(), &mut out);
            connection.gap(direction, gap);
        }
        let bounded = out.iter().all(|e| !matches!(e, WsEvent::Message { data, .. } if data.len() > 50));
        prop_assert!(bounded);
    }
}
