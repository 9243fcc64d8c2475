//! From the packet loop to receivers that may be slow, away or broken.
//!
//! Each sink has a bounded queue that the packet loop never waits for, and a thread with a runtime of its own,
//! so that one that stalls holds up no other. The thread moves records to the [`spool`] (or to memory) and
//! sends them in batches; what fails is tried again with backoff. A record leaves the spool when the receiver
//! has taken it: at least once, also over `kill -9`. What had to be let go is counted in [`SinkCounters`].

mod attempt;
mod entry;
mod filter;
mod outbox;
mod queue;
mod renewal;
mod retry;
mod spool;
mod status;
mod store;
mod worker;

use std::{
    cell::Cell,
    io,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub(crate) use attempt::{Pending, Sender, Sent, Trouble};
pub use entry::{Entry, Kind};
pub(crate) use filter::Filter;
pub(crate) use renewal::{Made, MakeSender};
pub(crate) use status::wall;
pub use status::{Dropped, SinkCounters, SinkStatus};

use self::{outbox::Outbox, queue::Queue, renewal::Renewal, spool::Spool, store::Store, worker::Worker};
use crate::{
    sandbox::{self, Task},
    types::Severity,
};

/// How one sink works, whatever its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Unique among the sinks; names its spool folder.
    pub(crate) name: String,
    /// `file`, `webhook`, …
    pub(crate) kind: &'static str,
    /// What it takes.
    pub(crate) filter: Filter,
    /// Folder of its spool and most bytes in it; `None`: memory only.
    pub(crate) spool: Option<(PathBuf, u64)>,
    /// Records of one batch at most.
    pub(crate) batch: usize,
    /// Longest attempt.
    pub(crate) timeout: Duration,
}

/// Sinks at work.
pub struct Sinks {
    lines: Vec<Line>,
    status: SinkStatus,
}

struct Line {
    filter: Filter,
    /// When metrics go next.
    due: Cell<Option<Instant>>,
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Sinks {
    /// Starts a thread for each.
    ///
    /// # Errors
    ///
    /// A spool that cannot be used, or a thread that cannot be made; which sink it is for is said.
    pub(crate) fn start(sinks: Vec<(Plan, MakeSender)>) -> io::Result<Self> {
        let status = SinkStatus::default();
        let mut spooled = Vec::new();
        for (plan, make) in sinks {
            let open = |(dir, most): &(PathBuf, u64)| {
                Spool::open(dir, *most).map_err(|error| {
                    io::Error::other(format!("sink {}: spool {}: {error}", plan.name, dir.display()))
                })
            };
            let spool = plan.spool.as_ref().map(open).transpose()?;
            spooled.push((plan, make, spool));
        }
        let mut lines = Vec::new();
        for (plan, make, spool) in spooled {
            let delivery = Outbox::new(plan.kind, Store::new(spool), plan.batch, wall());
            status.set(&plan.name, delivery.counters());
            let queue = Arc::new(Queue::default());
            let (queue_there, status_there) = (queue.clone(), status.clone());
            let thread = sandbox::thread(format!("sink-{}", plan.name), Task::Serve, move || {
                let name = plan.name.clone();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let worked = runtime.map_err(|e| e.to_string()).and_then(|runtime| {
                    // Some clients want to be made where they will work.
                    let made = runtime.block_on(async { Renewal::begin(make) });
                    let (renewal, sender) = made?;
                    let worker = Worker {
                        name: plan.name,
                        queue: queue_there,
                        delivery,
                        sender,
                        renewal,
                        status: status_there,
                        timeout: plan.timeout,
                    };
                    runtime.block_on(worker.run());
                    Ok(())
                });
                if let Err(error) = worked {
                    tracing::error!(sink = name, error, "the sink does not work");
                }
            })?;
            lines.push(Line {
                filter: plan.filter,
                due: Cell::new(None),
                queue,
                thread,
            });
        }
        Ok(Self { lines, status })
    }

    /// Whether any takes records of a kind.
    pub fn wants(&self, kind: Kind) -> bool {
        self.lines.iter().any(|line| line.filter.records.contains(&kind))
    }

    /// Gives a record to all sinks that take it; never waits. `alert` is rule and severity of an alert.
    pub fn offer(&self, kind: Kind, alert: Option<(&str, Severity)>, entry: impl FnOnce() -> Entry) {
        let mut takers = self
            .lines
            .iter()
            .filter(|line| line.filter.takes(kind, alert))
            .peekable();
        if takers.peek().is_none() {
            return;
        }
        let entry = entry();
        takers.for_each(|line| line.queue.push(entry.clone()));
    }

    /// Gives metrics to the sinks for which it is time; never waits.
    pub fn offer_metrics(&self, now: Instant, entry: impl FnOnce() -> Entry) {
        let due = |line: &&Line| {
            line.filter.records.contains(&Kind::Metrics) && line.due.get().is_none_or(|due| due <= now)
        };
        let mut takers = self.lines.iter().filter(due).peekable();
        if takers.peek().is_none() {
            return;
        }
        let entry = entry();
        takers.for_each(|line| {
            line.due.set(now.checked_add(line.filter.interval));
            line.queue.push(entry.clone());
        });
    }

    /// Counters, from any thread.
    pub fn status(&self) -> SinkStatus {
        self.status.clone()
    }

    /// Takes no more; sends what waits for at most `grace`, and ends. What is left is in the spool, or counted.
    pub fn finish(self, grace: Duration) {
        self.lines.iter().for_each(|line| line.queue.close(grace));
        for line in self.lines {
            if line.thread.join().is_err() {
                tracing::error!("a sink's thread failed");
            }
        }
    }
}
