//! Attacks and their benign twins as transcripts: what is said, written by hand in YAML, rendered to
//! packets in several forms. The same transcript gives the same bytes.
//!
//! `tests/captures/rules/README.md` says how to write one.

mod address;
mod args;
mod dns;
mod http;
mod http2;
mod mcp;
mod network;
mod player;
mod rendering;
mod scene;
mod sdk;
mod text;
mod tls;
mod vxlan;
mod websocket;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

pub use self::address::{rewrite as to_ipv6, twin};
use self::args::Args;
use self::player::Player;
pub use self::rendering::Rendering;
pub use self::vxlan::encapsulate;

/// What a transcript shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The rule must fire.
    Attack,
    /// The rule must stay silent.
    Benign,
}

/// An alert that a transcript gives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fires {
    /// The rule.
    pub rule: String,
    /// What the alert must say was seen, where the transcript says so.
    pub observed: Option<String>,
    /// What it must say was expected, where the transcript says so.
    pub expected: Option<Vec<String>>,
}

/// One timeline.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// The rule whose attack or benign twin it is.
    pub rule: String,
    /// Which.
    pub kind: Kind,
    /// What happens, in a line.
    pub title: String,
    /// How it was made.
    pub made: String,
    /// Every alert that is due, and no other.
    pub fires: Vec<Fires>,
    /// Renderings that change what the traffic says, each with the reason.
    pub not: Vec<(String, String)>,
    /// The file it is in.
    pub file: PathBuf,
    scene: Value,
    steps: Vec<Value>,
}

impl Transcript {
    /// What must hold, as a pins file; `None` without one.
    pub fn pins(&self, rendering: Rendering) -> Result<Option<String>> {
        let Some(pins) = self.filled("pins")? else {
            return Ok(None);
        };
        let pins = if rendering.ipv6() {
            address::to_ipv6(&pins)
        } else {
            pins
        };
        // JSON is YAML.
        Ok(Some(serde_json::to_string_pretty(&pins)?))
    }

    /// How the program runs, as a configuration file; `None` without one.
    pub fn config(&self) -> Result<Option<String>> {
        let config = self.filled("config")?;
        Ok(config
            .map(|config| serde_json::to_string_pretty(&config))
            .transpose()?)
    }

    /// A part of the scene with its texts filled in.
    fn filled(&self, key: &str) -> Result<Option<Value>> {
        let Some(value) = self.scene.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let folder = std::path::absolute(self.file.parent().unwrap_or(Path::new(".")))?;
        Ok(Some(text::fill(&replaced(
            value,
            "${folder}",
            &folder.display().to_string(),
        ))?))
    }

    /// The packets, as a capture.
    pub fn render(&self, rendering: Rendering) -> Result<Vec<u8>> {
        let (packets, _) = self.play(rendering)?;
        Ok(if rendering.vxlan() {
            encapsulate(&packets)
        } else {
            packets
        })
    }

    /// The plain form as two captures, cut between two steps, for every place where it can be.
    pub fn halves(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        /// Of a capture file.
        const HEADER: usize = 24;
        let (packets, marks) = self.play(Rendering::Plain)?;
        Ok(marks
            .into_iter()
            .filter(|mark| (HEADER + 1..packets.len()).contains(mark))
            .map(|mark| {
                let (first, rest) = packets.split_at(mark);
                (first.to_vec(), [&packets[..HEADER], rest].concat())
            })
            .collect())
    }

    /// The packets, and where in them each step ends.
    fn play(&self, rendering: Rendering) -> Result<(Vec<u8>, Vec<usize>)> {
        let form = |value: &Value| {
            let value = text::fill(value)?;
            anyhow::Ok(if rendering.ipv6() {
                address::to_ipv6(&value)
            } else {
                value
            })
        };
        let folder = self.file.parent().unwrap_or(Path::new(".")).join("certificates");
        let certificates = |name: &str| certificate(&folder.join(format!("{name}.pem")));
        // Pins and configuration are no part of the traffic.
        let mut scene = self.scene.clone();
        scene["pins"] = Value::Null;
        scene["config"] = Value::Null;
        let mut player = Player::new(&form(&scene)?, rendering, &certificates)?;
        let mut marks = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            player
                .step(&form(step)?)
                .with_context(|| format!("{}: {}: step {}", self.rule, self.title, index + 1))?;
            marks.push(player.network.written());
        }
        marks.dedup();
        Ok((player.finish()?, marks))
    }

    /// Whether a rendering is left out, and why.
    pub fn left_out(&self, rendering: Rendering) -> Option<&str> {
        self.not
            .iter()
            .find(|(name, _)| name == rendering.name())
            .map(|(_, why)| why.as_str())
    }
}

