//! The per-flow half of the engine, split so that several threads can run it.
//!
//! Flows are spread over a fixed number of logical shards by a symmetric hash. Each shard owns its flows,
//! tables and budgets, so what it does depends only on the packets it gets, never on how many threads
//! there are. Events of all shards are then put back into the order of the packets.

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::shard::{Event, Shard};
use crate::{decode::Decoded, flow::shard_of, types::At};

/// Logical shards, whatever the number of threads.
pub const SHARDS: usize = 16;

/// One shard with its share of a batch.
#[derive(Debug)]
struct Job {
    shard: Shard,
    input: Vec<Decoded>,
    output: Vec<Event>,
    end: End,
}

/// What to do after the packets of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Time passes: idle flows end.
    Tick(At),
    /// The input is over: every flow ends.
    Finish(At),
}

impl Job {
    fn run(&mut self) {
        for item in self.input.drain(..) {
            self.shard.feed(&item, &mut self.output);
        }
        match self.end {
            End::Tick(now) => self.shard.tick(now, &mut self.output),
            End::Finish(now) => self.shard.finish(now, &mut self.output),
        }
    }
}

/// All shards, and the threads that run them.
#[derive(Debug)]
pub struct Shards {
    /// `None` while the shard is with a thread.
    idle: Vec<Option<Box<Job>>>,
    running: usize,
    /// `None` once closed, which ends the workers.
    jobs: Option<Sender<Box<Job>>>,
    waiting: Receiver<Box<Job>>,
    done: (Sender<Box<Job>>, Receiver<Box<Job>>),
}

impl Shards {
    /// `make` builds shard `index`.
    pub fn new(make: impl Fn(usize) -> Shard) -> Self {
        let job = |index| Job {
            shard: make(index),
            input: Vec::new(),
            output: Vec::new(),
            end: End::Tick(At::default()),
        };
        let (jobs, waiting) = unbounded();
        Self {
            idle: (0..SHARDS).map(|index| Some(Box::new(job(index)))).collect(),
            running: 0,
            jobs: Some(jobs),
            waiting,
            done: unbounded(),
        }
    }

    /// What a worker thread runs until [`Self::close`].
    pub fn worker(&self) -> impl FnOnce() + Send + 'static {
        let (jobs, done) = (self.waiting.clone(), self.done.0.clone());
        move || {
            while let Ok(mut job) = jobs.recv() {
                job.run();
                if done.send(job).is_err() {
                    return;
                }
            }
        }
    }

    /// Spreads `batch` over the shards and hands them out. The previous batch must have been collected.
    pub fn dispatch(&mut self, batch: &mut Vec<Decoded>, end: End) {
        for item in batch.drain(..) {
            let index = match &item {
                Decoded::Tcp(s) => shard_of(&s.src, &s.dst, s.scope, SHARDS),
                Decoded::Udp(d) => shard_of(&d.src, &d.dst, d.scope, SHARDS),
                Decoded::Other => continue,
            };
            if let Some(Some(job)) = self.idle.get_mut(index) {
                job.input.push(item);
            }
        }
        for slot in &mut self.idle {
            if let Some(mut job) = slot.take() {
                job.end = end;
                self.running = self.running.saturating_add(1);
                // The receiver lives in `self`: sending fails only once closed, and then nobody collects.
                if let Some(jobs) = &self.jobs {
                    let _ = jobs.send(job);
                }
            }
        }
    }

    /// Helps with what is still to do, waits for the rest, and appends all events in order of the packets.
    pub fn collect(&mut self, out: &mut Vec<Event>) {
        while self.running > 0 {
            let job = match self.waiting.try_recv() {
                Ok(mut job) => {
                    job.run();
                    Some(job)
                }
                Err(_) => self.done.1.recv().ok(),
            };
            let Some(job) = job else { break };
            self.running = self.running.saturating_sub(1);
            let index = job.shard.index();
            if let Some(slot) = self.idle.get_mut(index) {
                *slot = Some(job);
            }
        }
        for job in self.idle.iter_mut().flatten() {
            out.append(&mut job.output);
        }
        // Stable: events of one packet keep the order their shard gave them.
        out.sort_by_key(|event| event.order);
    }

    /// Ends the workers once the queue is empty.
    pub fn close(&mut self) {
        self.jobs = None;
    }

    /// Every shard, for counts. Call between [`Self::collect`] and [`Self::dispatch`].
    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.idle.iter().flatten().map(|job| &job.shard)
    }
}
