//! How writing the state file fares.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    exposition::{Family, Kind},
    health::Condition,
};

/// Written by whoever writes the file, read by requests.
#[derive(Debug, Default)]
pub struct StateHealth {
    /// Writes that failed; what they held waits for the next.
    pub failed: AtomicU64,
    /// Rows lost, because too many waited.
    pub lost: AtomicU64,
    /// Times that the file was removed or replaced while it was in use, and begun anew.
    pub begun_anew: AtomicU64,
    /// Rows that wait.
    pub waiting: AtomicU64,
    /// The last write failed, and why.
    pub failing: Mutex<Option<String>>,
}

impl StateHealth {
    /// As `/readyz` says it. Watching goes on without the file, so readiness does not need it.
    pub fn condition(&self) -> Condition {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failing {
            None => Condition::said("state", true, "the state file is written"),
            Some(error) => Condition::said(
                "state",
                false,
                format!(
                    "the state file cannot be written ({error}); what it should hold waits in memory: make room, or make it writable"
                ),
            ),
        }
    }

    /// Its numbers.
    pub fn families(&self) -> Vec<Family> {
        let number =
            |count: &AtomicU64| f64::from(u32::try_from(count.load(Ordering::Relaxed)).unwrap_or(u32::MAX));
        vec![
            Family::new(
                "mcp_monitor_state_writes_failed",
                Kind::Counter,
                "Writes of the state file that failed; what they held waits for the next.",
            )
            .with(Vec::new(), number(&self.failed)),
            Family::new(
                "mcp_monitor_state_rows_lost",
                Kind::Counter,
                "Rows for the state file that were lost because too many waited.",
            )
            .with(Vec::new(), number(&self.lost)),
            Family::new(
                "mcp_monitor_state_begun_anew",
                Kind::Counter,
                "Times that the state file was removed or replaced while it was in use; what it had is not in the one begun then.",
            )
            .with(Vec::new(), number(&self.begun_anew)),
            Family::new(
                "mcp_monitor_state_rows_waiting",
                Kind::Gauge,
                "Rows that wait to be written to the state file.",
            )
            .with(Vec::new(), number(&self.waiting)),
        ]
    }
}
