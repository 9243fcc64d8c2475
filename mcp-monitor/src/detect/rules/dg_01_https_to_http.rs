//! DG-01 https-to-http: a server pinned as https spoken to in cleartext.

use super::mcp::is_mcp;
use super::prelude::*;
use crate::{flow::FlowId, mcp::context::Scheme};

const META: Meta = Meta {
    id: "DG-01",
    slug: "https-to-http",
    category: "downgrade",
    trigger: "a server pinned as https spoken to in cleartext",
    silent_on: "loopback development server not pinned",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "weak-communication-security"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Request, Kind::Message],
    page: Page {
        means: "A server that is pinned as https was spoken to in cleartext: everybody on the path can read and change the session.",
        attacker: "Changed the URL in the agent's configuration, answered on port 80 with a downgrade, or stripped TLS in a proxy in front of the agent.",
        wire: "An MCP request in cleartext to the host of a pin whose `url` begins with https.",
        act: "Find why the agent uses http: its configuration, an environment variable, a redirect (RED-01). Treat credentials of the session as exposed.",
        quiet: "Behind a mesh that encrypts on the wire what the monitor sees in cleartext, set `mesh_encrypted: true` on the endpoint. A development server on loopback that is pinned as http, or not at all, is silent. The same holds for a gateway under `gateway`.",
    },
};

/// Says it once per connection.
#[derive(Default)]
pub(super) struct HttpsToHttp {
    said: Once<FlowId>,
}

impl Rule for HttpsToHttp {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let target = match &seen.kind {
            SeenKind::Request {
                target, mcp: true, ..
            } if !target.path.starts_with("/.well-known/") => *target,
            SeenKind::Message { message, context } if is_mcp(message, context) => context.target,
            _ => return,
        };
        if target.origin.scheme != Scheme::Http {
            return;
        }
        let (Some(endpoint), Some(flow)) = (world.pins.endpoint(target.endpoint), seen.flow) else {
            return;
        };
        let expected_cleartext = endpoint.url.scheme == Scheme::Http
            || endpoint.mesh_encrypted
            || world.pins.is_gateway(target.address.ip());
        if expected_cleartext || !self.said.first(flow.info.id) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} speaks to {} in cleartext although it is pinned as https; find what changed the URL and treat the session as exposed",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(target.endpoint)
            .expected([endpoint.url.to_string()])
            .observed(target.origin.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn speaks(pins: &str, url: &str) -> usize {
        let mut bench = Bench::new(HttpsToHttp::default(), pins);
        bench.server(
            url,
            if url.contains("127.") {
                "127.0.0.1"
            } else {
                "203.0.113.5"
            },
        );
        bench.request(&request("POST", "/mcp", &[]), true).len()
    }

    #[test]
    fn fires_on_cleartext_to_a_server_pinned_as_https() {
        assert_eq!(speaks(PINS, "http://mcp.example/mcp"), 1);
        let mut bench = Bench::new(HttpsToHttp::default(), PINS);
        bench.server("http://mcp.example/mcp", "203.0.113.5");
        assert_eq!(
            bench
                .says(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#)
                .len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_tls_on_a_mesh_and_on_development_servers() {
        assert_eq!(speaks(PINS, "https://mcp.example/mcp"), 0);
        assert_eq!(speaks(PINS, "http://127.0.0.1:3001/mcp"), 0);
        assert_eq!(
            speaks(PINS, "http://mcp.example/.well-known/oauth-protected-resource"),
            0
        );
        let mesh = PINS.replace("}]", ", mesh_encrypted: true}]");
        assert_eq!(speaks(&mesh, "http://mcp.example/mcp"), 0);
    }
}
