//! `mcp-monitor rules`.

use std::{io::Write, process::ExitCode};

use super::{
    Failure,
    args::{Format, RulesCommand},
};
use crate::detect::catalogue;

pub(super) fn run(command: Option<&RulesCommand>) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    let text = match command {
        None => list(Format::Text),
        Some(RulesCommand::List { format }) => list(*format),
        Some(RulesCommand::Show { id }) => show(id)?,
    };
    // A closed pipe (`| head`) is not an error worth a word.
    let _ = out.write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
