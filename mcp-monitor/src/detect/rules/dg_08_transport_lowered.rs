//! DG-08 transport-lowered: Streamable HTTP server now spoken to over HTTP+SSE.

use super::mcp::answers;
use super::prelude::*;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::{
    mcp::{
        Revision, TransportKind,
        context::{ClientKey, ServerKey},
    },
    types::Timestamp,
};

const META: Meta = Meta {
    id: "DG-08",
    slug: "transport-lowered",
    category: "downgrade",
    trigger: "Streamable HTTP server now spoken to over HTTP+SSE",
    silent_on: "server that offers both, client that always used SSE",
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
        means: "A server of Streamable HTTP is now spoken to over the older HTTP+SSE transport, which posts messages wherever the event stream says.",
        attacker: "Refuses the POST of the newer transport, so that the client falls back to the one in which an `endpoint` event redirects all messages.",
        wire: "A session over HTTP+SSE (a GET with an `endpoint` event) with a server pinned as `streamable-http`, or with which this client used Streamable HTTP before.",
        act: "Look at the response that made the client fall back (a 4xx to its first POST) and who sent it. Look for RED-03.",
        quiet: "A server that offers both, and a client that always used HTTP+SSE, are silent without a pin; so is a client that calls itself the same but asks for another protocol revision and whose POST was not refused just before. Pin `transport: http-sse` where that is what was approved.",
    },
};

/// A client that falls back does so within this time of the refusal.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(10);
/// Revisions kept per client and server.
const MAX_REVISIONS: usize = 16;

/// Pairs of client and server that used Streamable HTTP, with the revisions asked for; and POSTs that
/// were refused.
#[derive(Default)]
pub(super) struct TransportLowered {
    streamable: Remembered<(ClientKey, ServerKey), BTreeSet<Option<Revision>>>,
    refused: Bounded<(IpAddr, ServerKey), Timestamp>,
}

impl Rule for TransportLowered {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.streamable)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        let (message, context) = match &seen.kind {
            SeenKind::Message { message, context } => (message, context),
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                ..
            } => {
                let streamable = || {
                    let accept = request.headers.get_str("accept").unwrap_or_default();
                    accept.contains("text/event-stream") && accept.contains("application/json")
                };
                let refused = (400..500).contains(&head.status) && !matches!(head.status, 401 | 403 | 429);
                if refused && request.method == "POST" && streamable() {
                    self.refused.insert((client, target.server_key()), seen.at.time);
                }
                return;
            }
            _ => return,
        };
        let opens = ["initialize", "server/discover", "tools/list"];
        if message.result.is_none() || !opens.iter().any(|m| answers(context, m)) {
            return;
        }
        let key = (context.session.client.clone(), context.session.server.clone());
        match context.session.transport {
            Some(TransportKind::StreamableHttp) => {
                let mut revisions = self.streamable.get(&key).cloned().unwrap_or_default();
                if revisions.len() < MAX_REVISIONS {
                    revisions.insert(context.session.requested.clone());
                }
                self.streamable.insert(key, revisions);
                return;
            }
            Some(TransportKind::HttpSse) => {}
            _ => return,
        }
        let index = context.target.endpoint;
        let pinned = world.pins.endpoint(index).and_then(|e| e.mcp.transport);
        let fell_back = self
            .refused
            .peek(&(client, key.1.clone()))
            .is_some_and(|at| seen.at.time.since(*at) <= FALLS_BACK_WITHIN);
        // One that asks for another revision and was not refused is another library under the same name.
        let before = self
            .streamable
            .get(&key)
            .is_some_and(|revisions| fell_back || revisions.contains(&context.session.requested));
        if pinned == Some(TransportKind::HttpSse) || (pinned.is_none() && !before) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} now speaks to {} over HTTP+SSE instead of Streamable HTTP; look at the response that made it fall back",
                    agent(seen),
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected([TransportKind::StreamableHttp.slug()])
            .observed(TransportKind::HttpSse.slug()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    fn over(bench: &mut Bench, transport: TransportKind) -> usize {
        bench.session.transport = Some(transport);
        bench.answers(RESULT, Some("initialize")).len()
    }

    #[test]
    fn fires_against_the_pin_and_against_what_was_used() {
        let pins =
            "endpoints: [{name: a, url: 'https://mcp.example/mcp', mcp: {transport: streamable-http}}]\n";
        assert_eq!(
            over(
                &mut Bench::new(TransportLowered::default(), pins),
                TransportKind::HttpSse
            ),
            1
        );
        let mut bench = Bench::new(TransportLowered::default(), "");
        assert_eq!(over(&mut bench, TransportKind::StreamableHttp), 0);
        assert_eq!(over(&mut bench, TransportKind::HttpSse), 1);
    }

    #[test]
    fn tells_another_library_from_a_fall_back() {
        let mut bench = Bench::new(TransportLowered::default(), "");
        bench.session.requested = Revision::parse("2026-07-28");
        over(&mut bench, TransportKind::StreamableHttp);
        bench.session.requested = Revision::parse("2024-11-05");
        assert_eq!(over(&mut bench, TransportKind::HttpSse), 0);
        bench.head = request(
            "POST",
            "/mcp",
            &[("Accept", "application/json, text/event-stream")],
        );
        bench.response(&response(405, &[]), true);
        assert_eq!(over(&mut bench, TransportKind::HttpSse), 1);
    }

    #[test]
    fn stays_silent_on_servers_with_both_and_clients_that_always_used_sse() {
        let mut bench = Bench::new(TransportLowered::default(), "");
        over(&mut bench, TransportKind::StreamableHttp);
        bench.session.client.info = Some(("old".into(), "1".into()));
        assert_eq!(over(&mut bench, TransportKind::HttpSse), 0);
        assert_eq!(over(&mut bench, TransportKind::HttpSse), 0);
        let pins = "endpoints: [{name: a, url: 'https://mcp.example/mcp', mcp: {transport: http-sse}}]\n";
        assert_eq!(
            over(
                &mut Bench::new(TransportLowered::default(), pins),
                TransportKind::HttpSse
            ),
            0
        );
    }
}
