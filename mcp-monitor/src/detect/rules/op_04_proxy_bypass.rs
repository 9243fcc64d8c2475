//! OP-04 proxy-bypass: MCP that does not go through the mandated gateway.

use super::prelude::*;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{flow::FlowId, mcp::context::EndpointIndex};

const META: Meta = Meta {
    id: "OP-04",
    slug: "proxy-bypass",
    category: "operations",
    trigger: "MCP that does not go through the mandated gateway",
    silent_on: "break-glass listed",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["decentralised-architecture"],
        owasp_mcp: &["MCP09"],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::ClientHello, Kind::Opaque],
    page: Page {
        means: "An agent speaks MCP with a server directly although the pins mandate a gateway. What the gateway checks, logs and allows does not hold on that connection.",
        attacker: "Changed the agent's configuration or its environment (`HTTPS_PROXY`, a base URL) so that its calls pass the controls by. Often it is somebody's shortcut.",
        wire: "MCP, or TLS with the name of a pinned server, to an address outside `gateway.addresses`, from a client that is not the gateway either.",
        act: "Find the process and its configuration, and route it through the gateway. Look at the gateway's own log for when it stopped using it.",
        quiet: "The gateway's own connections to the servers are silent. For break-glass or for local servers, list the endpoint's name, the host, or a client's or server's address or prefix: `rules: {OP-04: {allow: [on-call-db, 10.9.0.0/16]}}`.",
    },
};

/// Connections that were judged.
#[derive(Default)]
pub(super) struct ProxyBypass {
    judged: Once<FlowId>,
}

impl Rule for ProxyBypass {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let pins = world.pins;
        if pins.gateway.is_empty() {
            return;
        }
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let (endpoint, host) = match &seen.kind {
            SeenKind::Message { context, .. } => {
                (context.target.endpoint, Some(context.target.origin.host.as_ref()))
            }
            // Encrypted: it is MCP by the name it asks for.
            _ if connection.endpoint.is_some() => (connection.endpoint, connection.server_name()),
            _ => return,
        };
        let (client, server) = (flow.info.client.ip(), flow.info.server.ip());
        if !self.judged.first(flow.info.id) || pins.is_gateway(server) || pins.is_gateway(client) {
            return;
        }
        if is_listed(world, endpoint, host, [client, server]) {
            return;
        }
        let address = server.to_string();
        let name = label(world, endpoint, host.unwrap_or(&address));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} speaks MCP with {name} at {server} directly, past the mandated gateway; find its configuration and route it through",
                    agent(seen)
                ),
            )
            .at(endpoint)
            .expected(pins.gateway.iter().map(ToString::to_string))
            .observed(format!("{name} at {server}")),
        );
    }
}

/// Break-glass: the endpoint, the host, or an address of either side is listed.
fn is_listed(
    world: &World<'_>,
    endpoint: Option<EndpointIndex>,
    host: Option<&str>,
    addresses: [IpAddr; 2],
) -> bool {
    let name = world.pins.endpoint(endpoint).map(|e| e.name.as_ref());
    let by_name = [name, host]
        .into_iter()
        .flatten()
        .any(|name| world.pins.accepts(META.id, endpoint, name));
    by_name
        || world.pins.allowed(META.id, endpoint).any(|entry| {
            let net = entry
                .parse::<IpNet>()
                .ok()
                .or_else(|| entry.parse::<IpAddr>().ok().map(IpNet::from));
            net.is_some_and(|net| addresses.iter().any(|ip| net.contains(ip)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\ngateway: {addresses: [10.0.9.0/24]}\n";
    const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

    fn bench(more: &str, server: &str) -> Bench {
        let mut bench = Bench::new(ProxyBypass::default(), &format!("{PINS}{more}"));
        bench.server("https://mcp.example/mcp", server);
        bench
    }

    #[test]
    fn fires_on_direct_connections_readable_or_not() {
        let mut b = bench("", "203.0.113.5");
        let found = b.says(PING);
        assert_eq!(found[0].expected, ["10.0.9.0/24"]);
        assert!(b.says(PING).is_empty(), "once a connection");
        assert_eq!(
            bench("", "203.0.113.5").see(SeenKind::Opaque { why: None }).len(),
            1
        );
    }

    #[test]
    fn stays_silent_through_the_gateway_by_it_and_where_listed() {
        assert!(bench("", "10.0.9.7").says(PING).is_empty());
        let mut by = bench("", "203.0.113.5");
        by.reflow(
            "10.0.9.7:5000".parse().unwrap(),
            "203.0.113.5:443".parse().unwrap(),
            Transport::Tcp,
        );
        assert!(by.says(PING).is_empty());
        for allow in ["a", "mcp.example", "203.0.113.0/24", "10.1.0.5"] {
            let more = format!("rules: {{OP-04: {{allow: ['{allow}']}}}}\n");
            assert!(bench(&more, "203.0.113.5").says(PING).is_empty(), "{allow}");
        }
        let mut none = Bench::new(ProxyBypass::default(), "");
        assert!(none.says(PING).is_empty());
        let mut other = bench("", "203.0.113.5");
        other.connection.endpoint = None;
        assert!(
            other.see(SeenKind::Opaque { why: None }).is_empty(),
            "not known to be MCP"
        );
    }
}
