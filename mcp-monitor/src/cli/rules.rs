//! `mcp-monitor rules`.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use super::{
    Failure,
    args::{Format, RulesCommand},
};
use crate::detect::{catalogue, rules::page};

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

/// All of them, a line each.
fn list(format: Format) -> String {
    let entries = catalogue::entries();
    let mut text = String::new();
    match format {
        Format::Json => {
            for e in &entries {
                let line = serde_json::json!({
                    "schema": "mcp-monitor.rule/1",
                    "rule": e.id, "name": e.slug, "category": e.category, "severity": e.severity,
                    "see": e.sight.as_str(), "needs": e.needs, "trigger": e.trigger,
                });
                let _ = writeln!(text, "{line}");
            }
        }
        Format::Text => {
            let _ = writeln!(
                text,
                "{:<7} {:<8} {:<4} {:<26} TRIGGER",
                "ID", "SEVERITY", "SEE", "NAME"
            );
            for e in &entries {
                let sight = e.sight.as_str();
                let _ = writeln!(
                    text,
                    "{:<7} {:<8} {sight:<4} {:<26} {}",
                    e.id,
                    e.severity.as_str(),
                    e.slug,
                    e.trigger
                );
            }
        }
    }
    text
}

fn show(id: &str) -> Result<String, Failure> {
    let wanted = id.to_ascii_uppercase();
    if let Some(page) = page(&wanted) {
        return Ok(page);
    }
    Err(Failure::Usage(format!(
        "no rule {id:?}; `mcp-monitor rules list` shows all ids"
    )))
}
