//! One sink's thread: moves records from the queue to the store and sends them.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Renewal, Sender, Sent, SinkStatus, Trouble,
    outbox::{Outbox, Said, Step},
    queue::Queue,
    status::wall,
};

/// What a sink's thread works with.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) queue: Arc<Queue>,
    pub(super) delivery: Outbox,
    pub(super) sender: Box<dyn Sender>,
    pub(super) renewal: Renewal,
    pub(super) status: SinkStatus,
    /// Longest attempt.
    pub(super) timeout: Duration,
}

impl Worker {
    /// Works until the queue is closed and everything is sent, or the grace is over.
    pub(super) async fn run(mut self) {
        loop {
            let closed = self.fetch();
            if closed.is_some_and(|until| self.delivery.is_done() || Instant::now() >= until) {
                break;
            }
            match self.delivery.step(std::time::Instant::now()) {
                Ok(Step::Send(batch)) => self.attempt(&batch, closed).await,
                Ok(Step::Wait(until)) => {
                    let until = Instant::from_std(until);
                    let until = closed.map_or(until, |closed| closed.min(until));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = self.queue.changed() => {}
                    }
                }
                Ok(Step::Idle) if closed.is_some() => break,
                Ok(Step::Idle) => self.queue.changed().await,
                Err(error) => self.delivery.unreadable(&error, std::time::Instant::now()),
            }
        }
        let lost = self.delivery.end();
        if lost > 0 {
            tracing::error!(
                sink = self.name,
                lost,
                "ended with records in memory that no spool keeps"
            );
        }
        let counters = self.delivery.counters();
        let left = counters.spooled.saturating_sub(lost);
        if left > 0 {
            tracing::warn!(
                sink = self.name,
                left,
                "ended with records in the spool; the next start sends them"
            );
        }
        self.status.set(&self.name, counters);
    }

    /// Moves what waits in the queue to the store; until when to go on, once the queue is closed.
    fn fetch(&mut self) -> Option<Instant> {
        let taken = self.queue.take();
        self.delivery.queue(taken.offered, taken.dropped);
        if let Some(error) = self.delivery.add(taken.entries, wall()) {
            tracing::error!(sink = self.name, %error, "the spool cannot be written; records wait in memory");
        }
        self.status.set(&self.name, self.delivery.counters());
        taken.closed
    }

    /// Takes changed secrets and certificates into use.
    fn renew(&mut self) {
        let Some(renewed) = self.renewal.look() else {
            return;
        };
        self.delivery.renewed(renewed.is_ok());
        let sink = &self.name;
        match renewed {
            Ok(sender) => {
                self.sender = sender;
                tracing::info!(sink, "changed secrets or certificates are in use");
            }
            Err(error) => {
                tracing::error!(
                    sink,
                    error,
                    "changed secrets or certificates are not used, those before are"
                );
            }
        }
    }

    async fn attempt(&mut self, batch: &[super::Entry], mut closed: Option<Instant>) {
        self.renew();
        let now = Instant::now();
        let limit = now.checked_add(self.timeout).unwrap_or(now);
        // Not borrowed from `self`: the store takes records meanwhile.
        let mut sender = std::mem::replace(&mut self.sender, Box::new(Busy));
        let sent = {
            let sending = timeout_at(limit, sender.send(batch));
            tokio::pin!(sending);
            let queue = self.queue.clone();
            loop {
                let end = closed.unwrap_or(limit).min(limit);
                tokio::select! {
                    done = &mut sending => break done.unwrap_or_else(|_| timed_out(self.timeout)),
                    () = queue.changed() => closed = self.fetch(),
                    () = sleep_until(end), if closed.is_some() => {
                        break Sent::whole(0, 0, Err(Trouble::later("the monitor ended meanwhile")));
                    }
                }
            }
        };
        self.sender = sender;
        let count = batch.len();
        let (settled, said) =
            self.delivery
                .sent(count, sent, std::time::Instant::now(), wall(), fastrand::f64());
        let sink = &self.name;
        if let Err(error) = settled {
            tracing::error!(sink, %error, "the spool cannot be written; a restart will send some records twice");
        }
        match said {
            Some(Said::Fails(error)) => {
                tracing::warn!(sink, error, "cannot deliver; records are kept and tried again");
            }
            Some(Said::Works) => tracing::info!(sink, "delivers again"),
            Some(Said::Refused(error)) => {
                tracing::error!(sink, error, "a record was refused for good and is dropped");
            }
            None => {}
        }
    }
}

fn timed_out(after: Duration) -> Sent {
    let what = format!("no answer within {} s", after.as_secs());
    Sent::whole(0, 0, Err(Trouble::later(what)))
}

/// In place of a sender that is at work.
struct Busy;

impl Sender for Busy {
    fn send<'a>(&'a mut self, _: &'a [super::Entry]) -> super::Pending<'a, Sent> {
        Box::pin(async { Sent::whole(0, 0, Err(Trouble::later("busy"))) })
    }

    fn probe(&mut self) -> super::Pending<'_, Result<String, Trouble>> {
        Box::pin(async { Err(Trouble::later("busy")) })
    }
}
