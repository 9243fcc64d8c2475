//! Records to standard output, the summary to where it was asked for.

use std::{fs, io::Write, path::Path};
#[cfg(feature = "live")]
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Failure,
    args::{Emit, Format, OutputArgs},
};
#[cfg(feature = "live")]
use crate::sandbox::{self, Task};
use crate::{
    pipeline::{correlator::Wanted, record::Record, summary::Summary},
    sink::{self, RecordWriter, Written},
};

impl OutputArgs {
    /// Which records are wanted.
    pub(super) fn wanted(&self) -> Wanted {
        let has = |what| self.emit.contains(&what);
        Wanted {
            alerts: has(Emit::Alerts),
            messages: has(Emit::Messages),
            flows: has(Emit::Flows),
            observations: has(Emit::Observations),
            bodies: self.bodies,
        }
    }
}

/// Writes the summary as one line of JSON.
pub(super) fn write_summary(path: Option<&Path>, summary: &Summary) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string(summary).map_err(Failure::work)?;
    text.push('\n');
    let written = if path == Path::new("-") {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        fs::write(path, text)
    };
    written.map_err(|e| Failure::Work(format!("cannot write the summary to {}: {e}", path.display())))
}

/// Records that wait for a slow reader of standard output; further ones are lost to it, and counted.
#[cfg(feature = "live")]
const WAITING: usize = 8192;

/// Standard output behind a thread: live, a reader that stops reading must not stop the packet loop.
#[cfg(feature = "live")]
pub(super) struct Detached {
    sender: Option<crossbeam_channel::Sender<Record>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// Others take no place in the queue.
    wanted: Wanted,
}

#[cfg(feature = "live")]
#[derive(Default)]
struct Shared {
    lost: AtomicU64,
    failure: Mutex<Option<String>>,
}

#[cfg(feature = "live")]
impl Detached {
    pub(super) fn start(args: &OutputArgs) -> Result<Self, Failure> {
        let (sender, records) = crossbeam_channel::bounded::<Record>(WAITING);
        let shared = Arc::new(Shared::default());
        let (mut output, own) = (Output::new(args), shared.clone());
        let thread = sandbox::thread("output", Task::Serve, move || {
            for record in &records {
                let written = output.write(std::slice::from_ref(&record));
                // An alert must not wait for a full buffer; and what lies in a buffer when nobody reads
                // any more would be lost without being counted.
                let written = written.and_then(|()| output.flush());
                if let Err(Failure::Work(error) | Failure::Usage(error)) = written {
                    *own.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        })
        .map_err(Failure::work)?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            shared,
            wanted: args.wanted(),
        })
    }

    /// Takes records; those for which there is no place are counted as lost.
    pub(super) fn write(&self, records: Vec<Record>) -> Result<(), Failure> {
        for record in records {
            if !takes(self.wanted, &record) {
                continue;
            }
            let sent = self.sender.as_ref().map(|sender| sender.try_send(record));
            if let Some(Err(error)) = sent {
                if error.is_disconnected() {
                    return self.failure();
                }
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Waits until everything is written, but no longer than `grace`; what is not written then is lost.
    pub(super) fn finish(&mut self, grace: Duration) -> Result<(), Failure> {
        let Some(sender) = self.sender.take() else {
            return Ok(());
        };
        let end = Instant::now().checked_add(grace);
        while !sender.is_empty() && end.is_some_and(|end| Instant::now() < end) && !self.is_over() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = u64::try_from(sender.len()).unwrap_or(u64::MAX);
        drop(sender);
        while !self.is_over() && end.is_some_and(|end| Instant::now() < end) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !self.is_over() {
            // The one that is being written, too.
            let left = left.saturating_add(1);
            self.shared.lost.fetch_add(left, Ordering::Relaxed);
            tracing::error!(
                records = left,
                "nobody reads standard output: what was left is lost"
            );
        }
        self.failure()
    }

    /// Counts what is lost, for whoever shows it.
    pub(super) fn lost(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.lost.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn failure(&self) -> Result<(), Failure> {
        match self
            .shared
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(error) => Err(Failure::Work(error)),
            None => Ok(()),
        }
    }
}

/// Whether a record goes to standard output.
fn takes(wanted: Wanted, record: &Record) -> bool {
    match record {
        Record::Alert(_) => wanted.alerts,
        Record::Message(_) => wanted.messages,
        Record::Flow(_) => wanted.flows,
        Record::Observation(_) => wanted.observations,
    }
}

/// Standard output as records go there.
pub(super) struct Output {
    writer: RecordWriter<std::io::Stdout>,
    /// What goes out; other records are made for the state file, the page and sinks only.
    wanted: Wanted,
    closed: bool,
}

impl Output {
    pub(super) fn new(args: &OutputArgs) -> Self {
        let format = match args.format {
            Format::Json => sink::Format::Json,
            Format::Text => sink::Format::Text,
        };
        Self {
            writer: RecordWriter::new(std::io::stdout(), format),
            wanted: args.wanted(),
            closed: false,
        }
    }

    /// Writes records. Once the reader is gone, what comes is dropped: the work itself goes on, for the
    /// summary and the exit code.
    pub(super) fn write(&mut self, records: &[Record]) -> Result<(), Failure> {
        for record in records {
            if self.closed {
                break;
            }
            if !takes(self.wanted, record) {
                continue;
            }
            let written = self.writer.write(record, || record.text());
            self.settle(written)?;
        }
        Ok(())
    }

    /// Sends out what is buffered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let written = self.writer.flush();
        self.settle(written)
    }

    fn settle(&mut self, written: std::io::Result<Written>) -> Result<(), Failure> {
        let written = written.map_err(|e| Failure::Work(format!("cannot write to standard output: {e}")))?;
        self.closed |= written == Written::Closed;
        Ok(())
    }
}
