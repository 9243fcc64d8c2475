//! What each sink has done, for the summary, `/metrics` and `check`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::types::Timestamp;

/// One sink's counters. Counts are since the start of the process and count records unless they say otherwise.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct SinkCounters {
    /// `file`, `webhook`, …
    pub kind: &'static str,
    /// Passed the sink's filter.
    pub offered: u64,
    /// Taken by the receiver.
    pub sent: u64,
    /// Payload bytes that went with them.
    pub bytes: u64,
    /// Attempts that failed and were or will be repeated.
    pub retried: u64,
    /// Lost, by reason; all zero means that nothing was.
    pub dropped: Dropped,
    /// Wait to be sent, on disk and in memory.
    pub spooled: u64,
    /// Bytes of them.
    pub spooled_bytes: u64,
    /// Found in the spool at the start: left by the process before.
    pub recovered: u64,
    /// Times that changed files (secrets, certificates) came into force.
    pub renewed: u64,
    /// Times that they could not be used; those before stayed in force.
    pub renewals_failed: u64,
    /// Why the last failed attempt failed; `null` once one worked.
    pub last_error: Option<String>,
    /// When the receiver last took something.
    pub last_success: Option<Timestamp>,
    /// Since when the oldest that waits has waited; for what an earlier process left, its start.
    pub oldest: Option<Timestamp>,
}

/// Records that a sink lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Dropped {
    /// The oldest made room: between the packet loop and the sink's thread.
    pub queue: u64,
    /// The oldest made room: spool or memory at their bound.
    pub spool: u64,
    /// The receiver will never take them.
    pub rejected: u64,
    /// Only in memory when the process ended.
    pub shutdown: u64,
    /// Spool records that could not be read back, one for each damaged place.
    pub damaged: u64,
}

impl Dropped {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.queue, self.spool, self.rejected, self.shutdown, self.damaged]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Counters of all sinks, by name; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct SinkStatus(Arc<Mutex<BTreeMap<String, SinkCounters>>>);

impl SinkStatus {
    /// As they stand.
    pub fn snapshot(&self) -> BTreeMap<String, SinkCounters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, name: &str, counters: SinkCounters) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), counters);
    }
}

/// Wall time, which sinks work by.
pub(crate) fn wall() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
