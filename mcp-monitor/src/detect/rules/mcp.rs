//! What MCP looks like among other JSON-RPC.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    baseline::{Audience, principal_of_request},
    mcp::{Message, Revision, context::MessageContext},
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
