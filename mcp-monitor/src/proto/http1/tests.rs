//! Transcripts: `>>>` to the server, `<<<` to the client, one call of [`Connection::data`]
//! per line; `>>> -8<- N` loses N bytes, `>>> FIN` closes, `ABORT` ends the flow.
//! `\r`, `\n` and `\t` are written as escapes. Packets count from 1, one a line.

#![allow(clippy::arithmetic_side_effects, clippy::string_slice)] // small numbers, ASCII

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    proto::http::HttpEvent,
    types::{At, Direction, PacketId, Timestamp},
};

fn at(order: u64) -> At {
    At {
        time: Timestamp(order),
        packet: PacketId {
            order,
            number: order,
            file: 0,
        },
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "->",
        Direction::ToClient => "<-",
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// One line an event; adjacent body pieces joined, so that the split of the input does not show.
fn render(events: &[HttpEvent]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open: Option<(String, String)> = None;
    for event in events {
        let (prefix, payload) = match event {
            HttpEvent::Body {
                exchange,
                direction,
                data,
                ..
            } => (
                format!("{} {} body ", exchange.0, way(*direction)),
                Some(text(data)),
            ),
            HttpEvent::Tunnel { direction, data, .. } => {
                (format!("{} tunnel ", way(*direction)), Some(text(data)))
            }
            HttpEvent::Stray { direction, data, .. } => {
                (format!("{} stray ", way(*direction)), Some(text(data)))
            }
            other => (String::new(), Some(line(other))),
        };
        let payload = payload.unwrap_or_default();
        match &mut open {
            Some((p, joined)) if *p == prefix && !prefix.is_empty() => joined.push_str(&payload),
            _ => {
                lines.extend(open.take().map(|(p, t)| p + &t));
                open = Some((prefix, payload));
            }
        }
    }
    lines.extend(open.map(|(p, t)| p + &t));
    lines
}

fn line(event: &HttpEvent) -> String {
    match event {
        HttpEvent::Request { exchange, head } => format!(
            "{} {} {} host={} fields={}",
            exchange.0,
            text(&head.method),
            text(&head.target),
            head.authority.as_deref().map(text).unwrap_or_default(),
            head.headers.len()
        ),
        HttpEvent::Response { exchange, head } => format!("{} {}", exchange.0, head.status),
        HttpEvent::BodyGap {
            exchange,
            direction,
            bytes,
            ..
        } => format!("{} {} gap {:?}", exchange.0, way(*direction), bytes),
        HttpEvent::End {
            exchange,
            direction,
            complete,
            ..
        } => format!(
            "{} {} {}",
            exchange.0,
            way(*direction),
            if *complete { "end" } else { "cut" }
        ),
        HttpEvent::Upgraded {
            exchange, protocol, ..
        } => format!("{} upgraded {protocol}", exchange.0),
        HttpEvent::TunnelGap { direction, bytes, .. } => format!("{} tunnel gap {bytes}", way(*direction)),
        HttpEvent::Anomaly { anomaly, .. } => format!("! {} {}", anomaly.kind.slug(), anomaly.detail),
        HttpEvent::StrayGap { direction } => format!("{} stray gap", way(*direction)),
        HttpEvent::Body { .. } | HttpEvent::Tunnel { .. } | HttpEvent::Stray { .. } => {
            unreachable!("joined by the caller")
        }
        HttpEvent::Headless { .. } | HttpEvent::AlternativeService { .. } => unreachable!("of HTTP/2"),
    }
}

fn unescape(line: &str) -> Bytes {
    line.replace("\\r", "\r")
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .into()
}

fn play_on(mut connection: Connection, transcript: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (index, line) in transcript.trim().lines().enumerate() {
        let now = at(u64::try_from(index).unwrap() + 1);
        let line = line.trim_start();
        if line == "ABORT" {
            connection.abort(now, &mut out);
            continue;
        }
        let direction = match &line[..3] {
            ">>>" => Direction::ToServer,
            "<<<" => Direction::ToClient,
            other => panic!("{other}"),
        };
        let rest = &line[4..];
        if let Some(bytes) = rest.strip_prefix("-8<- ") {
            connection.gap(direction, now, bytes.parse().unwrap(), &mut out);
        } else if rest == "FIN" {
            connection.fin(direction, now, &mut out);
        } else {
            connection.data(direction, now, unescape(rest), &mut out);
        }
    }
    render(&out)
}

fn play(transcript: &str) -> Vec<String> {
    play_on(Connection::from_start(Limits::default()), transcript)
}

#[test]
fn an_mcp_post_answered_with_json() {
    assert_eq!(
        play(
            r#"
            >>> POST /mcp HTTP/1.1\r\nHost: a:1\r\nContent-Length: 2\r\n\r\n{}
            <<< HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{
            <<< "a}
            >>> GET / HTTP/1.1\r\nHost: a\r\n\r\n
            <<< HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n
            "#
        ),
        [
            "1 POST /mcp host=a:1 fields=2",
            "1 -> body {}",
            "1 -> end",
            "1 200",
            "1 <- body {\\\"a}",
            "1 <- end",
            "2 GET / host=a fields=1",
            "2 -> end",
            "2 404",
            "2 <- end",
        ]
    );
}

#[test]
fn pipelined_requests_chunks_and_interim_responses() {
    assert_eq!(
        play(
            r"
            >>> POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.0\r\n\r\n
            <<< HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n
            <<< HTTP/1.0 200 OK\r\n\r\nto the
            <<< end
            <<< FIN
            "
        ),
        [
            "1 POST /1 host= fields=1",
            "1 -> body abc",
            "1 -> end",
            "2 HEAD /2 host= fields=0",
            "2 -> end",
            "3 GET /3 host= fields=0",
            "3 -> end",
            "1 200",
            "1 <- body x",
            "1 <- end",
            "2 200",
            "2 <- end",
            "3 200",
            "3 <- body to theend",
            "3 <- end",
        ]
    );
}

#[test]
fn a_response_before_the_request_ended() {
    assert_eq!(
        play(
            r"
            >>> POST /big HTTP/1.1\r\nContent-Length: 10\r\n\r\n01234
            <<< HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n
            >>> 56789GET / HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 204 x\r\n\r\n
            "
        ),
        [
            "1 POST /big host= fields=1",
            "1 -> body 01234",
            "1 413",
            "1 <- end",
            "1 -> body 56789",
            "1 -> end",
            "2 GET / host= fields=0",
            "2 -> end",
            "2 204",
            "2 <- end",
        ]
    );
}

#[test]
fn tunnels_by_upgrade_and_connect() {
    assert_eq!(
        play(
            r"
            >>> GET /ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n
            <<< HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\n\r\nfrom server
            >>> from client
            >>> -8<- 3
            "
        ),
        [
            "1 GET /ws host= fields=2",
            "1 -> end",
            "1 101",
            "1 <- end",
            "1 upgraded websocket",
            "<- tunnel from server",
            "-> tunnel from client",
            "-> tunnel gap 3",
        ]
    );
    assert_eq!(
        play(
            r"
            >>> CONNECT a.b:443 HTTP/1.1\r\n\r\nearly
            <<< HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply
            "
        ),
        [
            "1 CONNECT a.b:443 host=a.b:443 fields=0",
            "1 -> end",
            "1 200",
            "1 <- end",
            "1 upgraded connect",
            "-> tunnel early",
            "<- tunnel reply",
        ]
    );
}

#[test]
fn a_refused_upgrade_goes_on_in_http() {
    let want = [
        "1 GET /ws host= fields=2",
        "1 -> end",
        "1 200",
        "1 <- end",
        "2 GET /next host= fields=0",
        "2 -> end",
    ];
    let first = r">>> GET /ws HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(
        play(&format!(
            "{first}\n<<< HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\n>>> GET /next HTTP/1.1\\r\\n\\r\\n"
        )),
        want
    );
    let held = play(&format!(
        "{first}\n>>> GE\n<<< HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\n>>> T /next HTTP/1.1\\r\\n\\r\\n"
    ));
    assert_eq!(held, want);
}

#[test]
fn many_unanswered_upgrades_in_one_segment_stay_flat() {
    let request = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let mut connection = Connection::from_start(Limits::default());
    let mut out = Vec::new();
    connection.data(
        Direction::ToServer,
        at(1),
        request.repeat(20_000).into(),
        &mut out,
    );
    let requests = out
        .iter()
        .filter(|e| matches!(e, HttpEvent::Request { .. }))
        .count();
    assert_eq!(requests, 20_000);
}

#[test]
fn ambiguous_lengths_are_said() {
    assert_eq!(
        play(
            r"
            >>> POST / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n
            >>> POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx
            >>> GET http://b:1/p HTTP/1.1\nHost: a\n\n
            >>> POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello
            >>> GET /after HTTP/1.1\r\n\r\n
            "
        ),
        [
            "! http-ambiguous Content-Length together with Transfer-Encoding",
            "1 POST / host= fields=2",
            "1 -> end",
            "! http-ambiguous Content-Length repeated",
            "2 POST / host= fields=1",
            "2 -> body x",
            "2 -> end",
            "! http-ambiguous bare LF in a head",
            "3 GET http://b:1/p host=b:1 fields=1",
            "3 -> end",
            "! http-ambiguous Content-Length values that differ or are not numbers",
            "4 POST / host= fields=2",
            "4 -> cut",
            "-> stray hello",
            "5 GET /after host= fields=0",
            "5 -> end",
        ]
    );
}

#[test]
fn a_gap_in_a_known_length_is_stepped_over() {
    assert_eq!(
        play(
            r"
            >>> GET / HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc
            <<< -8<- 4
            <<< hijHTTP/1.1 200 OK\r\n
            "
        ),
        [
            "1 GET / host= fields=0",
            "1 -> end",
            "1 200",
            "1 <- body abc",
            "1 <- gap Some(4)",
            "1 <- body hij",
            "1 <- cut",
        ]
    );
}

#[test]
fn a_gap_past_a_message_waits_for_the_next_and_pairs_it_rightly() {
    assert_eq!(
        play(
            r"
            >>> GET /1 HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc
            >>> GET /2 HTTP/1.1\r\n\r\n
            <<< -8<- 60
            <<< tail of the response to 2
            >>> GET /3 HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 203 OK\r\nContent-Length: 0\r\n\r\n
            "
        ),
        [
            "1 GET /1 host= fields=0",
            "1 -> end",
            "1 200",
            "1 <- body abc",
            "2 GET /2 host= fields=0",
            "2 -> end",
            "1 <- gap Some(7)",
            "1 <- cut",
            "<- stray gap",
            "<- stray tail of the response to 2",
            "3 GET /3 host= fields=0",
            "3 -> end",
            "2 <- cut",
            "3 203",
            "3 <- end",
        ]
    );
}

#[test]
fn a_chunked_stream_goes_on_after_lost_chunks() {
    assert_eq!(
        play(
            r"
            >>> GET /sse HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde
            <<< -8<- 2
            <<< h\r\n
            <<< -8<- 20
            <<< rest\r\n4\r\n
            <<< next\r\n0\r\n\r\n
            >>> GET / HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 204 x\r\n\r\n
            "
        ),
        [
            "1 GET /sse host= fields=0",
            "1 -> end",
            "1 200",
            "1 <- body abcde",
            "1 <- gap Some(2)",
            "1 <- body h",
            "1 <- gap None",
            "1 <- body restnext",
            "1 <- cut",
            "2 GET / host= fields=0",
            "2 -> end",
            "2 204",
            "2 <- end",
        ]
    );
}

#[test]
fn joined_in_the_middle() {
    assert_eq!(
        play_on(
            Connection::new(Limits::default()),
            r#"
            >>> of a body"}
            <<< HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n
            >>> PO
            >>> ST / HTTP/1.1\r\n\r\n
            <<< HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n
            "#
        ),
        [
            r#"-> stray of a body\"}"#,
            "! http-unpaired exchange 1: no request seen",
            "1 200",
            "1 <- end",
            "2 POST / host= fields=0",
            "2 -> end",
            "2 202",
            "2 <- end",
        ]
    );
}

#[test]
fn the_request_of_an_upgrade_may_be_captured_after_its_answer() {
    assert_eq!(
        play(
            r"
            <<< HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\nab
            >>> GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\ncd
            >>> ef
            "
        ),
        [
            "1 101",
            "1 <- end",
            "1 upgraded websocket",
            "<- tunnel ab",
            "1 GET /ws host= fields=2",
            "1 -> end",
            "-> tunnel cdef",
        ]
    );
}

#[test]
fn what_is_open_at_the_end_is_cut() {
    assert_eq!(
        play(
            r"
            >>> GET /1 HTTP/1.1\r\n\r\n
            >>> POST /2 HTTP/1.1\r\nContent-Length: 5\r\n\r\nab
            <<< HTTP/1.1 200 OK\r\n\r\nbody
            ABORT
            ABORT
            "
        ),
        [
            "1 GET /1 host= fields=0",
            "1 -> end",
            "2 POST /2 host= fields=1",
            "2 -> body ab",
            "1 200",
            "1 <- body body",
            "2 -> cut",
            "1 <- cut",
            "2 <- cut",
        ]
    );
}

#[test]
fn limits_are_said() {
    let limits = Limits {
        max_head: 64,
        max_headers: 1,
        max_pipeline: 1,
        ..Limits::default()
    };
    let long = "x".repeat(64);
    assert_eq!(
        play_on(
            Connection::from_start(limits),
            &format!(
                r"
            >>> GET /1 HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n
            >>> GET /2 HTTP/1.1\r\n\r\n
            >>> GET /{long} HTTP/1.1\r\n\r\n
            >>> GET /3 HTTP/1.1\r\n\r\n
            "
            )
        ),
        [
            "! http-head-limit 1 fields above the limit",
            "1 GET /1 host= fields=1",
            "1 -> end",
            "! http-pipeline-limit more than 1 requests in flight",
            "2 GET /2 host= fields=0",
            "2 <- cut",
            "2 -> end",
            "! http-head-limit head above the limit",
            &format!(r"-> stray GET /{long} HTTP/1.1\r\n\r\n"),
            "! http-pipeline-limit more than 1 requests in flight",
            "3 GET /3 host= fields=0",
            "3 <- cut",
            "3 -> end",
        ]
    );
}

fn request() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        Just("\r\nOPTIONS * HTTP/1.0\nX:y\n z\n\n".to_owned()),
        Just("POST /u HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: q\r\n\r\n".to_owned()),
        "[a-z\r\n]{1,40}".prop_map(|b| format!("POST /p HTTP/1.1\r\nContent-Length: {}\r\n\r\n{b}", b.len())),
        "[a-z\r\n]{1,40}".prop_map(|b| format!(
            "PUT /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{:x};e\r\n{b}\r\n1\r\n!\r\n0\r\nt: 1\r\n\r\n",
            b.len()
        )),
        Just("broken line\r\n\r\n".to_owned()),
    ]
}

