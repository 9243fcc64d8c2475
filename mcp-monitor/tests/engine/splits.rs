//! Any split of a connection's streams into segments, in any order and with duplicates, gives the same messages.

use std::io::Write;

use flate2::{Compress, Compression, FlushCompress, write::GzEncoder};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    capture::{of, pcap, run},
    wire::{
        Client, Connection, Server, Turn, chunked, event, h2_field, h2_frame, http, post, timed, ws_frame,
    },
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
const READY: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const LIST: &str = r#"{"method":"tools/list","params":{},"jsonrpc":"2.0","id":"a"}"#;
const LISTED: &str = r#"{"jsonrpc":"2.0","id":"a","result":{"tools":[{"name":"add","inputSchema":{"type":"object"},"description":"\u00e9 \"{}\" é"}]}}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":[1,2,{"b":null}]}}}"#;
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":0.5}}"#;
const CALLED: &str =
    r#"{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"3"}],"isError":false}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":99,"method":"ping"}"#;
const PONG: &str = r#"{"jsonrpc":"2.0","id":99,"result":{}}"#;
const BATCH: &str = r#"[{"jsonrpc":"2.0","id":5,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}]"#;

const OK: &str = "HTTP/1.1 200 OK";
const JSON: &str = "Content-Type: application/json\r\n";
const SSE: &str = "Content-Type: text/event-stream\r\n";
const GZIP: &str = "Content-Encoding: gzip\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a session says over HTTP/1, each exchange answered in another way.
fn http1() -> Vec<Turn> {
    let accepted = || {
        (
            Server,
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec(),
        )
    };
    let stream = format!(": hello\r\n\r\n{}{}", event(Some("1"), PING), event(None, CALLED));
    vec![
        (Client, post("", INITIALIZE)),
        (
            Server,
            http(
                OK,
                &format!("{JSON}Mcp-Session-Id: s1\r\n"),
                INITIALIZED.as_bytes(),
            ),
        ),
        (
            Client,
            post("Mcp-Session-Id: s1\r\nExpect: 100-continue\r\n", READY),
        ),
        (Server, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        accepted(),
        (Client, post("Mcp-Session-Id: s1\r\n", LIST)),
        (
            Server,
            chunked(OK, &format!("{JSON}{GZIP}"), &gzip(LISTED.as_bytes()), 33),
        ),
        (Client, post("Mcp-Session-Id: s1\r\n", CALL)),
        (
            Server,
            chunked(OK, SSE, stream.replace("data: {", "data:{").as_bytes(), 50),
        ),
        (Client, post("Mcp-Session-Id: s1\r\n", PONG)),
        accepted(),
        (Client, post("Mcp-Session-Id: s1\r\n", BATCH)),
        (
            Server,
            chunked(
                OK,
                &format!("{SSE}{GZIP}"),
                &gzip(event(None, PROGRESS).as_bytes()),
                20,
            ),
        ),
    ]
}

fn http2() -> Vec<Turn> {
    let request = |stream: u32, json: &str| {
        let first = [
            &[0x83, 0x86][..],
            &h2_field(":path", "/mcp"),
            &h2_field(":authority", "mcp.example"),
        ]
        .concat();
        let second = [
            h2_field("content-type", "application/json"),
            h2_field("accept", "application/json, text/event-stream"),
        ]
        .concat();
        let (left, right) = json.split_at(json.len() / 2);
        let padded = [&[3][..], left.as_bytes(), &[0; 3]].concat();
        [
            h2_frame(1, 0, stream, &first),
            h2_frame(9, 4, stream, &second),
            h2_frame(0, 8, stream, &padded),
            h2_frame(0, 1, stream, right.as_bytes()),
        ]
        .concat()
    };
    let answer = |stream: u32, media: &str, body: &str| {
        let block = [&[0x88][..], &h2_field("content-type", media)].concat();
        let trailer = h2_field("x-trailer", "1");
        [
            h2_frame(1, 4, stream, &block),
            h2_frame(0, 0, stream, body.as_bytes()),
            h2_frame(1, 5, stream, &trailer),
        ]
        .concat()
    };
    let settings = h2_frame(4, 0, 0, &[]);
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice()].concat();
    let stream = format!("{}{}", event(None, PROGRESS), event(None, CALLED));
    vec![
        (Client, [preface, request(1, INITIALIZE)].concat()),
        (
            Server,
            [settings, answer(1, "application/json", INITIALIZED)].concat(),
        ),
        (Client, [request(3, LIST), request(5, CALL)].concat()),
        (
            Server,
            [
                answer(5, "text/event-stream", &stream),
                answer(3, "application/json", LISTED),
            ]
            .concat(),
        ),
    ]
}

