//! Facts, memory of rules, what was verified.

use rusqlite::{OptionalExtension as _, Row as SqlRow, Transaction};

use super::{Batch, State, StateError, StateLimits, schema::count};
use crate::{
    baseline::{Fact, MemoryRow, Row, Standing, Subject, Tally, TallyKey, TallyRow, learned::Entry},
    types::Timestamp,
};

/// Rows of rules' memory kept; beyond it those longest unchanged go.
const MAX_MEMORY: u64 = 200_000;
/// Hourly counts kept; beyond it the oldest go.
const MAX_VERIFIED: u64 = 500_000;

/// SQLite's integers are signed; times reach the year 2262.
fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<u64> {
    let n: i64 = row.get(index)?;
    Ok(u64::try_from(n).unwrap_or_default())
}

pub(super) fn write(write: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let mut insert = write.prepare(
        "INSERT OR REPLACE INTO facts (subject, kind, value, first_seen, last_seen, quiet_since, count, low, high, standing)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut latest = 0;
    for row in &batch.facts {
        let (kind, value) = row.fact.parts();
        let entry = &row.entry;
        latest = latest.max(entry.last.0);
        insert.execute((
            row.subject.to_string(),
            kind,
            value.to_string(),
            number(entry.first.0),
            number(entry.last.0),
            number(entry.quiet_since.0),
            number(entry.count),
            entry.range.map(|(low, _)| number(low)),
            entry.range.map(|(_, high)| number(high)),
            entry.standing.as_str(),
        ))?;
    }
    let mut insert =
        write.prepare("INSERT OR REPLACE INTO memory (rule, key, value, changed) VALUES (?1, ?2, ?3, ?4)")?;
    for row in &batch.memory {
        insert.execute((&row.rule, &row.key, &row.value, number(latest)))?;
    }
    let mut known =
        write.prepare("SELECT tally FROM verified WHERE hour = ?1 AND endpoint = ?2 AND agent = ?3")?;
    let mut insert = write
        .prepare("INSERT OR REPLACE INTO verified (hour, endpoint, agent, tally) VALUES (?1, ?2, ?3, ?4)")?;
    for row in &batch.tallies {
        let key = (number(row.key.hour), &row.key.endpoint, &row.key.agent);
        let before: Option<String> = known.query_row(key, |row| row.get(0)).optional()?;
        let mut tally: Tally = before
            .and_then(|text: String| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        tally.add(&row.tally);
        let text = serde_json::to_string(&tally).unwrap_or_default();
        insert.execute((key.0, key.1, key.2, text))?;
    }
    Ok(())
}

pub(super) fn bound(write: &Transaction<'_>, limits: &StateLimits) -> rusqlite::Result<()> {
    let rows = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        write.prepare(&sql)?.query_row((), |row| unsigned(row, 0))
    };
    let over = rows("facts")?.saturating_sub(limits.max_facts);
    if over > 0 {
        count(write, "facts", oldest_facts(write, over)?)?;
    }
    let over = rows("memory")?.saturating_sub(MAX_MEMORY);
    if over > 0 {
        let gone = write.execute(
            "DELETE FROM memory WHERE (rule, key) IN (SELECT rule, key FROM memory ORDER BY changed, rule, key LIMIT ?1)",
            [number(over)],
        )?;
        count(write, "memory", gone)?;
    }
    let hours = limits
        .keep_verified
        .as_secs()
        .checked_div(3600)
        .unwrap_or_default();
    let gone = write.execute(
        "DELETE FROM verified WHERE hour < (SELECT max(hour) FROM verified) - ?1",
        [number(hours)],
    )?;
    count(write, "verified", gone)?;
    let over = rows("verified")?.saturating_sub(MAX_VERIFIED);
    if over > 0 {
        let gone = write.execute(
            "DELETE FROM verified WHERE (hour, endpoint, agent) IN
             (SELECT hour, endpoint, agent FROM verified ORDER BY hour, endpoint, agent LIMIT ?1)",
            [number(over)],
        )?;
        count(write, "verified", gone)?;
    }
    Ok(())
}

/// What a person approved goes last.
fn oldest_facts(write: &Transaction<'_>, n: u64) -> rusqlite::Result<usize> {
    write.execute(
        "DELETE FROM facts WHERE (subject, kind, value) IN
         (SELECT subject, kind, value FROM facts ORDER BY standing = 'approved', last_seen, subject, kind, value LIMIT ?1)",
        [number(n)],
    )
}

/// Frees a tenth of the facts; false if there are none.
pub(super) fn drop_tenth(write: &Transaction<'_>) -> rusqlite::Result<bool> {
    let rows: u64 = write.query_row("SELECT count(*) FROM facts", (), |row| unsigned(row, 0))?;
    let tenth = rows.checked_div(10).unwrap_or_default().max(1).min(rows);
    let gone = oldest_facts(write, tenth)?;
    count(write, "facts", gone)?;
    Ok(gone > 0)
}

impl State {
    /// Every fact. Rows of another version of this program are left out; they stay in the file.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn facts(&self) -> Result<Vec<Row>, StateError> {
        self.all(
            // The most recently seen last: that is how memory forgets.
            "SELECT subject, kind, value, first_seen, last_seen, quiet_since, count, low, high, standing
             FROM facts ORDER BY last_seen, subject, kind, value",
            fact,
        )
    }

    /// What rules remembered.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn memory(&self) -> Result<Vec<MemoryRow>, StateError> {
        self.all(
            "SELECT rule, key, value FROM memory ORDER BY changed, rule, key",
            |row| {
                Ok(Some(MemoryRow {
                    rule: row.get(0)?,
                    key: row.get(1)?,
                    value: row.get(2)?,
                }))
            },
        )
    }

    /// What was verified, by hour, from `since` up to before `until`.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn verified(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<TallyRow>, StateError> {
        let rows = self.all(
            "SELECT hour, endpoint, agent, tally FROM verified ORDER BY hour, endpoint, agent",
            |row| {
                let text: String = row.get(3)?;
                let Ok(tally) = serde_json::from_str(&text) else {
                    return Ok(None);
                };
                Ok(Some(TallyRow {
                    key: TallyKey {
                        hour: unsigned(row, 0)?,
                        endpoint: row.get(1)?,
                        agent: row.get(2)?,
                    },
                    tally,
                }))
            },
        )?;
        let from = since.map_or(0, TallyKey::hour_of);
        Ok(rows
            .into_iter()
            .filter(|row| row.key.hour >= from && until.is_none_or(|until| row.key.begin() < until))
            .collect())
    }

    fn all<T>(
        &self,
        sql: &str,
        read: impl Fn(&SqlRow<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StateError> {
        let rows = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.db.prepare(sql)?;
            let mut rows = statement.query(())?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.extend(read(row)?);
            }
            Ok(found)
        };
        rows().map_err(|error| StateError::sqlite(&self.path, &error))
    }
}

fn fact(row: &SqlRow<'_>) -> rusqlite::Result<Option<Row>> {
    let (subject, kind, value): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let standing: String = row.get(9)?;
    let (low, high): (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    let range = low
        .zip(high)
        .and_then(|(low, high)| Some((u64::try_from(low).ok()?, u64::try_from(high).ok()?)));
    let entry = Entry {
        first: Timestamp(unsigned(row, 3)?),
        last: Timestamp(unsigned(row, 4)?),
        quiet_since: Timestamp(unsigned(row, 5)?),
        count: unsigned(row, 6)?,
        range,
        // An unknown word is not trusted.
        standing: Standing::parse(&standing).unwrap_or(Standing::New),
        here: None,
    };
    let value = serde_json::from_str(&value).unwrap_or_default();
    let (Some(subject), Some(fact)) = (Subject::parse(&subject), Fact::from_parts(&kind, value)) else {
        return Ok(None);
    };
    Ok(Some(Row { subject, fact, entry }))
}
