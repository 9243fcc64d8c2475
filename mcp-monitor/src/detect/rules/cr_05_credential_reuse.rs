//! CR-05 credential-reuse: one credential (keyed hash) presented to two servers.

use super::prelude::*;
use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    origin::{is_redirect, origin_of, resolve},
    secrets::presented,
};
use crate::{
    flow::FlowId,
    mcp::context::{EndpointIndex, ServerKey},
    proto::http::ExchangeId,
    types::{PacketId, Timestamp},
};

const META: Meta = Meta {
    id: "CR-05",
    slug: "credential-reuse",
    category: "credential",
    trigger: "one credential (keyed hash) presented to two servers",
    silent_on: "servers pinned as one audience",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP01"],
        atlas: &["AML.T0055"],
    },
    listens: &[Kind::Request, Kind::Response],
    page: Page {
        means: "One credential was presented to two servers. Each of them can now act as the agent at the other.",
        attacker: "Runs a server (or took one over) to which agents bring a token meant for another, by shared configuration, by token passthrough or after a redirect.",
        wire: "The same value in `Authorization` or an API-key header, compared by keyed fingerprint, to two different hosts, or on loopback to two different ports.",
        act: "Issue one credential per server, bound to it (RFC 8707), and revoke the shared one. Look whether the second server is one you approved.",
        quiet: "Two endpoints pinned with the same `auth.audience` are one. A local proxy that passes a request on while it is still unanswered is recognised on loopback, and a gateway is by its addresses under `gateway`. The request that follows a redirect is RED-02's: here only what the client presents there later counts.",
    },
};

struct First {
    server: ServerKey,
    ip: IpAddr,
    endpoint: Option<EndpointIndex>,
    name: String,
    exchange: (FlowId, ExchangeId),
    packet: PacketId,
}

/// Where each credential was presented last, and the requests that carried one and wait for
/// an answer.
#[derive(Default)]
pub(super) struct CredentialReuse {
    presented: Bounded<String, First>,
    waiting: Bounded<(FlowId, ExchangeId), ()>,
    /// Redirects that may yet be followed: client, host and port they lead to, since when.
    redirected: Bounded<(IpAddr, Arc<str>, u16), Timestamp>,
}

/// A request later than this does not follow the redirect.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

impl Rule for CredentialReuse {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let (exchange, head, target) = match &seen.kind {
            SeenKind::Request {
                exchange,
                head,
                target,
                ..
            } => (*exchange, *head, *target),
            SeenKind::Response {
                exchange,
                head,
                target,
                ..
            } => {
                let waited = self.waiting.remove(&(flow.info.id, *exchange)).is_some();
                if waited
                    && is_redirect(head.status)
                    && let Some(location) = head.headers.get("location").and_then(|l| resolve(target, l))
                    && let Some(to) = origin_of(&location)
                {
                    let key = (flow.info.client.ip(), to.host, to.port);
                    self.redirected.insert(key, seen.at.time);
                }
                return;
            }
            _ => return,
        };
        let pins = world.pins;
        let here = target.host_key();
        let to = (
            flow.info.client.ip(),
            Arc::clone(&target.origin.host),
            target.origin.port,
        );
        let followed = self
            .redirected
            .remove(&to)
            .is_some_and(|at| seen.at.time.since(at) <= FOLLOWED_WITHIN);
        for credential in presented(head).filter(|c| c.reusable && c.kind != "cookie") {
            let print = world.fingerprints.fingerprint(credential.secret).to_string();
            self.waiting.insert((flow.info.id, exchange), ());
            let name = label(world, target.endpoint, &here.0);
            let now = || First {
                server: here.clone(),
                ip: target.address.ip(),
                endpoint: target.endpoint,
                name: name.clone(),
                exchange: (flow.info.id, exchange),
                packet: seen.at.packet,
            };
            let Some(first) = self.presented.get_mut(&print) else {
                self.presented.insert(print, now());
                continue;
            };
            if first.server == here {
                *first = now();
                continue;
            }
            let audience = |index| pins.endpoint(index).and_then(|e| e.auth.audience.as_deref());
            let one_audience =
                audience(first.endpoint).is_some() && audience(first.endpoint) == audience(target.endpoint);
            let client = flow.info.client.ip();
            let passed_on = client == first.ip
                && (pins.is_gateway(client)
                    || (client.is_loopback() && self.waiting.peek(&first.exchange).is_some()));
            // RED-02 says what a followed redirect carried along; a pinned one may carry it.
            if one_audience || passed_on || followed {
                continue;
            }
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} presented to {name} the {} that it had presented to {}; revoke it and issue one per server",
                        agent(seen),
                        credential.describe(),
                        first.name
                    ),
                )
                .at(target.endpoint)
                .expected([first.server.0.to_string()])
                .observed(format!("{} ({})", here.0, credential.describe_with(world)))
                .shown_by(first.packet),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> crate::proto::http::RequestHead {
        request("POST", "/mcp", &[("Authorization", "Bearer abcdefgh")])
    }

    fn to(bench: &mut Bench, url: &str, ip: &str) -> Vec<Finding> {
        bench.server(url, ip);
        bench.request(&head(), true)
    }

    #[test]
    fn fires_on_a_second_server() {
        let mut bench = Bench::new(CredentialReuse::default(), "");
        assert!(to(&mut bench, "https://a.example/mcp", "203.0.113.5").is_empty());
        let found = to(&mut bench, "https://b.example/mcp", "203.0.113.6");
        assert_eq!(found[0].expected, ["a.example"]);
        assert!(!format!("{found:?}").contains("abcdefgh"));
    }

    #[test]
    fn on_loopback_every_port_is_a_server() {
        let mut bench = Bench::new(CredentialReuse::default(), "");
        to(&mut bench, "http://127.0.0.1:3001/mcp", "127.0.0.1");
        bench.response(&response(200, &[]), true);
        assert_eq!(to(&mut bench, "http://127.0.0.1:3002/mcp", "127.0.0.1").len(), 1);
    }

    #[test]
    fn leaves_a_followed_redirect_to_red_02_but_not_what_comes_later() {
        let mut bench = Bench::new(CredentialReuse::default(), "");
        to(&mut bench, "https://a.example/mcp", "203.0.113.5");
        bench.response(&response(307, &[("Location", "https://b.example/mcp")]), true);
        assert!(to(&mut bench, "https://b.example/mcp", "203.0.113.6").is_empty());
        assert_eq!(to(&mut bench, "https://b.example/mcp", "203.0.113.6").len(), 1);
    }

    #[test]
    fn stays_silent_on_one_audience_one_server_and_a_local_proxy() {
        let pins = "endpoints:\n - {name: a, url: 'https://a.example/', auth: {audience: 'https://x.example'}}\n - {name: b, url: 'https://b.example/', auth: {audience: 'https://x.example'}}\n";
        let mut bench = Bench::new(CredentialReuse::default(), pins);
        to(&mut bench, "https://a.example/mcp", "203.0.113.5");
        assert!(to(&mut bench, "https://b.example/mcp", "203.0.113.6").is_empty());
        let mut bench = Bench::new(CredentialReuse::default(), "");
        to(&mut bench, "https://a.example/mcp", "203.0.113.5");
        assert!(to(&mut bench, "https://a.example/mcp", "203.0.113.7").is_empty());
        let mut bench = Bench::new(CredentialReuse::default(), "");
        to(&mut bench, "http://127.0.0.1:8080/mcp", "127.0.0.1");
        assert!(
            to(&mut bench, "http://127.0.0.1:3001/mcp", "127.0.0.1").is_empty(),
            "nginx passes it on"
        );
    }
}
