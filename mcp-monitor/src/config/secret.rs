//! Secrets that the configuration names: by file or by environment variable, never by value.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::{
    ConfigError,
    yaml::{Node, Reader},
};

/// Bytes of a secret's file.
const MOST: u64 = 64 << 10;
const FORM: &str = "{file: PATH} or {env: NAME}; a secret itself does not belong into this file";

/// A secret. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Its text, without white space around it. For the place that needs it, and no other.
    pub fn expose(&self) -> &str {
        self.0.trim()
    }

    /// Takes a text for a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// `text` without the secret, where the other side may have quoted it.
    pub fn mask(&self, text: &str) -> String {
        match self.expose() {
            "" => text.to_owned(),
            secret => text.replace(secret, "***"),
        }
    }

    /// Reads `{file: PATH}` (relative to `folder`) or `{env: NAME}`.
    ///
    /// # Errors
    ///
    /// Another form, or a file or variable that is not there, empty or of several lines. What it holds is never
    /// in the error.
    pub fn read(r: &Reader<'_>, node: &Node, folder: &Path, what: &str) -> Result<Self, ConfigError> {
        Self::read_marked(r, node, folder, what, &mut |_| {})
    }

    /// As [`Self::read`]; `file` is told of a file before it is read.
    pub(crate) fn read_marked(
        r: &Reader<'_>,
        node: &Node,
        folder: &Path,
        what: &str,
        file: &mut dyn FnMut(&Path),
    ) -> Result<Self, ConfigError> {
        let entries = match r.map(node, what, &["file", "env"]) {
            Ok([entry]) => entry,
            Ok(_) => return Err(r.at(node, format!("no single source for {what}"), FORM)),
            Err(error) if error.expected == "a mapping" => {
                return Err(r.at(node, format!("{} for {what}", node.value.kind()), FORM));
            }
            Err(error) => return Err(error),
        };
        let (key, node) = entries;
        let name = r.text(node, &key.name)?;
        let found = if key.name == "file" {
            let path = folder.join(name);
            file(&path);
            read_text(&path).map_err(|error| format!("{what} in {}: {error}", path.display()))
        } else {
            std::env::var(name).map_err(|_| format!("{what}: the environment has no text in {name}"))
        };
        let secret = Self::new(found.map_err(|found| r.at(node, found, "a secret that can be read"))?);
        if secret.expose().is_empty() {
            return Err(r.at(node, format!("{what}: {name} is empty"), "a secret"));
        }
        if secret.expose().contains(['\n', '\r']) {
            return Err(r.at(
                node,
                format!("{what}: {name} has several lines"),
                "a secret of one line",
            ));
        }
        Ok(secret)
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path)?
        .take(MOST.saturating_add(1))
        .read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MOST {
        return Err(io::Error::other(format!("more than {MOST} bytes")));
    }
    Ok(std::mem::take(&mut *text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), "hunter2hunter2\n").unwrap();
        std::fs::write(dir.path().join("two"), "hunter2\nhunter2\n").unwrap();
        std::fs::write(dir.path().join("large"), vec![b'h'; 70_000]).unwrap();
        let r = Reader { file: "c.yaml" };
        let read = |text: &str| Secret::read(&r, &r.read(text).unwrap(), dir.path(), "token");
        let secret = read("{file: t}").unwrap();
        assert_eq!(secret.expose(), "hunter2hunter2");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.mask("said hunter2hunter2"), "said ***");
        for (text, expected) in [
            (
                "hunter2hunter2",
                "c.yaml:1:1: text for token; expected {file: PATH}",
            ),
            ("{file: gone}", "c.yaml:1:8: token in "),
            ("{file: t, env: T}", "c.yaml:1:1: no single source for token"),
            (
                "{env: MCP_MONITOR_NO_SUCH_VARIABLE}",
                "c.yaml:1:7: token: the environment has no text",
            ),
            ("{file: two}", "c.yaml:1:8: token: two has several lines"),
            ("{file: large}", "c.yaml:1:8: token in "),
            ("{value: hunter2}", "c.yaml:1:2: unknown key \"value\" in token"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
