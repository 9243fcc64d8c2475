//! DG-11 pkce-lowered: PKCE absent or `plain`, implicit grant, metadata lost S256.

use super::prelude::*;
use serde_json::Value;

use super::oauth::{Asked, AuthorizationServers, Parameters, answer, authority, is_server_metadata};
use crate::mcp::context::{EndpointIndex, ServerKey, Target};

const META: Meta = Meta {
    id: "DG-11",
    slug: "pkce-lowered",
    category: "downgrade",
    trigger: "PKCE absent or `plain`, implicit grant, metadata lost S256",
    silent_on: "OAuth outside MCP",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-/base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "credential-harvesting"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Document, Kind::Request],
    page: Page {
        means: "A login for an MCP server is not bound to the client that began it: who sees the code can redeem it. MCP demands PKCE with S256 and OAuth 2.1 forbids the implicit grant.",
        attacker: "Alters the metadata so that S256 is not offered, or the authorization request so that the challenge is missing, and then uses an intercepted code (SAFE-T1408).",
        wire: "An authorization request without `code_challenge`, with `code_challenge_method=plain` (or none, which means plain), or with `response_type=token`; a token request with a code and no `code_verifier`; metadata whose `code_challenge_methods_supported` had S256 before and has it no longer.",
        act: "Find the client that sent the request and its library's version. Compare the metadata with what the authorization server itself says; if they differ, something in between changed it. Revoke tokens that were issued.",
        quiet: "Only OAuth of MCP is judged: an authorization server that an MCP server's metadata or a pin names, one on an MCP server's own origin, or a request whose `resource` is a pinned server. Pushed and signed requests (`request_uri`, `request`) are judged where their content is seen.",
    },
};

/// Which authorization servers are MCP's, which servers speak MCP, and where S256 was on offer.
#[derive(Default)]
pub(super) struct PkceLowered {
    servers: AuthorizationServers,
    mcp: Once<ServerKey>,
    offered: Remembered<(String, Box<str>), bool>,
}

impl Rule for PkceLowered {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.offered)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        self.servers.learn(seen);
        match &seen.kind {
            SeenKind::Request {
                target, mcp: true, ..
            } => {
                let server = target.host_key();
                if self.mcp.peek(&server).is_none() {
                    self.mcp.first(server);
                }
            }
            SeenKind::Document { document, target, .. } if is_server_metadata(&target.path) => {
                if let Some(body) = answer(document) {
                    self.metadata(target, &body, world, out);
                }
                return;
            }
            _ => {}
        }
        let Some((asked, target)) = Asked::of(seen) else {
            return;
        };
        let Some(wrong) = wrong(&asked) else { return };
        let Some(index) = self.concerned(target, asked.parameters(), world) else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} asked {} for a login with {wrong}; find the client and what it was told by the server's metadata",
                    agent(seen),
                    shown(&authority(&target.origin))
                ),
            )
            .at(index)
            .expected(["response_type=code with an S256 challenge"])
            .observed(wrong),
        );
    }
}

impl PkceLowered {
    fn concerned(
        &self,
        target: &Target,
        parameters: &Parameters,
        world: &World<'_>,
    ) -> Option<Option<EndpointIndex>> {
        self.servers
            .concerned(target, parameters, world)
            .or_else(|| self.mcp.peek(&target.host_key()).map(|()| target.endpoint))
    }

    fn metadata(&mut self, target: &Target, body: &Value, world: &World<'_>, out: &mut Vec<Finding>) {
        if body.get("authorization_endpoint").is_none() {
            return;
        }
        let methods = body
            .get("code_challenge_methods_supported")
            .and_then(Value::as_array);
        let offers = methods.is_some_and(|m| m.iter().any(|m| m.as_str() == Some("S256")));
        let key = (authority(&target.origin), target.path.clone());
        if self.offered.insert(key, offers) != Some(true) || offers {
            return;
        }
        let observed = match methods {
            None => "no code_challenge_methods_supported".to_owned(),
            Some(list) => {
                let names = list.iter().filter_map(Value::as_str).take(8).map(shown);
                format!(
                    "code_challenge_methods_supported {}",
                    names.collect::<Vec<_>>().join(" ")
                )
            }
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "metadata of {} no longer offers PKCE with S256; ask its owner, and compare with the metadata as the server itself gives it",
                    label(world, target.endpoint, &target.origin.host)
                ),
            )
            .at(target.endpoint.or_else(|| self.servers.of(target, world).flatten()))
            .expected(["code_challenge_methods_supported S256"])
            .observed(observed),
        );
    }
}

