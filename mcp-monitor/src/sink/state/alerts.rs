//! Alerts: written as they come, asked for by `mcp-monitor alerts`.

use rusqlite::{Transaction, types::Value};

use super::{State, StateError, StateLimits, schema::count};
use crate::{
    alert::Alert,
    types::{Severity, Timestamp},
};

/// Longest record that is kept, in bytes; a longer one is left out and counted.
const MAX_RECORD: usize = 256 << 10;

/// Which alerts. The default: the latest hundred.
#[derive(Clone, Debug, Default)]
pub struct AlertQuery {
    /// Of one of these rules; empty: of any.
    pub rules: Vec<String>,
    /// On this endpoint.
    pub endpoint: Option<String>,
    /// At least this severe.
    pub severity: Option<Severity>,
    /// Last seen at this time or later.
    pub since: Option<Timestamp>,
    /// First seen before this time.
    pub until: Option<Timestamp>,
    /// Of this incident.
    pub incident: Option<String>,
    /// With this id, or one that begins so.
    pub id: Option<String>,
    /// At most this many, the latest; 0: all.
    pub limit: u64,
}

/// An alert as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAlert {
    /// The `mcp-monitor.alert/1` object.
    pub record: String,
    /// One line for people.
    pub line: String,
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn write(write: &Transaction<'_>, alerts: &[Alert]) -> rusqlite::Result<()> {
    let mut insert = write.prepare(
        "INSERT INTO alerts (id, first_seen, last_seen, rule, severity, endpoint, incident, count, record, line)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen, severity = excluded.severity,
             incident = excluded.incident, count = excluded.count, record = excluded.record, line = excluded.line
         WHERE excluded.count > count OR excluded.severity > severity",
    )?;
    let mut long = 0_usize;
    for alert in alerts {
        let Ok(record) = serde_json::to_value(alert) else {
            continue;
        };
        let text = record.to_string();
        if text.len() > MAX_RECORD {
            long = long.saturating_add(1);
            continue;
        }
        let incident = record.get("incident").and_then(|i| i.as_str());
        insert.execute((
            &alert.id,
            number(alert.first_seen.0),
            number(alert.last_seen.0),
            alert.rule,
            alert.severity as i64,
            &alert.endpoint,
            incident,
            number(alert.count),
            &text,
            alert.to_string(),
        ))?;
    }
    count(write, "alerts", long)
}

pub(super) fn bound(write: &Transaction<'_>, limits: &StateLimits) -> rusqlite::Result<()> {
    let keep = u64::try_from(limits.keep_alerts.as_nanos()).unwrap_or(u64::MAX);
    let gone = write.execute(
        "DELETE FROM alerts WHERE last_seen < (SELECT max(last_seen) FROM alerts) - ?1",
        [number(keep)],
    )?;
    count(write, "alerts", gone)?;
    let rows: i64 = write.query_row("SELECT count(*) FROM alerts", (), |row| row.get(0))?;
    let over = rows.saturating_sub(number(limits.max_alerts));
    if over > 0 {
        count(write, "alerts", oldest(write, over)?)?;
    }
    Ok(())
}

fn oldest(write: &Transaction<'_>, n: i64) -> rusqlite::Result<usize> {
    write.execute(
        "DELETE FROM alerts WHERE number IN (SELECT number FROM alerts ORDER BY last_seen, number LIMIT ?1)",
        [n],
    )
}

/// Frees a tenth of the alerts; false if there are none.
pub(super) fn drop_tenth(write: &Transaction<'_>) -> rusqlite::Result<bool> {
    let rows: i64 = write.query_row("SELECT count(*) FROM alerts", (), |row| row.get(0))?;
    let tenth = rows.checked_div(10).unwrap_or_default().max(1).min(rows);
    let gone = oldest(write, tenth)?;
    count(write, "alerts", gone)?;
    Ok(gone > 0)
}

impl State {
    /// Alerts that a query asks for, in the order of their first occurrence.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn alerts(&self, query: &AlertQuery) -> Result<Vec<StoredAlert>, StateError> {
        let mut tests: Vec<String> = vec!["1".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        let mut test = |sql: &str, value: Value| {
            values.push(value);
            tests.push(sql.replace('?', &format!("?{}", values.len())));
        };
        if let Some(endpoint) = &query.endpoint {
            test("endpoint = ?", endpoint.clone().into());
        }
        if let Some(severity) = query.severity {
            test("severity >= ?", (severity as i64).into());
        }
        if let Some(since) = query.since {
            test("last_seen >= ?", number(since.0).into());
        }
        if let Some(until) = query.until {
            test("first_seen < ?", number(until.0).into());
        }
        if let Some(incident) = &query.incident {
            test("incident = ?", incident.clone().into());
        }
        if let Some(id) = &query.id {
            test("substr(id, 1, length(?)) = ?", id.clone().into());
        }
        if !query.rules.is_empty() {
            let mut places = Vec::new();
            for rule in &query.rules {
                values.push(rule.clone().into());
                places.push(format!("?{}", values.len()));
            }
            tests.push(format!("rule IN ({})", places.join(", ")));
        }
        let limit = match query.limit {
            0 => -1,
            n => number(n),
        };
        let sql = format!(
            "SELECT record, line FROM
             (SELECT * FROM alerts WHERE {} ORDER BY first_seen DESC, number DESC LIMIT {limit})
             ORDER BY first_seen, number",
            tests.join(" AND ")
        );
        let ask = || -> rusqlite::Result<Vec<StoredAlert>> {
            let mut statement = self.db.prepare(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values.iter()), |row| {
                Ok(StoredAlert {
                    record: row.get(0)?,
                    line: row.get(1)?,
                })
            })?;
            rows.collect()
        };
        ask().map_err(|error| StateError::sqlite(&self.path, &error))
    }
}
