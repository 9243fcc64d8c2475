//! The state file of a run.

use std::path::{Path, PathBuf};

use super::Failure;
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
    waiting: Batch,
    /// The last write failed, and that was said.
    #[cfg(feature = "live")]
    failing: bool,
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
            waiting: Batch::default(),
            #[cfg(feature = "live")]
            failing: false,
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
        let alerts = records.iter().filter_map(|record| match record {
            Record::Alert(alert) => Some((**alert).clone()),
            _ => None,
        });
        self.waiting.alerts.extend(alerts);
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

    fn write(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.waiting);
        self.state.write(&batch).map_err(Failure::work)
    }

    /// As the two above, live: what cannot be written is said once and counted as lost; watching goes on.
    #[cfg(feature = "live")]
    pub(super) fn try_keep(&mut self, changes: Option<Changes>, records: &[Record]) {
        let result = match changes {
            Some(changes) => self.keep(changes),
            None => self.alerts(records),
        };
        match result {
            Ok(()) if self.failing => {
                tracing::info!("the state file is written again");
                self.failing = false;
            }
            Ok(()) => {}
            Err(Failure::Work(error) | Failure::Usage(error)) => {
                if !self.failing {
                    tracing::error!(%error, "what was learned and alerted since the last write is not in the state file");
                }
                self.failing = true;
            }
        }
    }
}
