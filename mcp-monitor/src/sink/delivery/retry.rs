//! When to try again: exponential backoff with full jitter, and what the receiver asks for.
//!
//! Holds no clock: the time is an argument.

use std::time::{Duration, Instant};

/// First wait at most.
const BASE: Duration = Duration::from_secs(1);
/// Longest wait of our own choice.
const LONGEST: Duration = Duration::from_secs(60);
/// Longest wait that a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// Waits after failures.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    until: Option<Instant>,
}

impl Retry {
    /// Until when nothing is to be tried; `None` if now is fine.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// The receiver takes records.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// It does not. `asked` is how long it wants to be left alone, `random` evenly from 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>, random: f64) {
        let doubled = BASE.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        let most = doubled.min(LONGEST);
        // Half fixed, half by chance: many monitors that lost one receiver must not come back at once, and
        // none may hammer.
        let half = most.div_f64(2.0);
        let own = half.saturating_add(half.mul_f64(random.clamp(0.0, 1.0)));
        let wait = asked.map_or(own, |asked| asked.min(LONGEST_ASKED).max(own));
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_a_success_ends_them() {
        let mut now = Instant::now();
        let mut retry = Retry::default();
        assert_eq!(retry.wait(now), None);
        let mut waits = Vec::new();
        for _ in 0..9 {
            retry.failed(now, None, 1.0);
            let until = retry.wait(now).unwrap();
            waits.push((until - now).as_secs());
            now = until;
            assert_eq!(retry.wait(now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        retry.worked();
        retry.failed(now, None, 0.0);
        assert_eq!(retry.wait(now), Some(now + Duration::from_millis(500)));
    }

    #[test]
    fn the_receiver_may_ask_for_more_within_an_hour() {
        let now = Instant::now();
        let mut retry = Retry::default();
        retry.failed(now, Some(Duration::from_secs(120)), 0.5);
        assert_eq!(retry.wait(now), Some(now + Duration::from_secs(120)));
        retry.failed(now, Some(Duration::from_secs(1 << 30)), 0.5);
        assert_eq!(retry.wait(now), Some(now + LONGEST_ASKED));
        retry.failed(now, Some(Duration::ZERO), 0.5);
        assert_eq!(retry.wait(now), Some(now + Duration::from_secs(3)));
    }
}
