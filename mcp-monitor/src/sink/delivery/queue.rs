//! Between the packet loop and a sink's thread: bounded, never waits; the oldest makes room.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::Entry;

/// Records that wait for a sink's thread.
const MAX_QUEUED: usize = 16_384;
/// Bytes of them.
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// One sink's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    offered: u64,
    dropped: u64,
    closed: Option<Instant>,
}

/// What [`Queue::take`] found.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: Vec<Entry>,
    /// Offered since the start.
    pub(super) offered: u64,
    /// Given up here since the start.
    pub(super) dropped: u64,
    /// No more will come; what is there may be sent until then.
    pub(super) closed: Option<Instant>,
}

impl Queue {
    /// Adds one. Does not wait: where the queue is full the oldest leaves and is counted.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.lock();
        state.offered = state.offered.saturating_add(1);
        state.bytes = state.bytes.saturating_add(entry.len());
        state.entries.push_back(entry);
        while state.entries.len() > MAX_QUEUED || state.bytes > MAX_QUEUED_BYTES {
            let Some(oldest) = state.entries.pop_front() else {
                break;
            };
            state.bytes = state.bytes.saturating_sub(oldest.len());
            state.dropped = state.dropped.saturating_add(1);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// No more comes; what is there may be sent for `grace`.
    pub(super) fn close(&self, grace: Duration) {
        let now = Instant::now();
        self.lock().closed = Some(now.checked_add(grace).unwrap_or(now));
        self.changed.notify_one();
    }

    /// Takes all that wait.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        state.bytes = 0;
        Taken {
            entries: std::mem::take(&mut state.entries).into(),
            offered: state.offered,
            dropped: state.dropped,
            closed: state.closed,
        }
    }

    /// Waits until something was added or the queue was closed since the last look.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Kind, *};

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let queue = Queue::default();
        let entry = |n: usize| Entry::new(Kind::Alert, n.to_string().as_bytes(), "");
        (0..MAX_QUEUED + 3).for_each(|n| queue.push(entry(n)));
        let taken = queue.take();
        assert_eq!((taken.entries.len(), taken.dropped), (MAX_QUEUED, 3));
        assert_eq!(taken.entries[0], entry(3));
        assert_eq!(taken.offered, u64::try_from(MAX_QUEUED + 3).unwrap());
        let large = Entry::new(Kind::Alert, &vec![b'x'; MAX_QUEUED_BYTES], "");
        queue.push(entry(1));
        queue.push(large);
        let taken = queue.take();
        assert!(
            taken.entries.is_empty(),
            "a record over the bound takes itself out too"
        );
        assert_eq!(taken.dropped, 5);
        queue.push(entry(2));
        assert_eq!(queue.take().entries.len(), 1);
    }
}
