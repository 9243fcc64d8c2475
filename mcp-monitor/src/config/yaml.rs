//! YAML as a tree in which every value and key knows its place in the file.
//!
//! Files that people write deserve errors with line, column, what was found and what was
//! expected; so they are read into this tree first and then walked key by key.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};

use super::{ConfigError, quantity::parse_bytes};

/// Largest file accepted, in bytes. The default leaves room for tens of thousands of tool hashes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place.
    pub at: Location,
}

impl Node {
    /// A size: a number of bytes, or text such as `64MiB`.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match &self.value {
            Value::Text(text) => parse_bytes(text),
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// A YAML value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Its place.
    pub at: Location,
}

impl Value {
    /// What it is, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        Value::deserialize(d)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Int(v.into()))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                name: key.value,
                at: key.referenced,
            };
            entries.push((key, map.next_value::<Spanned<Value>>()?.into()));
        }
        Ok(Value::Map(entries))
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self {
            value: spanned.value,
            at: spanned.referenced,
        }
    }
}

/// Names the file in errors and checks the shape of values.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The file as errors name it.
    pub file: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads a whole file. An empty one is [`Value::Null`].
    pub fn read(&self, text: &str) -> Result<Node, ConfigError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(self.error(
                None,
                format!("a file of {} bytes", text.len()),
                format!("at most {MAX_FILE_BYTES}"),
            ));
        }
        if text.trim().is_empty() {
            return Ok(Node {
                value: Value::Null,
                at: Location::UNKNOWN,
            });
        }
        serde_saphyr::from_str::<Spanned<Value>>(text)
            .map(Node::from)
            .map_err(|error| {
                // The snippet would show the text around the mistake, canary values included.
                let plain = error.without_snippet();
                let message = plain.to_string();
                let line = message.lines().next().unwrap_or_default().to_owned();
                self.error(error.location(), line, String::new())
            })
    }

    /// An error at a place.
    pub fn error(
        &self,
        at: Option<Location>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            line: at.map_or(0, |l| l.line()),
            column: at.map_or(0, |l| l.column()),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// An error at a node.
    pub fn at(&self, node: &Node, found: impl Into<String>, expected: impl Into<String>) -> ConfigError {
        self.error(Some(node.at), found, expected)
    }

    /// A mapping with none but the allowed keys. `what` names it in the error. Nothing is an empty one.
    pub fn map<'n>(
        &self,
        node: &'n Node,
        what: &str,
        allowed: &[&str],
    ) -> Result<&'n [(Key, Node)], ConfigError> {
        let entries = self.any_map(node, what)?;
        for (key, _) in entries {
            if !allowed.contains(&key.name.as_str()) {
                return Err(self.error(
                    Some(key.at),
                    format!("unknown key {:?} in {what}", key.name),
                    format!("one of {}", allowed.join(", ")),
                ));
            }
        }
        Ok(entries)
    }

    /// A mapping with any keys.
    pub fn any_map<'n>(&self, node: &'n Node, what: &str) -> Result<&'n [(Key, Node)], ConfigError> {
        match &node.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Ok(&[]),
            other => Err(self.at(node, format!("{} for {what}", other.kind()), "a mapping")),
        }
    }

    /// A list; nothing is an empty one.
    pub fn list<'n>(&self, node: &'n Node, what: &str) -> Result<&'n [Node], ConfigError> {
        match &node.value {
            Value::List(items) => Ok(items),
            Value::Null => Ok(&[]),
            other => Err(self.at(node, format!("{} for {what}", other.kind()), "a list")),
        }
    }

    /// Text that is not empty.
    pub fn text<'n>(&self, node: &'n Node, what: &str) -> Result<&'n str, ConfigError> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Ok(text),
            Value::Text(_) => Err(self.at(node, format!("empty {what}"), "text")),
            Value::Int(_) | Value::Float(_) => {
                Err(self.at(node, format!("a number for {what}"), "text (put it in quotes)"))
            }
            other => Err(self.at(node, format!("{} for {what}", other.kind()), "text")),
        }
    }

    /// `true` or `false`.
    pub fn bool(&self, node: &Node, what: &str) -> Result<bool, ConfigError> {
        match &node.value {
            Value::Bool(value) => Ok(*value),
            other => Err(self.at(node, format!("{} for {what}", other.kind()), "true or false")),
        }
    }

    /// A whole number of at least `min`.
    pub fn whole(&self, node: &Node, what: &str, min: u64) -> Result<u64, ConfigError> {
        match &node.value {
            Value::Int(value) => u64::try_from(*value).ok().filter(|v| *v >= min),
            _ => None,
        }
        .ok_or_else(|| {
            self.at(
                node,
                format!("{} for {what}", node.value.kind()),
                format!("a whole number from {min} up"),
            )
        })
    }
}
