//! RED-02 redirect-replays-secret: a redirect to another origin was followed with the body or a credential header.

use super::prelude::*;
use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    origin::{is_https_upgrade, is_redirect, origin_of, resolve, same_origin},
    secrets::presented,
};
use crate::{
    flow::FlowId,
    mcp::{
        Message, RequestId,
        context::{EndpointIndex, Origin},
    },
    proto::http::ExchangeId,
    types::{PacketId, Timestamp},
};

const META: Meta = Meta {
    id: "RED-02",
    slug: "redirect-replays-secret",
    category: "redirection",
    trigger: "a redirect to another origin was followed with the body or a credential header",
    silent_on: "same-origin redirect; origin listed under `redirects`",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "protocol-manipulation"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Response, Kind::Request],
    page: Page {
        means: "A client followed a redirect to another origin and took its message, or a credential header, along: the other side now has it.",
        attacker: "Redirects an MCP request (often 307 or 308, which replay the body) to a machine of theirs and reads the arguments and keys that arrive. Several SDK versions strip `Authorization` but leak `X-API-Key`.",
        wire: "After a redirect to another origin, within 10 seconds, a request of the same client to that origin with a credential header of the same value, or with the same JSON-RPC message.",
        act: "Revoke the credential that the alert names and treat the arguments as disclosed. Update or configure the client so that it refuses redirects to other origins.",
        quiet: "Redirects within one origin, and to origins listed under `redirects`, are silent.",
    },
};

/// A request later than this is not the redirect's.
const WITHIN: Duration = Duration::from_secs(10);

/// Enough of a message to know it again: length, method, id.
#[derive(Clone, PartialEq, Eq)]
struct Sent {
    bytes: usize,
    method: Option<Arc<str>>,
    id: Option<RequestId>,
}

impl Sent {
    fn of(message: &Message) -> Self {
        Self {
            bytes: message.body.len(),
            method: message.method.clone(),
            id: message.id.clone(),
        }
    }
}

struct Awaited {
    endpoint: Option<EndpointIndex>,
    name: String,
    from: Origin,
    sent: Option<Sent>,
    /// Fingerprints of the credentials of the redirected request.
    secrets: Vec<String>,
    at: Timestamp,
    packet: PacketId,
}

/// Remembers the latest messages by exchange, and redirects that may yet be followed.
#[derive(Default)]
pub(super) struct RedirectReplaysSecret {
    sent: Bounded<(FlowId, ExchangeId), Sent>,
    awaited: Bounded<(IpAddr, Box<str>, u16), Awaited>,
}

impl Rule for RedirectReplaysSecret {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        match &seen.kind {
            SeenKind::Message { message, context } if context.response.is_none() => {
                let sent = Sent::of(message);
                let key = (
                    client,
                    Box::from(context.target.origin.host.as_ref()),
                    context.target.origin.port,
                );
                if let Some(awaited) = self.awaited.get_mut(&key)
                    && awaited.sent.as_ref() == Some(&sent)
                    && let Some(awaited) = self.awaited.remove(&key)
                    && seen.at.time.since(awaited.at) <= WITHIN
                {
                    let what = format!(
                        "the message {}",
                        sent.method.as_deref().map(shown).unwrap_or_default()
                    );
                    out.push(finding(seen, awaited, &context.target.origin, what.trim_end()));
                }
                self.sent.insert((flow.info.id, message.exchange), sent);
            }
            SeenKind::Request { head, target, .. } => {
                let key = (client, Box::from(target.origin.host.as_ref()), target.origin.port);
                let Some(awaited) = self.awaited.get_mut(&key) else {
                    return;
                };
                let leaked = presented(head).find(|p| {
                    awaited
                        .secrets
                        .contains(&world.fingerprints.fingerprint(p.secret).to_string())
                });
                if let Some(leaked) = leaked
                    && let Some(awaited) = self.awaited.remove(&key)
                    && seen.at.time.since(awaited.at) <= WITHIN
                {
                    out.push(finding(
                        seen,
                        awaited,
                        &target.origin,
                        &leaked.describe_with(world),
                    ));
                }
            }
            SeenKind::Response {
                exchange,
                request: Some(request),
                head,
                target,
                mcp: true,
            } if is_redirect(head.status) => {
                let location = head.headers.get("location").and_then(|l| resolve(target, l));
                let Some(origin) = location.as_ref().and_then(origin_of) else {
                    return;
                };
                let pinned = world
                    .pins
                    .endpoint(target.endpoint)
                    .map_or(&[][..], |e| &e.redirects);
                if same_origin(target, &origin)
                    || is_https_upgrade(target, &origin)
                    || pinned.contains(&origin)
                {
                    return;
                }
                let awaited = Awaited {
                    endpoint: target.endpoint,
                    name: label(world, target.endpoint, &target.origin.host),
                    from: target.origin.clone(),
                    sent: self.sent.remove(&(flow.info.id, *exchange)),
                    secrets: presented(request)
                        .map(|p| world.fingerprints.fingerprint(p.secret).to_string())
                        .collect(),
                    at: seen.at.time,
                    packet: seen.at.packet,
                };
                self.awaited
                    .insert((client, Box::from(origin.host.as_ref()), origin.port), awaited);
            }
            _ => {}
        }
    }
}

