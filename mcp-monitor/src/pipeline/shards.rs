//! The per-flow half of the engine and the reading before it, split into tasks for several threads.
//!
//! Flows are spread over a fixed number of logical shards by a symmetric hash. Each shard owns its flows,
//! tables and budgets, so what it does depends only on the packets it gets, never on how many threads
//! there are. Events of all shards are then put back into the order of the packets.
//!
//! While one batch of packets goes through the cross-flow half, the shards work on the next one and the
//! one after that is read. Any thread does any task; the cross-flow half's thread helps when it has nothing else.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    vec::Drain,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    judging::Judging,
    reading::Reading,
    shard::{Event, Shard},
    shown::Shown,
};
use crate::{
    decode::Decoded,
    proto::tls::decrypt::KeyLog,
    source::Secrets,
    types::{Anomaly, At},
};

/// Logical shards, whatever the number of threads.
pub const SHARDS: usize = 16;
/// Bits of a shard's number.
const SHARD_BITS: u32 = SHARDS.ilog2();

/// One shard with its share of a batch.
#[derive(Debug)]
struct Job {
    shard: Shard,
    input: Vec<Decoded>,
    output: Vec<Event>,
    /// The last packet of the batch.
    now: At,
    /// The input is over: every flow ends.
    finish: bool,
}

/// What a thread can do without the others.
#[derive(Debug)]
enum Task {
    Read(Box<Reading>),
    Shard(Box<Job>),
    Judge(Box<Judging>),
    /// A batch that is over, to be dropped: that costs, and the cross-flow half has more to do.
    Spent(Arc<Vec<Shown>>),
}

/// What a thread gives back: the task, or with what it panicked. Never nothing: somebody waits for it.
type Done = Result<Task, Box<dyn Any + Send>>;

impl Task {
    /// Runs it; with several threads a panic of it is one of the cross-flow half's, as it is with one.
    fn done(mut self) -> Done {
        catch_unwind(AssertUnwindSafe(move || {
            self.run();
            self
        }))
    }

    fn run(&mut self) {
        match self {
            Self::Read(reading) => reading.read(),
            Self::Judge(judging) => judging.run(),
            Self::Spent(batch) => *batch = Arc::default(),
            Self::Shard(job) => {
                for item in job.input.drain(..) {
                    job.shard.feed(&item, &mut job.output);
                }
                if job.finish {
                    job.shard.finish(job.now, &mut job.output);
                } else {
                    job.shard.tick(job.now, &mut job.output);
                }
            }
        }
    }
}

/// What came of one batch.
#[derive(Debug, Default)]
pub(super) struct Yield {
    /// By shard, each in order of the packets.
    events: Vec<Vec<Event>>,
    order: Vec<u64>,
    /// Anomalies of packets that belong to no flow.
    pub(super) anomalies: Vec<(At, Anomaly)>,
    /// Bytes on the wire up to the end of it.
    pub(super) bytes: u64,
    /// No batch follows: what is left of the input.
    pub(super) ended: Option<Box<Reading>>,
}

impl Yield {
    /// Takes all events out in order of the packets; those of one packet in the order its shard gave them.
    pub(super) fn events(&mut self) -> impl Iterator<Item = Event> {
        self.order.clear();
        for (shard, events) in (0_u64..).zip(&self.events) {
            let keys = events.iter().map(|event| (event.order << SHARD_BITS) | shard);
            self.order.extend(keys);
        }
        self.order.sort_unstable();
        let mut sources: Vec<Drain<'_, Event>> =
            self.events.iter_mut().map(|events| events.drain(..)).collect();
        self.order.iter().filter_map(move |key| {
            let shard = usize::try_from(key & ((1 << SHARD_BITS) - 1)).ok()?;
            sources.get_mut(shard)?.next()
        })
    }
}

/// All shards, the input, and the threads that run them.
#[derive(Debug)]
pub(super) struct Shards {
    /// `None` while it is with a thread.
    reading: Option<Box<Reading>>,
    /// `reading` has a batch that the shards have not.
    read: bool,
    /// `None` while the shard is with a thread.
    jobs: Vec<Option<Box<Job>>>,
    /// Shards that are not through with the batch.
    running: usize,
    /// The shards' work has not been taken.
    full: bool,
    anomalies: Vec<(At, Anomaly)>,
    bytes: u64,
    keys: Arc<KeyLog>,
    /// `None` once closed, which ends the workers.
    tasks: Option<Sender<Task>>,
    waiting: Receiver<Task>,
    done: (Sender<Done>, Receiver<Done>),
}

impl Shards {
    /// `make` builds shard `index`.
    ///
    /// Secrets that come with packets go into `keys`.
    pub(super) fn new(reading: Reading, keys: Arc<KeyLog>, make: impl Fn(usize) -> Shard) -> Self {
        let job = |index| Job {
            shard: make(index),
            input: Vec::new(),
            output: Vec::new(),
            now: At::default(),
            finish: false,
        };
        let (tasks, waiting) = unbounded();
        Self {
            reading: Some(Box::new(reading)),
            read: false,
            jobs: (0..SHARDS).map(|index| Some(Box::new(job(index)))).collect(),
            running: 0,
            full: false,
            anomalies: Vec::new(),
            bytes: 0,
            keys,
            tasks: Some(tasks),
            waiting,
            done: unbounded(),
        }
    }

