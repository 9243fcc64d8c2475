//! What a rule has learned outlives the process. Transcripts are cut in two between two steps. Of an attack the
//! second half alone gives no alert, and does where the first half was learned into a state file; or, for rules that
//! remember what is ordinary, the second half alone gives one that it does not give with the state file.

mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::Given;
use mcp_monitor::detect::{Detector, catalogue};
use mcp_monitor::pipeline::keep::{Learning, Snapshot};
use mcp_monitor::sink::state::{Batch, State, StateLimits};
use mcp_monitor_tests::paths;
use mcp_monitor_tests::transcript::{self, Rendering, Transcript};
use serde_json::Value;

/// Rules that keep what they learn but that no capture shows: where it is tested instead.
const ELSEWHERE: &[(&str, &str)] = &[(
    "TLS-05",
    "a capture has no executable; tls_05_client_fingerprint_changed.rs",
)];

/// Cuts of one transcript that are tried, spread over it.
const CUTS: usize = 24;

/// A half replayed with what a state file has, after which the file has what was learned.
fn replay(transcript: &Transcript, half: &[u8], state: Option<&mut State>) -> Vec<Value> {
    let pins = transcript.pins(Rendering::Plain).expect("pins");
    let config = transcript.config().expect("configuration");
    let learning = state.as_deref().map(|state| Learning {
        snapshot: Snapshot {
            facts: state.facts().expect("facts"),
            memory: state.memory().expect("memory"),
        },
        keep: true,
        ..Learning::default()
    });
    let given = Given {
        pins: pins.as_deref(),
        config: config.as_deref(),
        learning,
        ..Given::default()
    };
    let (alerts, changes) = engine::run(half.to_vec(), given).expect("replay");
    if let Some(state) = state {
        let batch = Batch {
            facts: changes.facts,
            memory: changes.memory,
            tallies: changes.tallies,
            alerts: Vec::new(),
        };
        state.write(&batch).expect("written");
    }
    alerts
}

fn fires(alerts: &[Value], rule: &str) -> bool {
    alerts.iter().any(|alert| alert["rule"] == rule)
}

/// How a cut shows that the state file carries what the rule needs.
fn carried(transcript: &Transcript) -> Option<&'static str> {
    let rule = transcript.rule.as_str();
    let halves = transcript.halves().expect("halves");
    let every = halves.len().div_ceil(CUTS).max(1);
    halves.iter().step_by(every).find_map(|(first, second)| {
        let alone = fires(&replay(transcript, second, None), rule);
        if !alone && fires(&replay(transcript, first, None), rule) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.sqlite");
        let open = || {
            State::open(&path, StateLimits::default())
                .expect("a state file")
                .state
        };
        replay(transcript, first, Some(&mut open()));
        let with_state = fires(&replay(transcript, second, Some(&mut open())), rule);
        match (alone, with_state) {
            (false, true) => Some("fires"),
            (true, false) => Some("stays silent"),
            _ => None,
        }
    })
}

#[test]
fn what_rules_learned_outlives_the_process() {
    let transcripts = transcript::load(&paths::captures().join("rules")).expect("transcripts");
    let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for rule in Detector::new(Arc::default()).rules_with_memory() {
        let of_rule = transcripts.iter().filter(|transcript| transcript.rule == rule);
        let by = of_rule.filter_map(|one| Some(format!("{}: {}", carried(one)?, one.title)));
        shown.insert(rule, by.take(1).collect());
    }
    println!("| rule | what it does across a restart |");
    println!("|---|---|");
    for (rule, by) in &shown {
        println!("| {rule} | {} |", by.join("; "));
    }
    let without: Vec<&str> = shown
        .iter()
        .filter(|(_, by)| by.is_empty())
        .map(|(rule, _)| *rule)
        .collect();
    let elsewhere: Vec<&str> = ELSEWHERE.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(without, elsewhere, "rules whose memory no transcript shows");
}

/// The two tables of docs/BASELINE.md: which rules keep what they learn, and why the others do not.
#[test]
fn the_documentation_names_every_rule_that_learns() {
    let text = std::fs::read_to_string(paths::root().join("docs/BASELINE.md")).expect("docs/BASELINE.md");
    let table = |head: &str| -> BTreeSet<String> {
        let (_, rest) = text.split_once(head).expect("the table");
        let rows = rest
            .trim_start()
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        rows.filter_map(|row| Some(row.split('|').nth(1)?.trim().to_owned()))
            .collect()
    };
    let kept: BTreeSet<String> = Detector::new(Arc::default())
        .rules_with_memory()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let learning = catalogue::entries().into_iter().filter(|entry| {
        let needs = catalogue::meta(entry.id).map_or("", |meta| meta.needs);
        needs.contains("base") && !kept.contains(entry.id)
    });
    let others: BTreeSet<String> = learning.map(|entry| entry.id.to_owned()).collect();
    assert_eq!(table("| rule | remembers |"), kept);
    assert_eq!(table("| rule | why it is not kept |"), others);
}
