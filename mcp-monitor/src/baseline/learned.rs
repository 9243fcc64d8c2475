//! What was learned: each fact with when, how often, and how far it can be trusted.
//!
//! A fact is learned in silence while its subject is new (a period per [`Group`]); later ones are
//! `new` until they have aged for the same period. What appears while an alert questions the
//! server's identity is `suspect`: it is kept, shown and never taken for normal on its own.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Bounded,
    fact::{Fact, Group, Subject},
};
use crate::types::{At, Timestamp};

/// Facts remembered unless the configuration says otherwise: some 20 MB at most.
pub const DEFAULT_FACTS: usize = 65_536;

/// How long a subject is learned in silence, by kind, and how long an alert keeps its server from teaching.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearningOptions {
    /// DNS.
    pub dns: Duration,
    /// Addresses.
    pub network: Duration,
    /// TLS.
    pub tls: Duration,
    /// Identity, transports, revisions, capabilities.
    pub mcp: Duration,
    /// Tools and contacts.
    pub tools: Duration,
    /// Credentials.
    pub auth: Duration,
    /// After an alert that questions a server's identity, nothing new is learned of it for this long.
    pub quarantine: Duration,
    /// Facts remembered; the least recently seen makes room (counted).
    pub max_facts: usize,
}

impl Default for LearningOptions {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            dns: DAY.saturating_mul(7),
            network: DAY.saturating_mul(7),
            tls: DAY.saturating_mul(7),
            mcp: DAY,
            tools: DAY,
            auth: DAY,
            quarantine: DAY,
            max_facts: DEFAULT_FACTS,
        }
    }
}

impl LearningOptions {
    fn period(&self, group: Group) -> Duration {
        match group {
            Group::Dns => self.dns,
            Group::Network => self.network,
            Group::Tls => self.tls,
            Group::Mcp => self.mcp,
            Group::Tools => self.tools,
            Group::Auth => self.auth,
        }
    }
}

/// How far a fact can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Appeared while its server was under an alert.
    Suspect,
    /// Appeared after the learning period.
    New,
    /// Part of what is normal.
    Learned,
    /// A person approved it: a pin names it.
    Approved,
}

impl Standing {
    /// In lower case, as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::New => "new",
            Self::Learned => "learned",
            Self::Approved => "approved",
        }
    }

    /// Reads [`Standing::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Suspect, Self::New, Self::Learned, Self::Approved]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// What is known of one fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// First time.
    pub first: Timestamp,
    /// Latest time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
    /// Lowest and highest number seen with it, for facts that measure (a time to live).
    pub range: Option<(u64, u64)>,
    /// How far it can be trusted.
    pub standing: Standing,
    /// Since when it has been seen without an alert on its server: what a new fact's age counts from.
    pub quiet_since: Timestamp,
    /// When and where it was first seen in this run; `None` if it is only remembered.
    pub here: Option<At>,
}

/// A fact with its subject and entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Whom it is about.
    pub subject: Subject,
    /// What.
    pub fact: Fact,
    /// When, how often.
    pub entry: Entry,
}

/// See the module. Feed with [`Learned::see`] in order of capture time.
#[derive(Debug)]
pub struct Learned {
    options: LearningOptions,
    entries: Bounded<(Subject, Fact), Entry>,
    /// When each subject was first seen, by group.
    since: Bounded<(Subject, Group), Timestamp>,
    /// Hosts that an alert questions, and until when.
    questioned: Bounded<Arc<str>, Timestamp>,
    /// Keys that changed since [`Learned::take_changes`]; `None` if nobody asks.
    changed: Option<BTreeSet<(Subject, Fact)>>,
    /// Changed rows that made room since.
    displaced: Vec<Row>,
    /// Rows of this run that made room, for whoever reports them.
    forgotten: Vec<Row>,
}

/// Hosts under an alert that are remembered.
const MAX_QUESTIONED: usize = 4096;
/// Forgotten rows waiting to be reported; beyond it they are counted only.
const MAX_FORGOTTEN: usize = 4096;

impl Learned {
    /// Knowing nothing. With `track`, what changes can be taken for a state file.
    pub fn new(options: LearningOptions, track: bool) -> Self {
        Self {
            entries: Bounded::new(options.max_facts),
            since: Bounded::new(options.max_facts),
            questioned: Bounded::new(MAX_QUESTIONED),
            changed: track.then(BTreeSet::new),
            displaced: Vec::new(),
            forgotten: Vec::new(),
            options,
        }
    }

