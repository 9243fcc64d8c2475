#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows should fail")]

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use aes_gcm::{
    Aes128Gcm, Nonce,
    aead::{Aead, Payload},
};
use proptest::prelude::*;

use super::{
    crypto::{Frame, frames},
    keys::{Keys, Sender},
    *,
};
use crate::{
    proto::tls::{TlsEvent, ja4::ja4},
    types::{At, Direction},
};
use Direction::{ToClient, ToServer};

/// The packets of RFC 9001 appendices A.2 and A.3, and of RFC 9369 appendices A.2 and A.3.
const CLIENT_V1: &[u8] = include_bytes!("testdata/rfc9001-client.bin");
const SERVER_V1: &[u8] = include_bytes!("testdata/rfc9001-server.bin");
const CLIENT_V2: &[u8] = include_bytes!("testdata/rfc9369-client.bin");
const SERVER_V2: &[u8] = include_bytes!("testdata/rfc9369-server.bin");
const CONNECTION_ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn keys_of_the_appendices() {
    for (version, sender, key, iv, hp) in [
        (
            Version::V1,
            Sender::Client,
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
            "9f50449e04a0e810283a1e9933adedd2",
        ),
        (
            Version::V1,
            Sender::Server,
            "cf3a5331653c364c88f0f379b6067e37",
            "0ac1493ca1905853b0bba03e",
            "c206b8d9b9f0f37644430b490eeaa314",
        ),
        (
            Version::V2,
            Sender::Client,
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
            "45b95e15235d6f45a6b19cbcb0294ba9",
        ),
        (
            Version::V2,
            Sender::Server,
            "82db637861d55e1d011f19ea71d5d2a7",
            "dd13c276499c0249d3310652",
            "edf6d05c83121201b436e16877593c3a",
        ),
    ] {
        let keys = Keys::initial(version, &CONNECTION_ID, sender).unwrap();
        assert_eq!(
            (hex(&keys.key), hex(&keys.iv), hex(&keys.hp)),
            (key.into(), iv.into(), hp.into())
        );
    }
}

fn brief(events: &[TlsEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            TlsEvent::ClientHello { hello, .. } => {
                format!(
                    "client {} {:?} {}",
                    hello.server_name.as_deref().unwrap_or("-"),
                    hello.alpn,
                    ja4(hello)
                )
            }
            TlsEvent::ServerHello { hello, .. } => {
                format!(
                    "server {:04x} {:04x}{}",
                    hello.version,
                    hello.cipher,
                    if hello.retry { " retry" } else { "" }
                )
            }
            TlsEvent::Alert { description, .. } => format!("alert {description}"),
            TlsEvent::Anomaly { anomaly, .. } => format!("! {} {}", anomaly.kind.slug(), anomaly.detail),
            other => format!("{other:?}"),
        })
        .collect()
}

fn run(datagrams: &[(Direction, &[u8])]) -> (Connection, Vec<String>) {
    let mut connection = Connection::new(Limits::default());
    let mut out = Vec::new();
    for (direction, datagram) in datagrams {
        connection.datagram(*direction, At::default(), datagram, &mut out);
    }
    (connection, brief(&out))
}

const CLIENT: &str = "client example.com [\"alpn\"] q13d0211an_";

#[test]
fn hellos_of_the_appendices() {
    for (client, server) in [
        (CLIENT_V1, SERVER_V1),
        (CLIENT_V2, SERVER_V2),
        (CLIENT_V1, SERVER_V2),
    ] {
        assert!(probe(client));
        let (connection, said) = run(&[(ToServer, client), (ToClient, server)]);
        assert!(said[0].starts_with(CLIENT), "{said:?}");
        assert_eq!(said[1..], ["server 0304 1301"]);
        assert!(connection.is_certain() && connection.is_done());
    }
}

#[test]
fn what_was_not_sealed_with_these_keys_says_nothing() {
    let mut bent = CLIENT_V1.to_vec();
    bent[600] ^= 1;
    let (connection, said) = run(&[(ToServer, &bent), (ToClient, SERVER_V1)]);
    assert!(said.is_empty() && !connection.is_certain());
    assert!(!probe(&CLIENT_V1[..1000]), "cut");
    assert!(!probe(b"\xc3\xff\x00\x00\x1d\x00\x00"), "a draft");
    assert!(!probe(b""));
}

fn varint(value: usize) -> [u8; 4] {
    (u32::try_from(value).unwrap() | 0x8000_0000).to_be_bytes()
}

/// A CRYPTO frame.
fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset), &varint(data.len()), data].concat()
}

