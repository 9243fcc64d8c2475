//! One rule that finds something new again and again: one alert with a count and a rate.

use std::time::Duration;

use serde::Serialize;

use crate::{baseline::Bounded, types::Timestamp};

/// What an alert that stands for many findings says of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Storm {
    /// Findings a minute, on average since the storm began (whole minutes, at least one).
    pub per_minute: u64,
}

impl Storm {
    /// Of a count over a time.
    pub(super) fn of(count: u64, first: Timestamp, last: Timestamp) -> Self {
        let minutes = last.since(first).as_secs().div_ceil(60).max(1);
        Self {
            per_minute: count.checked_div(minutes).unwrap_or(count).max(1),
        }
    }
}

/// Where findings are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Bucket {
    /// One rule on one server: its pin's name, else its host or address.
    Server(&'static str, String),
    /// One rule everywhere: hostile traffic can invent servers.
    Rule(&'static str),
}

const MINUTE: Duration = Duration::from_secs(60);
/// Servers counted; the one least recently counted is forgotten first.
const MAX_BUCKETS: usize = 8192;
/// A rule may raise this many times as many alerts on all servers together as on one.
const EVERYWHERE: u64 = 10;

#[derive(Clone, Copy, Debug)]
struct Minute {
    start: Timestamp,
    count: u64,
}

/// Counts new alerts by the minute.
#[derive(Debug)]
pub(super) struct Storms {
    limit: u64,
    minutes: Bounded<Bucket, Minute>,
}

impl Storms {
    /// More than `limit` new alerts of one rule on one server in a minute are a storm.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            minutes: Bounded::new(MAX_BUCKETS),
        }
    }

    /// A new alert is to be raised; where it goes over a limit, that bucket and the limit.
    pub(super) fn over(&mut self, rule: &'static str, server: &str, now: Timestamp) -> Option<(Bucket, u64)> {
        let everywhere = self.limit.saturating_mul(EVERYWHERE);
        let own = Bucket::Server(rule, server.to_owned());
        if self.count(own.clone(), now) > self.limit {
            return Some((own, self.limit));
        }
        let all = Bucket::Rule(rule);
        (self.count(all.clone(), now) > everywhere).then_some((all, everywhere))
    }

    fn count(&mut self, bucket: Bucket, now: Timestamp) -> u64 {
        if let Some(minute) = self.minutes.get_mut(&bucket) {
            if now.since(minute.start) >= MINUTE {
                *minute = Minute { start: now, count: 0 };
            }
            minute.count = minute.count.saturating_add(1);
            return minute.count;
        }
        self.minutes.insert(bucket, Minute { start: now, count: 1 });
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_server_and_everywhere_and_begins_anew_each_minute() {
        let mut storms = Storms::new(2);
        let at = Timestamp::from_secs;
        let mut over = |server: &str, secs| storms.over("DNS-01", server, at(secs)).map(|(b, _)| b);
        assert_eq!((over("a", 0), over("a", 1)), (None, None));
        assert_eq!(over("a", 2), Some(Bucket::Server("DNS-01", "a".into())));
        assert_eq!(over("b", 2), None);
        assert_eq!(over("a", 61), None);
        for n in 0..19 {
            assert_eq!(over(&format!("s{n}"), 70), None, "{n}");
        }
        assert_eq!(over("another", 70), Some(Bucket::Rule("DNS-01")));
        assert_eq!(Storm::of(90, at(0), at(120)).per_minute, 45);
        assert_eq!(Storm::of(3, at(0), at(0)).per_minute, 3);
    }
}
