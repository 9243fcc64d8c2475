//! The state file: alerts, the baseline, what was verified. SQLite, one writer, any number of readers.
//!
//! Write-ahead log with `synchronous=NORMAL`: a process that is killed at any moment loses at most the
//! transaction it was in; a machine that loses power may lose the last transactions but never has a
//! broken file. Nothing here is worth an `fsync` for each batch while packets wait.
//!
//! A file that cannot be used is set aside under another name, never removed.

mod alerts;
mod error;
mod open;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;

pub use self::{
    alerts::{AlertQuery, StoredAlert},
    error::StateError,
    open::Opened,
};
use crate::{
    alert::Alert,
    baseline::{MemoryRow, Row, TallyRow},
};

/// Bounds of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateLimits {
    /// Bytes of the main file. Reached: the oldest alerts go, then the facts longest unseen.
    pub max_bytes: u64,
    /// Alerts.
    pub max_alerts: u64,
    /// Facts.
    pub max_facts: u64,
    /// How long an alert is kept before the newest.
    pub keep_alerts: Duration,
    /// How long hourly counts are kept before the newest.
    pub keep_verified: Duration,
}

impl Default for StateLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            max_bytes: 256 << 20,
            max_alerts: 100_000,
            max_facts: 65_536,
            keep_alerts: DAY.saturating_mul(90),
            keep_verified: DAY.saturating_mul(400),
        }
    }
}

/// One batch to write, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Facts, each whole.
    pub facts: Vec<Row>,
    /// What rules remember, each row whole.
    pub memory: Vec<MemoryRow>,
    /// Counts to add.
    pub tallies: Vec<TallyRow>,
    /// Alerts; one that is there already is replaced if it has grown.
    pub alerts: Vec<Alert>,
}

impl Batch {
    /// Rows in it.
    pub fn rows(&self) -> u64 {
        let kinds = [
            self.facts.len(),
            self.memory.len(),
            self.tallies.len(),
            self.alerts.len(),
        ];
        kinds.into_iter().fold(0, |sum, n| {
            sum.saturating_add(u64::try_from(n).unwrap_or(u64::MAX))
        })
    }

    /// Lets the oldest rows of each kind go that are more than `most`; how many.
    pub fn keep_newest(&mut self, most: usize) -> u64 {
        fn trim<T>(rows: &mut Vec<T>, most: usize) -> u64 {
            let gone = rows.len().saturating_sub(most);
            rows.drain(..gone);
            u64::try_from(gone).unwrap_or(u64::MAX)
        }
        [
            trim(&mut self.facts, most),
            trim(&mut self.memory, most),
            trim(&mut self.tallies, most),
            trim(&mut self.alerts, most),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// There is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.memory.is_empty() && self.tallies.is_empty() && self.alerts.is_empty()
    }
}

/// An open state file.
#[derive(Debug)]
pub struct State {
    db: Connection,
    path: PathBuf,
    limits: StateLimits,
    /// Which file of that name it was.
    file: Option<FileId>,
}

/// Device and inode.
type FileId = (u64, u64);

/// The file that has this name now.
#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<FileId> {
    None
}

impl State {
    /// Somebody removed or replaced the file: SQLite would go on to write to one that nobody can open any more.
    pub fn is_gone(&self) -> bool {
        self.file.is_some() && file_id(&self.path) != self.file
    }

    /// Writes a batch and keeps the file within its bounds.
    ///
    /// # Errors
    ///
    /// What SQLite says; nothing of the batch is written then.
    pub fn write(&mut self, batch: &Batch) -> Result<(), StateError> {
        if batch.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        let result = (|| {
            let write = self.db.transaction()?;
            rows::write(&write, batch)?;
            alerts::write(&write, &batch.alerts)?;
            rows::bound(&write, &self.limits)?;
            alerts::bound(&write, &self.limits)?;
            write.commit()?;
            self.bound_bytes()
        })();
        result.map_err(|error| StateError::sqlite(&path, &error))
    }

    /// Rows that made room, by table (`alerts`, `facts`, `memory`, `verified`), since the file was made.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn evicted(&self) -> Result<Vec<(String, u64)>, StateError> {
        schema::counters(&self.db).map_err(|error| StateError::sqlite(&self.path, &error))
    }

    /// Bytes that rows take up in the main file.
    fn bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |name: &str| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
        Ok(u64::try_from(pages.saturating_mul(pragma("page_size")?)).unwrap_or_default())
    }

    fn bound_bytes(&mut self) -> rusqlite::Result<()> {
        // Each round frees a tenth of a table; what remains after that is too small to matter.
        for _ in 0..64 {
            if self.bytes()? <= self.limits.max_bytes {
                break;
            }
            let write = self.db.transaction()?;
            let freed = alerts::drop_tenth(&write)? || rows::drop_tenth(&write)?;
            write.commit()?;
            if !freed {
                break;
            }
        }
        self.db.execute_batch("PRAGMA incremental_vacuum(256)")
    }
}
