//! When what is sent: one sink's records, batches, retries and counters. Does no network IO and reads no clock.

use std::time::Instant;

use super::{Dropped, Entry, Sent, SinkCounters, retry::Retry, store::Store};
use crate::types::Timestamp;

/// Bytes of one batch, about; a single record may have more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// What to do now.
#[derive(Debug)]
pub(super) enum Step {
    /// Send these and say with [`Outbox::sent`] what became of them.
    Send(Vec<Entry>),
    /// Nothing until then.
    Wait(Instant),
    /// Nothing until a record comes.
    Idle,
}

/// One sink's records on their way.
#[derive(Debug)]
pub(super) struct Outbox {
    store: Store,
    retry: Retry,
    /// Records of the next batch: fewer after a refusal, to find the one that is refused.
    batch: usize,
    most: usize,
    counters: SinkCounters,
    /// Of the last change of it, for the log.
    failing: bool,
}

/// Something to say in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Attempts began to fail.
    Fails(String),
    /// They work again.
    Works,
    /// The receiver will never take a record.
    Refused(String),
}

impl Outbox {
    /// With what an earlier process left in the store; batches of at most `most` records.
    pub(super) fn new(kind: &'static str, store: Store, most: usize, now: Timestamp) -> Self {
        let recovered = store.waiting();
        Self {
            store,
            retry: Retry::default(),
            batch: most,
            most,
            counters: SinkCounters {
                kind,
                recovered,
                oldest: (recovered > 0).then_some(now),
                ..SinkCounters::default()
            },
            failing: false,
        }
    }

    /// Takes records that wait in the queue, and the queue's counts. Says in which way the spool fails.
    pub(super) fn add(&mut self, entries: Vec<Entry>, now: Timestamp) -> Option<std::io::Error> {
        if !entries.is_empty() && self.store.waiting() == 0 {
            self.counters.oldest = Some(now);
        }
        self.store.add(entries)
    }

    /// Counts of the queue in front.
    pub(super) fn queue(&mut self, offered: u64, dropped: u64) {
        self.counters.offered = offered;
        self.counters.dropped.queue = dropped;
    }

    /// What to do at `now`.
    pub(super) fn step(&mut self, now: Instant) -> std::io::Result<Step> {
        if let Some(until) = self.retry.wait(now) {
            return Ok(match self.store.waiting() {
                0 => Step::Idle,
                _ => Step::Wait(until),
            });
        }
        let batch = self.store.batch(self.batch, MAX_BATCH_BYTES)?;
        Ok(if batch.is_empty() {
            Step::Idle
        } else {
            Step::Send(batch)
        })
    }

    /// What became of the batch of `count` records. `random` evenly from 0 to 1.
    pub(super) fn sent(
        &mut self,
        count: usize,
        sent: Sent,
        now: Instant,
        wall: Timestamp,
        random: f64,
    ) -> (std::io::Result<()>, Option<Said>) {
        let taken = sent.taken.min(count);
        let number = u64::try_from(taken).unwrap_or(u64::MAX);
        let mut done = taken;
        let (lost, why) = sent.rejected.unwrap_or_default();
        let lost = lost.min(number);
        self.counters.sent = self.counters.sent.saturating_add(number.saturating_sub(lost));
        let rejected = &mut self.counters.dropped.rejected;
        *rejected = rejected.saturating_add(lost);
        self.counters.bytes = self.counters.bytes.saturating_add(sent.bytes);
        if taken > 0 {
            self.counters.last_success = Some(wall);
            self.counters.oldest = Some(wall);
        }
        let mut said = None;
        match sent.trouble {
            None => {
                self.retry.worked();
                self.batch = self.batch.saturating_mul(2).min(self.most);
                self.counters.last_error = None;
                if self.failing {
                    said = Some(Said::Works);
                }
                self.failing = false;
            }
            Some(trouble) if trouble.refused => {
                self.counters.last_error = Some(trouble.what.clone());
                if count.saturating_sub(taken) <= 1 || self.batch <= 1 {
                    done = done.saturating_add(1);
                    let rejected = &mut self.counters.dropped.rejected;
                    *rejected = rejected.saturating_add(1);
                    said = Some(Said::Refused(trouble.what));
                } else {
                    self.batch = count.saturating_sub(taken).div_ceil(2).max(1);
                    self.counters.retried = self.counters.retried.saturating_add(1);
                }
            }
            Some(trouble) => {
                self.counters.retried = self.counters.retried.saturating_add(1);
                if taken > 0 {
                    self.retry.worked();
                }
                self.retry.failed(now, trouble.after, random);
                if !self.failing {
                    said = Some(Said::Fails(trouble.what.clone()));
                }
                self.counters.last_error = Some(trouble.what);
                self.failing = true;
            }
        }
        if lost > 0 {
            said = Some(Said::Refused(why));
        }
        let settled = self.store.settle(done);
        if self.store.waiting() == 0 {
            self.counters.oldest = None;
        }
        (settled, said)
    }

