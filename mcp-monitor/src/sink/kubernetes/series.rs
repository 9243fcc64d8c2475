//! Which Events are there, how often what they say was seen, and how many requests there may be.

use std::{num::NonZeroUsize, time::Instant};

use lru::LruCache;

/// Events that are remembered; the one longest unseen makes room, and what it says is a new Event then.
pub(super) const MAX_SERIES: usize = 1024;

/// One Event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Series {
    /// Times that it was seen.
    pub(super) count: u64,
    /// The alert that was seen last, and how often: it comes again with a higher count.
    last: (String, u64),
    /// It has expired so many times.
    pub(super) turn: u64,
}

impl Series {
    /// With an alert of this id and count: `None` if that says nothing new.
    pub(super) fn with(&self, id: &str, count: u64) -> Option<Self> {
        let (known, times) = &self.last;
        let new = if known == id {
            count.checked_sub(*times).filter(|new| *new > 0)?
        } else {
            count.max(1)
        };
        Some(Self {
            count: self.count.saturating_add(new),
            last: (id.to_owned(), count),
            turn: self.turn,
        })
    }
}

/// By pod, rule and endpoint.
pub(super) fn table() -> LruCache<String, Series> {
    LruCache::new(NonZeroUsize::new(MAX_SERIES).unwrap_or(NonZeroUsize::MIN))
}

/// A bucket that fills again within a minute.
#[derive(Debug)]
pub(super) struct Bucket {
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: u64, now: Instant) -> Self {
        let most = f64::from(u32::try_from(per_minute).unwrap_or(u32::MAX));
        Self {
            most,
            left: most,
            at: now,
        }
    }

    /// Takes one, or says after how many seconds there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), f64> {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let rate = self.most / 60.0;
        self.left = (self.left + seconds * rate).min(self.most);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err((1.0 - self.left) / rate)
    }
}