    /// What an earlier run learned. Before anything is seen.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            let begun = (row.subject.clone(), row.fact.group());
            let first = self
                .since
                .peek(&begun)
                .map_or(row.entry.first, |at| row.entry.first.min(*at));
            self.since.insert(begun, first);
            self.entries.insert((row.subject, row.fact), row.entry);
        }
    }

    /// An alert questions whether `host` is the approved server.
    pub fn question(&mut self, host: &str, now: Timestamp) {
        let until = now.saturating_add(self.options.quarantine);
        if let Some(known) = self.questioned.get_mut(host) {
            *known = until.max(*known);
        } else {
            self.questioned.insert(host.into(), until);
        }
    }

    /// `host` is under such an alert.
    pub fn is_questioned(&self, host: &str, now: Timestamp) -> bool {
        self.questioned.peek(host).is_some_and(|until| now < *until)
    }

    /// A fact was seen. `measure` is the number that came with it, `approved` says that a pin names
    /// it. True if it is the first time in this run.
    pub fn see(
        &mut self,
        at: At,
        subject: Subject,
        fact: Fact,
        measure: Option<u64>,
        approved: bool,
    ) -> bool {
        let now = at.time;
        let questioned = self.is_questioned(subject.host(), now);
        let period = self.options.period(fact.group());
        let key = (subject, fact);
        let fresh = if let Some(entry) = self.entries.get_mut(&key) {
            entry.last = entry.last.max(now);
            entry.count = entry.count.saturating_add(1);
            entry.range = widen(entry.range, measure);
            entry.standing = match entry.standing {
                _ if approved => Standing::Approved,
                Standing::Suspect if !questioned => {
                    entry.quiet_since = now;
                    Standing::New
                }
                Standing::New if !questioned && now.since(entry.quiet_since) >= period => Standing::Learned,
                other => other,
            };
            let fresh = entry.here.is_none();
            entry.here.get_or_insert(at);
            fresh
        } else {
            let begun = (key.0.clone(), key.1.group());
            let begin = match self.since.get_mut(&begun) {
                Some(begin) => *begin,
                None => {
                    self.since.insert(begun, now);
                    now
                }
            };
            let standing = if approved {
                Standing::Approved
            } else if questioned {
                Standing::Suspect
            } else if now.since(begin) <= period {
                Standing::Learned
            } else {
                Standing::New
            };
            self.add(
                key.clone(),
                Entry {
                    first: now,
                    last: now,
                    count: 1,
                    range: measure.map(|n| (n, n)),
                    standing,
                    quiet_since: now,
                    here: Some(at),
                },
            );
            true
        };
        if let Some(changed) = &mut self.changed {
            changed.insert(key);
        }
        fresh
    }

    fn add(&mut self, key: (Subject, Fact), entry: Entry) {
        let Some(((subject, fact), entry)) = self.entries.insert_evicting(key, entry) else {
            return;
        };
        let row = Row { subject, fact, entry };
        if let Some(changed) = &mut self.changed
            && changed.remove(&(row.subject.clone(), row.fact.clone()))
        {
            self.displaced.push(row.clone());
        }
        if row.entry.here.is_some() && self.forgotten.len() < MAX_FORGOTTEN {
            self.forgotten.push(row);
        }
    }

    /// How well a fact is known; `None` if it never was seen.
    pub fn standing(&self, subject: &Subject, fact: &Fact) -> Option<Standing> {
        self.entries
            .peek(&(subject.clone(), fact.clone()))
            .map(|entry| entry.standing)
    }

    /// The row of a fact.
    pub fn row(&self, subject: &Subject, fact: &Fact) -> Option<Row> {
        let key = (subject.clone(), fact.clone());
        let entry = *self.entries.peek(&key)?;
        Some(Row {
            subject: key.0,
            fact: key.1,
            entry,
        })
    }

    /// Every row that was seen in this run, in the order of first sight.
    pub fn seen_here(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows().filter(|row| row.entry.here.is_some()).collect();
        rows.sort_by(|a, b| {
            let place = |row: &Row| row.entry.here.map(|at| at.packet.order);
            (place(a), &a.subject, &a.fact).cmp(&(place(b), &b.subject, &b.fact))
        });
        rows
    }

    /// Every row, in no order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.entries.iter().map(|((subject, fact), entry)| Row {
            subject: subject.clone(),
            fact: fact.clone(),
            entry: *entry,
        })
    }

    /// Rows of this run that made room for others since the last call.
    pub fn take_forgotten(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.forgotten)
    }

    /// Rows that are not as a state file has them and that are `wanted`, in a fixed order. Of the
    /// others, those still remembered are asked about again the next time.
    pub fn take_changes(&mut self, wanted: impl Fn(&Subject) -> bool) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.displaced);
        rows.retain(|row| wanted(&row.subject));
        let Some(changed) = &mut self.changed else {
            return rows;
        };
        for key in std::mem::take(changed) {
            let Some(entry) = self.entries.peek(&key) else {
                continue;
            };
            if wanted(&key.0) {
                rows.push(Row {
                    entry: *entry,
                    subject: key.0,
                    fact: key.1,
                });
            } else {
                changed.insert(key);
            }
        }
        rows
    }

    /// How many facts are remembered.
    pub fn known(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX)
    }

    /// How many facts made room for others.
    pub fn evicted(&self) -> u64 {
        self.entries.evicted()
    }
}

