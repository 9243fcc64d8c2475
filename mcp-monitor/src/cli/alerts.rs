//! `mcp-monitor alerts`.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use super::{
    Failure,
    args::{AlertsArgs, Format},
    state,
};
use crate::{
    config::{pins::is_rule_id, program::Program},
    sink::state::AlertQuery,
};

pub(super) fn run(args: &AlertsArgs) -> Result<ExitCode, Failure> {
    let program = args
        .config
        .as_deref()
        .map(Program::load)
        .transpose()?
        .unwrap_or_default();
    let rules: Vec<String> = args.rule.iter().map(|rule| rule.to_ascii_uppercase()).collect();
    if let Some(unknown) = rules.iter().find(|rule| !is_rule_id(rule)) {
        return Err(Failure::Usage(format!(
            "no rule {unknown:?}; `mcp-monitor rules list` shows all ids"
        )));
    }
    let query = AlertQuery {
        rules,
        endpoint: args.endpoint.clone(),
        severity: args.severity,
        since: args.since,
        until: args.until,
        incident: args.incident.clone(),
        id: args.id.clone(),
        limit: args.limit,
    };
    let state = state::read(args.state.as_deref(), &program)?;
    let found = state.alerts(&query).map_err(Failure::work)?;
    let mut text = String::new();
    for alert in &found {
        let line = match args.format {
            Format::Json => &alert.record,
            Format::Text => &alert.line,
        };
        let _ = writeln!(text, "{line}");
    }
    // A closed pipe (`| head`) is not an error worth a word.
    let _ = std::io::stdout().write_all(text.as_bytes());
    for (table, gone) in state.evicted().map_err(Failure::work)? {
        if table == "alerts" {
            let _ = writeln!(
                std::io::stderr(),
                "mcp-monitor: {gone} older alerts have made room (state.max_alerts, state.keep_alerts)"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