fn websocket() -> Vec<Turn> {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: mcp.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let mut compressors = [(); 2].map(|()| Compress::new(Compression::default(), false));
    let mut compressed = |from, text: &str| {
        let mut out = Vec::with_capacity(4096);
        compressors[usize::from(from == Server)]
            .compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync)
            .unwrap();
        ws_frame(from, 0xc1, &out[..out.len() - 4])
    };
    let (left, right) = LISTED.split_at(40);
    vec![
        (Client, upgrade.into()),
        (Server, switched.into()),
        (Client, compressed(Client, INITIALIZE)),
        (Server, compressed(Server, INITIALIZED)),
        (
            Client,
            [
                compressed(Client, READY),
                ws_frame(Client, 0x89, b"ping"),
                ws_frame(Client, 0x81, LIST.as_bytes()),
            ]
            .concat(),
        ),
        (
            Server,
            [
                ws_frame(Server, 0x01, left.as_bytes()),
                ws_frame(Server, 0x80, right.as_bytes()),
            ]
            .concat(),
        ),
        (Client, compressed(Client, CALL)),
        (
            Server,
            [compressed(Server, PROGRESS), compressed(Server, CALLED)].concat(),
        ),
    ]
}

/// What was found, without what the packets alone decide: times, packet numbers, latency. A response says its method
/// where its request was captured before it (`linked`).
fn messages(frames: &[Vec<u8>], linked: bool) -> Vec<String> {
    let (records, summary) = run(pcap(&timed(frames.iter().cloned())));
    assert_eq!(summary["tcp"]["lost_bytes"], 0, "{summary}");
    let mut found: Vec<String> = of(&records, "message")
        .map(|record| {
            let field = |name: &str| record.get(name).unwrap_or(&Value::Null).to_string();
            let link = ["method", "tool"].into_iter().filter(|_| linked);
            let message = ["direction", "transport", "kind", "id", "sha256", "body"];
            message
                .into_iter()
                .chain(link)
                .map(field)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_segments_in_any_order(
        which in 0..3_usize,
        v6: bool,
        sizes in prop::collection::vec(1..90_usize, 1..40),
        reach in prop_oneof![Just(0), 1..6_usize, Just(usize::MAX)],
        seed: u64,
    ) {
        let turns = [http1, http2, websocket][which]();
        let whole = Connection::new(41_000, false, turns.clone());
        let expected = messages(&whole.frames(|| 1400).concat(), reach == 0);
        prop_assert_eq!(expected.len(), [12, 7, 8][which], "{:#?}", expected);

        let mut sizes = sizes.iter().cycle();
        let split = Connection::new(41_000, v6, turns);
        let [open, mut data, close] = split.frames(|| *sizes.next().unwrap());
        let mut state = seed;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % n.max(1)
        };
        // A copy comes after its original; before it only once they are mixed, since an answer whose copy comes before
        // the question has none to be linked with.
        for _ in 0..draw(10) {
            let original = draw(data.len());
            let copy = data[original].clone();
            data.insert(original + 1 + draw(data.len() - original), copy);
        }
        if reach > 0 {
            for i in 0..data.len() {
                let to = i + draw(reach.min(data.len() - i));
                data.swap(i, to);
            }
        }
        prop_assert_eq!(messages(&[open, data, close].concat(), reach == 0), expected);
    }
}