fn widen(range: Option<(u64, u64)>, measure: Option<u64>) -> Option<(u64, u64)> {
    match (range, measure) {
        (Some((low, high)), Some(n)) => Some((low.min(n), high.max(n))),
        (None, Some(n)) => Some((n, n)),
        (range, None) => range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PacketId;

    const DAY: u64 = 86_400;

    fn at(secs: u64) -> At {
        At {
            time: Timestamp::from_secs(secs.saturating_add(1_000_000)),
            packet: PacketId {
                order: secs,
                number: secs,
                file: 0,
            },
        }
    }

    fn answer(last: u8) -> (Subject, Fact) {
        (
            Subject::name("a.example"),
            Fact::DnsAnswer {
                address: [203, 0, 113, last].into(),
            },
        )
    }

    fn see(learned: &mut Learned, secs: u64, last: u8) -> Standing {
        let (subject, fact) = answer(last);
        learned.see(at(secs), subject.clone(), fact.clone(), None, false);
        learned.standing(&subject, &fact).unwrap()
    }

    #[test]
    fn learns_in_silence_then_asks_for_time() {
        let mut l = Learned::new(LearningOptions::default(), false);
        assert_eq!(see(&mut l, 0, 1), Standing::Learned);
        assert_eq!(see(&mut l, 7 * DAY, 2), Standing::Learned, "inside the period");
        assert_eq!(see(&mut l, 8 * DAY, 3), Standing::New);
        assert_eq!(see(&mut l, 9 * DAY, 3), Standing::New);
        assert_eq!(see(&mut l, 15 * DAY, 3), Standing::Learned, "it aged");
    }

    #[test]
    fn nothing_is_learned_from_a_server_under_an_alert() {
        let mut l = Learned::new(LearningOptions::default(), false);
        see(&mut l, 0, 1);
        l.question("a.example", at(10).time);
        assert_eq!(see(&mut l, 11, 66), Standing::Suspect);
        assert_eq!(
            see(&mut l, 12, 1),
            Standing::Learned,
            "what was known stays known"
        );
        assert_eq!(see(&mut l, DAY, 66), Standing::Suspect);
        assert_eq!(see(&mut l, 2 * DAY, 66), Standing::New, "never learned at once");
        let (subject, fact) = answer(66);
        l.see(at(2 * DAY), subject.clone(), fact.clone(), None, true);
        assert_eq!(l.standing(&subject, &fact), Some(Standing::Approved));
    }

    #[test]
    fn changes_are_taken_once_and_survive_eviction() {
        let options = LearningOptions {
            max_facts: 2,
            ..LearningOptions::default()
        };
        let mut l = Learned::new(options, true);
        for last in 1..=3 {
            see(&mut l, last.into(), last);
        }
        let changes = l.take_changes(|_| true);
        assert_eq!(changes.len(), 3, "the one that made room too");
        assert!(l.take_changes(|_| true).is_empty());
        assert_eq!((l.evicted(), l.take_forgotten().len()), (1, 1));
        see(&mut l, 9, 3);
        assert!(l.take_changes(|_| false).is_empty());
        let changes = l.take_changes(|_| true);
        assert_eq!((changes.len(), changes[0].entry.count), (1, 2));
    }

    #[test]
    fn what_was_loaded_is_known_but_not_of_this_run() {
        let mut l = Learned::new(LearningOptions::default(), true);
        see(&mut l, 0, 1);
        let mut rows = l.take_changes(|_| true);
        rows.iter_mut().for_each(|row| row.entry.here = None);
        let mut next = Learned::new(LearningOptions::default(), true);
        next.load(rows);
        assert!(next.seen_here().is_empty() && next.take_changes(|_| true).is_empty());
        assert_eq!(
            see(&mut next, 30 * DAY, 2),
            Standing::New,
            "the period began then"
        );
        let (subject, fact) = answer(1);
        assert!(next.see(at(30 * DAY), subject.clone(), fact.clone(), Some(5), false));
        let row = next.row(&subject, &fact).unwrap();
        assert_eq!((row.entry.count, row.entry.range), (2, Some((5, 5))));
    }
}
