//! What several rules ask of one message, worked out when the first of them asks.

use std::{
    borrow::Cow,
    collections::HashSet,
    ops::Range,
    sync::{LazyLock, OnceLock},
};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde_json::Value;

use crate::{
    mcp::{Message, MessageKind, ResultParts, Revision, context::MessageContext, json},
    types::Direction,
};

/// Largest part of a result that is looked at, bytes.
pub const MAX_RESULT: usize = 64 << 10;

/// Facts of one message. Made anew for each; every question costs its answer once, whichever thread asks first.
#[derive(Debug, Default)]
pub struct Facts {
    parts: OnceLock<ResultParts>,
    record: OnceLock<Option<Record>>,
    asks_inputs: OnceLock<bool>,
    elicitations: OnceLock<Vec<Value>>,
}

impl Facts {
    fn parts<'a>(&'a self, message: &'a Message, result: &[u8]) -> &'a ResultParts {
        let read = || self.parts.get_or_init(|| ResultParts::of(result));
        message.parts.as_ref().unwrap_or_else(read)
    }

    /// The result says that the tool failed.
    pub fn failed(&self, message: &Message) -> bool {
        let result = message.result();
        result.is_some_and(|result| self.parts(message, result).failed == Some(true))
    }

    /// JSON text of `structuredContent`.
    pub fn structured<'a>(&self, message: &'a Message) -> Option<&'a [u8]> {
        let result = message.result()?;
        result.get(self.parts(message, result).structured.clone()?)
    }

    /// JSON text of `content`.
    pub fn content<'a>(&self, message: &'a Message) -> Option<&'a [u8]> {
        let result = message.result()?;
        result.get(self.parts(message, result).content.clone()?)
    }

    /// The object that a result holds: `structuredContent`, else a text that is one in JSON. `None` for
    /// errors of the tool and above [`MAX_RESULT`].
    pub fn record(&self, message: &Message) -> Option<&Record> {
        let made = self.record.get_or_init(|| {
            if self.failed(message) {
                return None;
            }
            match self.structured(message) {
                Some(structured) if structured.len() > MAX_RESULT => None,
                Some(structured) => Record::read(message.body.slice_ref(structured)),
                None => {
                    let text = raw_text(self.content(message)?)?;
                    // Most texts are prose: no need to resolve their escapes to see that.
                    if !may_be_object(text) {
                        return None;
                    }
                    Record::read(json::string_at(text, 0)?.into_owned().into())
                }
            }
        });
        made.as_ref()
    }

    /// `params` of every elicitation that a message of the server holds: as a request, among the
    /// `inputRequests` of a result (2026-07-28), or in the data of error -32042 (2025-11-25).
    pub fn elicitations(&self, message: &Message, context: &MessageContext<'_>) -> &[Value] {
        let none = message.direction != Direction::ToClient || message.kind == MessageKind::Notification;
        if none {
            return &[];
        }
        self.elicitations
            .get_or_init(|| self.read_elicitations(message, context))
    }

    /// The message may hold `inputRequests` (2026-07-28).
    pub fn asks_inputs(&self, message: &Message) -> bool {
        static MEMBER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"inputRequests\""));
        *self
            .asks_inputs
            .get_or_init(|| MEMBER.find(&message.body).is_some())
    }

    fn read_elicitations(&self, message: &Message, context: &MessageContext<'_>) -> Vec<Value> {
        let read = |text: Option<&[u8]>| text.and_then(|text| serde_json::from_slice::<Value>(text).ok());
        let modern = context
            .session
            .negotiated
            .as_ref()
            .is_none_or(|r| r.at_least(Revision::V2026_07_28));
        match message.kind {
            MessageKind::Request if message.is("elicitation/create") => {
                read(message.params()).into_iter().collect()
            }
            MessageKind::Response if modern && self.asks_inputs(message) => read(message.result())
                .and_then(|mut r| match r.get_mut("inputRequests")?.take() {
                    Value::Object(map) => Some(map),
                    _ => None,
                })
                .into_iter()
                .flatten()
                .filter(|(_, v)| v.get("method").and_then(Value::as_str) == Some("elicitation/create"))
                .filter_map(|(_, mut v)| Some(v.get_mut("params")?.take()))
                .collect(),
            MessageKind::Error if message.error_code == Some(-32042) => read(message.error())
                .and_then(|mut e| match e.get_mut("data")?.get_mut("elicitations")?.take() {
                    Value::Array(list) => Some(list),
                    _ => None,
                })
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The text of a result whose content is one text.
    pub fn only_text<'a>(&self, message: &'a Message) -> Option<Cow<'a, str>> {
        json::string_at(raw_text(self.content(message)?)?, 0)
    }
}

