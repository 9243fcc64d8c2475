//! Every rule against its attacks and their benign twins, in every form that the wire can give them.
//!
//! `RULE=RED-01` looks at one rule only; `KEEP=folder` leaves captures and pins there, for Wireshark.

mod engine;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::Given;
use mcp_monitor::detect::catalogue;
use mcp_monitor_tests::transcript::{self, Fires, Kind, Rendering, Transcript};
use mcp_monitor_tests::{binary, paths};
use serde_json::Value;

fn transcripts() -> Vec<Transcript> {
    let mut all = transcript::load(&paths::captures().join("rules")).expect("transcripts");
    if let Ok(folder) = std::env::var("KEEP") {
        all.iter()
            .for_each(|transcript| keep(transcript, Path::new(&folder)));
    }
    // Of rules that this build does not have there is nothing to see; the table names them.
    all.retain(|transcript| catalogue::meta(&transcript.rule).is_some());
    if let Ok(rule) = std::env::var("RULE") {
        all.retain(|transcript| transcript.rule == rule);
    }
    all
}

/// What must be the same in every rendering.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Essence {
    rule: String,
    endpoint: Option<String>,
    severity: String,
    expected: Vec<String>,
    observed: Option<String>,
}

impl Essence {
    fn of(alert: &Value) -> Self {
        let text = |key: &str| alert[key].as_str().map(str::to_owned);
        Self {
            rule: text("rule").unwrap_or_default(),
            endpoint: text("endpoint"),
            severity: text("severity").unwrap_or_default(),
            expected: alert["expected"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
            observed: text("observed"),
        }
    }

    fn in_ipv6(mut self) -> Self {
        self.expected = self
            .expected
            .iter()
            .map(|text| transcript::to_ipv6(text))
            .collect();
        self.observed = self.observed.as_deref().map(transcript::to_ipv6);
        self
    }
}

fn essences(alerts: &[Value]) -> BTreeSet<Essence> {
    alerts.iter().map(Essence::of).collect()
}

fn show(set: &BTreeSet<Essence>) -> String {
    let lines = set.iter().map(|it| {
        format!(
            "      {} [{}] {} expected {:?} observed {:?}",
            it.rule,
            it.endpoint.as_deref().unwrap_or("-"),
            it.severity,
            it.expected,
            it.observed
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What the plain form must give: every alert that is due, and no other.
fn check_fires(fires: &[Fires], found: &BTreeSet<Essence>) -> Option<String> {
    let due: BTreeSet<&str> = fires.iter().map(|fires| fires.rule.as_str()).collect();
    let came: BTreeSet<&str> = found.iter().map(|it| it.rule.as_str()).collect();
    let (missed, surplus): (Vec<&&str>, Vec<&&str>) =
        (due.difference(&came).collect(), came.difference(&due).collect());
    if !missed.is_empty() || !surplus.is_empty() {
        return Some(format!(
            "missed {missed:?}, came unasked {surplus:?}; alerts:\n{}",
            show(found)
        ));
    }
    let met = |fires: &Fires| {
        found.iter().any(|it| {
            it.rule == fires.rule
                && fires
                    .observed
                    .as_ref()
                    .is_none_or(|text| it.observed.as_ref() == Some(text))
                && fires.expected.as_ref().is_none_or(|list| it.expected == *list)
        })
    };
    let wrong: Vec<&Fires> = fires.iter().filter(|fires| !met(fires)).collect();
    (!wrong.is_empty()).then(|| format!("no alert like {wrong:?}; alerts:\n{}", show(found)))
}

/// What became of one transcript.
#[derive(Default)]
struct Outcome {
    /// Renderings that held, the plain one among them.
    held: Vec<Rendering>,
    failures: Vec<String>,
}

fn alerts(transcript: &Transcript, capture: Vec<u8>, pins: Option<&str>) -> Result<Vec<Value>, String> {
    let config = transcript.config().map_err(|error| format!("{error:#}"))?;
    let given = Given {
        pins,
        config: config.as_deref(),
        ..Given::default()
    };
    engine::run(capture, given).map(|(alerts, _)| alerts)
}

fn judge(transcript: &Transcript) -> Outcome {
    let mut outcome = Outcome::default();
    let name = |rendering: Rendering| {
        format!(
            "{} {:?} {:?} ({})",
            transcript.rule,
            transcript.kind,
            transcript.title,
            rendering.name()
        )
    };
    let own = transcript.fires.iter().any(|fires| fires.rule == transcript.rule);
    if own != (transcript.kind == Kind::Attack) {
        outcome.failures.push(format!(
            "{}: an attack fires its own rule, a benign twin does not",
            name(Rendering::Plain)
        ));
        return outcome;
    }
    let mut plain: Option<(BTreeSet<Essence>, Vec<u8>)> = None;
    for rendering in Rendering::ALL {
        let left_out = transcript.left_out(rendering).is_some();
        let run = || -> Result<(BTreeSet<Essence>, Vec<u8>), String> {
            let capture = transcript
                .render(rendering)
                .map_err(|error| format!("{error:#}"))?;
            let pins = transcript.pins(rendering).map_err(|error| format!("{error:#}"))?;
            let found = alerts(transcript, capture.clone(), pins.as_deref())?;
            Ok((essences(&found), capture))
        };
        match (run(), &plain) {
            (Err(error), _) => outcome.failures.push(format!("{}: {error}", name(rendering))),
            (Ok((found, capture)), None) => {
                match check_fires(&transcript.fires, &found) {
                    Some(wrong) => outcome.failures.push(format!("{}: {wrong}", name(rendering))),
                    None => outcome.held.push(rendering),
                }
                plain = Some((found, capture));
            }
            // What this form would change is not in the transcript.
            (Ok((_, capture)), Some((_, same))) if capture == *same => {}
            (Ok((found, _)), Some((as_plain, _))) => {
                let due = match rendering.ipv6() {
                    true => as_plain.iter().cloned().map(Essence::in_ipv6).collect(),
                    false => as_plain.clone(),
                };
                if found == due && left_out {
                    outcome
                        .failures
                        .push(format!("{}: holds; off its list under `not`", name(rendering)));
                } else if found == due {
                    outcome.held.push(rendering);
                } else if !left_out {
                    let only = |a: &BTreeSet<Essence>, b: &BTreeSet<Essence>| {
                        show(&a.difference(b).cloned().collect())
                    };
                    outcome.failures.push(format!(
                        "{}: differs from the plain form; missing:\n{}\n    surplus:\n{}",
                        name(rendering),
                        only(&due, &found),
                        only(&found, &due)
                    ));
                }
            }
        }
    }
    outcome
}

/// Leaves captures and pins in a folder.
fn keep(transcript: &Transcript, folder: &Path) {
    let title: String = transcript
        .title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    for rendering in Rendering::ALL {
        let name = format!("{}-{title}-{}", transcript.rule, rendering.name());
        let capture = transcript.render(rendering).expect("rendered");
        std::fs::write(folder.join(format!("{name}.pcap")), capture).expect("KEEP");
        if let Some(pins) = transcript.pins(rendering).expect("pins") {
            std::fs::write(folder.join(format!("{name}.yaml")), pins).expect("KEEP");
        }
    }
}

#[test]
fn attacks_fire_and_their_twins_are_silent_in_every_form() {
    let transcripts = transcripts();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<usize, Outcome>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((index, transcript)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    transcripts.get(index).map(|transcript| (index, transcript))
                } {
                    let outcome = judge(transcript);
                    outcomes.lock().expect("no panic").insert(index, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    let (recorded, wrong) = recorded::judge();
    table(&transcripts, &outcomes, &recorded);
    let failures: Vec<&str> = outcomes
        .values()
        .flat_map(|outcome| &outcome.failures)
        .chain(&wrong)
        .map(String::as_str)
        .collect();
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// rule × fires × silent × forms, of transcripts and of recordings.
fn table(
    transcripts: &[Transcript],
    outcomes: &BTreeMap<usize, Outcome>,
    recorded: &BTreeMap<String, recorded::Fared>,
) {
    println!("| rule | recorded: fires | silent | forms | transcripts: fire | silent | forms |");
    println!("|---|---|---|---|---|---|---|");
    let mut runs = 0;
    for rule in catalogue_ids() {
        let of = |kind: Kind| {
            let list: Vec<&Outcome> = transcripts
                .iter()
                .enumerate()
                .filter(|(_, transcript)| transcript.rule == rule && transcript.kind == kind)
                .filter_map(|(index, _)| outcomes.get(&index))
                .collect();
            let held = list.iter().filter(|outcome| outcome.failures.is_empty()).count();
            (held, list)
        };
        let ((fires, attacks), (silent, benign)) = (of(Kind::Attack), of(Kind::Benign));
        let real = match recorded.get(rule) {
            Some(it) => {
                let forms: Vec<&str> = it.forms.iter().map(|form| form.name()).collect();
                let ((fires, attacks), (silent, twins)) = (it.fires, it.silent);
                format!("{fires}/{attacks} | {silent}/{twins} | {}", forms.join(" "))
            }
            None => "- | - | -".to_owned(),
        };
        if attacks.is_empty() && benign.is_empty() {
            let why = match catalogue::meta(rule) {
                Some(_) => "no transcript",
                None => "not in this build",
            };
            println!("| {rule} | {real} | - | - | {why} |");
            continue;
        }
        let forms: BTreeSet<Rendering> = attacks
            .iter()
            .chain(&benign)
            .flat_map(|outcome| outcome.held.iter().copied())
            .collect();
        runs += attacks
            .iter()
            .chain(&benign)
            .map(|outcome| outcome.held.len())
            .sum::<usize>();
        let names: Vec<&str> = forms.iter().map(|rendering| rendering.name()).collect();
        println!(
            "| {rule} | {real} | {fires}/{} | {silent}/{} | {} |",
            attacks.len(),
            benign.len(),
            names.join(" ")
        );
    }
    println!(
        "{} transcripts, {runs} replays as they should be; {} recordings, {} replays as they should be",
        transcripts.len(),
        recorded
            .values()
            .map(|it| it.fires.1 + it.silent.1)
            .sum::<usize>(),
        recorded.values().map(|it| it.replays).sum::<usize>()
    );
}

fn catalogue_ids() -> Vec<&'static str> {
    catalogue::entries().into_iter().map(|entry| entry.id).collect()
}

/// The binary says what the library says.
#[test]
fn the_binary_says_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (index, transcript) in transcripts().iter().enumerate() {
        let capture = transcript.render(Rendering::Plain).expect("rendered");
        let pins = transcript.pins(Rendering::Plain).expect("pins");
        let path = folder.path().join(format!("{index}.pcap"));
        let pins_path = folder.path().join(format!("{index}.yaml"));
        std::fs::write(&path, &capture).expect("written");
        let mut args = vec!["replay".to_owned()];
        if let Some(pins) = &pins {
            std::fs::write(&pins_path, pins).expect("written");
            args.extend(["--pins".to_owned(), pins_path.display().to_string()]);
        }
        if let Some(config) = transcript.config().expect("configuration") {
            let config_path = path.with_extension("config.yaml");
            std::fs::write(&config_path, config).expect("written");
            args.extend(["--config".to_owned(), config_path.display().to_string()]);
        }
        args.push(path.display().to_string());
        let ran = binary::run(args).expect("replay");
        let mut said = ran.records().expect("records");
        let mut due = alerts(transcript, capture, pins.as_deref()).expect("alerts");
        for alert in said.iter_mut().chain(&mut due) {
            alert["evidence"]["capture"] = Value::Null;
        }
        if ran.code != 0 || said != due {
            wrong.push(format!(
                "{} {}: exit {}, {} alerts, the library has {}: {}",
                transcript.rule,
                transcript.title,
                ran.code,
                said.len(),
                due.len(),
                ran.stderr
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
