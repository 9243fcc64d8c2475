#![allow(clippy::arithmetic_side_effects)] // small numbers

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::proto::Probe;

fn vector(width: usize, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[4 - width..], body].concat()
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &vector(2, body)].concat()
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

fn client_hello() -> Vec<u8> {
    let extensions = [
        extension(0x0a0a, b""),
        extension(0, &vector(2, &[&[0][..], &vector(2, b"MCP.Example")].concat())),
        extension(
            16,
            &vector(2, &[vector(1, b"h2"), vector(1, b"http/1.1")].concat()),
        ),
        extension(43, &vector(1, &[0x1a, 0x1a, 3, 4, 3, 3])),
        extension(10, &vector(2, &[0, 29])),
        extension(13, &vector(2, &[4, 3])),
        extension(51, &vector(2, &[&[0, 29][..], &vector(2, b"key")].concat())),
        extension(0xfe0d, b"x"),
        extension(41, b"psk"),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector(1, &[1; 32]),
        &vector(2, &[0x0a, 0x0a, 0x13, 0x01]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat();
    handshake(1, &body)
}

fn server_hello(random: [u8; 32], extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &random,
        &vector(1, b""),
        &[0x13, 0x01, 0],
        &vector(2, extensions),
    ]
    .concat();
    handshake(2, &body)
}

fn tls13() -> Vec<u8> {
    extension(43, &[3, 4])
}

const RETRY: [u8; 32] = *b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";

fn brief(events: &[TlsEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            TlsEvent::ClientHello { hello, .. } => {
                format!("client {:?} {}", hello.server_name, hello.max_version)
            }
            TlsEvent::ServerHello { hello, .. } => {
                format!(
                    "server {:04x}{}",
                    hello.version,
                    if hello.retry { " retry" } else { "" }
                )
            }
            TlsEvent::Certificates { chain, .. } => format!("certificates {}", chain.unreadable),
            TlsEvent::Handshake { handshake, .. } => format!("{:?}", handshake.end),
            TlsEvent::Alert {
                level, description, ..
            } => format!("alert {level} {description}"),
            TlsEvent::Encrypted { direction, .. } => format!("encrypted {direction:?}"),
            TlsEvent::Anomaly { anomaly, .. } => format!("! {} {}", anomaly.kind.slug(), anomaly.detail),
        })
        .collect()
}

fn run(steps: &[(Direction, &[u8])]) -> Vec<String> {
    let mut stream = Stream::new(Limits::default());
    let mut out = Vec::new();
    for (direction, data) in steps {
        stream.data(*direction, At::default(), Bytes::copy_from_slice(data), &mut out);
    }
    brief(&out)
}

use Direction::{ToClient, ToServer};

const CLIENT: &str = "client Some(\"mcp.example\") 772";

#[test]
fn a_client_hello_in_full() {
    let (hello, whole) = parse_client_hello(&client_hello()[4..]);
    assert!(whole);
    assert_eq!(
        hello.unwrap(),
        ClientHello {
            legacy_version: 0x0303,
            max_version: 0x0304,
            supported_versions: vec![0x1a1a, 0x0304, 0x0303],
            ciphers: vec![0x0a0a, 0x1301],
            extensions: vec![0x0a0a, 0, 16, 43, 10, 13, 51, 0xfe0d, 41],
            server_name: Some("mcp.example".into()),
            alpn: vec!["h2".into(), "http/1.1".into()],
            groups: vec![29],
            key_shares: vec![29],
            signature_algorithms: vec![0x0403],
            random: [7; 32],
            session_id: vec![1; 32],
            ticket: false,
            psk: true,
            ech: Some(Ech::Unknown),
            carrier: Carrier::Tcp,
        }
    );
}

#[test]
fn tls13_with_a_retry() {
    let ccs = record(20, &[1]);
    let first = record(22, &client_hello());
    let retry = [record(22, &server_hello(RETRY, &tls13())), ccs.clone()].concat();
    let second = [ccs.clone(), record(22, &client_hello())].concat();
    let answer = [record(22, &server_hello([1; 32], &tls13())), record(23, &[9; 40])].concat();
    let rest = [ccs, record(23, &[9; 40])].concat();
    assert_eq!(
        run(&[
            (ToServer, &first),
            (ToClient, &retry),
            (ToServer, &second),
            (ToClient, &answer),
            (ToServer, &rest),
        ]),
        [
            CLIENT,
            "server 0304 retry",
            CLIENT,
            "server 0304",
            "encrypted ToClient",
            "encrypted ToServer"
        ]
    );
}

