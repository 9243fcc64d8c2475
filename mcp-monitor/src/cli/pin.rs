//! `mcp-monitor pin`.

use std::{io::Write, path::Path, process::ExitCode};

use super::{
    Failure,
    args::{FactArgs, LearnArgs, PinCommand},
    engine, pin_diff,
    policy::Policy,
    state,
};
use crate::{
    baseline::{
        Fact, Row, Standing,
        draft::{DraftOptions, draft},
    },
    config::{origin::OriginTables, pins::Pins, program::Program},
};

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
                        for item in super::check::of_pins(&pins) {
                            let _ = writeln!(std::io::stdout(), "  {}: {}", item.what, item.found);
                            if let Some(cost) = item.cost {
                                let _ = writeln!(std::io::stdout(), "    {cost}");
                            }
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
        PinCommand::Learn(args) => learn(args),
        PinCommand::Diff(args) => pin_diff::run(args),
    }
}

/// Facts from where the arguments say, as seen with these pins in force.
pub(super) fn facts(args: &FactArgs, pins: Pins) -> Result<Vec<Row>, Failure> {
    let program = args
        .config
        .as_deref()
        .map(Program::load)
        .transpose()?
        .unwrap_or_default();
    let policy = Policy {
        file: None,
        origins: OriginTables::load(&program.origins)?.into(),
        pins: pins.into(),
        program,
    };
    #[cfg(feature = "live")]
    if args.live {
        return Ok(super::run::learn(&policy, args.span)?.facts);
    }
    if !args.files.is_empty() {
        return Ok(engine::learn(&policy, &args.files, &args.keys)?.facts);
    }
    if args.state.is_none() && policy.program.state.file.is_none() {
        return Err(Failure::Usage(
            "nothing to learn from; expected captures, --state FILE or --live".into(),
        ));
    }
    state::read(args.state.as_deref(), &policy.program)?
        .facts()
        .map_err(Failure::work)
}

/// Where facts came from, for the top of a file. Names alone: folders are nobody's business.
fn source(args: &FactArgs) -> String {
    #[cfg(feature = "live")]
    if args.live {
        return "live traffic".to_owned();
    }
    let names: Vec<String> = args
        .files
        .iter()
        .take(8)
        .map(|file| format!("{:?}", engine::capture_name(file)))
        .collect();
    match args.files.len() {
        0 => "a state file".to_owned(),
        n if n > names.len() => format!("{n} captures"),
        _ => names.join(", "),
    }
}

fn learn(args: &LearnArgs) -> Result<ExitCode, Failure> {
    if let Some(out) = &args.out
        && out.exists()
    {
        return Err(Failure::Usage(format!(
            "{} exists; expected a new file (compare with `pin diff`, or remove it first)",
            out.display()
        )));
    }
    let rows = facts(&args.facts, Pins::default())?;
    let options = DraftOptions {
        hosts: args.host.clone(),
        suspect: args.suspect,
    };
    let mut pins = draft(&rows, &options);
    pins.head = vec![
        format!(
            "Learned by mcp-monitor {} from {}.",
            env!("CARGO_PKG_VERSION"),
            source(&args.facts)
        ),
        "Read it before you rely on it: what was there while learning is taken as approved.".to_owned(),
    ];
    if pins.endpoints.is_empty() {
        let suspect = rows
            .iter()
            .any(|row| matches!(row.fact, Fact::Endpoint { .. }) && row.entry.standing == Standing::Suspect);
        let why = match suspect {
            true => "MCP was seen only while an alert was open: look at it, then --suspect takes it",
            false => "no MCP could be read; --host NAME pins a server by its TLS alone",
        };
        pins.head.push(format!("No endpoint: {why}."));
        tracing::warn!("no endpoint was learned: {why}");
    }
    let text = pins.to_yaml();
    // What cannot be read back must not reach anybody.
    Pins::parse(&text, "the learned pins").map_err(Failure::work)?;
    match &args.out {
        Some(path) => write_new(path, &text)?,
        None => {
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::Work(format!("cannot write {}: {error}", path.display())))
}
