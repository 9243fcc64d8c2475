//! An alert as sinks read it, from the JSON that the spool keeps.

use serde_json::Value;

use super::super::delivery::Entry;
use crate::types::{Severity, Timestamp};

/// A record's fields; one that is not there is `None`.
#[derive(Clone, Debug)]
pub(in crate::sink) struct View(Value);

impl View {
    /// Of an entry.
    pub(in crate::sink) fn of(entry: &Entry) -> Self {
        Self(entry.value())
    }

    /// Text at a path such as `/flow/server/ip`; an empty one is none.
    pub(in crate::sink) fn text(&self, path: &str) -> Option<&str> {
        self.0.pointer(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// A number.
    pub(in crate::sink) fn number(&self, path: &str) -> Option<u64> {
        self.0.pointer(path)?.as_u64()
    }

    /// Texts of a list.
    pub(in crate::sink) fn texts(&self, path: &str) -> impl Iterator<Item = &str> {
        let list = self.0.pointer(path).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whatever is there.
    pub(in crate::sink) fn value(&self, path: &str) -> Option<&Value> {
        self.0.pointer(path).filter(|value| !value.is_null())
    }

    /// The whole record.
    pub(in crate::sink) fn whole(&self) -> &Value {
        &self.0
    }

    /// A time.
    pub(in crate::sink) fn time(&self, path: &str) -> Option<Timestamp> {
        Timestamp::parse_rfc3339(self.text(path)?)
    }

    /// The alert's severity.
    pub(in crate::sink) fn severity(&self) -> Severity {
        self.text("/severity")
            .and_then(Severity::parse)
            .unwrap_or(Severity::Info)
    }
}
