//! The arguments of a step, read one by one; what nobody asked for is an error that names it.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The mapping of one step.
#[derive(Debug)]
pub(super) struct Args {
    verb: String,
    map: Map<String, Value>,
}

impl Args {
    /// Of `verb: {…}`.
    pub(super) fn new(verb: &str, value: Value) -> Result<Self> {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            other => bail!("{verb}: a mapping is expected, not {other}"),
        };
        Ok(Self {
            verb: verb.to_owned(),
            map,
        })
    }

    /// Takes a value.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key)
    }

    /// Takes a text; a number stands for its digits.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => bail!("{}: {key} is a text, not {other}", self.verb),
        }
    }

    /// Takes a text that must be there.
    pub(super) fn needed(&mut self, key: &str) -> Result<String> {
        self.text(key)?
            .with_context(|| format!("{}: {key} is missing", self.verb))
    }

    /// Takes a whole number.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u64>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => bail!("{}: {key} is a whole number, not {value}", self.verb),
            },
        }
    }

    /// Takes a yes or no.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => bail!("{}: {key} is true or false, not {other}", self.verb),
        }
    }

    /// Takes a list; one value stands for a list of it.
    pub(super) fn list(&mut self, key: &str) -> Vec<Value> {
        match self.value(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
        }
    }

    /// Takes a list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        self.list(key)
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => bail!("{}: {key} holds texts, not {other}", self.verb),
            })
            .collect()
    }

    /// Takes header fields.
    pub(super) fn headers(&mut self, key: &str) -> Result<Vec<Field>> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(value) => fields(&value).with_context(|| format!("{}: {key}", self.verb)),
        }
    }

    /// Takes a mapping.
    pub(super) fn nested(&mut self, key: &str) -> Result<Self> {
        let value = self.value(key).unwrap_or(Value::Null);
        Self::new(&format!("{}.{key}", self.verb), value)
    }

    /// Nothing is left.
    pub(super) fn done(self) -> Result<()> {
        match self.map.keys().next() {
            Some(key) => bail!("{}: there is no {key}", self.verb),
            None => Ok(()),
        }
    }
}

/// A header field to add, or (without value) one to leave out.
pub(super) type Field = (String, Option<String>);

/// `{name: value, name: [value, value], name: null}`.
pub(super) fn fields(value: &Value) -> Result<Vec<Field>> {
    let Value::Object(map) = value else {
        bail!("header fields are a mapping, not {value}");
    };
    let mut all = Vec::new();
    for (name, value) in map {
        match value {
            Value::Null => all.push((name.clone(), None)),
            Value::Array(values) => {
                for value in values {
                    let value = value.as_str().with_context(|| format!("{name} holds texts"))?;
                    all.push((name.clone(), Some(value.to_owned())));
                }
            }
            Value::String(text) => all.push((name.clone(), Some(text.clone()))),
            Value::Number(number) => all.push((name.clone(), Some(number.to_string()))),
            other => bail!("{name}: {other} is no header value"),
        }
    }
    Ok(all)
}

/// `10s`, `500ms`, `2h`, `3d` in microseconds.
pub(super) fn microseconds(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().with_context(|| format!("{text} is no time"))?;
    let unit = match &text[digits.len()..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        other => bail!("{other:?} is no unit of time: us, ms, s, m, h, d"),
    };
    Ok(number * unit)
}
