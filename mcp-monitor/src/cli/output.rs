//! Records to standard output, the summary to where it was asked for.

use std::{fs, io::Write, path::Path};

use super::{
    Failure,
    args::{Emit, Format, OutputArgs},
};
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

/// Standard output as records go there.
pub(super) struct Output {
    writer: RecordWriter<std::io::Stdout>,
    /// What goes out; other records are made for the state file and for sinks only.
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
            if !self.takes(record) {
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

    fn takes(&self, record: &Record) -> bool {
        match record {
            Record::Alert(_) => self.wanted.alerts,
            Record::Message(_) => self.wanted.messages,
            Record::Flow(_) => self.wanted.flows,
            Record::Observation(_) => self.wanted.observations,
        }
    }

    fn settle(&mut self, written: std::io::Result<Written>) -> Result<(), Failure> {
        let written = written.map_err(|e| Failure::Work(format!("cannot write to standard output: {e}")))?;
        self.closed |= written == Written::Closed;
        Ok(())
    }
}
