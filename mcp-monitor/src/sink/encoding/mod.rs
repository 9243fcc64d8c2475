//! How a record looks where the receiver lets us choose.

mod ocsf;
mod view;

pub(super) use view::View;

use super::{
    delivery::{Entry, Kind},
    settings::{Fields, Key},
};
use crate::config::ConfigError;

/// The key.
pub(super) const KEY: Key = Key {
    name: "encoding",
    form: "`json`, `text` or `ocsf`",
    default: "json; for syslog text",
    about: "`json`: the record as on standard output. `text`: its line for people. `ocsf`: an OCSF 1.5 Detection Finding (class 2004); alerts only, other records stay JSON.",
};

/// The choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Encoding {
    /// The record.
    #[default]
    Json,
    /// Its line for people.
    Text,
    /// OCSF Detection Finding.
    Ocsf,
}

impl Encoding {
    /// Reads [`KEY`].
    pub(super) fn read(fields: &Fields<'_>, default: Self) -> Result<Self, ConfigError> {
        let choices = [("json", Self::Json), ("text", Self::Text), ("ocsf", Self::Ocsf)];
        fields.choice("encoding", &choices, default)
    }

    /// One line without its end.
    pub(super) fn line(self, entry: &Entry) -> Vec<u8> {
        match self {
            Self::Text if !entry.text().is_empty() => entry.text().as_bytes().to_vec(),
            Self::Ocsf if entry.kind == Kind::Alert => {
                ocsf::finding(&View::of(entry)).to_string().into_bytes()
            }
            _ => entry.json().to_vec(),
        }
    }
}
