//! The recordings of `tests/captures/attacks`, each in the forms that it can have.

use std::collections::{BTreeMap, BTreeSet};

use mcp_monitor_tests::paths;
use mcp_monitor_tests::recorded::{self, Form, Recording};
use mcp_monitor_tests::transcript::Kind;
use serde_json::Value;

use crate::engine::{self, Given};
use crate::{Essence, check_fires, essences, show};

/// How the recordings of one rule fared.
#[derive(Default)]
pub struct Fared {
    /// Attacks that fire as they should, and attacks.
    pub fires: (usize, usize),
    /// Twins that are silent as they should be, and twins.
    pub silent: (usize, usize),
    /// Forms in which something held.
    pub forms: BTreeSet<Form>,
    /// Replays that held.
    pub replays: usize,
}

/// Replays all recordings; how each rule fared, and what went wrong.
pub fn judge() -> (BTreeMap<String, Fared>, Vec<String>) {
    let mut recordings = recorded::load(&paths::captures().join("attacks")).expect("recordings");
    if let Ok(rule) = std::env::var("RULE") {
        recordings.retain(|recording| recording.rule == rule);
    }
    let mut fared: BTreeMap<String, Fared> = BTreeMap::new();
    let mut failures = Vec::new();
    for recording in &recordings {
        let of_rule = fared.entry(recording.rule.clone()).or_default();
        let wrong = judge_one(recording, of_rule);
        let count = match recording.kind {
            Kind::Attack => &mut of_rule.fires,
            Kind::Benign => &mut of_rule.silent,
        };
        count.0 += usize::from(wrong.is_empty());
        count.1 += 1;
        failures.extend(wrong);
    }
    (fared, failures)
}

fn replay(recording: &Recording, form: Form) -> Result<Option<BTreeSet<Essence>>, String> {
    let said = |error: anyhow::Error| format!("{error:#}");
    let Some(packets) = recording.packets(form).map_err(said)? else {
        return Ok(None);
    };
    let pins = recording.pins(form).map_err(said)?;
    let config = recording.config().map_err(said)?;
    let given = Given {
        pins: pins.as_deref(),
        config: config.as_deref(),
        keys: &recording.keys,
        ..Given::default()
    };
    let (alerts, _): (Vec<Value>, _) = engine::run(packets, given)?;
    Ok(Some(essences(&alerts)))
}

fn judge_one(recording: &Recording, fared: &mut Fared) -> Vec<String> {
    let name = |form: Form| {
        let file = recording.capture.file_name().unwrap_or_default().display();
        format!("{file} {:?} ({})", recording.title, form.name())
    };
    let mut wrong = Vec::new();
    let own = recording.fires.iter().any(|fires| fires.rule == recording.rule);
    let condition = recording.fires.iter().all(|fires| fires.rule == "OP-06");
    if own != (recording.kind == Kind::Attack) && !condition {
        return vec![format!(
            "{}: an attack fires its own rule, a twin does not",
            name(Form::Plain)
        )];
    }
    let mut plain: Option<BTreeSet<Essence>> = None;
    for form in Form::ALL {
        match (replay(recording, form), &plain) {
            (Err(error), _) => wrong.push(format!("{}: {error}", name(form))),
            (Ok(None), _) => {}
            (Ok(Some(found)), None) => {
                match check_fires(&recording.fires, &found) {
                    Some(error) => wrong.push(format!("{}: {error}", name(form))),
                    None => {
                        fared.forms.insert(form);
                        fared.replays += 1;
                    }
                }
                plain = Some(found);
            }
            (Ok(Some(found)), Some(plain)) => {
                let due: BTreeSet<Essence> = match form {
                    Form::Ipv6 => plain.iter().cloned().map(Essence::in_ipv6).collect(),
                    _ => plain.clone(),
                };
                if found == due {
                    fared.forms.insert(form);
                    fared.replays += 1;
                } else {
                    let only = |a: &BTreeSet<Essence>, b: &BTreeSet<Essence>| {
                        show(&a.difference(b).cloned().collect())
                    };
                    wrong.push(format!(
                        "{}: differs from the plain form; missing:\n{}\n    surplus:\n{}",
                        name(form),
                        only(&due, &found),
                        only(&found, &due)
                    ));
                }
            }
        }
    }
    wrong
}
