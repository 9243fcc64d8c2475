//! What rules about results need to know of the calls they answer.

use serde_json::Value;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::{
    baseline::Bounded,
    flow::FlowId,
    mcp::{Message, MessageKind, RequestId, context::MessageContext, json},
};

/// Largest part of a result that is looked at, bytes.
pub(super) const MAX_RESULT: usize = 64 << 10;

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

/// What a result says as data: `structuredContent`, else a text that is JSON. `None` for errors of the
/// tool and above [`MAX_RESULT`].
pub(super) fn data(message: &Message) -> Option<Value> {
    let result = message.result()?;
    if json::path(result, &["isError"]) == Some(b"true") {
        return None;
    }
    if let Some(structured) = json::path(result, &["structuredContent"]) {
        return (structured.len() <= MAX_RESULT)
            .then(|| serde_json::from_slice(structured).ok())
            .flatten();
    }
    let text = only_text(result)?;
    serde_json::from_str(&text).ok()
}

/// The text of a result whose content is one text.
pub(super) fn only_text(result: &[u8]) -> Option<String> {
    let content = json::path(result, &["content"]).filter(|c| c.len() <= MAX_RESULT)?;
    let mut items = Vec::new();
    json::elements(content, |range| items.push(range)).ok()?;
    let [one] = items.as_slice() else { return None };
    let one = content.get(one.clone())?;
    (json::path_str(one, &["type"]).as_deref() == Some("text")).then_some(())?;
    json::path_str(one, &["text"]).map(std::borrow::Cow::into_owned)
}
