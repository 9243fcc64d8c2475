//! Both directions of a connection whose secrets are in the key log.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::{
    proto::tls::decrypt::{DecryptLimits, Decryptor, KeyLog},
    types::{At, Direction},
};

/// A log that has the secrets of the connections in the seeds, and of the random of all zeroes.
static KEYS: LazyLock<Arc<KeyLog>> = LazyLock::new(|| {
    let keys = KeyLog::default();
    keys.add(include_bytes!(
        "../../tests/captures/benign/keys/lo-tls13-py.keylog"
    ));
    keys.add(include_bytes!(
        "../../tests/captures/benign/keys/veth-tls12-ts.keylog"
    ));
    let zero = "00".repeat(32);
    for label in [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_EARLY_TRAFFIC_SECRET",
    ] {
        keys.add(format!("{label} {zero} {zero}").as_bytes());
    }
    Arc::new(keys)
});

fuzz_target!(|input: (&[u8], Vec<(bool, Option<u16>, Vec<u8>)>)| {
    let (log, pieces) = input;
    KeyLog::default().add(log);
    let mut decryptor = Decryptor::new(KEYS.clone(), DecryptLimits::default());
    let mut out = Vec::new();
    for (to_server, gap, piece) in pieces {
        let direction = if to_server {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        decryptor.data(direction, At::default(), Bytes::from(piece), &mut out);
        if let Some(gap) = gap {
            decryptor.gap(direction, At::default(), gap.into(), &mut out);
        }
        out.clear();
    }
});
