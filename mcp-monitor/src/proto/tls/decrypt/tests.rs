//! Hostile bytes; what real libraries send is in `tests/decrypt.rs`.

use proptest::prelude::*;

use super::*;
use crate::types::Direction;

const RANDOM: [u8; 32] = [7; 32];

fn log() -> Arc<KeyLog> {
    let log = KeyLog::default();
    let random = "07".repeat(32);
    for label in [
        "CLIENT_RANDOM",
        "CLIENT_EARLY_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    ] {
        let length = if label == "CLIENT_RANDOM" { 48 } else { 32 };
        log.add(format!("{label} {random} {}\n", "5a".repeat(length)).as_bytes());
    }
    Arc::new(log)
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 3];
    out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn hello(kind: u8, version: u16, cipher: &[u8], extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&RANDOM);
    body.push(0);
    body.extend_from_slice(cipher);
    if kind == CLIENT_HELLO {
        // One compression method.
        body.push(1);
    }
    body.push(0);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(extensions);
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend_from_slice(&body);
    record(HANDSHAKE, &message)
}

fn hellos(decryptor: &mut Decryptor, tls13: bool, out: &mut Vec<Decrypted>) {
    let client = hello(CLIENT_HELLO, TLS12, &[0, 2, 0x13, 1], &[]);
    let extensions: &[u8] = if tls13 { &[0, 43, 0, 2, 3, 4] } else { &[] };
    let cipher = if tls13 { [0x13, 1] } else { [0xc0, 0x2f] };
    let server = hello(SERVER_HELLO, TLS12, &cipher, extensions);
    decryptor.data(Direction::ToServer, At::default(), client.into(), out);
    decryptor.data(Direction::ToClient, At::default(), server.into(), out);
}

fn failures(out: &[Decrypted]) -> Vec<(AnomalyKind, String)> {
    out.iter()
        .filter_map(|d| match d {
            Decrypted::Failed { anomaly, .. } => Some((anomaly.kind, anomaly.detail.to_string())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_wrong_secret_is_told_once() {
    for tls13 in [false, true] {
        let mut decryptor = Decryptor::new(log(), DecryptLimits::default());
        let mut out = Vec::new();
        hellos(&mut decryptor, tls13, &mut out);
        assert!(out.is_empty(), "{out:?}");
        if !tls13 {
            let ccs = record(CHANGE_CIPHER_SPEC, &[1]);
            decryptor.data(Direction::ToClient, At::default(), ccs.into(), &mut out);
        }
        for _ in 0..3 {
            let sealed = record(APPLICATION_DATA, &[9; 64]);
            decryptor.data(Direction::ToClient, At::default(), sealed.into(), &mut out);
        }
        assert_eq!(
            failures(&out),
            [(
                AnomalyKind::TlsDecryptFailed,
                "the logged secret does not open the first record".to_owned()
            )]
        );
        assert!(decryptor.is_done());
    }
}

#[test]
fn a_connection_that_is_not_in_the_log_says_so() {
    let mut decryptor = Decryptor::new(Arc::new(KeyLog::default()), DecryptLimits::default());
    let mut out = Vec::new();
    hellos(&mut decryptor, true, &mut out);
    assert_eq!(failures(&out)[0].0, AnomalyKind::TlsKeyMissing);
}

#[test]
fn a_suite_that_cannot_be_opened_is_named() {
    let mut decryptor = Decryptor::new(log(), DecryptLimits::default());
    let mut out = Vec::new();
    let client = hello(CLIENT_HELLO, TLS12, &[0, 2, 0, 5], &[]);
    let server = hello(SERVER_HELLO, TLS12, &[0, 5], &[]);
    decryptor.data(Direction::ToServer, At::default(), client.into(), &mut out);
    decryptor.data(Direction::ToClient, At::default(), server.into(), &mut out);
    let failures = failures(&out);
    assert!(failures[0].1.contains("0x0005"), "{failures:?}");
}

#[test]
fn a_handshake_with_a_hole_is_given_up() {
    let mut decryptor = Decryptor::new(log(), DecryptLimits::default());
    let mut out = Vec::new();
    decryptor.gap(Direction::ToClient, At::default(), 100, &mut out);
    assert_eq!(failures(&out)[0].1, "part of the handshake is missing");
}

#[test]
fn held_records_are_bounded() {
    let limits = DecryptLimits {
        max_held: 1000,
        ..DecryptLimits::default()
    };
    let mut decryptor = Decryptor::new(log(), limits);
    let mut out = Vec::new();
    let client = hello(CLIENT_HELLO, TLS12, &[0, 2, 0x13, 1], &[0, 42, 0, 0]);
    decryptor.data(Direction::ToServer, At::default(), client.into(), &mut out);
    for _ in 0..3 {
        assert!(!decryptor.is_done());
        let early = record(APPLICATION_DATA, &[1; 400]);
        decryptor.data(Direction::ToServer, At::default(), early.into(), &mut out);
    }
    assert_eq!(
        failures(&out)[0].1,
        "too much early data before the answer of the server"
    );
}

proptest! {
    #[test]
    fn no_bytes_break_it(
        tls13: bool,
        pieces in prop::collection::vec((any::<bool>(), prop::option::of(0_u64..70000), prop::collection::vec(any::<u8>(), 0..200), 20_u8..24), 0..40),
    ) {
        let mut decryptor = Decryptor::new(log(), DecryptLimits::default());
        let mut out = Vec::new();
        hellos(&mut decryptor, tls13, &mut out);
        for (to_server, gap, bytes, kind) in pieces {
            let direction = if to_server { Direction::ToServer } else { Direction::ToClient };
            let bytes = if gap.is_some_and(|g| g % 3 == 0) { bytes } else { record(kind, &bytes) };
            decryptor.data(direction, At::default(), bytes.into(), &mut out);
            if let Some(gap) = gap.filter(|g| g % 2 == 0) {
                decryptor.gap(direction, At::default(), gap, &mut out);
            }
        }
        prop_assert!(failures(&out).len() <= 1);
    }
}
