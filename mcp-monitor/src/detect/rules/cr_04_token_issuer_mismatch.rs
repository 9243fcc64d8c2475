//! CR-04 token-issuer-mismatch: JWT `iss` is not the pinned authorization server.

use super::prelude::*;
use super::secrets::presented;
use crate::baseline::jwt_part;

const META: Meta = Meta {
    id: "CR-04",
    slug: "token-issuer-mismatch",
    category: "credential",
    trigger: "JWT `iss` is not the pinned authorization server",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Request],
    page: Page {
        means: "A token of another authorization server than the pinned ones was presented.",
        attacker: "Sent the client to an authorization server of theirs (RED-06), or the server takes tokens of anyone.",
        wire: "A JWT in `Authorization` whose `iss` claim is none of `auth.authorization_servers`.",
        act: "Find which authorization server the client used and why. Revoke the token if the issuer is real.",
        quiet: "A trailing slash makes no difference. Opaque tokens, and JWTs without `iss`, are silent. List every issuer that is in use.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct TokenIssuerMismatch;

impl Rule for TokenIssuerMismatch {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Request {
            head,
            target,
            mcp: true,
            ..
        } = &seen.kind
        else {
            return;
        };
        let Some(endpoint) = world.pins.endpoint(target.endpoint) else {
            return;
        };
        let servers = &endpoint.auth.authorization_servers;
        if servers.is_empty() {
            return;
        }
        let issuer = presented(head)
            .filter(|c| c.header == "authorization")
            .find_map(|c| jwt_part(c.secret, 1))
            .and_then(|claims| claims.get("iss")?.as_str().map(str::to_owned));
        let Some(issuer) = issuer else { return };
        if servers
            .iter()
            .any(|s| s.trim_end_matches('/') == issuer.trim_end_matches('/'))
        {
            return;
        }
        let issuer = shown(&issuer);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} presented to {} a token issued by {issuer}, which is not its authorization server; find who sent the client there",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(target.endpoint)
            .expected(servers.iter().cloned())
            .observed(issuer),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {authorization_servers: ['https://login.example']}}]\n";

    fn with(claims: &str) -> usize {
        let header = format!("Bearer {}", jwt(r#"{"alg":"RS256"}"#, claims));
        Bench::new(TokenIssuerMismatch, PINS)
            .request(&request("POST", "/mcp", &[("Authorization", &header)]), true)
            .len()
    }

    #[test]
    fn fires_on_another_issuer() {
        assert_eq!(with(r#"{"iss":"https://evil.example"}"#), 1);
    }

    #[test]
    fn stays_silent_on_the_pinned_issuer_and_where_none_is_named() {
        assert_eq!(with(r#"{"iss":"https://login.example/"}"#), 0);
        assert_eq!(with(r#"{"sub":"x"}"#), 0);
        let opaque = request("POST", "/mcp", &[("Authorization", "Bearer abcdef")]);
        assert!(
            Bench::new(TokenIssuerMismatch, PINS)
                .request(&opaque, true)
                .is_empty()
        );
    }
}