fn response() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".to_owned()),
        Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        Just("HTTP/1.1 204 No\r\n\r\n".to_owned()),
        "[a-z\r\n]{1,40}".prop_map(|b| format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:X}\r\n{b}\r\n0\n\r\n",
            b.len()
        )),
        Just("HTTP/1.1 101 Up\r\nUpgrade: q\r\n\r\nand more".to_owned()),
    ]
}

/// Feeds each direction whole or in pieces, client first.
fn feed(requests: &str, responses: &str, cuts: &[usize]) -> Vec<String> {
    let mut connection = Connection::from_start(Limits::default());
    let mut out = Vec::new();
    for (direction, stream) in [(Direction::ToServer, requests), (Direction::ToClient, responses)] {
        let mut data = Bytes::copy_from_slice(stream.as_bytes());
        for cut in cuts.iter().cycle() {
            if data.len() <= *cut {
                break;
            }
            connection.data(direction, at(1), data.split_to(*cut), &mut out);
        }
        connection.data(direction, at(1), data, &mut out);
    }
    for direction in [Direction::ToServer, Direction::ToClient] {
        connection.fin(direction, at(2), &mut out);
    }
    connection.abort(at(3), &mut out);
    render(&out)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        requests in prop::collection::vec(request().prop_filter("resync depends on segments", |r| !r.starts_with("broken")), 0..6),
        responses in prop::collection::vec(response(), 0..6),
        cuts in prop::collection::vec(1usize..50, 1..8),
    ) {
        let (requests, responses) = (requests.concat(), responses.concat());
        prop_assert_eq!(feed(&requests, &responses, &[usize::MAX]), feed(&requests, &responses, &cuts));
    }

    #[test]
    fn nothing_panics_and_every_exchange_ends(
        steps in prop::collection::vec((any::<bool>(), prop_oneof![
            request().prop_map(Some), response().prop_map(Some), "\\PC{0,30}".prop_map(Some), Just(None)
        ], 0u64..60), 0..30),
        whole in any::<bool>(),
    ) {
        let limits = Limits { max_head: 60, max_headers: 1, max_pipeline: 2, max_held: 70 };
        let mut connection = if whole { Connection::from_start(limits) } else { Connection::new(limits) };
        let mut out = Vec::new();
        for (order, (to_server, text, gap)) in steps.into_iter().enumerate() {
            let direction = if to_server { Direction::ToServer } else { Direction::ToClient };
            let now = at(u64::try_from(order).unwrap());
            match text {
                Some(text) => connection.data(direction, now, text.into(), &mut out),
                None => connection.gap(direction, now, gap, &mut out),
            }
        }
        connection.abort(at(99), &mut out);
        let mut ends = std::collections::HashMap::new();
        for event in &out {
            if let HttpEvent::End { exchange, direction, .. } = event {
                *ends.entry((*exchange, *direction)).or_insert(0) += 1;
            }
        }
        for event in &out {
            match event {
                HttpEvent::Request { exchange, .. } => {
                    prop_assert_eq!(ends.get(&(*exchange, Direction::ToServer)), Some(&1));
                    prop_assert_eq!(ends.get(&(*exchange, Direction::ToClient)), Some(&1));
                }
                HttpEvent::Response { exchange, .. } => {
                    prop_assert_eq!(ends.get(&(*exchange, Direction::ToClient)), Some(&1));
                }
                _ => {}
            }
        }
    }
}
