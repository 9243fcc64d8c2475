//! What a sink is given: one record, serialised once for all sinks.

use std::sync::Arc;

/// Which records a sink takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `mcp-monitor.alert/1`.
    Alert,
    /// `mcp-monitor.message/1`.
    Message,
    /// `mcp-monitor.flow/1`.
    Flow,
    /// `mcp-monitor.observation/1`.
    Observation,
    /// `mcp-monitor.metrics/1`: the numbers of `/metrics` at one time.
    Metrics,
    /// `mcp-monitor.notice/1`: what the monitor has to say of itself.
    Notice,
}

impl Kind {
    /// What the engine finds.
    pub const RECORDS: [Self; 4] = [Self::Alert, Self::Message, Self::Flow, Self::Observation];
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Alert,
        Self::Message,
        Self::Flow,
        Self::Observation,
        Self::Metrics,
        Self::Notice,
    ];

    /// As the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alerts",
            Self::Message => "messages",
            Self::Flow => "flows",
            Self::Observation => "observations",
            Self::Metrics => "metrics",
            Self::Notice => "notices",
        }
    }

    /// As a spool file writes it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Alert => 1,
            Self::Message => 2,
            Self::Flow => 3,
            Self::Observation => 4,
            Self::Metrics => 5,
            Self::Notice => 6,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One record: its JSON and its line for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// JSON, a line feed, text. Neither part has a line feed of its own.
    body: Arc<[u8]>,
}

impl Entry {
    /// Of a record's JSON and its line for people.
    pub fn new(kind: Kind, json: &[u8], text: &str) -> Self {
        let mut body = Vec::with_capacity(json.len().saturating_add(text.len()).saturating_add(1));
        body.extend_from_slice(json);
        body.push(b'\n');
        body.extend(text.bytes().map(|b| if b == b'\n' { b' ' } else { b }));
        Self {
            kind,
            body: body.into(),
        }
    }

    /// From a spool file.
    pub(super) fn from_body(kind: Kind, body: &[u8]) -> Self {
        Self {
            kind,
            body: body.into(),
        }
    }

    /// For a spool file.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The record as one line of JSON, without its end.
    pub fn json(&self) -> &[u8] {
        self.parts().0
    }

    /// The record as one line for people, without its end.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.parts().1).unwrap_or_default()
    }

    /// The record as a tree; `Null` if a spool file was tampered with.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(self.json()).unwrap_or_default()
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        match memchr::memchr(b'\n', &self.body) {
            Some(end) => {
                let (json, text) = self.body.split_at_checked(end).unwrap_or_default();
                (json, text.get(1..).unwrap_or_default())
            }
            None => (&self.body, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_text_of_one_record() {
        let entry = Entry::new(Kind::Alert, br#"{"id":"a"}"#, "two\nlines");
        assert_eq!(entry.json(), br#"{"id":"a"}"#);
        assert_eq!(entry.text(), "two lines");
        assert_eq!(entry.value()["id"], "a");
        let again = Entry::from_body(entry.kind, entry.body());
        assert_eq!(again, entry);
        assert_eq!(Entry::from_body(Kind::Flow, b"x").text(), "");
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
    }
}
