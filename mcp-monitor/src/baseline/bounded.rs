//! Bounded memory.

use std::{borrow::Borrow, collections::BTreeMap, hash::Hash};

use hashbrown::HashMap;

/// A map that holds at most `cap` entries; the least recently used one makes room.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    map: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    clock: u64,
    cap: usize,
    evicted: u64,
}

/// Entries a rule keeps unless it says otherwise: some megabytes at most.
pub const DEFAULT_CAP: usize = 16_384;

impl<K: Hash + Eq + Clone, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self::new(DEFAULT_CAP)
    }
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// Holds at most `cap` entries (at least 1).
    pub fn new(cap: usize) -> Self {
        Self {
            map: HashMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            cap: cap.max(1),
            evicted: 0,
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The entry, now the most recently used.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (stamp, value) = self.map.get_mut(key)?;
        if let Some(owned) = self.order.remove(stamp) {
            self.clock = self.clock.saturating_add(1);
            *stamp = self.clock;
            self.order.insert(self.clock, owned);
        }
        Some(value)
    }

    /// The entry, its age unchanged.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.get(key).map(|(_, value)| value)
    }

    /// Puts an entry in; the old value if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.remove(&key);
        self.insert_evicting(key, value);
        old
    }

    /// Puts an entry in; the entry that made room, if one had to.
    pub fn insert_evicting(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let mut out = None;
        if self.map.len() >= self.cap
            && let Some((_, oldest)) = self.order.pop_first()
        {
            out = self.map.remove(&oldest).map(|(_, value)| (oldest, value));
            self.evicted = self.evicted.saturating_add(1);
        }
        self.clock = self.clock.saturating_add(1);
        self.order.insert(self.clock, key.clone());
        self.map.insert(key, (self.clock, value));
        out
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter().map(|(key, (_, value))| (key, value))
    }

    /// Takes an entry out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (stamp, value) = self.map.remove(key)?;
        self.order.remove(&stamp);
        Some(value)
    }

    /// How many entries made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Remembers what was said once.
pub type Once<K> = Bounded<K, ()>;

impl<K: Hash + Eq + Clone> Once<K> {
    /// True the first time.
    pub fn first(&mut self, key: K) -> bool {
        if self.get_mut(&key).is_some() {
            return false;
        }
        self.insert(key, ());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut b = Bounded::new(2);
        b.insert("a", 1);
        b.insert("b", 2);
        assert_eq!(b.get_mut("a"), Some(&mut 1));
        b.insert("c", 3);
        assert_eq!(
            (b.peek("a"), b.peek("b"), b.peek("c")),
            (Some(&1), None, Some(&3))
        );
        assert_eq!((b.evicted(), b.map.len(), b.order.len()), (1, 2, 2));
    }

    #[test]
    fn once_is_once() {
        let mut o = Once::new(4);
        assert!(o.first(7));
        assert!(!o.first(7));
    }
}
