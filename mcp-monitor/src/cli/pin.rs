//! `mcp-monitor pin`.

use std::{io::Write, process::ExitCode};

use super::{Failure, args::PinCommand};
use crate::config::pins::Pins;

pub(super) fn run(command: &PinCommand) -> Result<ExitCode, Failure> {
    match command {
        PinCommand::Check { files } => {
            let mut bad = Vec::new();
            for file in files {
                match Pins::load(file) {
                    Ok(pins) => {
                        let _ = writeln!(
                            std::io::stdout(),
                            "{}: ok, {} endpoint{}",
                            file.display(),
                            pins.endpoints.len(),
                            if pins.endpoints.len() == 1 { "" } else { "s" }
                        );
                        for item in super::check::rule_data(&pins) {
                            let _ = writeln!(std::io::stdout(), "  {}: {}", item.what, item.found);
                        }
                    }
                    Err(error) => bad.push(error.to_string()),
                }
            }
            if bad.is_empty() {
                Ok(ExitCode::SUCCESS)
            } else {
                Err(Failure::Usage(bad.join("\nmcp-monitor: ")))
            }
        }
    }
}
