//! A record as a message, and the partition that it goes to.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rskafka::record::Record;

use crate::{
    sink::{
        delivery::Entry,
        encoding::{Encoding, View},
    },
    types::Timestamp,
};

/// What the key of a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KeyBy {
    Endpoint,
    Id,
}

/// The message of a record.
pub(super) fn message(entry: &Entry, key: KeyBy, encoding: Encoding, now: Timestamp) -> Record {
    let view = View::of(entry);
    let path = match key {
        KeyBy::Endpoint => "/endpoint",
        KeyBy::Id => "/id",
    };
    // In messages and flows an endpoint is its number in the pins.
    let number = || view.number(path).map(|number| number.to_string());
    let key = view.text(path).map(str::to_owned).or_else(number);
    let header = |(name, path): (&str, &str)| Some((name.to_owned(), view.text(path)?.as_bytes().to_vec()));
    let headers = [("schema", "/schema"), ("id", "/id")]
        .into_iter()
        .filter_map(header);
    let at = view.time("/last_seen").or(view.time("/time")).unwrap_or(now);
    let nanoseconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    Record {
        key: key.map(String::into_bytes),
        value: Some(encoding.line(entry)),
        headers: headers.collect::<BTreeMap<_, _>>(),
        timestamp: DateTime::<Utc>::from_timestamp_nanos(nanoseconds),
    }
}

/// The place among `partitions` that Kafka's own clients choose for a key.
pub(super) fn place(key: &[u8], partitions: usize) -> usize {
    let hash = murmur2(key) & 0x7fff_ffff;
    usize::try_from(hash)
        .unwrap_or(0)
        .checked_rem(partitions)
        .unwrap_or(0)
}

/// 32-bit MurmurHash2 with the seed of Kafka's `Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}
