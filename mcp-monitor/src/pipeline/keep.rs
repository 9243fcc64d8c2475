//! What outlives a run: loaded at its start, taken out in batches.

use crate::baseline::{LearningOptions, MemoryRow, Row, TallyRow};

/// What an earlier run left.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Facts.
    pub facts: Vec<Row>,
    /// What rules remember.
    pub memory: Vec<MemoryRow>,
}

/// What was learned since the last batch.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Facts, each with its whole entry.
    pub facts: Vec<Row>,
    /// What rules remember, each row whole.
    pub memory: Vec<MemoryRow>,
    /// Counts of what was verified, to be added.
    pub tallies: Vec<TallyRow>,
}

impl Changes {
    /// There is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.memory.is_empty() && self.tallies.is_empty()
    }
}

/// How a run learns.
#[derive(Clone, Debug, Default)]
pub struct Learning {
    /// Periods and bounds.
    pub options: LearningOptions,
    /// What is known already.
    pub snapshot: Snapshot,
    /// Note changes for a state file.
    pub keep: bool,
}
