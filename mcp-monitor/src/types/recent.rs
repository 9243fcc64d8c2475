//! Tables that forget what was used least recently.

use std::{hash::Hash, num::NonZeroUsize};

use lru::LruCache;

/// An empty table of at most `capacity` entries. It takes memory as it fills: [`LruCache::new`] would take all of it
/// at once.
pub fn recent<K: Hash + Eq, V>(capacity: NonZeroUsize) -> LruCache<K, V> {
    let mut table = LruCache::unbounded();
    table.resize(capacity);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capacity_holds() {
        let mut table = recent(NonZeroUsize::MIN);
        assert_eq!(table.push(1, 'a'), None);
        assert_eq!(table.push(2, 'b'), Some((1, 'a')));
        assert_eq!(table.len(), 1);
    }
}
