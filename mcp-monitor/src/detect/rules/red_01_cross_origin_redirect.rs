//! RED-01 cross-origin-redirect: 3xx from an MCP endpoint to another origin; → followed (new flow to it within 10 s).

use super::prelude::*;
use std::{net::IpAddr, time::Duration};

use super::origin::{bare, is_https_upgrade, is_redirect, origin_of, resolve, same_origin};
use crate::{
    mcp::context::{EndpointIndex, Origin},
    types::{PacketId, Timestamp},
};

const META: Meta = Meta {
    id: "RED-01",
    slug: "cross-origin-redirect",
    category: "redirection",
    trigger: "3xx from an MCP endpoint to another origin; → followed (new flow to it within 10 s)",
    silent_on: "same-origin slash redirect; pinned redirect",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Response, Kind::Request, Kind::ClientHello],
    page: Page {
        means: "An MCP endpoint answered with a redirect to another origin. If the client followed, the alert is raised again as critical.",
        attacker: "Controls the server, or the cleartext path to it, and moves the session to a machine of theirs. Several SDK versions follow such redirects and take the request body, and some credential headers, along.",
        wire: "Status 301, 302, 303, 307 or 308 with a `Location` whose scheme, host or port differs from the request's; then, within 10 seconds, a connection of the same client to that origin.",
        act: "Look at who operates the target. If the client followed, treat what it sent as exposed (RED-02 says what that was). Update the SDK: newer ones refuse.",
        quiet: "A redirect that stays on the origin (a slash added) is silent, as is a step from http to https on the default ports of one host. List sanctioned targets under the endpoint's `redirects`.",
    },
};

/// A new flow to the target within this time means that the client followed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(10);

struct Awaited {
    endpoint: Option<EndpointIndex>,
    name: String,
    expected: Vec<String>,
    observed: String,
    at: Timestamp,
    packet: PacketId,
}

/// Remembers redirects whose target may yet be visited.
#[derive(Default)]
pub(super) struct CrossOriginRedirect {
    awaited: Bounded<(IpAddr, Box<str>, u16), Awaited>,
}

impl Rule for CrossOriginRedirect {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        let (host, port) = match &seen.kind {
            SeenKind::Request { target, .. } => (target.origin.host.as_ref(), target.origin.port),
            SeenKind::ClientHello(hello) => match &hello.server_name {
                Some(name) => (name.as_ref(), flow.info.server.port()),
                None => return,
            },
            _ => return self.redirect(seen, client, world, out),
        };
        let Some(awaited) = self.awaited.remove(&(client, Box::from(host), port)) else {
            return;
        };
        if seen.at.time.since(awaited.at) > FOLLOWED_WITHIN {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} followed a redirect of {} to {}; treat what it sent there as exposed",
                    agent(seen),
                    awaited.name,
                    awaited.observed
                ),
            )
            .at(awaited.endpoint)
            .expected(awaited.expected)
            .observed(awaited.observed)
            .severity(Severity::Critical)
            .shown_by(awaited.packet),
        );
    }
}

impl CrossOriginRedirect {
    fn redirect(&mut self, seen: &Seen<'_>, client: IpAddr, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Response {
            head,
            target,
            mcp: true,
            ..
        } = &seen.kind
        else {
            return;
        };
        if !is_redirect(head.status) {
            return;
        }
        let Some(url) = head.headers.get("location").and_then(|l| resolve(target, l)) else {
            return;
        };
        let Some(origin) = origin_of(&url) else { return };
        let allowed = allowed(world, target.endpoint);
        if same_origin(target, &origin) || is_https_upgrade(target, &origin) || allowed.contains(&origin) {
            return;
        }
        let name = label(world, target.endpoint, &target.origin.host);
        let expected: Vec<String> = std::iter::once(&target.origin)
            .chain(allowed)
            .map(ToString::to_string)
            .collect();
        let observed = bare(&url);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{name} redirected {} (status {}) to another origin, {observed}; check who operates it before the agent goes there",
                    agent(seen),
                    head.status
                ),
            )
            .at(target.endpoint)
            .expected(expected.clone())
            .observed(observed.clone()),
        );
        let awaited = Awaited {
            endpoint: target.endpoint,
            name,
            expected,
            observed,
            at: seen.at.time,
            packet: seen.at.packet,
        };
        self.awaited
            .insert((client, Box::from(origin.host.as_ref()), origin.port), awaited);
    }
}

fn allowed<'w>(world: &World<'w>, endpoint: Option<EndpointIndex>) -> &'w [Origin] {
    world.pins.endpoint(endpoint).map_or(&[], |e| &e.redirects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', redirects: ['https://eu.example']}]\n";

    fn to(location: &str) -> Vec<Finding> {
        let mut bench = Bench::new(CrossOriginRedirect::default(), PINS);
        bench.response(&response(307, &[("Location", location)]), true)
    }

    #[test]
    fn fires_on_another_host_port_or_scheme() {
        for location in [
            "https://evil.example/mcp?token=x",
            "//evil.example/",
            "https://mcp.example:8443/mcp",
            "http://mcp.example/mcp",
            "https:\\\\evil.example",
        ] {
            let found = to(location);
            assert_eq!(found.len(), 1, "{location}");
            assert!(!found[0].observed.as_ref().unwrap().contains("token"));
        }
    }

    #[test]
    fn fires_again_as_critical_when_followed() {
        let mut bench = Bench::new(CrossOriginRedirect::default(), PINS);
        bench.response(&response(302, &[("Location", "http://evil.example/mcp")]), true);
        bench.server("http://evil.example/mcp", "198.51.100.66");
        let found = bench.request(&request("GET", "/mcp", &[]), false);
        assert_eq!(found[0].severity, Some(Severity::Critical));
        assert_eq!(found[0].endpoint, Some(0));
        assert!(bench.request(&request("GET", "/mcp", &[]), false).is_empty());
    }

    #[test]
    fn on_loopback_every_port_is_an_origin() {
        let mut bench = Bench::new(CrossOriginRedirect::default(), "");
        bench.server("http://127.0.0.1:3001/mcp", "127.0.0.1");
        assert_eq!(
            bench
                .response(&response(307, &[("Location", "http://127.0.0.1:3002/mcp")]), true)
                .len(),
            1
        );
        assert_eq!(
            bench
                .response(&response(307, &[("Location", "http://127.0.0.2:3001/mcp")]), true)
                .len(),
            1
        );
        assert_eq!(
            bench
                .response(
                    &response(307, &[("Location", "http://localhost:3001/mcp/")]),
                    true
                )
                .len(),
            0
        );
    }

    #[test]
    fn stays_silent_on_slashes_pinned_targets_upgrades_and_what_is_not_mcp() {
        for location in ["/mcp/", "https://mcp.example/mcp/", "https://eu.example/mcp"] {
            assert!(to(location).is_empty(), "{location}");
        }
        let mut bench = Bench::new(CrossOriginRedirect::default(), PINS);
        let away = response(302, &[("Location", "https://login.example/")]);
        assert!(bench.response(&away, false).is_empty());
        assert!(
            bench
                .response(&response(200, &[("Location", "https://evil.example/")]), true)
                .is_empty()
        );
        bench.server("http://mcp.example/mcp", "203.0.113.5");
        assert!(
            bench
                .response(&response(301, &[("Location", "https://mcp.example/mcp")]), true)
                .is_empty()
        );
    }
}
