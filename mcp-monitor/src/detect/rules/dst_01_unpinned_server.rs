//! DST-01 unpinned-server: MCP spoken with a host no pin names (wherever the port and path).

use super::mcp::is_mcp;
use super::prelude::*;
use crate::{
    config::pins::Unpinned,
    flow::FlowId,
    mcp::context::{Connection, ServerKey},
};

const META: Meta = Meta {
    id: "DST-01",
    slug: "unpinned-server",
    category: "destination",
    trigger: "MCP spoken with a host no pin names (wherever the port and path)",
    silent_on: "package registries, identity providers, plain HTTP APIs",
    severity: Severity::High,
    sight: Sight::Either,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["third-party-server-compromise", "insufficient-vetting"],
        owasp_mcp: &["MCP09"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent speaks MCP with a server that nobody approved: no entry under `endpoints` names its host.",
        attacker: "Talked a user or an agent into adding a server of theirs (a look-alike package, a pasted configuration, an injected instruction), or stood up a shadow server inside the network.",
        wire: "JSON-RPC messages with MCP methods (`initialize`, `tools/list`, ...) to a host, or a loopback port, that no pin names. Requests to package registries, identity providers and plain HTTP APIs carry no such messages.",
        act: "Find out who configured the server (the alert names the process and the host). If it is wanted, vet it and add it with `mcp-monitor pin learn`; if not, remove it from the agent's configuration and look at what was sent to it.",
        quiet: "Where an endpoint has `namespaces`, clients of others are told under this rule as well. While pins are still being collected set `unpinned: learn`; where servers need no approval, `unpinned: ignore`. A server reached through the addresses under `gateway` counts as approved.",
    },
};

/// Says it once per connection and server.
#[derive(Default)]
pub(super) struct UnpinnedServer {
    said: Once<(FlowId, ServerKey)>,
}

impl Rule for UnpinnedServer {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let Some(flow) = seen.flow else { return };
        let (pins, target) = (world.pins, context.target);
        let client = seen.connection.and_then(Connection::namespace);
        let client = client.as_deref();
        let endpoint = pins.endpoint(target.endpoint);
        let approved = endpoint.is_some_and(|e| e.serves(client)) || pins.is_gateway(target.address.ip());
        if pins.is_empty()
            || approved
            || pins.unpinned_in(client) != Unpinned::Alert
            || !is_mcp(message, context)
        {
            return;
        }
        if !self.said.first((flow.info.id, target.host_key())) {
            return;
        }
        let (host, port) = (shown(&target.origin.host), target.origin.port);
        if let (Some(index), Some(endpoint), Some(client)) = (target.endpoint, endpoint, client) {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} in namespace {} speaks MCP with {}, which is approved for other namespaces only; ask its owner, or add the namespace to its pin",
                        agent(seen),
                        shown(client),
                        shown(&endpoint.name),
                    ),
                )
                .at(Some(index))
                .expected(endpoint.namespaces.clone())
                .observed(client.to_owned()),
            );
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} speaks MCP with {host}:{port}, which no pin names; vet it and pin it, or remove it from the agent's configuration",
                    agent(seen)
                ),
            )
            .observed(format!("{}{}", target.origin, shown(&target.path))),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{Pod, PodFacts, Process, Qos};

    const PINS: &str = "endpoints: [{name: a, url: 'https://a.example/mcp'}]\n";
    const INIT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

    #[test]
    fn fires_on_a_host_that_no_pin_names_once_per_connection() {
        let mut bench = Bench::new(UnpinnedServer::default(), PINS);
        let found = bench.says(INIT);
        assert_eq!(found[0].observed.as_deref(), Some("https://mcp.example/mcp"));
        assert!(bench.says(INIT).is_empty());
        bench.server("http://127.0.0.1:3001/mcp", "127.0.0.1");
        assert_eq!(bench.says(INIT).len(), 1);
    }

    #[test]
    fn an_endpoint_of_other_namespaces_is_not_approved() {
        let pins = "endpoints: [{name: a, url: 'https://a.example/mcp', namespaces: [team-a]}]\nnamespaces: {team-c: {unpinned: ignore}}\n";
        let found_in = |namespace: Option<&str>| {
            let mut bench = Bench::new(UnpinnedServer::default(), pins);
            bench.server("https://a.example/mcp", "203.0.113.9");
            let pod = Pod::new("u", Qos::Burstable);
            if let Some(name) = namespace {
                pod.tell(Arc::new(PodFacts {
                    namespace: name.into(),
                    ..PodFacts::default()
                }));
            }
            bench.connection.process = Some(Arc::new(Process {
                pod: Some(Arc::new(pod)),
                ..Process::default()
            }));
            bench.says(INIT)
        };
        let found = found_in(Some("team-b"));
        assert_eq!(
            (found[0].endpoint, found[0].observed.as_deref()),
            (Some(0), Some("team-b"))
        );
        assert_eq!(found[0].expected, ["team-a"]);
        assert!(found_in(Some("team-a")).is_empty());
        assert!(found_in(Some("team-c")).is_empty(), "its own word");
        assert!(found_in(None).is_empty(), "not known: not guessed");
    }

    #[test]
    fn stays_silent_on_pinned_servers_without_pins_and_on_other_protocols() {
        let mut bench = Bench::new(UnpinnedServer::default(), PINS);
        assert!(
            bench
                .says(r#"{"jsonrpc":"2.0","id":1,"method":"eth_call"}"#)
                .is_empty()
        );
        bench.server("https://a.example/other", "203.0.113.9");
        assert!(bench.says(INIT).is_empty());
        for pins in [
            "",
            &format!("{PINS}unpinned: ignore\n"),
            &format!("{PINS}gateway: {{addresses: [203.0.113.0/24]}}\n"),
        ] {
            assert!(
                Bench::new(UnpinnedServer::default(), pins).says(INIT).is_empty(),
                "{pins}"
            );
        }
    }
}
