//! PV-05 foreign-origin-accepted: foreign Origin or Host answered other than 403.

use super::prelude::*;
use std::net::IpAddr;

use url::Url;

use crate::mcp::{context::Target, target::split_authority};

const META: Meta = Meta {
    id: "PV-05",
    slug: "foreign-origin-accepted",
    category: "protocol",
    trigger: "foreign Origin or Host answered other than 403",
    silent_on: "development UI listed",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "dns-infrastructure"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Response],
    page: Page {
        means: "An MCP server answered a request that a web page of another origin made, or one for a name that is not its own. It does not check Origin and Host as the specification asks, so any page a user opens can call its tools (DNS rebinding, CVE-2026-42559).",
        attacker: "Lets a victim's browser open a page whose name then resolves to 127.0.0.1, and calls the tools of the local server from its script.",
        wire: "`Origin: https://evil.example` (or `Host: evil.example` at a loopback address) on an MCP request, answered with 2xx or 3xx instead of 403.",
        act: "Look at what was called in that session, and which page the user had open. Turn on the Origin and Host checks of the server (allowed hosts and origins), or bind it to a socket that browsers cannot reach.",
        quiet: "A web client that is meant to use the server: list its origin under `rules: {PV-05: {allow: [\"https://app.example\"]}}`, for all servers or for the endpoint. Pages of this machine (`localhost`) at a loopback server are silent: development tools.",
    },
};

/// Has no memory.
#[derive(Default)]
pub(super) struct ForeignOriginAccepted;

impl Rule for ForeignOriginAccepted {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Response {
            request: Some(request),
            head,
            target,
            mcp: true,
            ..
        } = &seen.kind
        else {
            return;
        };
        // 400 and 421 are how other servers refuse.
        if head.status >= 400 || request.method == "OPTIONS" {
            return;
        }
        let index = target.endpoint;
        let accepted = |value: &str| world.pins.accepts(META.id, index, value);
        let origin = request
            .headers
            .get_str("origin")
            .filter(|origin| is_foreign(origin, target) && !accepted(origin))
            .map(|origin| ("Origin", shown(origin)));
        let host = foreign_host(target, &request.authority)
            .filter(|host| index.is_none() && !accepted(host))
            .map(|host| ("Host", shown(&host)));
        for (header, value) in [origin, host].into_iter().flatten() {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} answered a request with the foreign {header} {value} (status {}); any web page can call its tools. Look at what was called, then turn on its checks",
                        label(world, index, &target.origin.host),
                        head.status
                    ),
                )
                .at(index)
                .expected(["403"])
                .observed(format!("{header} {value} answered {}", head.status)),
            );
        }
    }
}

/// The page that made the request is of another host than the server.
fn is_foreign(origin: &str, target: &Target) -> bool {
    let Ok(url) = Url::parse(origin) else {
        // `null`: a sandboxed frame or a file.
        return true;
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    // Extensions and applications have schemes of their own; no web page can forge those.
    if !matches!(url.scheme(), "http" | "https") {
        return false;
    }
    let here = is_here(host) && target.address.ip().is_loopback();
    host != &*target.origin.host && !here
}

/// The name is this machine's.
fn is_here(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The name that a request to a loopback address asks for, if it is a public one.
fn foreign_host(target: &Target, authority: &Option<bytes::Bytes>) -> Option<String> {
    if !target.address.ip().is_loopback() {
        return None;
    }
    let text = std::str::from_utf8(authority.as_deref()?).ok()?;
    let (host, _) = split_authority(text);
    let literal = host.parse::<IpAddr>().is_ok();
    (!host.is_empty() && !literal && !is_here(&host) && !super::addresses::is_internal_name(&host))
        .then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pins: &str, server: (&str, &str), headers: &[(&str, &str)], status: u16) -> Vec<Finding> {
        let mut bench = Bench::new(ForeignOriginAccepted, pins);
        bench.server(server.0, server.1);
        bench.request(&request("POST", "/mcp", headers), true);
        bench.response(&response(status, &[]), true)
    }

    const LOCAL: (&str, &str) = ("http://localhost:3000/mcp", "127.0.0.1");
    const REMOTE: (&str, &str) = ("https://mcp.example/mcp", "203.0.113.5");

    #[test]
    fn fires_on_foreign_pages_and_names_that_are_answered() {
        let evil = [("Host", "localhost:3000"), ("Origin", "https://evil.example")];
        assert_eq!(run("", LOCAL, &evil, 200).len(), 1);
        assert_eq!(
            run("", REMOTE, &[("Host", "mcp.example"), ("Origin", "null")], 202).len(),
            1
        );
        let rebound = [
            ("Host", "evil.example:3000"),
            ("Origin", "http://evil.example:3000"),
        ];
        let found = run("", LOCAL, &rebound, 200);
        assert_eq!(
            found[1].observed.as_deref(),
            Some("Host evil.example answered 200")
        );
    }

    #[test]
    fn stays_silent_on_refusals_own_pages_and_those_listed() {
        let evil = [("Host", "localhost:3000"), ("Origin", "https://evil.example")];
        for status in [403, 400, 421] {
            assert!(run("", LOCAL, &evil, status).is_empty());
        }
        let inspector = [("Host", "localhost:3000"), ("Origin", "http://localhost:6274")];
        assert!(run("", LOCAL, &inspector, 200).is_empty());
        let own = [("Host", "mcp.example"), ("Origin", "https://mcp.example")];
        assert!(run("", REMOTE, &own, 200).is_empty());
        assert!(run("", LOCAL, &[("Host", "dev-box")], 200).is_empty());
        let listed = "rules: {PV-05: {allow: ['https://evil.example']}}\n";
        assert!(run(listed, LOCAL, &evil, 200).is_empty());
    }
}