    /// What a worker thread runs until [`Self::close`].
    pub(super) fn worker(&self) -> impl FnOnce() + Send + 'static {
        let (tasks, done) = (self.waiting.clone(), self.done.0.clone());
        move || {
            while let Ok(task) = tasks.recv() {
                if done.send(task.done()).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for a batch to be through the shards and takes what came of it; helps in the meantime.
    /// Hands out the next tasks before it returns.
    pub(super) fn next(&mut self, out: &mut Yield) {
        self.hand_out();
        while !self.full || self.running > 0 {
            let task = self.any_task();
            self.back(task);
        }
        out.events.resize_with(SHARDS, Vec::new);
        for (job, events) in self.jobs.iter_mut().flatten().zip(&mut out.events) {
            std::mem::swap(&mut job.output, events);
        }
        out.anomalies = std::mem::take(&mut self.anomalies);
        out.bytes = self.bytes;
        self.full = false;
        if !self.read {
            out.ended = self.reading.take_if(|reading| reading.ended);
        }
        self.hand_out();
    }

    /// Has groups of rules look at their batch, each on any thread, and helps in the meantime.
    pub(super) fn judge(&mut self, all: Vec<Judging>) -> Vec<Judging> {
        let mut waiting = all.len();
        let mut done = Vec::with_capacity(waiting);
        for judging in all {
            self.send(Task::Judge(Box::new(judging)));
        }
        while waiting > 0 {
            match self.any_task() {
                Task::Judge(judging) => {
                    waiting = waiting.saturating_sub(1);
                    done.push(*judging);
                }
                task => self.back(task),
            }
        }
        done
    }

    /// Has a batch dropped by whoever has time.
    pub(super) fn spent(&self, batch: Arc<Vec<Shown>>) {
        self.send(Task::Spent(batch));
    }

    /// A task that is done; one that waits is done here. Called only while one is out.
    fn any_task(&self) -> Task {
        if let Ok(mut task) = self.waiting.try_recv() {
            task.run();
            return task;
        }
        match self.done.1.recv() {
            Ok(Ok(task)) => task,
            Ok(Err(panic)) => resume_unwind(panic),
            // `self` has a sender.
            Err(closed) => resume_unwind(Box::new(closed)),
        }
    }

    /// Takes a task back that is done.
    fn back(&mut self, task: Task) {
        match task {
            Task::Read(reading) => {
                self.reading = Some(reading);
                self.read = true;
                self.hand_out();
            }
            Task::Shard(job) => {
                self.running = self.running.saturating_sub(1);
                let index = job.shard.index();
                if let Some(slot) = self.jobs.get_mut(index) {
                    *slot = Some(job);
                }
            }
            // Rules are waited for where they were sent.
            Task::Judge(_) | Task::Spent(_) => {}
        }
    }

    /// The receiver lives in `self`: sending fails only once closed, and then nobody waits.
    fn send(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            let _ = tasks.send(task);
        }
    }

    /// Gives the threads what can be done now.
    fn hand_out(&mut self) {
        if self.full {
            return;
        }
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        if !self.read {
            self.send(Task::Read(reading));
            return;
        }
        for (job, items) in self.jobs.iter_mut().flatten().zip(&mut reading.batch) {
            std::mem::swap(&mut job.input, items);
            job.now = reading.last;
            job.finish = reading.ended;
        }
        self.anomalies = std::mem::take(&mut reading.anomalies);
        self.bytes = reading.bytes;
        // While no shard is at work, so that it does not depend on threads which packets find them.
        for secrets in reading.secrets.drain(..) {
            take_keys(&self.keys, &secrets);
        }
        self.read = false;
        self.full = true;
        // Reading is the longest task, so that it must not be the last to begin. Where it would wait for whoever
        // writes the capture, the batch goes first.
        if reading.ended || reading.waits {
            self.reading = Some(reading);
        } else {
            self.send(Task::Read(reading));
        }
        let jobs: Vec<Box<Job>> = self.jobs.iter_mut().filter_map(Option::take).collect();
        for job in jobs {
            self.running = self.running.saturating_add(1);
            self.send(Task::Shard(job));
        }
    }

    /// Ends the workers once the queue is empty.
    pub(super) fn close(&mut self) {
        self.tasks = None;
    }

    /// Every shard, for counts; those that are at rest.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.jobs.iter().flatten().map(|job| &job.shard)
    }
}

fn take_keys(keys: &KeyLog, secrets: &Secrets) {
    if secrets.kind == Secrets::TLS_KEY_LOG {
        let added = keys.add(&secrets.data);
        if added.malformed > 0 {
            tracing::warn!(
                lines = added.malformed,
                "the capture carries lines of a key log that cannot be read"
            );
        }
    }
}