    /// The sending half was made anew of changed files, or could not be.
    pub(super) fn renewed(&mut self, worked: bool) {
        let count = if worked {
            &mut self.counters.renewed
        } else {
            &mut self.counters.renewals_failed
        };
        *count = count.saturating_add(1);
    }

    /// The store cannot be read just now.
    pub(super) fn unreadable(&mut self, error: &std::io::Error, now: Instant) {
        self.counters.last_error = Some(format!("the spool cannot be read: {error}"));
        self.retry.failed(now, None, 1.0);
    }

    /// The process ends: what is in memory only is lost. How much that is.
    pub(super) fn end(&mut self) -> u64 {
        let lost = self.store.only_in_memory();
        self.counters.dropped.shutdown = lost;
        lost
    }

    /// Nothing waits.
    pub(super) fn is_done(&self) -> bool {
        self.store.waiting() == 0
    }

    /// As they stand.
    pub(super) fn counters(&self) -> SinkCounters {
        let dropped = Dropped {
            spool: self.store.lost(),
            damaged: self.store.damaged(),
            ..self.counters.dropped
        };
        SinkCounters {
            spooled: self.store.waiting(),
            spooled_bytes: self.store.bytes(),
            dropped,
            ..self.counters.clone()
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::{
        super::{Kind, Trouble, spool::Spool},
        *,
    };

    fn entry(n: u64) -> Entry {
        Entry::new(Kind::Alert, format!("{{\"id\":{n}}}").as_bytes(), "")
    }

    fn id(entry: &Entry) -> u64 {
        entry.value()["id"].as_u64().unwrap()
    }

    fn open(dir: &std::path::Path, limit: u64) -> Outbox {
        let spool = Spool::open(dir, limit).unwrap();
        Outbox::new("test", Store::new(Some(spool)), 100, Timestamp(0))
    }

    /// Virtual time: runs the delivery from `from` to `to` seconds with a receiver; how often it was asked.
    fn run(
        delivery: &mut Outbox,
        start: Instant,
        from: u64,
        to: u64,
        mut receiver: impl FnMut(&[Entry]) -> Sent,
    ) -> u64 {
        let (mut now, end) = (start + Duration::from_secs(from), start + Duration::from_secs(to));
        let mut asked = 0;
        while now < end {
            match delivery.step(now).unwrap() {
                Step::Send(batch) => {
                    asked += 1;
                    let sent = receiver(&batch);
                    delivery
                        .sent(batch.len(), sent, now, Timestamp(0), 0.5)
                        .0
                        .unwrap();
                }
                Step::Wait(until) => now = until,
                Step::Idle => break,
            }
        }
        asked
    }

    fn refused() -> Trouble {
        Trouble {
            refused: true,
            ..Trouble::later("status 400")
        }
    }

    fn down(_: &[Entry]) -> Sent {
        Sent::whole(0, 0, Err(Trouble::later("connection refused")))
    }

    #[test]
    fn an_outage_of_an_hour_with_a_restart_in_the_middle_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let mut delivery = open(dir.path(), 64 << 20);
        let (mut asked, mut n) = (0, 0);
        for minute in 0..60 {
            delivery.add((n..n + 50).map(entry).collect(), Timestamp(0));
            n += 50;
            asked += run(&mut delivery, start, minute * 60, minute * 60 + 60, down);
            if minute == 30 {
                // As after kill -9: nothing is said to it.
                drop(delivery);
                delivery = open(dir.path(), 64 << 20);
                assert_eq!(delivery.counters().recovered, 31 * 50);
            }
        }
        assert!((50..200).contains(&asked), "{asked} attempts in an hour");
        let before = delivery.counters();
        assert_eq!((before.spooled, before.dropped.total()), (3000, 0));
        assert_eq!(before.last_error.as_deref(), Some("connection refused"));
        let mut got = Vec::new();
        run(&mut delivery, start, 3600, 4000, |batch| {
            got.extend(batch.iter().map(id));
            Sent::whole(batch.len(), 1, Ok(()))
        });
        assert_eq!(got, (0..3000).collect::<Vec<_>>(), "each once, in order");
        let after = delivery.counters();
        assert_eq!((after.spooled, after.oldest, after.last_error), (0, None, None));
    }

    #[test]
    fn a_full_spool_loses_the_oldest_and_says_how_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut delivery = open(dir.path(), 16 << 10);
        (0..2000).for_each(|n| assert!(delivery.add(vec![entry(n)], Timestamp(0)).is_none()));
        let mut got = BTreeSet::new();
        run(&mut delivery, Instant::now(), 0, 100, |batch| {
            got.extend(batch.iter().map(id));
            Sent::whole(batch.len(), 1, Ok(()))
        });
        let lost = delivery.counters().dropped.spool;
        assert!(lost > 0);
        assert_eq!(got, (lost..2000).collect());
    }

