//! Words that summaries share.

use super::super::{Seen, World, text::shown};
use crate::mcp::context::EndpointIndex;

/// How people call the server: its pin's name, else its host.
pub(super) fn label(world: &World<'_>, endpoint: Option<EndpointIndex>, host: &str) -> String {
    world
        .pins
        .endpoint(endpoint)
        .map_or_else(|| shown(host), |e| e.name.to_string())
}

/// Who acted: the process where known, else the client's address.
pub(super) fn agent(seen: &Seen<'_>) -> String {
    if let Some(process) = seen.connection.and_then(|c| c.process.as_ref()) {
        return format!("{} (pid {})", shown(&process.comm), process.pid);
    }
    seen.flow
        .filter(|_| !seen.is_unlinked())
        .map_or_else(|| "an agent".to_owned(), |f| f.info.client.ip().to_string())
}

/// The server's name as the client gave it in TLS, else as it resolved it; else its address.
pub(super) fn tls_name(seen: &Seen<'_>) -> Box<str> {
    let named = seen
        .connection
        .and_then(|c| c.sni.as_deref().or(c.resolved_as.as_deref()));
    match (named, seen.flow) {
        (Some(name), _) => name.into(),
        (None, Some(flow)) => flow.info.server.ip().to_string().into(),
        (None, None) => "".into(),
    }
}

/// The endpoint of a DNS name.
pub(super) fn endpoint_of_host(world: &World<'_>, name: &str) -> Option<EndpointIndex> {
    world.pins.match_host(name)
}
