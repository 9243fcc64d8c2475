//! `mcp-monitor attest`: what was positively verified.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, process::ExitCode};

use serde::Serialize;

use super::{
    Failure,
    args::{AttestArgs, Format},
    engine, policy, state,
};
use crate::{
    baseline::{Tally, TallyKey, TallyRow, tally::Outcome},
    detect::text::shown,
    types::Timestamp,
};

/// Keys that an attestation speaks of, with words for an auditor.
const CHECKS: &[(&str, &str)] = &[
    ("addresses", "connected only to pinned addresses"),
    ("tls.min_version", "TLS at least of the pinned version"),
    ("tls.spki_sha256", "certificate with a pinned key"),
    ("tls.issuers", "certificate of a pinned issuer"),
    ("url", "pinned scheme, port and path"),
    ("mcp.transport", "pinned transport"),
    (
        "mcp.min_protocol_version",
        "protocol revision at least the pinned one",
    ),
    ("mcp.server.name", "server called itself as pinned"),
    ("mcp.server.version", "server version as pinned"),
    ("mcp.tools", "tool definitions unchanged"),
    ("auth.required", "credentials presented"),
    ("auth.audience", "tokens for the pinned audience"),
    (
        "auth.authorization_servers",
        "tokens of a pinned authorization server",
    ),
];

/// One record: what was verified of one endpoint and agent.
#[derive(Debug, Serialize)]
struct Attestation {
    schema: &'static str,
    endpoint: String,
    agent: String,
    clients: Vec<String>,
    since: Timestamp,
    until: Timestamp,
    sessions: u64,
    connections: u64,
    requests: u64,
    authenticated: u64,
    unauthenticated: u64,
    bytes: u64,
    unseen_bytes: u64,
    /// All that was seen of pinned keys is as pinned, and at least one was seen.
    verified: bool,
    checks: BTreeMap<&'static str, Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    verdict: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

pub(super) fn run(args: &AttestArgs) -> Result<ExitCode, Failure> {
    let policy = policy::load(&args.policy)?;
    let rows = if args.files.is_empty() {
        state::read(args.state.as_deref(), &policy.program)?
            .verified(args.since, args.until)
            .map_err(Failure::work)?
    } else {
        let tallies = engine::learn(&policy, &args.files, &args.keys)?.tallies;
        let from = args.since.map_or(0, TallyKey::hour_of);
        tallies
            .into_iter()
            .filter(|row| row.key.hour >= from && args.until.is_none_or(|until| row.key.begin() < until))
            .collect()
    };
    let mut text = String::new();
    let attestations = attest(rows);
    for attestation in &attestations {
        match args.format {
            Format::Json => {
                let line = serde_json::to_string(attestation).map_err(Failure::work)?;
                let _ = writeln!(text, "{line}");
            }
            Format::Text => attestation.write(&mut text),
        }
    }
    if attestations.is_empty() && args.format == Format::Text {
        text.push_str("Nothing was seen of any endpoint in that time: nothing is attested.\n");
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn attest(rows: Vec<TallyRow>) -> Vec<Attestation> {
    let mut whole: BTreeMap<(String, String), (u64, u64, Tally)> = BTreeMap::new();
    for row in rows {
        let hour = row.key.hour;
        let (first, last, tally) =
            whole
                .entry((row.key.endpoint, row.key.agent))
                .or_insert((hour, hour, Tally::default()));
        *first = hour.min(*first);
        *last = hour.max(*last);
        tally.add(&row.tally);
    }
    whole
        .into_iter()
        .map(|((endpoint, agent), (first, last, tally))| {
            let begin = |hour| {
                TallyKey {
                    endpoint: String::new(),
                    agent: String::new(),
                    hour,
                }
                .begin()
            };
            let checks: BTreeMap<&'static str, Check> = CHECKS
                .iter()
                .map(|(key, _)| {
                    let outcome = tally.checks.get(*key).copied().unwrap_or_default();
                    let verdict = match outcome {
                        Outcome { broken: 1.., .. } => "broken",
                        Outcome { held: 1.., .. } => "held",
                        Outcome { unpinned: 1.., .. } => "unpinned",
                        _ => "unseen",
                    };
                    (*key, Check { verdict, outcome })
                })
                .collect();
            let any = |verdict| checks.values().any(|check| check.verdict == verdict);
            Attestation {
                schema: "mcp-monitor.attestation/1",
                endpoint,
                agent,
                clients: tally.clients.iter().cloned().collect(),
                since: begin(first),
                until: begin(last.saturating_add(1)),
                sessions: tally.sessions,
                connections: tally.connections,
                requests: tally.requests,
                authenticated: tally.authenticated,
                unauthenticated: tally.unauthenticated,
                bytes: tally.bytes,
                unseen_bytes: tally.unseen_bytes,
                verified: any("held") && !any("broken"),
                checks,
            }
        })
        .collect()
}

impl Attestation {
    fn write(&self, out: &mut String) {
        let clients: Vec<String> = self.clients.iter().map(|c| shown(c)).collect();
        let clients = match clients.is_empty() {
            true => String::new(),
            false => format!(" ({})", clients.join(", ")),
        };
        let _ = writeln!(
            out,
            "{} as reached by {}{clients}\n  {} to {}: {} sessions, {} connections, {} requests",
            shown(&self.endpoint),
            shown(&self.agent),
            self.since.to_seconds(),
            self.until.to_seconds(),
            self.sessions,
            self.connections,
            self.requests,
        );
        let _ = writeln!(
            out,
            "  {} answers to requests with credentials, {} to requests without; {} bytes, of which {} were not seen",
            self.authenticated, self.unauthenticated, self.bytes, self.unseen_bytes,
        );
        for (key, words) in CHECKS {
            let Some(check) = self.checks.get(key) else {
                continue;
            };
            let Outcome {
                held,
                broken,
                unpinned,
            } = check.outcome;
            let count = match check.verdict {
                "held" => format!("{held} times"),
                "broken" => format!("broken {broken} times, held {held} times"),
                "unpinned" => format!("seen {unpinned} times, nothing is pinned"),
                _ => "the traffic did not show it".to_owned(),
            };
            let verdict = check.verdict.to_uppercase();
            let _ = writeln!(out, "  {verdict:<8} {words} ({key}): {count}");
        }
        let conclusion = if self.verified {
            "Verified: everything pinned that was seen is as pinned."
        } else if self.checks.values().any(|check| check.verdict == "broken") {
            "NOT verified: at least one pin did not hold."
        } else {
            "Not verified: nothing that is pinned was seen."
        };
        let _ = writeln!(out, "  {conclusion}\n");
    }
}
