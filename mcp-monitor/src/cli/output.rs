//! Records to standard output, the summary to where it was asked for.

use std::{fs, io::Write, path::Path};

use super::{
    Failure,
    args::{Emit, Format, OutputArgs},
};
use crate::{
    pipeline::{correlator::Wanted, record::Record, summary::Summary},
    sink::RecordWriter,
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