fn wrong(asked: &Asked) -> Option<&'static str> {
    match asked {
        Asked::Authorization(p) => {
            let types = p.get("response_type")?;
            if types.split([' ', '+']).any(|t| t == "token") {
                return Some("the implicit grant");
            }
            if p.get("request").is_some() || p.get("request_uri").is_some() || types != "code" {
                return None;
            }
            match (p.get("code_challenge"), p.get("code_challenge_method")) {
                (None, _) => Some("no PKCE challenge"),
                (Some(_), Some("S256")) => None,
                (Some(_), _) => Some("the PKCE method plain"),
            }
        }
        Asked::Token(p) => (p.get("grant_type") == Some("authorization_code")
            && p.get("code").is_some()
            && p.get("code_verifier").is_none())
        .then_some("no PKCE verifier"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {authorization_servers: ['https://login.example']}}]\n";

    fn authorizes(pins: &str, query: &str) -> Vec<Finding> {
        let mut bench = Bench::new(PkceLowered::default(), pins);
        bench.server("https://login.example/authorize", "203.0.113.9");
        bench.request(&request("GET", &format!("/authorize?{query}"), &[]), false)
    }

    #[test]
    fn fires_on_logins_without_s256() {
        for (query, what) in [
            ("response_type=code&client_id=c&state=s", "no PKCE challenge"),
            (
                "response_type=code&code_challenge=x&code_challenge_method=plain",
                "the PKCE method plain",
            ),
            ("response_type=code&code_challenge=x", "the PKCE method plain"),
            ("response_type=id_token%20token&client_id=c", "the implicit grant"),
        ] {
            let found = authorizes(PINS, query);
            assert_eq!(found[0].observed.as_deref(), Some(what), "{query}");
            assert_eq!(found[0].endpoint, Some(0));
        }
        let mut bench = Bench::new(PkceLowered::default(), PINS);
        bench.server("https://login.example/token", "203.0.113.9");
        let form = "grant_type=authorization_code&code=abc";
        assert_eq!(
            bench
                .document(Direction::ToServer, "application/x-www-form-urlencoded", form)
                .len(),
            1
        );
    }

    #[test]
    fn fires_where_the_metadata_names_the_server_and_where_s256_is_lost() {
        let mut bench = Bench::new(PkceLowered::default(), "");
        bench.server(
            "https://mcp.example/.well-known/oauth-protected-resource",
            "203.0.113.5",
        );
        let named = r#"{"resource":"https://mcp.example","authorization_servers":["https://idp.example/"]}"#;
        bench.document(Direction::ToClient, "application/json", named);
        bench.server("https://idp.example/a", "203.0.113.9");
        assert_eq!(
            bench
                .request(&request("GET", "/a?response_type=code", &[]), false)
                .len(),
            1
        );
        bench.server(
            "https://idp.example/.well-known/oauth-authorization-server",
            "203.0.113.9",
        );
        let mut gives = |methods: &str| {
            let body =
                format!(r#"{{"authorization_endpoint":"x","code_challenge_methods_supported":{methods}}}"#);
            bench
                .document(Direction::ToClient, "application/json", &body)
                .len()
        };
        assert_eq!(
            (gives(r#"["S256"]"#), gives(r#"["plain"]"#), gives(r#"["plain"]"#)),
            (0, 1, 0)
        );
    }

    #[test]
    fn lost_s256_is_said_of_the_endpoint_that_logs_in_there() {
        let mut bench = Bench::new(PkceLowered::default(), PINS);
        bench.server(
            "https://login.example/.well-known/oauth-authorization-server",
            "203.0.113.9",
        );
        let mut gives = |methods: &str| {
            let body =
                format!(r#"{{"authorization_endpoint":"x","code_challenge_methods_supported":{methods}}}"#);
            bench.document(Direction::ToClient, "application/json", &body)
        };
        gives(r#"["S256"]"#);
        assert_eq!(gives("[]")[0].endpoint, Some(0));
    }

    #[test]
    fn stays_silent_on_s256_and_on_oauth_outside_mcp() {
        assert!(
            authorizes(
                PINS,
                "response_type=code&code_challenge=x&code_challenge_method=S256"
            )
            .is_empty()
        );
        assert!(authorizes("", "response_type=code&client_id=c").is_empty());
        assert!(authorizes(PINS, "client_id=c&request_uri=urn%3Ax").is_empty());
    }
}
