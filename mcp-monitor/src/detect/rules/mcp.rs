//! What MCP looks like among other JSON-RPC.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    baseline::{Audience, principal_of_request},
    mcp::{Message, MessageKind, Revision, context::MessageContext},
    types::Direction,
};

/// Methods that are MCP and not of another JSON-RPC protocol.
pub(super) fn is_mcp_method(method: &str) -> bool {
    const FAMILIES: &[&str] = &[
        "tools/",
        "resources/",
        "prompts/",
        "notifications/",
        "completion/",
        "logging/",
        "sampling/",
        "roots/",
        "elicitation/",
        "tasks/",
        "subscriptions/",
    ];
    matches!(method, "initialize" | "server/discover") || FAMILIES.iter().any(|f| method.starts_with(f))
}

/// The message is proof of MCP: by its method, or that of the request it answers.
pub(super) fn is_mcp(message: &Message, context: &MessageContext<'_>) -> bool {
    message
        .method
        .as_deref()
        .or(context.answers.map(|a| &*a.method))
        .is_some_and(is_mcp_method)
}

/// The response answers this method.
pub(super) fn answers(context: &MessageContext<'_>, method: &str) -> bool {
    context.answers.is_some_and(|a| &*a.method == method)
}

/// `result` as a tree.
pub(super) fn result(message: &Message) -> Option<Value> {
    serde_json::from_slice(message.result()?).ok()
}

/// `params` as a tree.
pub(super) fn params(message: &Message) -> Option<Value> {
    serde_json::from_slice(message.params()?).ok()
}

/// `MCP-Protocol-Version` of the HTTP request.
pub(super) fn version_header<'a>(context: &MessageContext<'a>) -> Option<&'a str> {
    context.request?.headers.get_str("mcp-protocol-version")
}

/// The revision that a successful response proves to be in force: what `initialize` agreed on,
/// or what a request of 2026-07-28 or later carried.
pub(super) fn proven_revision(message: &Message, context: &MessageContext<'_>) -> Option<Revision> {
    if answers(context, "initialize") {
        let result = result(message)?;
        return Revision::parse(result.get("protocolVersion")?.as_str()?);
    }
    message.result.as_ref()?;
    version_header(context)
        .and_then(Revision::parse)
        .filter(|r| r.at_least(Revision::V2026_07_28))
}

/// `params` of every elicitation that a message of the server holds: as a request, among the
/// `inputRequests` of a result (2026-07-28), or in the data of error -32042 (2025-11-25).
pub(super) fn elicitations(message: &Message, context: &MessageContext<'_>) -> Vec<Value> {
    if message.direction != Direction::ToClient {
        return Vec::new();
    }
    let modern = context
        .session
        .negotiated
        .as_ref()
        .is_none_or(|r| r.at_least(Revision::V2026_07_28));
    let has = |needle: &str| memchr::memmem::find(&message.body, needle.as_bytes()).is_some();
    match message.kind {
        MessageKind::Request if message.is("elicitation/create") => params(message).into_iter().collect(),
        MessageKind::Response if modern && has("\"inputRequests\"") => result(message)
            .and_then(|mut r| match r.get_mut("inputRequests")?.take() {
                Value::Object(map) => Some(map),
                _ => None,
            })
            .into_iter()
            .flatten()
            .filter(|(_, v)| v.get("method").and_then(Value::as_str) == Some("elicitation/create"))
            .filter_map(|(_, mut v)| Some(v.get_mut("params")?.take()))
            .collect(),
        MessageKind::Error if message.error_code == Some(-32042) => message
            .error()
            .and_then(|e| serde_json::from_slice::<Value>(e).ok())
            .and_then(|mut e| match e.get_mut("data")?.get_mut("elicitations")?.take() {
                Value::Array(list) => Some(list),
                _ => None,
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// For whom a server's definitions are made; renewal of an opaque credential makes no difference.
pub(super) fn audience(context: &MessageContext<'_>) -> Audience {
    let session = context.session;
    (
        session.server.clone(),
        session.negotiated.as_ref().map(|r| Arc::clone(&r.0)),
        session.client_capabilities.clone(),
        context
            .request
            .map(principal_of_request)
            .unwrap_or_default()
            .stable_part(),
    )
}
