//! What rules about results need to know of the calls they answer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

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

/// Longest name of a member that [`flat`] reads, bytes.
const MAX_NAME: usize = 32;

/// A member's name in lower case, without `_` and `-`; `None` for a longer or other one than of letters: it is
/// none that rules know.
pub(super) fn flat(name: &str) -> Option<Flat> {
    let mut flat = Flat {
        text: [0; MAX_NAME],
        len: 0,
    };
    for b in name.bytes().filter(|b| !matches!(b, b'_' | b'-')) {
        if !b.is_ascii_alphabetic() {
            return None;
        }
        *flat.text.get_mut(flat.len)? = b.to_ascii_lowercase();
        flat.len = flat.len.saturating_add(1);
    }
    Some(flat)
}

/// See [`flat`].
pub(super) struct Flat {
    text: [u8; MAX_NAME],
    len: usize,
}

impl std::ops::Deref for Flat {
    type Target = str;

    fn deref(&self) -> &str {
        let text = self.text.get(..self.len).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_one() {
        for name in ["asOf", "as_of", "AS-OF", "asof"] {
            assert_eq!(flat(name).as_deref(), Some("asof"), "{name}");
        }
        assert_eq!(flat(&"_".repeat(100)).as_deref(), Some(""));
        for other in ["a1", "as of", "zeit\u{fc}", &"a".repeat(MAX_NAME + 1)] {
            assert!(flat(other).is_none(), "{other}");
        }
    }
}
