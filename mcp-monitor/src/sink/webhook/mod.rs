//! An HTTP endpoint that takes JSON: Slack, PagerDuty, or anything.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, encoding, http, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "webhook",
    about: "Posts JSON. With `batch: 1` (the default) a request has one record and `Idempotency-Key` is its id; with a larger batch the generic template sends a JSON array. `slack` is an incoming webhook's message, `pagerduty` an Events API v2 event whose `dedup_key` is the alert's id (or its incident's), so that a repetition updates and does not page again. Status 400, 413, 415 and 422 mean that the receiver will never take the record: a batch is then halved until the one that is refused is found, and that one is dropped and counted. Every other failure is tried again; `Retry-After` is honoured, up to an hour. A URL that is a secret (Slack) belongs into `{file: …}`.",
    keys: &[http::KEYS, config::KEYS, &[encoding::KEY]],
    batch: 1,
    spool: true,
    records: &Kind::RECORDS,
    read: config::read,
};
