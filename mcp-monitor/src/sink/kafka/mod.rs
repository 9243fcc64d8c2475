//! A Kafka topic.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, encoding, http, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "kafka",
    about: "Writes to a topic, which must be there, with acknowledgement by all replicas in sync (`acks=all`). The message's key is what `key` says, so that what belongs together stays in order in one partition (the partition is the one that Kafka's own clients choose: murmur2). Headers `schema` and `id`: an id that comes a second time is the same record, for consumers and compacted topics. What a broker refuses for good (too large, invalid) is dropped and counted; everything else is tried again. Messages are not compressed.",
    keys: &[config::KEYS, &[encoding::KEY, http::TLS_KEY]],
    batch: 500,
    spool: true,
    records: &Kind::RECORDS,
    read: config::read,
};
