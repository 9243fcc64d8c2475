//! What was positively verified, per endpoint, agent and hour: the raw material of an attestation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Bounded, Verdict};
use crate::types::Timestamp;

/// Endpoint and agent pairs of one hour that are kept; beyond it the least recently used is handed out early.
pub const MAX_TALLIES: usize = 16_384;
/// Clients named per tally; further ones are not.
const MAX_CLIENTS: usize = 16;
/// Nanoseconds of an hour.
const HOUR: u64 = 3_600_000_000_000;

/// Whom a tally is about, and when.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TallyKey {
    /// Name of the pinned endpoint, else the server's origin.
    pub endpoint: String,
    /// Executable, else address of the agent.
    pub agent: String,
    /// Hours since the epoch.
    pub hour: u64,
}

impl TallyKey {
    /// The hour of a time.
    pub fn hour_of(at: Timestamp) -> u64 {
        at.0.checked_div(HOUR).unwrap_or_default()
    }

    /// When the hour began.
    pub fn begin(&self) -> Timestamp {
        Timestamp(self.hour.saturating_mul(HOUR))
    }
}

/// How often a pinned key held.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// It was seen and is what the pin allows.
    pub held: u64,
    /// It was seen and is not.
    pub broken: u64,
    /// It was seen; nothing is pinned.
    pub unpinned: u64,
}

/// Counts of one endpoint and agent.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Connections that ended.
    pub connections: u64,
    /// MCP sessions; for revisions without sessions, connections that spoke MCP.
    pub sessions: u64,
    /// MCP requests of the agent.
    pub requests: u64,
    /// Answered requests that carried credentials.
    pub authenticated: u64,
    /// Answered requests that carried none.
    pub unauthenticated: u64,
    /// Payload bytes on those connections.
    pub bytes: u64,
    /// Of these, bytes whose content was not seen: lost, or encrypted and not opened.
    pub unseen_bytes: u64,
    /// `clientInfo` of the agent, as `name version`; at most 16.
    pub clients: BTreeSet<String>,
    /// By path of the pinned key.
    pub checks: BTreeMap<String, Outcome>,
}

impl Tally {
    /// Counts a verdict on a key.
    pub fn check(&mut self, key: &str, verdict: Verdict) {
        if !self.checks.contains_key(key) {
            self.checks.insert(key.to_owned(), Outcome::default());
        }
        let Some(outcome) = self.checks.get_mut(key) else {
            return;
        };
        let count = match verdict {
            Verdict::Same | Verdict::Rotated => &mut outcome.held,
            Verdict::Unpinned => &mut outcome.unpinned,
            Verdict::Drifted => &mut outcome.broken,
        };
        *count = count.saturating_add(1);
    }

    /// Names a client.
    pub fn client(&mut self, name: &str, version: &str) {
        if self.clients.len() < MAX_CLIENTS {
            self.clients.insert(format!("{name} {version}"));
        }
    }

    /// Adds another tally of the same endpoint and agent.
    pub fn add(&mut self, other: &Self) {
        for (to, more) in [
            (&mut self.connections, other.connections),
            (&mut self.sessions, other.sessions),
            (&mut self.requests, other.requests),
            (&mut self.authenticated, other.authenticated),
            (&mut self.unauthenticated, other.unauthenticated),
            (&mut self.bytes, other.bytes),
            (&mut self.unseen_bytes, other.unseen_bytes),
        ] {
            *to = to.saturating_add(more);
        }
        for client in &other.clients {
            if self.clients.len() < MAX_CLIENTS {
                self.clients.insert(client.clone());
            }
        }
        for (key, more) in &other.checks {
            let outcome = self.checks.entry(key.clone()).or_default();
            outcome.held = outcome.held.saturating_add(more.held);
            outcome.broken = outcome.broken.saturating_add(more.broken);
            outcome.unpinned = outcome.unpinned.saturating_add(more.unpinned);
        }
    }
}

/// A tally and whom it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TallyRow {
    /// Whom, when.
    pub key: TallyKey,
    /// Counts; those since the last time it was taken.
    pub tally: Tally,
}

/// Tallies since they were last taken.
#[derive(Debug)]
pub struct Tallies {
    table: Bounded<TallyKey, Tally>,
    early: Vec<TallyRow>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            table: Bounded::new(MAX_TALLIES),
            early: Vec::new(),
        }
    }
}

impl Tallies {
    /// Lets `count` add to the tally of a key.
    pub fn count(&mut self, key: TallyKey, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.table.get_mut(&key) {
            return count(tally);
        }
        let mut tally = Tally::default();
        count(&mut tally);
        if let Some((key, tally)) = self.table.insert_evicting(key, tally) {
            self.early.push(TallyRow { key, tally });
        }
    }

    /// Everything counted since the last call, in a fixed order.
    pub fn take(&mut self) -> Vec<TallyRow> {
        let table = std::mem::replace(&mut self.table, Bounded::new(MAX_TALLIES));
        let mut rows = std::mem::take(&mut self.early);
        rows.extend(table.iter().map(|(key, tally)| TallyRow {
            key: key.clone(),
            tally: tally.clone(),
        }));
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_takes() {
        let key = TallyKey {
            endpoint: "a".to_owned(),
            agent: "10.0.0.1".to_owned(),
            hour: TallyKey::hour_of(Timestamp::from_secs(7200)),
        };
        assert_eq!((key.hour, key.begin()), (2, Timestamp::from_secs(7200)));
        let mut tallies = Tallies::default();
        let mut whole = Tally::default();
        for verdict in [
            Verdict::Same,
            Verdict::Rotated,
            Verdict::Drifted,
            Verdict::Unpinned,
        ] {
            tallies.count(key.clone(), |t| {
                t.sessions += 1;
                t.check("addresses", verdict);
            });
            for row in tallies.take() {
                whole.add(&row.tally);
            }
        }
        assert!(tallies.take().is_empty());
        assert_eq!(whole.sessions, 4);
        let outcome = whole.checks["addresses"];
        assert_eq!((outcome.held, outcome.broken, outcome.unpinned), (2, 1, 1));
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), whole);
    }
}
