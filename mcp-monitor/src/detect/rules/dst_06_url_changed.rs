//! DST-06 url-changed: port, path or scheme of an MCP request differs from the pin.

use super::mcp::is_mcp;
use super::prelude::*;
use crate::{
    flow::FlowId,
    mcp::{
        TransportKind,
        context::{Scheme, Target},
    },
};

const META: Meta = Meta {
    id: "DST-06",
    slug: "url-changed",
    category: "destination",
    trigger: "port, path or scheme of an MCP request differs from the pin",
    silent_on: "trailing slash; well-known and OAuth requests",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::SseEndpoint],
    page: Page {
        means: "MCP goes to the pinned host, but to another port, path or scheme than the pinned URL.",
        attacker: "Runs a second server on the same host (another port of a shared machine, another tenant's path), or changed the agent's configuration or an update's default to point there.",
        wire: "An MCP request whose port, path or scheme differs from the pin's `url`. For HTTP+SSE the path of the GET counts, because the server itself chooses where messages are posted.",
        act: "Compare the agent's configuration with the pin, and find who changed which. If the server moved, update the pin.",
        quiet: "A trailing slash makes no difference, and a URL without a path pins none. Well-known and OAuth requests are not held against the pin. Pin a second endpoint on the same host if there are two.",
    },
};

/// Says it once per connection and path.
#[derive(Default)]
pub(super) struct UrlChanged {
    said: Once<(FlowId, Box<str>)>,
}

impl Rule for UrlChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (target, path_counts) = match &seen.kind {
            SeenKind::Message { message, context } if is_mcp(message, context) => (
                context.target,
                context.session.transport == Some(TransportKind::StreamableHttp),
            ),
            SeenKind::SseEndpoint { target, .. } => (*target, true),
            _ => return,
        };
        let Some(endpoint) = world.pins.endpoint(target.endpoint) else {
            return;
        };
        let url = &endpoint.url;
        let scheme =
            url.scheme == target.origin.scheme || (endpoint.mesh_encrypted && url.scheme == Scheme::Https);
        // Without a path, the request's head was not captured.
        let path = !path_counts || target.path.is_empty() || url.allows_path(&target.path);
        if scheme && path && url.port == target.origin.port {
            return;
        }
        let Some(flow) = seen.flow else { return };
        if !self.said.first((flow.info.id, target.path.clone())) {
            return;
        }
        let observed = written(target);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} speaks MCP with {} at {observed}, not at its pinned URL; compare the agent's configuration with the pin",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(target.endpoint)
            .expected([url.to_string()])
            .observed(observed),
        );
    }
}

fn written(target: &Target) -> String {
    format!("{}{}", target.origin, shown(&target.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";
    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;

    #[test]
    fn fires_on_another_port_path_or_scheme() {
        for url in [
            "https://mcp.example:8443/mcp",
            "https://mcp.example/tenant2",
            "http://mcp.example/mcp",
        ] {
            let mut bench = Bench::new(UrlChanged::default(), PINS);
            bench.server(url, "203.0.113.5");
            let found = bench.says(CALL);
            assert_eq!(found[0].observed.as_deref(), Some(url));
            assert_eq!(found[0].expected, ["https://mcp.example/mcp"]);
        }
    }

    #[test]
    fn stays_silent_on_a_slash_on_other_requests_and_on_posts_of_http_sse() {
        let mut bench = Bench::new(UrlChanged::default(), PINS);
        bench.server("https://mcp.example/mcp/", "203.0.113.5");
        assert!(bench.says(CALL).is_empty());
        bench.server(
            "https://mcp.example/.well-known/oauth-protected-resource",
            "203.0.113.5",
        );
        assert!(
            bench
                .request(&request("GET", "/.well-known/x", &[]), true)
                .is_empty()
        );
        bench.server("https://mcp.example/messages", "203.0.113.5");
        bench.session.transport = Some(TransportKind::HttpSse);
        assert!(bench.says(CALL).is_empty());
        assert_eq!(bench.sse_endpoint("/messages", 1).len(), 1, "the GET counts");
    }
}