/// Every transcript of a folder, in order of the file names.
pub fn load(folder: &Path) -> Result<Vec<Transcript>> {
    let common = read(&folder.join("common.yaml"))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| {
        path.extension().is_some_and(|e| e == "yaml") && path.file_stem().is_some_and(|n| n != "common")
    });
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(load_file(&file, &common).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

fn load_file(path: &Path, common: &Value) -> Result<Vec<Transcript>> {
    let mut args = Args::new("file", read(path)?)?;
    let rule = args.needed("rule")?;
    let made = args.needed("made")?;
    let scene = take_scene(&mut args, common)?;
    let first = args.list("first");
    let lists = [
        (Kind::Attack, args.list("attacks")),
        (Kind::Benign, args.list("benign")),
    ];
    args.done()?;
    let mut all = Vec::new();
    for (kind, list) in lists {
        for value in list {
            let mut args = Args::new("transcript", value)?;
            let title = args.needed("title")?;
            let scene = take_scene(&mut args, &scene)?;
            let mut steps = first.clone();
            for step in args.list("steps") {
                expand(step, &mut steps).with_context(|| title.clone())?;
            }
            let fires = args.list("fires").into_iter().map(fires).collect::<Result<_>>()?;
            let not = match args.value("not") {
                None => Vec::new(),
                Some(Value::Object(map)) => map
                    .into_iter()
                    .map(|(name, why)| {
                        let known = Rendering::ALL.iter().any(|rendering| rendering.name() == name);
                        match (known, why.as_str()) {
                            (true, Some(why)) => Ok((name, why.to_owned())),
                            _ => bail!("not: a rendering and the reason, not {name}: {why}"),
                        }
                    })
                    .collect::<Result<_>>()?,
                Some(other) => bail!("not: {other}"),
            };
            let made = args.text("made")?.unwrap_or_else(|| made.clone());
            args.done().with_context(|| title.clone())?;
            all.push(Transcript {
                rule: rule.clone(),
                kind,
                title,
                made,
                fires,
                not,
                file: path.to_owned(),
                scene,
                steps,
            });
        }
    }
    Ok(all)
}

/// Clients, servers, resolver and pins over those of `base`. `pin` goes over the first endpoint.
fn take_scene(args: &mut Args, base: &Value) -> Result<Value> {
    let mut scene = base.clone();
    for key in ["clients", "servers", "resolver", "pins", "config"] {
        if let Some(over) = args.value(key) {
            merge(&mut scene[key], &over);
        }
    }
    if let Some(pin) = args.value("pin") {
        let first = scene
            .pointer_mut("/pins/endpoints/0")
            .context("pin: there is no endpoint")?;
        merge(first, &pin);
    }
    Ok(scene)
}

/// RFC 7396, but that a null stays where nothing is.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.shift_remove(key);
                } else {
                    merge(base.entry(key).or_insert(Value::Object(Map::new())), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// `repeat: {times, steps}` as so many steps, with the number of the round for `${i}`.
fn expand(step: Value, into: &mut Vec<Value>) -> Result<()> {
    let Some(repeat) = step.get("repeat") else {
        into.push(step);
        return Ok(());
    };
    let mut args = Args::new("repeat", repeat.clone())?;
    let times = args.number("times")?.context("repeat: times")?;
    let steps = args.list("steps");
    args.done()?;
    for round in 0..times {
        for step in &steps {
            expand(replaced(step, "${i}", &round.to_string()), into)?;
        }
    }
    Ok(())
}

/// With `what` replaced in all texts.
fn replaced(value: &Value, what: &str, by: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(what, by)),
        Value::Array(list) => list.iter().map(|value| replaced(value, what, by)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), replaced(value, what, by)))
            .collect(),
        other => other.clone(),
    }
}

fn fires(value: Value) -> Result<Fires> {
    if let Value::String(rule) = value {
        return Ok(Fires {
            rule,
            observed: None,
            expected: None,
        });
    }
    let mut args = Args::new("fires", value)?;
    let fires = Fires {
        rule: args.needed("rule")?,
        observed: args.text("observed")?,
        expected: match args.value("expected") {
            Some(value) => Some(serde_json::from_value(value)?),
            None => None,
        },
    };
    args.done()?;
    Ok(fires)
}

/// The DER of a PEM file.
fn certificate(path: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let body: String = text
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    Ok(STANDARD.decode(body)?)
}
