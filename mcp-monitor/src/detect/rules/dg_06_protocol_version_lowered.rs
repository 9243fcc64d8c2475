//! DG-06 protocol-version-lowered: negotiated protocol version below the pin or the best this client and server have used.

use super::mcp::{answers, proven_revision};
use super::prelude::*;
use std::{net::IpAddr, time::Duration};

use crate::{
    flow::FlowId,
    mcp::{
        Revision,
        context::{ClientKey, ServerKey},
    },
    types::Timestamp,
};

const META: Meta = Meta {
    id: "DG-06",
    slug: "protocol-version-lowered",
    category: "downgrade",
    trigger: "negotiated protocol version below the pin or the best this client and server have used",
    silent_on: "older client of the same server",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Response],
    page: Page {
        means: "Client and server agreed on an MCP revision older than the pin allows, or older than the same client and server have already used.",
        attacker: "Answers `initialize` with an old version, or refuses the modern probe, so that protections of newer revisions (resource indicators, header checks, audience-bound tokens) are not used.",
        wire: "`protocolVersion` in the `initialize` result, or the version that accepted requests carry, is an earlier date than `mcp.min_protocol_version` or than the best one seen between this client and this server.",
        act: "Ask the server's owner whether it was rolled back. If not, something between the two changed the answer: compare a capture at the server.",
        quiet: "An older client of the same server has its own history, because clients are told apart by executable, address and `clientInfo`; and one that calls itself the same but asked for no more than it got, without a refused modern probe before, is taken for an older library. After a real rollback, restart the monitor or raise nothing by pinning the lower revision.",
    },
};

/// A client that falls back does so within this time of the refusal.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(10);

/// The best revision per client and server, and signs that a client fell back.
#[derive(Default)]
pub(super) struct ProtocolVersionLowered {
    best: Remembered<(ClientKey, ServerKey), Revision>,
    /// Modern probes that were refused.
    refused: Bounded<(IpAddr, ServerKey), Timestamp>,
    /// Connections that carried a modern request.
    modern: Once<FlowId>,
}

impl Rule for ProtocolVersionLowered {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.best)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let (message, context) = match &seen.kind {
            SeenKind::Message { message, context } => (message, context),
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                mcp: true,
                ..
            } => {
                let modern = request
                    .headers
                    .get_str("mcp-protocol-version")
                    .and_then(Revision::parse);
                if modern.is_some_and(|r| r.at_least(Revision::V2026_07_28)) {
                    if self.modern.peek(&flow.info.id).is_none() {
                        self.modern.first(flow.info.id);
                    }
                    if (400..500).contains(&head.status) {
                        let key = (flow.info.client.ip(), target.server_key());
                        self.refused.insert(key, seen.at.time);
                    }
                }
                return;
            }
            _ => return,
        };
        let Some(revision) = proven_revision(message, context) else {
            return;
        };
        let index = context.target.endpoint;
        let pinned = world
            .pins
            .endpoint(index)
            .and_then(|e| e.mcp.min_protocol_version.clone());
        let key = (context.session.client.clone(), context.session.server.clone());
        let asked = context.session.requested.as_ref();
        let fell_back = self.modern.peek(&flow.info.id).is_some()
            || self
                .refused
                .peek(&(flow.info.client.ip(), key.1.clone()))
                .is_some_and(|at| seen.at.time.since(*at) <= FALLS_BACK_WITHIN);
        // A client that got what it asked for, and was not made to ask for less, is an older one that
        // calls itself the same.
        let got_its_wish = answers(context, "initialize") && asked == Some(&revision) && !fell_back;
        let known = self.best.get(&key).cloned();
        if known.as_ref().is_none_or(|best| revision > *best) {
            self.best.insert(key, revision.clone());
        }
        let known = known.filter(|_| !got_its_wish);
        let Some(least) = pinned.max(known).filter(|least| revision < *least) else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} and {} agreed on MCP {}, lower than {}; ask the owner about a rollback, else look for who changed the answer",
                    agent(seen),
                    label(world, index, &context.target.origin.host),
                    revision.as_str(),
                    least.as_str()
                ),
            )
            .at(index)
            .expected([format!("{} or later", least.as_str())])
            .observed(revision.as_str()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(bench: &mut Bench, version: &str) -> Vec<Finding> {
        let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"{version}"}}}}"#);
        bench.answers(&result, Some("initialize"))
    }

    #[test]
    fn fires_below_the_pin_and_below_the_best_seen() {
        let pins = "endpoints: [{name: a, url: 'https://mcp.example/mcp', mcp: {min_protocol_version: '2025-11-25'}}]\n";
        let found = agrees(
            &mut Bench::new(ProtocolVersionLowered::default(), pins),
            "2025-06-18",
        );
        assert_eq!(found[0].expected, ["2025-11-25 or later"]);
        assert_eq!(found[0].observed.as_deref(), Some("2025-06-18"));
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        assert!(agrees(&mut bench, "2025-11-25").is_empty());
        assert_eq!(agrees(&mut bench, "2025-03-26").len(), 1);
    }

    #[test]
    fn a_modern_session_that_falls_back_fires() {
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        bench.head = request("POST", "/mcp", &[("MCP-Protocol-Version", "2026-07-28")]);
        bench.response(&response(200, &[]), true);
        assert!(
            bench
                .answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("tools/list"))
                .is_empty()
        );
        assert_eq!(agrees(&mut bench, "2025-11-25").len(), 1);
    }

    #[test]
    fn a_refused_probe_on_another_connection_is_a_fall_back() {
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        bench.head = request("POST", "/mcp", &[("MCP-Protocol-Version", "2026-07-28")]);
        bench.response(&response(200, &[]), true);
        bench.answers(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Some("tools/list"));
        bench.response(&response(400, &[]), true);
        let (client, server) = (bench.flow.info.client, bench.flow.info.server);
        bench.reflow(client, server, crate::types::Transport::Tcp);
        assert_eq!(agrees(&mut bench, "2025-11-25").len(), 1);
    }

    #[test]
    fn stays_silent_on_an_older_library_under_the_same_name() {
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        agrees(&mut bench, "2025-11-25");
        bench.session.requested = Revision::parse("2025-03-26");
        assert!(agrees(&mut bench, "2025-03-26").is_empty());
        bench.session.requested = Revision::parse("2025-11-25");
        assert_eq!(agrees(&mut bench, "2025-03-26").len(), 1);
    }

    #[test]
    fn stays_silent_on_an_older_client_and_on_a_refused_probe() {
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        agrees(&mut bench, "2025-11-25");
        bench.session.client.info = Some(("agent".into(), "0.1".into()));
        assert!(agrees(&mut bench, "2024-11-05").is_empty());
        let mut bench = Bench::new(ProtocolVersionLowered::default(), "");
        bench.head = request("POST", "/mcp", &[("MCP-Protocol-Version", "2026-07-28")]);
        let refused = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
        bench.answers(refused, Some("server/discover"));
        assert!(agrees(&mut bench, "2025-11-25").is_empty());
    }
}
