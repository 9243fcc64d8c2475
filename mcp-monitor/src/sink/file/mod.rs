//! A file that is rotated.

mod config;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, encoding, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "file",
    about: "One line a record, appended. When the file reaches `max_bytes` or `max_age` it becomes `PATH.1`, and what was `PATH.1` becomes `PATH.2`. A file that somebody else moves or removes (logrotate) is made anew with the next record; no signal is needed. Mode 0600.",
    keys: &[config::KEYS, &[encoding::KEY]],
    batch: 1000,
    spool: false,
    records: &Kind::RECORDS,
    read: config::read,
};