fn finding(seen: &Seen<'_>, awaited: Awaited, to: &Origin, what: &str) -> Finding {
    Finding::new(
        META.id,
        format!(
            "{} followed a redirect of {} to {} and sent {what} there; revoke the credential and treat the content as disclosed",
            agent(seen),
            awaited.name,
            shown(&to.to_string())
        ),
    )
    .at(awaited.endpoint)
    .expected([awaited.from.to_string()])
    .observed(format!("{}: {what}", shown(&to.to_string())))
    .shown_by(awaited.packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"t"}}"#;

    fn redirected(
        pins: &str,
        location: &str,
        then: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Vec<Finding> {
        let mut bench = Bench::new(RedirectReplaysSecret::default(), pins);
        bench.server("http://mcp.example/mcp", "203.0.113.5");
        let head = request(
            "POST",
            "/mcp",
            &[("X-API-Key", "k-123456"), ("Authorization", "Bearer abcdef")],
        );
        let mut found = bench.request(&head, true);
        found.extend(bench.says(CALL));
        found.extend(bench.response(&response(307, &[("Location", location)]), true));
        bench.server(then, "198.51.100.66");
        found.extend(bench.request(&request("POST", "/mcp", headers), true));
        found.extend(bench.says(body));
        found
    }

    #[test]
    fn fires_on_a_header_and_on_the_message() {
        let away = "http://evil.example/mcp";
        let found = redirected("", away, away, &[("x-api-key", "k-123456")], CALL);
        assert_eq!(found.len(), 1, "once per redirect");
        let observed = found[0].observed.as_deref().unwrap();
        assert!(
            observed.contains("api-key credential in x-api-key header") && !observed.contains("k-123456"),
            "{observed}"
        );
        let found = redirected("", away, away, &[], CALL);
        assert!(found[0].observed.as_deref().unwrap().contains("tools/call"));
    }

    #[test]
    fn stays_silent_within_the_origin_on_pinned_targets_and_on_other_traffic() {
        let same = "http://mcp.example/mcp/";
        assert!(redirected("", same, same, &[("x-api-key", "k-123456")], CALL).is_empty());
        let pins =
            "endpoints: [{name: a, url: 'http://mcp.example/mcp', redirects: ['http://eu.example']}]\n";
        let eu = "http://eu.example/mcp";
        assert!(redirected(pins, eu, eu, &[("x-api-key", "k-123456")], CALL).is_empty());
        let away = "http://evil.example/mcp";
        let other = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
        assert!(redirected("", away, away, &[("x-api-key", "another")], other).is_empty());
    }
}