/// An object: where its members lie in its text. Values are checked as far as [`json`] checks them.
#[derive(Debug)]
pub struct Record {
    text: Bytes,
    members: Vec<(Box<str>, Range<usize>)>,
}

impl Record {
    /// `None` if `text` is no object, or anything follows it.
    fn read(text: Bytes) -> Option<Self> {
        let mut members: Vec<(Box<str>, Range<usize>)> = Vec::new();
        let end = json::members(&text, |key, value| members.push((key.as_ref().into(), value))).ok()?;
        (json::skip_space(&text, end) == text.len()).then_some(())?;
        // Of a name that comes twice the last one counts, as in most decoders.
        let mut names = HashSet::new();
        let twice: Vec<bool> = members
            .iter()
            .rev()
            .map(|(name, _)| !names.insert(&**name))
            .collect();
        let mut twice = twice.into_iter().rev();
        members.retain(|_| twice.next() != Some(true));
        Some(Self { text, members })
    }

    /// Names and JSON texts of the members, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.members
            .iter()
            .filter_map(|(name, range)| Some((&**name, self.text.get(range.clone())?)))
    }
}

/// The JSON string of a content that is one text.
fn raw_text(content: &[u8]) -> Option<&[u8]> {
    if content.len() > MAX_RESULT {
        return None;
    }
    let open = json::skip_space(content, 0);
    let one = content.get(open..)?.strip_prefix(b"[")?;
    let (mut kind, mut text) = (None, None);
    let end = json::members(one, |key, value| match key.as_ref() {
        "type" => {
            kind.get_or_insert(value);
        }
        "text" => {
            text.get_or_insert(value);
        }
        _ => {}
    });
    let close = json::skip_space(one, end.ok()?);
    (one.get(close) == Some(&b']')).then_some(())?;
    (json::string_at(one.get(kind?)?, 0)? == "text").then_some(())?;
    one.get(text?)
}

/// The first and the last character of a JSON string that are no white space can be braces.
fn may_be_object(text: &[u8]) -> bool {
    let mut inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    let opens = loop {
        inner = match inner {
            [b' ', rest @ ..] | [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            _ => break matches!(inner, [b'{', ..] | [b'\\', b'u', ..]),
        };
    };
    opens
        && loop {
            inner = match inner {
                [rest @ .., b' '] | [rest @ .., b'\\', b'n' | b'r' | b't'] => rest,
                _ => break matches!(inner, [.., b'}'] | [.., b'\\', b'u', _, _, _, _]),
            };
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn braces_are_found_behind_white_space_and_escapes() {
        for yes in [r#""{}""#, r#"" \n\t{\"a\":1}""#, r#""\u007b}""#] {
            assert!(may_be_object(yes.as_bytes()), "{yes}");
        }
        for no in [
            r#""a {}""#,
            r#""[{}]""#,
            r#""""#,
            "",
            r#""\"{""#,
            r#""{},""#,
            r#""{} and so on""#,
        ] {
            assert!(!may_be_object(no.as_bytes()), "{no}");
        }
    }

    proptest! {
        #[test]
        fn no_object_is_passed_over(space in "[ \n\r\t]{0,3}", key in "\\PC{0,6}", end in "[ \n\r\t]{0,3}") {
            let object = format!("{space}{}{end}", serde_json::json!({ key: 1 }));
            let text = serde_json::to_string(&object).unwrap();
            prop_assert!(may_be_object(text.as_bytes()));
        }
    }
}