    #[test]
    fn one_refused_record_does_not_take_others_with_it() {
        let mut delivery = Outbox::new("test", Store::default(), 100, Timestamp(0));
        delivery.add((0..100).map(entry).collect(), Timestamp(0));
        let mut got = Vec::new();
        run(&mut delivery, Instant::now(), 0, 100, |batch| {
            if batch.iter().any(|e| id(e) == 41) {
                return Sent::whole(0, 0, Err(refused()));
            }
            got.extend(batch.iter().map(id));
            Sent::whole(batch.len(), 1, Ok(()))
        });
        assert_eq!(got, (0..100).filter(|n| *n != 41).collect::<Vec<_>>());
        let counters = delivery.counters();
        assert_eq!((counters.dropped.rejected, counters.sent), (1, 99));
    }

    #[test]
    fn what_was_taken_before_a_failure_is_not_sent_again() {
        let mut delivery = Outbox::new("test", Store::default(), 100, Timestamp(0));
        delivery.add((0..10).map(entry).collect(), Timestamp(0));
        let (mut got, mut said) = (Vec::new(), Vec::new());
        let mut now = Instant::now();
        loop {
            match delivery.step(now).unwrap() {
                Step::Send(batch) => {
                    let taken = batch.len().min(3);
                    got.extend(batch[..taken].iter().map(id));
                    let trouble = (taken < batch.len()).then(|| Trouble::later("reset"));
                    let sent = Sent {
                        taken,
                        trouble,
                        ..Sent::default()
                    };
                    said.extend(delivery.sent(batch.len(), sent, now, Timestamp(0), 0.5).1);
                }
                Step::Wait(until) => now = until,
                Step::Idle => break,
            }
        }
        assert_eq!(got, (0..10).collect::<Vec<_>>());
        assert_eq!(said, [Said::Fails("reset".into()), Said::Works]);
    }

    #[test]
    fn what_a_receiver_took_and_dropped_is_not_sent() {
        let mut delivery = Outbox::new("test", Store::default(), 100, Timestamp(0));
        delivery.queue(10, 0);
        delivery.add((0..10).map(entry).collect(), Timestamp(0));
        assert!(matches!(delivery.step(Instant::now()), Ok(Step::Send(batch)) if batch.len() == 10));
        let sent = Sent {
            taken: 10,
            rejected: Some((3, "no room".into())),
            ..Sent::default()
        };
        let (_, said) = delivery.sent(10, sent, Instant::now(), Timestamp(0), 0.5);
        assert_eq!(said, Some(Said::Refused("no room".into())));
        let counters = delivery.counters();
        assert_eq!(
            (counters.sent, counters.dropped.rejected, counters.spooled),
            (7, 3, 0)
        );
    }

    #[test]
    fn without_a_spool_the_end_is_a_loss_that_is_counted() {
        let mut delivery = Outbox::new("test", Store::default(), 100, Timestamp(0));
        delivery.add((0..7).map(entry).collect(), Timestamp(0));
        assert_eq!(delivery.end(), 7);
        assert_eq!(delivery.counters().dropped.total(), 7);
    }
}
