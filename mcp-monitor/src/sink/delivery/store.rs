//! Records that wait to be sent: on disk, and in memory where there is no spool or it cannot be written.

use std::collections::VecDeque;

use super::{Entry, spool::Spool};

/// Records in memory.
const MAX_MEMORY: usize = 10_000;
/// Bytes of them.
const MAX_MEMORY_BYTES: usize = 16 << 20;

/// Where the batch under way was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    Disk,
    Memory,
}

/// A batch under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    origin: Origin,
    /// Of it, still here.
    kept: u64,
    /// Of it, had to make room meanwhile.
    orphaned: u64,
}

/// One sink's records.
#[derive(Debug, Default)]
pub(super) struct Store {
    spool: Option<Spool>,
    /// Came after all that is in the spool.
    memory: VecDeque<Entry>,
    memory_bytes: usize,
    flight: Option<Flight>,
    lost: u64,
    /// The last write failed, and that was said.
    failing: bool,
}

impl Store {
    pub(super) fn new(spool: Option<Spool>) -> Self {
        Self {
            spool,
            ..Self::default()
        }
    }

    /// Takes records; what does not fit makes the oldest leave. Says in which way the spool fails, once.
    pub(super) fn add(&mut self, entries: Vec<Entry>) -> Option<std::io::Error> {
        let mut error = None;
        self.add_memory(entries);
        let idle = self.flight.is_none_or(|flight| flight.origin == Origin::Disk);
        if let Some(spool) = self.spool.as_mut().filter(|_| idle && !self.memory.is_empty()) {
            match spool.append(self.memory.make_contiguous()) {
                Ok(()) => {
                    self.memory.clear();
                    self.memory_bytes = 0;
                    self.failing = false;
                }
                Err(failed) => {
                    error = (!self.failing).then_some(failed);
                    self.failing = true;
                }
            }
            match spool.make_room() {
                Ok(0) => {}
                Ok(lost) => self.lose(Origin::Disk, lost),
                Err(failed) => error = error.or(Some(failed)),
            }
        }
        while self.memory.len() > MAX_MEMORY || self.memory_bytes > MAX_MEMORY_BYTES {
            let Some(oldest) = self.memory.pop_front() else {
                break;
            };
            self.memory_bytes = self.memory_bytes.saturating_sub(oldest.len());
            self.lose(Origin::Memory, 1);
        }
        error
    }