#[test]
fn tls12_with_certificates_and_alerts() {
    let chain = vector(3, &[vector(3, b"leaf"), vector(3, b"issuer")].concat());
    let flight = [
        server_hello([1; 32], &extension(16, &vector(2, &vector(1, b"h2")))),
        handshake(11, &chain),
        handshake(14, b""),
    ]
    .concat();
    // Two records cut the flight in the middle of the certificates.
    let server = [record(22, &flight[..70]), record(22, &flight[70..])].concat();
    let client = [
        record(22, &handshake(16, b"key")),
        record(20, &[1]),
        record(22, &[0; 40]),
    ]
    .concat();
    assert_eq!(
        run(&[
            (ToServer, &record(22, &client_hello())),
            (ToClient, &server),
            (ToServer, &client),
            (ToClient, &record(21, &[1, 90])),
            (ToClient, &[record(20, &[1]), record(22, &[1; 40])].concat()),
        ]),
        [
            CLIENT,
            "server 0303",
            "! tls-malformed a certificate that is none",
            "certificates 2",
            "encrypted ToServer",
            "alert 1 90",
            "encrypted ToClient"
        ]
    );
}

#[test]
fn half_a_capture_of_tls12_ends_encrypted() {
    let client = [
        record(22, &client_hello()),
        record(22, &handshake(16, b"key")),
        record(20, &[1]),
        record(22, &[1; 40]),
    ]
    .concat();
    assert_eq!(run(&[(ToServer, &client)]), [CLIENT, "encrypted ToServer"]);
}

#[test]
fn what_is_not_tls_is_said_once() {
    assert_eq!(
        run(&[(
            ToServer,
            b"\x80\x2e\x01\x03\x00rest, and more than enough of it to fill the length"
        )]),
        ["! tls-malformed not a TLS record"]
    );
    assert_eq!(
        run(&[(ToServer, b"GET / HTTP/1.1")]),
        ["! tls-malformed not a TLS record"]
    );
    let huge = record(22, &[1, 0xff, 0xff, 0xff, 0]);
    assert_eq!(
        run(&[(ToServer, &huge)]),
        ["! tls-oversize handshake message above the limit"]
    );
    let mut cut = client_hello();
    // The length of the last extension.
    let at = cut.len() - 4;
    cut[at] = 0xff;
    let said = run(&[(ToServer, &record(22, &cut[..]))]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], "! tls-malformed ClientHello breaks off");
}

#[test]
fn a_hello_of_ssl_2_is_counted_and_tls_may_follow() {
    let hello = |minor: u8, major: u8| {
        let specs = [0, 0, 0x2f, 7, 0, 0xc0, 0, 0, 0x0a];
        let body = [&[1, major, minor, 0, 9, 0, 0, 0, 16][..], &specs, &[7; 16]].concat();
        [&[0x80, u8::try_from(body.len()).unwrap()][..], &body].concat()
    };
    let ssl2 = hello(2, 0);
    assert_eq!(probe(&ssl2, ToServer), Probe::Certain);
    assert_eq!(probe(&ssl2[..2], ToServer), Probe::Unsure);
    let what = "! sslv2-hello the client begins in the format of SSL 2.0";
    assert_eq!(
        run(&[(ToServer, &ssl2), (ToServer, b"more")]),
        [what, "client None 2"]
    );
    let then = [hello(1, 3), record(20, &[1])].concat();
    let answer = record(22, &server_hello([1; 32], b""));
    let said = run(&[
        (ToServer, &then[..20]),
        (ToServer, &then[20..36]),
        (ToClient, &answer),
        (ToServer, &then[36..]),
    ]);
    assert_eq!(
        said,
        [what, "client None 769", "server 0303", "encrypted ToServer"]
    );
}

