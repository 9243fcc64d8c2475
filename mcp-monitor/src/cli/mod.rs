//! Commands: arguments in, exit code out. Everything else is in the library.

mod alerts;
pub mod args;
mod attest;
pub mod captures;
pub mod check;
#[cfg(feature = "live")]
mod confine;
mod engine;
mod output;
mod pin;
mod pin_diff;
mod policy;
#[cfg(feature = "live")]
mod reload;
mod replay;
mod rules;
#[cfg(feature = "live")]
mod run;
#[cfg(feature = "live")]
mod service;
#[cfg(feature = "live")]
mod sinks;
mod state;

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

/// Exit code when an alert reached `--fail-on`, or pins drifted.
const FAIL_ON: u8 = 3;

/// Runs the program.
pub fn main() -> ExitCode {
    // The message of a panic may quote what was on the wire.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "mcp-monitor: internal error at {place}");
    }));
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
        #[cfg(feature = "live")]
        Command::Reload(args) => reload::run(&args),
        Command::Check(args) => {
            telemetry::init("warn");
            report(&args)
        }
        Command::Pin { command } => {
            telemetry::init("warn");
            pin::run(&command)
        }
        Command::Alerts(args) => alerts::run(&args),
        Command::Attest(args) => {
            telemetry::init("warn");
            attest::run(&args)
        }
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
    let mut report = check::check(&policy.origins);
    report.items.extend(check::of_pins(&policy.pins));
    #[cfg(feature = "live")]
    report
        .items
        .extend(sinks::check(&policy.program, args.send_test)?);
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
