//! What a rule remembers, so that it outlives the process.
//!
//! A rule keeps its baseline in a [`Remembered`] and hands it out as a [`Memory`]. Whoever owns the
//! state file loads rows at the start and takes changed rows from time to time. A change made
//! while an alert questions the server is not among them: after a restart the rule compares with
//! what it trusted before.

use std::{borrow::Borrow, collections::BTreeSet, hash::Hash};

use serde::{Serialize, de::DeserializeOwned};

use super::Bounded;

/// Longest row that is written, in bytes; a longer one stays in memory only.
pub const MAX_ROW: usize = 64 << 10;

/// One row of a rule's memory: JSON texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryRow {
    /// Rule id.
    pub rule: String,
    /// What it is about.
    pub key: String,
    /// What is remembered.
    pub value: String,
}

/// A memory whose rows can be kept.
pub trait Memory {
    /// From here on, changes are noted for [`Memory::take_changes`].
    fn track(&mut self);

    /// Puts a row back. False if it is not one of this version of the rule.
    fn load(&mut self, key: &str, value: &str) -> bool;

    /// The event is over: its changes can be trusted, or not.
    fn settle(&mut self, trusted: bool);

    /// Trusted rows that changed since the last call, as key and value, in a fixed order.
    fn take_changes(&mut self) -> Vec<(String, String)>;

    /// Entries that made room for others.
    fn evicted(&self) -> u64;
}

/// A bounded table that notes which of its entries changed.
#[derive(Debug)]
pub struct Remembered<K, V> {
    table: Bounded<K, V>,
    notes: Option<Notes<K>>,
}

#[derive(Clone, Debug)]
struct Notes<K> {
    /// Changed by the present event.
    fresh: Vec<K>,
    /// Trusted, to be written.
    changed: BTreeSet<K>,
    /// Changed under an alert; written once seen again without one.
    withheld: BTreeSet<K>,
}

impl<K: Hash + Eq + Clone, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            table: Bounded::default(),
            notes: None,
        }
    }
}

impl<K: Hash + Ord + Clone, V: PartialEq> Remembered<K, V> {
    /// Holds at most `cap` entries.
    pub fn new(cap: usize) -> Self {
        Self {
            table: Bounded::new(cap),
            notes: None,
        }
    }

    /// Puts an entry in; the old value if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(notes) = &mut self.notes else {
            return self.table.insert(key, value);
        };
        if notes.withheld.contains(&key) || self.table.peek(&key) != Some(&value) {
            notes.fresh.push(key.clone());
        }
        let old = self.table.remove(&key);
        if let Some((gone, _)) = self.table.insert_evicting(key, value) {
            notes.changed.remove(&gone);
            notes.withheld.remove(&gone);
        }
        old
    }

    /// The entry was seen again as it is.
    pub fn confirm(&mut self, key: K) {
        self.table.get_mut(&key);
        if let Some(notes) = &mut self.notes
            && notes.withheld.contains(&key)
        {
            notes.fresh.push(key);
        }
    }

    /// The entry, made if it is not there, to be changed; it counts as changed. Never `None`.
    pub fn get_or_default(&mut self, key: &K) -> Option<&mut V>
    where
        V: Default,
    {
        if let Some(notes) = &mut self.notes {
            notes.fresh.push(key.clone());
        }
        if self.table.peek(key).is_none()
            && let Some((gone, _)) = self.table.insert_evicting(key.clone(), V::default())
            && let Some(notes) = &mut self.notes
        {
            notes.changed.remove(&gone);
            notes.withheld.remove(&gone);
        }
        self.table.get_mut(key)
    }

    /// Changes the entry, if there is one; it counts as changed if it is not as before.
    pub fn edit<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        V: Clone,
    {
        let mut value = self.table.peek(key)?.clone();
        let out = change(&mut value);
        self.insert(key.clone(), value);
        Some(out)
    }

    /// The entry, now the most recently used.
    pub fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.get_mut(key).map(|value| &*value)
    }

    /// The entry, its age unchanged.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.peek(key)
    }
}

impl<K, V> Memory for Remembered<K, V>
where
    K: Hash + Ord + Clone + Serialize + DeserializeOwned,
    V: PartialEq + Serialize + DeserializeOwned,
{
    fn track(&mut self) {
        self.notes.get_or_insert_with(|| Notes {
            fresh: Vec::new(),
            changed: BTreeSet::new(),
            withheld: BTreeSet::new(),
        });
    }

    fn load(&mut self, key: &str, value: &str) -> bool {
        let (Ok(key), Ok(value)) = (serde_json::from_str(key), serde_json::from_str(value)) else {
            return false;
        };
        self.table.insert(key, value);
        true
    }

    fn settle(&mut self, trusted: bool) {
        let Some(notes) = &mut self.notes else { return };
        for key in notes.fresh.drain(..) {
            if trusted {
                notes.withheld.remove(&key);
                notes.changed.insert(key);
            } else {
                // What was to be written is no longer what the table holds.
                notes.changed.remove(&key);
                notes.withheld.insert(key);
            }
        }
    }

    fn take_changes(&mut self) -> Vec<(String, String)> {
        let Some(notes) = &mut self.notes else {
            return Vec::new();
        };
        std::mem::take(&mut notes.changed)
            .into_iter()
            .filter_map(|key| {
                let value = serde_json::to_string(self.table.peek(&key)?).ok()?;
                let key = serde_json::to_string(&key).ok()?;
                (key.len().saturating_add(value.len()) <= MAX_ROW).then_some((key, value))
            })
            .collect()
    }

    fn evicted(&self) -> u64 {
        self.table.evicted()
    }
}

