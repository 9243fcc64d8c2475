//! Why a file that people wrote cannot be used.

use std::fmt;

/// One mistake in a pins or configuration file: where, what was found, what was expected.
///
/// Prints on one line, e.g. `pins.yaml:12:5: unknown key "adresses" in endpoint; expected one of …`.
/// Values that may be secret (canaries) are never part of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Line from 1; 0 where the mistake has no place (the file could not be read).
    pub line: u64,
    /// Column in characters from 1; 0 as for `line`.
    pub column: u64,
    /// What was found.
    pub found: String,
    /// What was expected; empty if `found` says it all.
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.found)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        Ok(())
    }
}
