//! What rules about results need to know of the calls they answer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aho_corasick::AhoCorasick;

use crate::{
    baseline::Bounded,
    flow::FlowId,
    mcp::{Message, MessageKind, RequestId, context::MessageContext, json},
};

/// Hash of the arguments of calls that are not answered yet.
#[derive(Debug)]
pub(super) struct Asked(Bounded<(FlowId, RequestId), u64>);

impl Default for Asked {
    fn default() -> Self {
        Self(Bounded::new(4096))
    }
}

impl Asked {
    /// Notes a `tools/call`.
    pub(super) fn note(&mut self, flow: FlowId, message: &Message) {
        let Some(id) = message.id.clone() else { return };
        let arguments = message.params().and_then(|p| json::path(p, &["arguments"]));
        self.0.insert((flow, id), hash(arguments.unwrap_or_default()));
    }

    /// The arguments of the call that this answers on the same connection.
    pub(super) fn take(&mut self, flow: FlowId, message: &Message) -> Option<u64> {
        self.0.remove(&(flow, message.id.clone()?))
    }
}

/// Not for secrets, and not against an adversary: a collision makes two results look alike.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The message is a `tools/call`.
pub(super) fn is_call(message: &Message) -> bool {
    message.kind == MessageKind::Request && message.is("tools/call")
}

/// The tool whose successful result this is.
pub(super) fn tool_of_result<'a>(
    message: &Message,
    context: &MessageContext<'a>,
) -> Option<&'a std::sync::Arc<str>> {
    let answered = context.answers?;
    (message.kind == MessageKind::Response && &*answered.method == "tools/call")
        .then_some(answered.name.as_ref())
        .flatten()
}

/// Longest name of a member that [`names`] recognises, in bytes on either side of the anchor.
const MAX_NAME: usize = 32;

/// An anchor stands in the name of a member, of the text or of one inside a string of it, as far as that can
/// be seen without reading the text. So results in prose cost one pass.
pub(super) fn names(text: &[u8], anchors: &AhoCorasick) -> bool {
    let in_name = |b: &&u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-');
    anchors.find_iter(text).any(|hit| {
        let before = text.get(..hit.start()).unwrap_or_default().iter().rev();
        if before.take(MAX_NAME).find(|b| !in_name(b)) != Some(&b'"') {
            return false;
        }
        let rest = text.get(hit.end()..).unwrap_or_default();
        let name = rest.iter().take(MAX_NAME).take_while(in_name).count();
        let rest = rest.get(name..).unwrap_or_default();
        let rest = rest.strip_prefix(b"\\").unwrap_or(rest);
        let Some(rest) = rest.strip_prefix(b"\"") else {
            return false;
        };
        // White space before the colon may be escaped.
        let next = rest.iter().take(MAX_NAME).find(|b| !b.is_ascii_whitespace());
        matches!(next, Some(b':' | b'\\'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_prose() {
        let anchors = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(["time", "asof"])
            .unwrap();
        for yes in [
            r#"{"timestamp":1}"#,
            r#"{"a":"{\"Server-Time\" : 1}"}"#,
            r#"{"a":"{\"as_of\\n:1,\"data_asof\"\n:1}"}"#,
        ] {
            assert!(names(yes.as_bytes(), &anchors), "{yes}");
        }
        for no in [
            r#"{"a":"some time ago"}"#,
            r#"{"a":"time"}"#,
            r#"{"a":["time","b"]}"#,
            "time",
        ] {
            assert!(!names(no.as_bytes(), &anchors), "{no}");
        }
        let long = format!("\"{}\":", "time".repeat(10_000));
        assert!(!names(long.as_bytes(), &anchors));
    }
}
