//! Commands: arguments in, exit code out. Everything else is in the library.

pub mod args;
pub mod check;
mod output;
mod pin;
mod policy;
mod replay;
mod rules;
#[cfg(feature = "live")]
mod run;

use std::{io::Write, process::ExitCode};

use clap::Parser;

use args::{CheckArgs, Cli, Command, Format};

use crate::telemetry;

/// How a command ended badly.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The work could not be done: exit code 1.
    Work(String),
    /// Wrong usage, or a bad file that people wrote: exit code 2.
    Usage(String),
}

impl Failure {
    /// The work could not be done.
    pub(crate) fn work(error: impl std::fmt::Display) -> Self {
        Self::Work(error.to_string())
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Exit code when an alert reached `--fail-on`.
const FAIL_ON: u8 = 3;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Replay(args) => {
            telemetry::init("warn");
            replay::run(&args)
        }
        #[cfg(feature = "live")]
        Command::Run(args) => {
            telemetry::init("info");
            run::run(&args)
        }
        Command::Check(args) => {
            telemetry::init("warn");
            report(&args)
        }
        Command::Pin { command } => pin::run(&command),
        Command::Rules { command } => rules::run(command.as_ref()),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            let (code, text) = match failure {
                Failure::Work(text) => (1, text),
                Failure::Usage(text) => (2, text),
            };
            let _ = writeln!(std::io::stderr(), "mcp-monitor: {text}");
            ExitCode::from(code)
        }
    }
}

/// `mcp-monitor check`: exit code 1 if live capture would not work.
fn report(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let report = check::check(&policy.origins);
    let text = match args.format {
        Format::Text => report.to_string(),
        Format::Json => serde_json::to_string(&report).map_err(Failure::work)?,
    };
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if report.live {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
