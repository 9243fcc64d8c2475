//! Attacks and their benign twins recorded from real software, with what each must give.
//!
//! `tests/captures/attacks/README.md` says how they are made.

mod forms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

pub use self::forms::Form;
use crate::transcript::{self, Fires, Kind};

/// One capture.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The rule whose attack or benign twin it is.
    pub rule: String,
    /// Which.
    pub kind: Kind,
    /// What happens, in a line.
    pub title: String,
    /// Every alert that is due, and no other.
    pub fires: Vec<Fires>,
    /// The capture.
    pub capture: PathBuf,
    /// Text of the key log that opens it.
    pub keys: Vec<u8>,
    pins: Option<Value>,
    config: Option<Value>,
    not: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    software: BTreeMap<String, String>,
    recordings: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: String,
    kind: String,
    title: String,
    capture: String,
    keys: Option<String>,
    with: String,
    pins: Option<Value>,
    config: Option<Value>,
    fires: Vec<Expected>,
    #[serde(default)]
    not: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    rule: String,
    observed: Option<String>,
    expected: Option<Vec<String>>,
}

impl Recording {
    /// The pins file in force, if there is one.
    pub fn pins(&self, form: Form) -> Result<Option<String>> {
        let Some(text) = self.file(self.pins.as_ref())? else {
            return Ok(None);
        };
        Ok(Some(match form {
            Form::Ipv6 => transcript::to_ipv6(&text),
            _ => text,
        }))
    }

    /// How the program runs, if that is said.
    pub fn config(&self) -> Result<Option<String>> {
        self.file(self.config.as_ref())
    }

    /// JSON is YAML; `${folder}` is where the capture lies.
    fn file(&self, content: Option<&Value>) -> Result<Option<String>> {
        let Some(content) = content else { return Ok(None) };
        let folder = std::path::absolute(self.capture.parent().unwrap_or(Path::new(".")))?;
        let text = serde_json::to_string_pretty(content)?;
        Ok(Some(text.replace("${folder}", &folder.display().to_string())))
    }

    /// The packets in one form; `None` where the capture has something that this form cannot say.
    pub fn packets(&self, form: Form) -> Result<Option<Vec<u8>>> {
        let file = self.capture.display();
        let mut bytes = std::fs::read(&self.capture).with_context(|| file.to_string())?;
        if self
            .capture
            .extension()
            .is_some_and(|extension| extension == "gz")
        {
            let mut packed = flate2::read::GzDecoder::new(bytes.as_slice());
            let mut opened = Vec::new();
            std::io::Read::read_to_end(&mut packed, &mut opened).with_context(|| file.to_string())?;
            bytes = opened;
        }
        // What is asked and answered is not translated: where it matters the capture has no such form.
        let of_dns = |rule: &str| rule.starts_with("DNS-") || rule == "DST-03";
        if form == Form::Ipv6 && (of_dns(&self.rule) || self.fires.iter().any(|one| of_dns(&one.rule))) {
            return Ok(None);
        }
        // A form that changes what is said; the index has the reason.
        if self.not.contains_key(form.name()) {
            return Ok(None);
        }
        forms::transform(&bytes, form)
            .map(Some)
            .with_context(|| file.to_string())
    }
}

/// Every recording that an index names.
pub fn load(folder: &Path) -> Result<Vec<Recording>> {
    let index = std::fs::read_to_string(folder.join("index.json"))?;
    let index: Index = serde_json::from_str(&index).context("index.json")?;
    anyhow::ensure!(
        index.software.values().all(|version| !version.is_empty()),
        "software"
    );
    let read = |entry: Entry| {
        anyhow::ensure!(!entry.with.is_empty(), "{}: with what software", entry.capture);
        Ok(Recording {
            kind: match entry.kind.as_str() {
                "attack" => Kind::Attack,
                "benign" => Kind::Benign,
                other => anyhow::bail!("{}: {other}", entry.capture),
            },
            rule: entry.rule,
            title: entry.title,
            fires: entry
                .fires
                .into_iter()
                .map(|one| Fires {
                    rule: one.rule,
                    observed: one.observed,
                    expected: one.expected,
                })
                .collect(),
            capture: folder.join(&entry.capture),
            keys: match entry.keys {
                Some(name) => std::fs::read(folder.join(name))?,
                None => Vec::new(),
            },
            pins: entry.pins,
            config: entry.config,
            not: entry.not,
        })
    };
    index.recordings.into_iter().map(read).collect()
}
