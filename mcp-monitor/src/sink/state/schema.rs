//! Tables and migrations.

use rusqlite::{Connection, Transaction};

/// "mcpm": tells our files from those of other programs.
pub(super) const APPLICATION_ID: i32 = 0x6d63_706d;

/// One step per version; `user_version` says how many a file has had.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE facts (
        subject TEXT NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
        first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, quiet_since INTEGER NOT NULL,
        count INTEGER NOT NULL, low INTEGER, high INTEGER, standing TEXT NOT NULL,
        PRIMARY KEY (subject, kind, value)
    ) WITHOUT ROWID;
    CREATE INDEX facts_by_age ON facts (last_seen);
    CREATE TABLE memory (
        rule TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, changed INTEGER NOT NULL,
        PRIMARY KEY (rule, key)
    ) WITHOUT ROWID;
    CREATE INDEX memory_by_age ON memory (changed);
    CREATE TABLE verified (
        hour INTEGER NOT NULL, endpoint TEXT NOT NULL, agent TEXT NOT NULL, tally TEXT NOT NULL,
        PRIMARY KEY (hour, endpoint, agent)
    ) WITHOUT ROWID;
    CREATE TABLE alerts (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, rule TEXT NOT NULL, severity INTEGER NOT NULL,
        endpoint TEXT, incident TEXT, count INTEGER NOT NULL, record TEXT NOT NULL, line TEXT NOT NULL
    );
    CREATE INDEX alerts_by_time ON alerts (last_seen);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"];

/// The version this program writes.
pub(super) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings a file from `version` to [`version`], each step in a transaction of its own.
pub(super) fn migrate(db: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(version).unwrap_or_default();
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let write = db.transaction()?;
        write.execute_batch(sql)?;
        write.pragma_update(None, "application_id", APPLICATION_ID)?;
        write.pragma_update(None, "user_version", step.saturating_add(1) as i64)?;
        write.commit()?;
    }
    Ok(())
}

/// Adds to a counter of evictions.
pub(super) fn count(write: &Transaction<'_>, name: &str, more: usize) -> rusqlite::Result<()> {
    if more == 0 {
        return Ok(());
    }
    write
        .prepare("INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2")?
        .execute((name, i64::try_from(more).unwrap_or(i64::MAX)))?;
    Ok(())
}

/// All counters.
pub(super) fn counters(db: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    db.prepare("SELECT name, value FROM counters ORDER BY name")?
        .query_map((), |row| {
            let value: i64 = row.get(1)?;
            Ok((row.get(0)?, u64::try_from(value).unwrap_or_default()))
        })?
        .collect()
}
