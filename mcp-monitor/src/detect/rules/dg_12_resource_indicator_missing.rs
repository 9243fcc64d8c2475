//! DG-12 resource-indicator-missing: token or authorisation request without `resource` (2025-06-18 on).

use super::prelude::*;
use std::net::IpAddr;

use super::{
    mcp::version_header,
    oauth::{Asked, AuthorizationServers, authority},
};
use crate::mcp::Revision;

const META: Meta = Meta {
    id: "DG-12",
    slug: "resource-indicator-missing",
    category: "downgrade",
    trigger: "token or authorisation request without `resource` (2025-06-18 on)",
    silent_on: "older revisions",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Document, Kind::Request, Kind::Message],
    page: Page {
        means: "A client asked for a token without saying for which server (RFC 8707). The token is then good at every server of that authorization server, and each of them can use it at the others.",
        attacker: "Runs one of several servers that share an authorization server, and replays the tokens that reach it; or removed the parameter on the way, so that a token comes out that is good elsewhere.",
        wire: "A token request, or an authorization request with `response_type`, without `resource`, to an authorization server that an MCP server's metadata or a pin names, from a client that speaks revision 2025-06-18 or later.",
        act: "Update the client: since 2025-06-18 the parameter is required. Check the `aud` of the tokens that it got (CR-03).",
        quiet: "A client of which an older revision was seen is silent, as is one of which no revision was seen, and every login at a server that no protected-resource metadata and no pin ties to MCP.",
    },
};

/// Authorization servers of MCP, and the oldest revision each client speaks.
#[derive(Default)]
pub(super) struct ResourceIndicatorMissing {
    servers: AuthorizationServers,
    oldest: Bounded<IpAddr, Revision>,
}

impl Rule for ResourceIndicatorMissing {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        match &seen.kind {
            SeenKind::Message { message, context } => {
                // Later messages carry no news of the revision.
                if message.is("initialize") {
                    self.speaks(client, context.session.requested.as_ref());
                } else if message.is("server/discover") {
                    self.speaks(client, version_header(context).and_then(Revision::parse).as_ref());
                }
                return;
            }
            SeenKind::Request { head, .. } => {
                // Clients say it when they ask for metadata.
                if head.method == "GET"
                    && let Some(version) = head.headers.get_str("mcp-protocol-version")
                {
                    self.speaks(client, Revision::parse(version).as_ref());
                }
            }
            _ => self.servers.learn(seen),
        }
        let Some((asked, target)) = Asked::of(seen) else {
            return;
        };
        let parameters = asked.parameters();
        let signed = ["request", "request_uri"]
            .iter()
            .any(|p| parameters.get(p).is_some());
        if parameters.get("resource").is_some() || signed {
            return;
        }
        let Some(index) = self.servers.concerned(target, parameters, world) else {
            return;
        };
        let Some(revision) = self
            .oldest
            .get_mut(&client)
            .filter(|r| r.at_least(Revision::V2025_06_18))
        else {
            return;
        };
        let what = match &asked {
            Asked::Authorization(_) => "an authorization request",
            Asked::Token(_) => "a token request",
        };
        let expected = world
            .pins
            .endpoint(index)
            .map_or_else(|| "resource=…".to_owned(), |e| format!("resource={}", e.url));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} sent {what} without resource to {}; update the client and check the audience of its tokens",
                    agent(seen),
                    shown(&authority(&target.origin))
                ),
            )
            .at(index)
            .expected([expected])
            .observed(format!("{what} without resource (MCP {})", revision.as_str())),
        );
    }
}

impl ResourceIndicatorMissing {
    fn speaks(&mut self, client: IpAddr, revision: Option<&Revision>) {
        let Some(revision) = revision else { return };
        if self
            .oldest
            .get_mut(&client)
            .is_none_or(|oldest| revision < oldest)
        {
            self.oldest.insert(client, revision.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {authorization_servers: ['https://login.example']}}]\n";
    const INIT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

    fn asks(pins: &str, revision: Option<&str>, form: &str) -> Vec<Finding> {
        let mut bench = Bench::new(ResourceIndicatorMissing::default(), pins);
        if let Some(revision) = revision {
            bench.session.requested = Revision::parse(revision);
            bench.says(INIT);
        }
        bench.server("https://login.example/token", "203.0.113.9");
        bench.document(Direction::ToServer, "application/x-www-form-urlencoded", form)
    }

    const TOKEN: &str = "grant_type=authorization_code&code=c&code_verifier=v";

    #[test]
    fn fires_on_token_and_authorization_requests() {
        let found = asks(PINS, Some("2025-06-18"), TOKEN);
        assert_eq!(found[0].expected, ["resource=https://mcp.example/mcp"]);
        let mut bench = Bench::new(ResourceIndicatorMissing::default(), PINS);
        bench.session.requested = Revision::parse("2025-11-25");
        bench.says(INIT);
        bench.server("https://login.example/authorize", "203.0.113.9");
        let head = request("GET", "/authorize?response_type=code&client_id=c", &[]);
        assert_eq!(bench.request(&head, false).len(), 1);
    }

    #[test]
    fn stays_silent_on_older_revisions_with_resource_and_outside_mcp() {
        assert!(asks(PINS, Some("2025-03-26"), TOKEN).is_empty());
        assert!(asks(PINS, None, TOKEN).is_empty());
        let with = format!("{TOKEN}&resource=https%3A%2F%2Fmcp.example%2Fmcp");
        assert!(asks(PINS, Some("2025-11-25"), &with).is_empty());
        assert!(asks("", Some("2025-11-25"), TOKEN).is_empty());
    }
}
