//! What tells MCP, and what belongs to it, from other HTTP.

use super::{json, jsonrpc::Envelope, methods};
use crate::proto::http::{RequestHead, ResponseHead};

/// Longest body looked at for a refusal, see [`refuses`].
const MAX_REFUSAL: usize = 4096;

/// A media type of JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json") || media_type == "text/json"
}

/// Paths of OAuth and its metadata, on whatever host.
pub(super) fn is_auth(head: &RequestHead) -> bool {
    let path = head.path();
    [
        &b"/.well-known/"[..],
        b"oauth",
        b"/token",
        b"/authorize",
        b"/register",
        b"/revoke",
        b"/introspect",
    ]
    .iter()
    .any(|part| memchr::memmem::find(path, part).is_some())
}

/// An error to a request without a body: Streamable HTTP servers say it in JSON-RPC. Such bodies are small.
pub(super) fn refuses(request: Option<&RequestHead>, head: &ResponseHead) -> bool {
    let length = head
        .headers
        .get_str("content-length")
        .and_then(|v| v.parse().ok());
    head.status >= 400
        && request.is_some_and(|r| r.method == "GET" || r.method == "DELETE")
        && length.is_some_and(|n: usize| n <= MAX_REFUSAL)
}

/// A query that names a session of HTTP+SSE.
pub(super) fn names_session(query: &[u8]) -> bool {
    let query = query.to_ascii_lowercase();
    memchr::memmem::find(&query, b"sessionid=").is_some()
        || memchr::memmem::find(&query, b"session_id=").is_some()
}

/// Data of an `endpoint` event of HTTP+SSE.
pub(super) fn looks_like_uri(data: &[u8]) -> bool {
    data.starts_with(b"/") || memchr::memmem::find(data, b"://").is_some() || names_session(data)
}

/// The result is empty, as that of `ping`, or has a member that results of MCP have and others rarely.
pub(super) fn has_result_mark(envelope: &Envelope) -> bool {
    let Some(result) = envelope.result.clone().and_then(|r| envelope.body.get(r)) else {
        return false;
    };
    let (mut marked, mut empty) = (false, true);
    let read = json::members(result, |key, _| {
        empty = false;
        marked |= methods::RESULT_MARKS.contains(&key.as_ref());
    });
    marked || (empty && read.is_ok())
}