/// A client's Initial packet of version 1 with these frames.
fn seal(id: &[u8], number: u8, frames: &[u8]) -> Vec<u8> {
    let keys = Keys::initial(Version::V1, id, Sender::Client).unwrap();
    let mut frames = frames.to_vec();
    frames.resize(frames.len().max(20), 0);
    let length = varint(frames.len() + 17);
    let id_len = u8::try_from(id.len()).unwrap();
    let mut packet = [&[0xc0, 0, 0, 0, 1, id_len][..], id, &[0, 0], &length, &[number]].concat();
    let number_at = packet.len() - 1;
    let mut nonce = keys.iv;
    nonce[11] ^= number;
    let sealed = Aes128Gcm::new(&keys.key.into())
        .encrypt(
            &Nonce::from(nonce),
            Payload {
                msg: &frames,
                aad: &packet,
            },
        )
        .unwrap();
    packet.extend(sealed);
    let mut mask = aes::Block::from(<[u8; 16]>::try_from(&packet[number_at + 4..number_at + 20]).unwrap());
    Aes128::new(&keys.hp.into()).encrypt_block(&mut mask);
    packet[0] ^= mask[0] & 0x0f;
    packet[number_at] ^= mask[1];
    packet
}

/// The ClientHello of the appendices.
fn hello() -> Vec<u8> {
    let (long, _) = packet::split(CLIENT_V1);
    let keys = Keys::initial(Version::V1, &CONNECTION_ID, Sender::Client).unwrap();
    let (found, _) = frames(keys.open(&long.unwrap()).unwrap().into());
    let Some(Frame::Crypto(0, data)) = found.first().cloned() else {
        panic!("{found:?}")
    };
    data.to_vec()
}

#[test]
fn frames_in_any_order_packets_in_one_datagram_and_an_alert() {
    let hello = hello();
    let first = seal(b"id", 0, &[crypto(100, &hello[100..]), vec![1, 0, 0]].concat());
    let second = seal(
        b"id",
        1,
        &[vec![2, 0, 0, 0, 0], crypto(0, &hello[..150])].concat(),
    );
    let close = seal(b"id", 2, &[0x1c, 0x41, 48, 6, 2, b'n', b'o']);
    let (_, said) = run(&[(ToServer, &[first, second].concat()), (ToServer, &close)]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with(CLIENT));
    assert_eq!(said[1], "alert 48");
}

#[test]
fn a_retry_changes_the_keys() {
    let hello = hello();
    let retry = [
        &[0xf0, 0, 0, 0, 1, 0, 3][..],
        b"new",
        b"token and tag, sixteen bytes of it",
    ]
    .concat();
    let first = seal(b"old", 0, &crypto(0, &hello[..40]));
    let again = seal(b"new", 1, &crypto(0, &hello));
    let (_, said) = run(&[(ToServer, &first), (ToClient, &retry), (ToServer, &again)]);
    assert!(said.len() == 1 && said[0].starts_with(CLIENT), "{said:?}");
    // The same if the Retry was not captured.
    assert_eq!(run(&[(ToServer, &first), (ToServer, &again)]).1, said);
}

#[test]
fn nonsense_and_excess_are_said_once() {
    let far = seal(b"id", 0, &crypto(200_000, b"x"));
    let (_, said) = run(&[(ToServer, &far), (ToServer, &far)]);
    assert_eq!(said, ["! quic-malformed handshake above the limit"]);
    let other = seal(b"id", 0, &crypto(0, &[9, 0, 0, 1, 0]));
    let (_, said) = run(&[(ToServer, &other), (ToServer, &other)]);
    assert_eq!(
        said,
        ["! quic-malformed the handshake does not begin with a hello"]
    );
    let frame = seal(b"id", 0, &[0x30, 1, 2, 3]);
    assert_eq!(
        run(&[(ToServer, &frame)]).1,
        ["! quic-malformed a frame that Initial packets do not have"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_in_any_order_gives_the_same_hello(
        cuts in prop::collection::vec(0usize..241, 0..8), order in any::<prop::sample::Index>(), twice in any::<bool>(),
    ) {
        let hello = hello();
        let mut cuts = cuts;
        cuts.extend([0, hello.len()]);
        cuts.sort_unstable();
        let mut pieces: Vec<Vec<u8>> = cuts
            .windows(2)
            .map(|w| crypto(w[0], &hello[w[0]..w[1]]))
            .collect();
        let by = order.index(pieces.len());
        pieces.rotate_left(by);
        if twice {
            pieces.push(crypto(3, &hello[3..90]));
        }
        let packets: Vec<Vec<u8>> = pieces.iter().enumerate().map(|(n, p)| seal(b"id", u8::try_from(n).unwrap(), p)).collect();
        let datagrams: Vec<(Direction, &[u8])> = packets.iter().map(|p| (ToServer, p.as_slice())).collect();
        let (_, said) = run(&datagrams);
        prop_assert!(said.len() == 1 && said[0].starts_with(CLIENT), "{said:?}");
    }

    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), sealed in any::<Vec<u8>>(), at in 0usize..1200, to in any::<u8>()) {
        let mut bent = CLIENT_V1.to_vec();
        bent[at] = to;
        let framed = seal(b"id", 0, &sealed);
        let long = [&[0xc0, 0, 0, 0, 1][..], &bytes].concat();
        run(&[(ToServer, &bent), (ToServer, &long), (ToServer, &framed), (ToClient, &bytes), (ToClient, SERVER_V1)]);
    }
}