#[test]
fn a_gap_inside_a_record_and_one_past_it() {
    let mut stream = Stream::new(Limits::default());
    let mut out = Vec::new();
    let flight = [
        record(22, &handshake(11, &[0; 50])),
        record(22, &server_hello([1; 32], b"")),
    ]
    .concat();
    let feed = |stream: &mut Stream, data: &[u8], out: &mut Vec<TlsEvent>| {
        stream.data(ToClient, At::default(), Bytes::copy_from_slice(data), out);
    };
    feed(&mut stream, &flight[..20], &mut out);
    stream.gap(ToClient, 10);
    feed(&mut stream, &flight[30..], &mut out);
    stream.gap(ToClient, 1000);
    feed(&mut stream, b"inside something", &mut out);
    feed(&mut stream, &record(20, &[1]), &mut out);
    assert_eq!(brief(&out), ["server 0303", "encrypted ToClient"]);
}

#[test]
fn probes() {
    let hello = record(22, &client_hello());
    assert_eq!(probe(&hello, ToServer), Probe::Certain);
    assert_eq!(probe(&hello[..4], ToServer), Probe::Unsure);
    assert_eq!(probe(&hello, ToClient), Probe::NotForUs);
    assert_eq!(probe(&record(23, &[1; 30]), ToClient), Probe::Certain);
    assert_eq!(probe(b"\x16\x03\x01\xff\xff", ToServer), Probe::NotForUs);
    assert_eq!(probe(b"\x80\x80\x00\x01", ToServer), Probe::NotForUs);
    assert_eq!(probe(b"POST", ToServer), Probe::NotForUs);
}

#[test]
fn sentinels_versions_and_grease() {
    let mut hello = ServerHello {
        version: 0x0303,
        ..ServerHello::default()
    };
    assert_eq!(hello.downgrade_sentinel(), None);
    hello.random[24..].copy_from_slice(b"DOWNGRD\x01");
    assert_eq!(hello.downgrade_sentinel(), Some(Sentinel::Tls12));
    hello.version = 0x0304;
    assert_eq!(hello.downgrade_sentinel(), None);
    hello.version = 0x0301;
    hello.random[31] = 0;
    assert_eq!(hello.downgrade_sentinel(), Some(Sentinel::Tls11OrBelow));
    assert_eq!((version_name(0x0303), version_name(0x0a0a)), (Some("1.2"), None));
    assert!(is_grease(0xfafa) && !is_grease(0x0a1a) && !is_grease(0x0b0b));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(cuts in prop::collection::vec(1usize..60, 1..8), retry in any::<bool>()) {
        let to_client = if retry {
            [record(22, &server_hello(RETRY, &tls13())), record(20, &[1]), record(22, &server_hello([1; 32], &tls13())), record(23, &[0; 9])].concat()
        } else {
            [record(22, &server_hello([1; 32], b"")), record(21, &[1, 0]), record(20, &[1]), record(22, &[2; 9])].concat()
        };
        let to_server = [record(22, &client_hello()), record(20, &[1]), record(22, &client_hello()), record(23, &[0; 9])].concat();
        let split = |whole: bool| {
            let mut steps = Vec::new();
            for (direction, data) in [(ToServer, &to_server), (ToClient, &to_client)] {
                let mut rest = data.as_slice();
                for cut in cuts.iter().cycle() {
                    let cut = if whole { rest.len() } else { (*cut).min(rest.len()) };
                    let (piece, after) = rest.split_at(cut);
                    steps.push((direction, piece));
                    rest = after;
                    if rest.is_empty() { break; }
                }
            }
            run(&steps)
        };
        prop_assert_eq!(split(true), split(false));
    }

    #[test]
    fn nothing_panics(pieces in prop::collection::vec((any::<bool>(), any::<Vec<u8>>(), 0u64..40), 0..12), kind in 20u8..24) {
        let mut stream = Stream::new(Limits { max_handshake: 64 });
        let mut out = Vec::new();
        for (to_server, piece, gap) in pieces {
            let direction = if to_server { ToServer } else { ToClient };
            stream.data(direction, At::default(), record(kind, &piece).into(), &mut out);
            stream.data(direction, At::default(), piece.clone().into(), &mut out);
            stream.gap(direction, gap);
            parse_client_hello(&piece);
            parse_server_hello(&piece);
        }
        let malformed = out.iter().filter(|e| matches!(e, TlsEvent::Anomaly { anomaly, .. } if anomaly.detail == "not a TLS record")).count();
        prop_assert!(malformed <= 2);
    }
}