/// Two memories of one rule.
#[derive(Default, Debug)]
pub struct Together<A, B>(pub A, pub B);

/// What the keys of the second begin with; JSON does not.
const SECOND: &str = "+";

impl<A: Memory, B: Memory> Memory for Together<A, B> {
    fn track(&mut self) {
        self.0.track();
        self.1.track();
    }

    fn load(&mut self, key: &str, value: &str) -> bool {
        match key.strip_prefix(SECOND) {
            Some(key) => self.1.load(key, value),
            None => self.0.load(key, value),
        }
    }

    fn settle(&mut self, trusted: bool) {
        self.0.settle(trusted);
        self.1.settle(trusted);
    }

    fn take_changes(&mut self) -> Vec<(String, String)> {
        let mut rows = self.0.take_changes();
        let second = self.1.take_changes().into_iter();
        rows.extend(second.map(|(key, value)| (format!("{SECOND}{key}"), value)));
        rows
    }

    fn evicted(&self) -> u64 {
        self.0.evicted().saturating_add(self.1.evicted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type M = Remembered<(String, u8), Vec<String>>;

    fn key(n: u8) -> (String, u8) {
        ("k".to_owned(), n)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let mut m = M::default();
        m.track();
        m.insert(key(1), vec!["a".to_owned()]);
        m.settle(true);
        let rows = m.take_changes();
        assert_eq!(rows, [("[\"k\",1]".to_owned(), "[\"a\"]".to_owned())]);
        let mut next = M::default();
        assert!(next.load(&rows[0].0, &rows[0].1));
        assert!(!next.load("[\"k\"]", "{}"));
        assert_eq!(next.peek(&key(1)), Some(&vec!["a".to_owned()]));
        m.insert(key(1), vec!["a".to_owned()]);
        m.settle(true);
        assert!(m.take_changes().is_empty(), "the same again is no change");
    }

    #[test]
    fn a_change_under_an_alert_is_not_written_until_it_is_seen_without() {
        let mut m = M::default();
        m.track();
        m.insert(key(1), vec!["good".to_owned()]);
        m.settle(true);
        assert_eq!(m.take_changes().len(), 1);
        m.insert(key(1), vec!["bad".to_owned()]);
        m.settle(false);
        assert!(m.take_changes().is_empty());
        m.insert(key(1), vec!["bad".to_owned()]);
        m.settle(false);
        assert!(m.take_changes().is_empty());
        m.insert(key(1), vec!["bad".to_owned()]);
        m.settle(true);
        assert_eq!(m.take_changes().len(), 1);
    }

    #[test]
    fn what_is_changed_in_place_is_written() {
        let mut m = M::new(2);
        m.track();
        for n in 1..=3 {
            m.get_or_default(&key(n)).unwrap().push("x".to_owned());
        }
        m.settle(true);
        assert_eq!(m.take_changes().len(), 2, "one made room");
        m.get_or_default(&key(3)).unwrap().push("y".to_owned());
        m.settle(true);
        assert_eq!(
            m.take_changes(),
            [("[\"k\",3]".to_owned(), "[\"x\",\"y\"]".to_owned())]
        );
    }

    #[test]
    fn an_edit_that_changes_nothing_is_no_change() {
        let mut m = M::default();
        m.track();
        assert_eq!(m.edit(&key(1), |list| list.len()), None);
        m.insert(key(1), Vec::new());
        m.settle(true);
        m.take_changes();
        m.edit(&key(1), |list| list.len());
        m.settle(true);
        assert!(m.take_changes().is_empty());
        m.edit(&key(1), |list| list.push("x".to_owned()));
        m.settle(true);
        assert_eq!(m.take_changes().len(), 1);
    }

    #[test]
    fn two_memories_keep_their_rows_apart() {
        let mut both: Together<M, M> = Together::default();
        both.track();
        both.0.insert(key(1), vec!["a".to_owned()]);
        both.1.insert(key(1), vec!["b".to_owned()]);
        both.settle(true);
        let rows = both.take_changes();
        let mut next: Together<M, M> = Together::default();
        assert!(rows.iter().all(|(key, value)| next.load(key, value)));
        assert_eq!(next.0.peek(&key(1)), Some(&vec!["a".to_owned()]));
        assert_eq!(next.1.peek(&key(1)), Some(&vec!["b".to_owned()]));
    }

    #[test]
    fn an_untracked_one_notes_nothing() {
        let mut m = M::new(1);
        m.insert(key(1), Vec::new());
        m.insert(key(2), Vec::new());
        m.settle(true);
        assert!(m.take_changes().is_empty());
        assert_eq!((m.evicted(), m.get(&key(1))), (1, None));
    }
}
