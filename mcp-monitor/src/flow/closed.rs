//! Connections that ended a moment ago, so that their last packets do not open new flows.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::key::{Key, Side};
use crate::types::Timestamp;

/// What is remembered of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    /// Next sequence number of each side, where known.
    pub(super) next_seq: [Option<u32>; 2],
    /// The side that reset it.
    pub(super) reset_by: Option<Side>,
    serial: u64,
}

/// Ended connections, oldest first out.
#[derive(Default, Debug)]
pub(super) struct ClosedTable {
    known: HashMap<Key, Closed>,
    queue: VecDeque<(Timestamp, Key, u64)>,
    serial: u64,
}

impl ClosedTable {
    pub(super) fn get(&self, key: &Key) -> Option<&Closed> {
        self.known.get(key)
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.known.remove(key);
    }

    pub(super) fn insert(
        &mut self,
        key: Key,
        next_seq: [Option<u32>; 2],
        reset_by: Option<Side>,
        until: Timestamp,
        max: usize,
    ) {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        self.known.insert(
            key,
            Closed {
                next_seq,
                reset_by,
                serial,
            },
        );
        self.queue.push_back((until, key, serial));
        while self.queue.len() > max {
            self.forget_oldest();
        }
    }

    /// Forgets what is past its time.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.queue.front().is_some_and(|(until, _, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key, serial)) = self.queue.pop_front()
            && self.known.get(&key).is_some_and(|c| c.serial == serial)
        {
            self.known.remove(&key);
        }
    }
}
