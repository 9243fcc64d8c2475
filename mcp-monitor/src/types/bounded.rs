//! Bounded memory.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher as _, Hash},
};

use hashbrown::{DefaultHashBuilder, HashTable};

/// A map that holds at most `cap` entries; the least recently used one makes room.
///
/// Dozens of these are asked about each message, and what that costs is memory that is not in the cache. So the
/// entries lie in one piece, and their order of use, which changes with each question, in another that is small.
pub struct Bounded<K, V> {
    /// Where the entry of a key lies.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    entries: Vec<Option<(K, V)>>,
    order: Order,
    /// Places of entries that were taken out.
    free: Vec<u32>,
    cap: usize,
    evicted: u64,
}

/// Who was used before whom: a list through places of entries.
#[derive(Default)]
struct Order {
    links: Vec<Link>,
    newest: Option<u32>,
    oldest: Option<u32>,
}

/// Neighbours in the order of use.
#[derive(Clone, Copy, Default)]
struct Link {
    newer: Option<u32>,
    older: Option<u32>,
}

impl Order {
    fn link(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(usize::try_from(at).ok()?)
    }

    /// The entry at `at`, which is in no list, was used just now.
    fn add(&mut self, at: u32) {
        let older = self.newest.replace(at);
        if let Some(link) = self.link(at) {
            *link = Link { newer: None, older };
        }
        match older.and_then(|older| self.link(older)) {
            Some(link) => link.newer = Some(at),
            None => self.oldest = Some(at),
        }
    }

    fn remove(&mut self, at: u32) {
        let Some(&mut Link { newer, older }) = self.link(at) else {
            return;
        };
        match newer.and_then(|newer| self.link(newer)) {
            Some(link) => link.older = older,
            None => self.newest = older,
        }
        match older.and_then(|older| self.link(older)) {
            Some(link) => link.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// The entry at `at` was used just now.
    fn touch(&mut self, at: u32) {
        if self.newest != Some(at) {
            self.remove(at);
            self.add(at);
        }
    }
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

/// The key of the entry at a place.
fn key<K, V>(entries: &[Option<(K, V)>], at: u32) -> Option<&K> {
    let (key, _) = entries.get(usize::try_from(at).ok()?)?.as_ref()?;
    Some(key)
}

impl<K: Hash + Eq, V> Bounded<K, V> {
    /// Holds at most `cap` entries (at least 1). It takes memory as it fills.
    pub fn new(cap: usize) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            entries: Vec::new(),
            order: Order::default(),
            free: Vec::new(),
            cap: cap.max(1),
            evicted: 0,
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// It holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn find<Q>(&self, wanted: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(wanted);
        let same = |at: &u32| key(&self.entries, *at).is_some_and(|key| key.borrow() == wanted);
        self.index.find(hash, same).copied()
    }

    fn entry(&mut self, at: u32) -> Option<&mut Option<(K, V)>> {
        self.entries.get_mut(usize::try_from(at).ok()?)
    }

    /// The entry, now the most recently used.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = self.find(key)?;
        self.order.touch(at);
        self.entry(at)?.as_mut().map(|(_, value)| value)
    }

    /// The entry, its age unchanged.
    pub fn peek<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = usize::try_from(self.find(key)?).ok()?;
        self.entries.get(at)?.as_ref().map(|(_, value)| value)
    }

    /// Puts an entry in; the old value if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.get_mut(&key) {
            return Some(std::mem::replace(known, value));
        }
        self.add(key, value);
        None
    }

    /// Puts an entry in; the entry that made room, if one had to.
    pub fn insert_evicting(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(known) = self.get_mut(&key) {
            *known = value;
            return None;
        }
        self.add(key, value)
    }

    /// Puts an entry in whose key is not there; the entry that made room, if one had to.
    fn add(&mut self, new: K, value: V) -> Option<(K, V)> {
        let out = match self.order.oldest {
            Some(oldest) if self.len() >= self.cap => self.take(oldest),
            _ => None,
        };
        self.evicted = self.evicted.saturating_add(u64::from(out.is_some()));
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                // Caps are far below 2^32.
                let at = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push(None);
                self.order.links.push(Link::default());
                at
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_at = |at: &u32| key(entries, *at).map_or(0, |key| hasher.hash_one(key));
        self.index.insert_unique(hasher.hash_one(&new), at, hash_at);
        if let Some(entry) = self.entry(at) {
            *entry = Some((new, value));
        }
        self.order.add(at);
        out
    }

    /// Takes the entry at `at` out.
    fn take(&mut self, at: u32) -> Option<(K, V)> {
        let hash = self.hasher.hash_one(key(&self.entries, at)?);
        if let Ok(place) = self.index.find_entry(hash, |other| *other == at) {
            place.remove();
        }
        self.order.remove(at);
        self.free.push(at);
        self.entry(at)?.take()
    }

    /// Every entry, the most recently used first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let older = move |at: &u32| self.order.links.get(place(*at))?.older;
        std::iter::successors(self.order.newest, older).filter_map(move |at| {
            let (key, value) = self.entries.get(place(at))?.as_ref()?;
            Some((key, value))
        })
    }

    /// Takes an entry out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = self.find(key)?;
        self.take(at).map(|(_, value)| value)
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
    use std::num::NonZeroUsize;

    use lru::LruCache;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the well-known table does, with a second one as witness.
        #[test]
        fn does_what_an_lru_table_does(cap in 1_usize..6, steps in proptest::collection::vec((0..4_u8, 0..9_u8), 0..80)) {
            let mut ours = Bounded::new(cap);
            let mut theirs = LruCache::new(NonZeroUsize::new(cap).unwrap());
            for (n, (step, key)) in steps.into_iter().enumerate() {
                match step {
                    0 => prop_assert_eq!(ours.get_mut(&key), theirs.get_mut(&key)),
                    1 => prop_assert_eq!(ours.peek(&key), theirs.peek(&key)),
                    2 => prop_assert_eq!(ours.remove(&key), theirs.pop(&key)),
                    _ => {
                        let out = theirs.push(key, n).filter(|(old, _)| *old != key);
                        prop_assert_eq!(ours.insert_evicting(key, n), out);
                    }
                }
                prop_assert!(ours.iter().eq(theirs.iter()));
                prop_assert!(ours.entries.len() <= cap);
            }
        }
    }

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
        assert_eq!((b.evicted(), b.len()), (1, 2));
    }

    #[test]
    fn once_is_once() {
        let mut o = Once::new(4);
        assert!(o.first(7));
        assert!(!o.first(7));
    }
}
