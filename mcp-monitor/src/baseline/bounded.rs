//! Bounded memory.

use std::{borrow::Borrow, fmt, hash::Hash, num::NonZeroUsize};

use lru::LruCache;

use crate::types::recent;

/// A map that holds at most `cap` entries; the least recently used one makes room.
pub struct Bounded<K, V> {
    map: LruCache<K, V>,
    evicted: u64,
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded")
            .field("evicted", &self.evicted)
            .finish_non_exhaustive()
    }
}

/// Entries a rule keeps unless it says otherwise: some megabytes at most.
pub const DEFAULT_CAP: usize = 16_384;

impl<K: Hash + Eq, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self::new(DEFAULT_CAP)
    }
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// Holds at most `cap` entries (at least 1).
    pub fn new(cap: usize) -> Self {
        Self {
            map: recent(NonZeroUsize::new(cap).unwrap_or(NonZeroUsize::MIN)),
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
        self.map.get_mut(key)
    }

    /// The entry, its age unchanged.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.peek(key)
    }

    /// Puts an entry in; the old value if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.map.get_mut(&key) {
            return Some(std::mem::replace(known, value));
        }
        self.insert_evicting(key, value);
        None
    }

    /// Puts an entry in; the entry that made room, if one had to.
    pub fn insert_evicting(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(known) = self.map.get_mut(&key) {
            *known = value;
            return None;
        }
        let out = self.map.push(key, value);
        self.evicted = self.evicted.saturating_add(u64::from(out.is_some()));
        out
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }

    /// Takes an entry out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.pop(key)
    }

    /// How many entries made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Remembers what was said once.
pub type Once<K> = Bounded<K, ()>;

impl<K: Hash + Eq> Once<K> {
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
        assert_eq!((b.evicted(), b.map.len()), (1, 2));
    }

    #[test]
    fn once_is_once() {
        let mut o = Once::new(4);
        assert!(o.first(7));
        assert!(!o.first(7));
    }
}
