//! The state file of a run.

use std::path::{Path, PathBuf};
#[cfg(feature = "live")]
use std::sync::{PoisonError, atomic::Ordering};

use super::Failure;
#[cfg(feature = "live")]
use crate::telemetry::state_health::StateHealth;
use crate::{
    config::program::Program,
    pipeline::{
        keep::{Changes, Learning, Snapshot},
        record::Record,
    },
    sink::state::{Batch, Opened, State, StateLimits},
};

/// Alerts that are written together in replay.
const ALERTS_AT_ONCE: usize = 256;
/// Rows of each kind that wait while the file cannot be written (disk full, read-only); the oldest are lost
/// beyond it, and counted.
#[cfg(feature = "live")]
const MAX_WAITING: usize = 16_384;

/// The state file that was named, if one was.
pub(super) fn path(flag: Option<&Path>, program: &Program) -> Option<PathBuf> {
    flag.map(Path::to_owned).or_else(|| program.state.file.clone())
}

/// Opens the state file to ask it something.
pub(super) fn read(flag: Option<&Path>, program: &Program) -> Result<State, Failure> {
    let path = path(flag, program).ok_or_else(|| {
        Failure::Usage(
            "no state file is named; expected --state FILE, or --config FILE with state.file".into(),
        )
    })?;
    State::read(&path).map_err(Failure::work)
}

/// Writes what a run finds and learns.
pub(super) struct Keeper {
    state: State,
    /// How to open it anew.
    #[cfg(feature = "live")]
    place: (PathBuf, StateLimits),
    waiting: Batch,
    /// How writing fares, for others to show.
    #[cfg(feature = "live")]
    pub(super) health: std::sync::Arc<StateHealth>,
}

impl Keeper {
    /// Opens the state file, if one is named. One that had to be set aside is said once.
    pub(super) fn open(flag: Option<&Path>, program: &Program) -> Result<Option<Self>, Failure> {
        let Some(path) = path(flag, program) else {
            return Ok(None);
        };
        let limits = StateLimits {
            max_bytes: program.state.max_bytes,
            max_alerts: program.state.max_alerts,
            max_facts: program.baseline.max_facts,
            keep_alerts: program.state.keep_alerts,
            keep_verified: program.state.keep_verified,
        };
        let Opened { state, set_aside } = State::open(&path, limits).map_err(Failure::work)?;
        if let Some(sentence) = set_aside {
            tracing::warn!("{sentence}");
        }
        Ok(Some(Self {
            state,
            #[cfg(feature = "live")]
            place: (path, limits),
            waiting: Batch::default(),
            #[cfg(feature = "live")]
            health: std::sync::Arc::default(),
        }))
    }

    /// How a run learns with it: from what is there.
    pub(super) fn learning(&mut self, program: &Program) -> Result<Learning, Failure> {
        Ok(Learning {
            options: program.baseline.learning(),
            snapshot: Snapshot {
                facts: self.state.facts().map_err(Failure::work)?,
                memory: self.state.memory().map_err(Failure::work)?,
            },
            keep: true,
        })
    }

    /// Takes alerts; they are written some at a time, and with [`Self::keep`].
    pub(super) fn alerts(&mut self, records: &[Record]) -> Result<(), Failure> {
        self.take(records);
        match self.waiting.alerts.len() >= ALERTS_AT_ONCE {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Writes what was learned, and the alerts that wait.
    pub(super) fn keep(&mut self, changes: Changes) -> Result<(), Failure> {
        self.waiting.facts.extend(changes.facts);
        self.waiting.memory.extend(changes.memory);
        self.waiting.tallies.extend(changes.tallies);
        self.write()
    }

    fn take(&mut self, records: &[Record]) {
        let alerts = records.iter().filter_map(|record| match record {
            Record::Alert(alert) => Some((**alert).clone()),
            _ => None,
        });
        self.waiting.alerts.extend(alerts);
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.state.write(&self.waiting).map_err(Failure::work)?;
        self.waiting = Batch::default();
        Ok(())
    }

    /// As the two above, live: an alert is written at once, and what cannot be written is said once and waits for the
    /// next time that changes come; watching goes on.
    #[cfg(feature = "live")]
    pub(super) fn try_keep(&mut self, changes: Option<Changes>, records: &[Record]) {
        self.take(records);
        let failing = self.health.failing.lock().is_ok_and(|failing| failing.is_some());
        let result = match changes {
            Some(changes) => self.renew().and_then(|()| self.keep(changes)),
            // A file that is locked would hold up packets for each alert.
            None if failing || self.waiting.alerts.is_empty() => return self.count_waiting(),
            None => self.renew().and_then(|()| self.write()),
        };
        let mut failing = self.health.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if failing.take().is_some() {
                    tracing::info!("the state file is written again");
                }
            }
            Err(Failure::Work(error) | Failure::Usage(error)) => {
                self.health.failed.fetch_add(1, Ordering::Relaxed);
                if failing.is_none() {
                    tracing::error!(%error, "the state file cannot be written; what was learned and alerted waits");
                }
                *failing = Some(error);
                let lost = self.waiting.keep_newest(MAX_WAITING);
                self.health.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        self.count_waiting();
    }

    #[cfg(feature = "live")]
    fn count_waiting(&self) {
        self.health.waiting.store(self.waiting.rows(), Ordering::Relaxed);
    }

    /// The run is over: writes what waits. Rows that were lost, those that still wait included.
    #[cfg(feature = "live")]
    pub(super) fn finish(&mut self) -> u64 {
        self.try_keep(Some(Changes::default()), &[]);
        let left = self.waiting.rows();
        if left > 0 {
            tracing::error!(
                rows = left,
                "ended with rows that the state file did not take; they are lost"
            );
        }
        self.health
            .lost
            .fetch_add(left, Ordering::Relaxed)
            .saturating_add(left)
    }

    /// Begins the file anew where it was removed or replaced.
    #[cfg(feature = "live")]
    fn renew(&mut self) -> Result<(), Failure> {
        if !self.state.is_gone() {
            return Ok(());
        }
        let Opened { state, set_aside } = State::open(&self.place.0, self.place.1).map_err(Failure::work)?;
        self.state = state;
        self.health.begun_anew.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            file = %self.place.0.display(),
            "the state file was removed or replaced while it was in use; what follows goes to the one that is there now, alerts and facts of before are not in it"
        );
        if let Some(sentence) = set_aside {
            tracing::warn!("{sentence}");
        }
        Ok(())
    }
}
