//! Secrets that the configuration names: by file or by environment variable, never by value.

use std::{fmt, fs::File, io::Read as _, path::Path};

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

    /// Reads `{file: PATH}` (relative to `folder`) or `{env: NAME}`.
    ///
    /// # Errors
    ///
    /// Another form, or a file or variable that is not there or empty. What it holds is never in the error.
    pub fn read(r: &Reader<'_>, node: &Node, folder: &Path, what: &str) -> Result<Self, ConfigError> {
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
            let mut text = String::new();
            File::open(&path)
                .and_then(|file| file.take(MOST).read_to_string(&mut text))
                .map(|_| text)
                .map_err(|error| format!("{what} in {}: {error}", path.display()))
        } else {
            std::env::var(name).map_err(|_| format!("{what}: the environment has no text in {name}"))
        };
        let secret = Self::new(found.map_err(|found| r.at(node, found, "a secret that can be read"))?);
        if secret.expose().is_empty() {
            return Err(r.at(node, format!("{what}: {name} is empty"), "a secret"));
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), "hunter2hunter2\n").unwrap();
        let r = Reader { file: "c.yaml" };
        let read = |text: &str| Secret::read(&r, &r.read(text).unwrap(), dir.path(), "token");
        let secret = read("{file: t}").unwrap();
        assert_eq!(secret.expose(), "hunter2hunter2");
        assert_eq!(format!("{secret:?}"), "Secret");
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
            ("{value: hunter2}", "c.yaml:1:2: unknown key \"value\" in token"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
