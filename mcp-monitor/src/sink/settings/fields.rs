//! The keys of one sink, with the error that a wrong value gives.

use std::{path::Path, time::Duration};

use url::Url;

use super::{Files, Secret, Tls, tls};
use crate::config::{
    ConfigError,
    quantity::parse_duration,
    yaml::{Key, Node, Reader, Value},
};

/// Keys and values of a mapping. Which keys there may be was checked.
pub(crate) struct Fields<'a> {
    r: Reader<'a>,
    folder: &'a Path,
    node: &'a Node,
    entries: &'a [(Key, Node)],
    what: &'a str,
    files: &'a Files,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        r: Reader<'a>,
        folder: &'a Path,
        node: &'a Node,
        what: &'a str,
        allowed: &[&str],
        files: &'a Files,
    ) -> Result<Self, ConfigError> {
        let entries = r.map(node, what, allowed)?;
        Ok(Self {
            files,
            r,
            folder,
            node,
            entries,
            what,
        })
    }

    /// A mapping inside of this one.
    pub(crate) fn inner<'b>(
        &'b self,
        node: &'b Node,
        what: &'b str,
        allowed: &[&str],
    ) -> Result<Fields<'b>, ConfigError> {
        Fields::new(self.r, self.folder, node, what, allowed, self.files)
    }

    /// The value of a key.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// An error at a key's value.
    pub(crate) fn wrong(
        &self,
        name: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> ConfigError {
        self.r.at(self.get(name).unwrap_or(self.node), found, expected)
    }

    /// Text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let node = self.get(name);
        node.map(|node| self.r.text(node, name).map(str::to_owned))
            .transpose()
    }

    /// Text that must be there.
    pub(crate) fn need(&self, name: &str, expected: &str) -> Result<String, ConfigError> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => Err(self.missing(name, expected)),
        }
    }

    fn missing(&self, name: &str, expected: &str) -> ConfigError {
        self.r.at(
            self.node,
            format!("no {name} for {}", self.what),
            format!("{name}: {expected}"),
        )
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(text) = self.text(name)? else {
            return Ok(default);
        };
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                self.wrong(
                    name,
                    format!("{text:?} for {name}"),
                    format!("one of {}", words.join(", ")),
                )
            })
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(name).map_or(Ok(default), |node| self.r.bool(node, name))
    }

    /// A whole number within bounds.
    pub(crate) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some(node) = self.get(name) else {
            return Ok(default);
        };
        let number = self.r.whole(node, name, *range.start())?;
        if !range.contains(&number) {
            let expected = format!("{} to {}", range.start(), range.end());
            return Err(self.wrong(name, format!("{number} for {name}"), expected));
        }
        Ok(number)
    }

    /// A size within bounds.
    pub(crate) fn size(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some(node) = self.get(name) else {
            return Ok(default);
        };
        let bytes = node.bytes();
        bytes.filter(|b| range.contains(b)).ok_or_else(|| {
            let expected = format!(
                "a size from {} to {} bytes, such as 64MiB",
                range.start(),
                range.end()
            );
            self.wrong(name, format!("bad size for {name}"), expected)
        })
    }

    /// A time, not nothing.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let time = parse_duration(&text).filter(|time| !time.is_zero());
        time.map(Some).ok_or_else(|| {
            self.wrong(
                name,
                format!("bad time {text:?} for {name}"),
                "a time such as 500ms, 90s, 1h30m or 7d",
            )
        })
    }

    /// Texts.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<&'a str>, ConfigError> {
        let Some(node) = self.get(name) else {
            return Ok(Vec::new());
        };
        self.r
            .list(node, name)?
            .iter()
            .map(|item| self.r.text(item, name))
            .collect()
    }

    /// A path, relative to the configuration file.
    pub(crate) fn path(&self, name: &str) -> Result<Option<std::path::PathBuf>, ConfigError> {
        Ok(self.text(name)?.map(|path| self.folder.join(path)))
    }

    /// What a file holds.
    pub(super) fn file(&self, name: &str) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = self.path(name)? else {
            return Ok(None);
        };
        self.files.add(&path);
        let bytes = tls::read_file(&path).map_err(|e| self.wrong(name, e, "a readable file"))?;
        Ok(Some(bytes))
    }

    /// `{file: PATH}` or `{env: NAME}`; never the secret itself, which would end up in a ConfigMap.
    pub(crate) fn secret(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        self.get(name).map(|node| self.secret_at(node, name)).transpose()
    }

    /// As [`Self::secret`], must be there.
    pub(crate) fn need_secret(&self, name: &str) -> Result<Secret, ConfigError> {
        self.secret(name)?.ok_or_else(|| self.missing(name, SECRET))
    }

    fn secret_at(&self, node: &Node, name: &str) -> Result<Secret, ConfigError> {
        Secret::read_marked(&self.r, node, self.folder, name, &mut |path| self.files.add(path))
    }

    /// Names with a text or a secret each.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(String, Secret)>, ConfigError> {
        let Some(node) = self.get(name) else {
            return Ok(Vec::new());
        };
        let pair = |(key, value): &(Key, Node)| {
            let secret = match &value.value {
                Value::Text(text) => Secret::new(text.as_str()),
                _ => self.secret_at(value, &key.name)?,
            };
            Ok((key.name.clone(), secret))
        };
        self.r.any_map(node, name)?.iter().map(pair).collect()
    }

    /// A URL of one of these schemes; text, or a secret for a URL that is one.
    pub(crate) fn url(&self, name: &str, schemes: &[&str]) -> Result<Secret, ConfigError> {
        let text = match self.get(name).map(|node| &node.value) {
            None => return Err(self.missing(name, &format!("{}://…", schemes.join(":// or ")))),
            Some(Value::Map(_)) => self.need_secret(name)?,
            Some(_) => Secret::new(self.need(name, "a URL")?),
        };
        let fits =
            Url::parse(text.expose()).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
        if !fits {
            let expected = format!("a URL that begins with {}://", schemes.join(":// or "));
            return Err(self.wrong(name, format!("bad URL for {name}"), expected));
        }
        Ok(text)
    }

    /// The `tls` mapping.
    pub(crate) fn tls(&self) -> Result<Tls, ConfigError> {
        Tls::read(self)
    }
}

const SECRET: &str = "{file: PATH} or {env: NAME} that holds the value";
