//! Method names of all revisions, for recognising MCP among other JSON-RPC.

/// `method` is one that some MCP revision defines, or is in its notification namespace.
///
/// `initialize` is also used by the Language Server Protocol, which does not run over HTTP.
pub fn is_mcp(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "ping"
            | "server/discover"
            | "tools/list"
            | "tools/call"
            | "resources/list"
            | "resources/read"
            | "resources/templates/list"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "prompts/list"
            | "prompts/get"
            | "completion/complete"
            | "logging/setLevel"
            | "sampling/createMessage"
            | "elicitation/create"
            | "roots/list"
            | "subscriptions/listen"
            | "tasks/get"
            | "tasks/result"
            | "tasks/list"
            | "tasks/update"
            | "tasks/cancel"
    ) || method.starts_with("notifications/")
}

/// Requests and notifications that only clients send, in every revision.
pub fn of_client(method: &str) -> bool {
    [
        "initialize",
        "notifications/initialized",
        "notifications/roots/list_changed",
        "server/discover",
        "completion/complete",
        "logging/setLevel",
        "subscriptions/listen",
    ]
    .contains(&method)
        || ["tools/", "resources/", "prompts/"]
            .iter()
            .any(|family| method.starts_with(family))
}

/// Members that results of MCP methods have and that are rare elsewhere.
pub const RESULT_MARKS: &[&str] = &[
    "protocolVersion",
    "serverInfo",
    "capabilities",
    "tools",
    "content",
    "structuredContent",
    "contents",
    "resources",
    "resourceTemplates",
    "prompts",
    "messages",
    "completion",
    "roots",
    "resultType",
    "supportedVersions",
    "tasks",
    "taskId",
];