    fn add_memory(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.memory_bytes = self.memory_bytes.saturating_add(entry.len());
            self.memory.push_back(entry);
        }
    }

    /// The oldest of a place are gone; of a batch under way it is not known yet whether that is a loss.
    fn lose(&mut self, origin: Origin, count: u64) {
        let under_way = match &mut self.flight {
            Some(flight) if flight.origin == origin => {
                let gone = flight.kept.min(count);
                flight.kept = flight.kept.saturating_sub(gone);
                flight.orphaned = flight.orphaned.saturating_add(gone);
                gone
            }
            _ => 0,
        };
        self.lost = self.lost.saturating_add(count.saturating_sub(under_way));
    }

    /// The oldest records, to be sent; [`Self::settle`] must follow. Empty if there is nothing.
    pub(super) fn batch(&mut self, most: usize, most_bytes: usize) -> std::io::Result<Vec<Entry>> {
        let mut origin = Origin::Disk;
        let mut batch = match &mut self.spool {
            Some(spool) => spool.peek(most, most_bytes)?,
            None => Vec::new(),
        };
        if batch.is_empty() {
            origin = Origin::Memory;
            let mut size = 0_usize;
            for entry in self.memory.iter().take(most) {
                if size >= most_bytes {
                    break;
                }
                size = size.saturating_add(entry.len());
                batch.push(entry.clone());
            }
        }
        if !batch.is_empty() {
            self.flight = Some(Flight {
                origin,
                kept: u64::try_from(batch.len()).unwrap_or(u64::MAX),
                orphaned: 0,
            });
        }
        Ok(batch)
    }

    /// The first `done` of the batch need not be sent again.
    pub(super) fn settle(&mut self, done: usize) -> std::io::Result<()> {
        let Some(flight) = self.flight.take() else {
            return Ok(());
        };
        let done = u64::try_from(done).unwrap_or(u64::MAX);
        self.lost = self.lost.saturating_add(flight.orphaned.saturating_sub(done));
        let here = done.saturating_sub(flight.orphaned).min(flight.kept);
        let here = usize::try_from(here).unwrap_or(usize::MAX);
        match (flight.origin, &mut self.spool) {
            (Origin::Disk, Some(spool)) => spool.taken(here),
            _ => {
                for entry in self.memory.drain(..here.min(self.memory.len())) {
                    self.memory_bytes = self.memory_bytes.saturating_sub(entry.len());
                }
                Ok(())
            }
        }
    }

    /// Records that wait.
    pub(super) fn waiting(&self) -> u64 {
        let disk = self.spool.as_ref().map_or(0, Spool::waiting);
        disk.saturating_add(self.only_in_memory())
    }

    /// Of them, lost if the process ended now.
    pub(super) fn only_in_memory(&self) -> u64 {
        u64::try_from(self.memory.len()).unwrap_or(u64::MAX)
    }

    /// Bytes of them.
    pub(super) fn bytes(&self) -> u64 {
        let memory = u64::try_from(self.memory_bytes).unwrap_or(u64::MAX);
        self.spool.as_ref().map_or(0, Spool::bytes).saturating_add(memory)
    }

    /// Records that had to make room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Spool records that could not be read back.
    pub(super) fn damaged(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::damaged)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::{super::Kind, *};

    fn entries(from: usize, count: usize) -> Vec<Entry> {
        let one = |n: usize| Entry::new(Kind::Alert, n.to_string().as_bytes(), "");
        (from..from + count).map(one).collect()
    }

    #[test]
    fn without_a_spool_memory_is_bounded() {
        let mut store = Store::default();
        store.add(entries(0, MAX_MEMORY + 5));
        assert_eq!((store.waiting(), store.lost()), (10_000, 5));
        let batch = store.batch(100, 1 << 20).unwrap();
        assert_eq!(batch, entries(5, 100));
        store.add(entries(MAX_MEMORY + 5, 60));
        assert_eq!(store.lost(), 5, "it may yet be sent");
        store.settle(100).unwrap();
        assert_eq!((store.lost(), store.waiting()), (5, 9_960));
        assert_eq!(store.batch(1, 1).unwrap(), entries(105, 1));
        store.add(entries(0, 50));
        store.settle(0).unwrap();
        assert_eq!(store.lost(), 5 + 10, "what made room and was not sent is lost");
    }

    #[test]
    fn a_disk_that_cannot_be_written_leaves_records_in_memory_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(Some(Spool::open(dir.path(), 4096).unwrap()));
        assert!(store.add(entries(0, 100)).is_none());
        // The next segment cannot be made: its name is taken by a folder.
        let blocker = dir.path().join("0000000000000002.spool");
        std::fs::create_dir(&blocker).unwrap();
        assert!(store.add(entries(100, 100)).is_some(), "said");
        assert!(store.add(entries(200, 1)).is_none(), "once");
        assert_eq!((store.waiting(), store.only_in_memory()), (201, 101));
        std::fs::remove_dir(&blocker).unwrap();
        assert!(store.add(entries(201, 1)).is_none());
        assert_eq!(store.only_in_memory(), 0);
        let mut sent = Vec::new();
        loop {
            let batch = store.batch(7, 1 << 20).unwrap();
            if batch.is_empty() {
                break;
            }
            store.settle(batch.len()).unwrap();
            sent.extend(batch);
        }
        assert_eq!(sent, entries(0, 202));
        assert_eq!(store.lost(), 0);
    }
}
