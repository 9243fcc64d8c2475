//! CR-03 audience-mismatch: JWT `aud` / `resource` is not this server.

use super::prelude::*;
use serde_json::Value;

use super::secrets::presented;
use crate::baseline::jwt_part;

const META: Meta = Meta {
    id: "CR-03",
    slug: "audience-mismatch",
    category: "credential",
    trigger: "JWT `aud` / `resource` is not this server",
    silent_on: "opaque tokens",
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
        means: "A token that was issued for another service went to this server, which can now use it there (confused deputy).",
        attacker: "Runs a server that accepts any token, or lures agents to present what they hold for something else.",
        wire: "A JWT in `Authorization` whose `aud` (or `resource`) claim does not hold the endpoint's pinned `auth.audience`.",
        act: "Revoke the token. Have the client ask for one with `resource` set to this server (RFC 8707), and the server refuse others.",
        quiet: "Opaque tokens cannot be read and are silent. A trailing slash makes no difference.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct AudienceMismatch;

impl Rule for AudienceMismatch {
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
        let Some(audience) = &endpoint.auth.audience else {
            return;
        };
        let claims = presented(head)
            .filter(|c| c.header == "authorization")
            .find_map(|c| jwt_part(c.secret, 1));
        let Some(claims) = claims else { return };
        let named: Vec<&str> = ["aud", "resource"]
            .iter()
            .filter_map(|key| claims.get(key))
            .flat_map(|value| match value {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                other => other.as_str().into_iter().collect::<Vec<_>>(),
            })
            .collect();
        let same = |a: &str| a.trim_end_matches('/') == audience.trim_end_matches('/');
        if named.iter().any(|a| same(a)) {
            return;
        }
        let observed = match named.is_empty() {
            true => "no audience".to_owned(),
            false => shown(&named.join(" ")),
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} presented to {} a token for another audience ({observed}); revoke it and have the client ask for one bound to this server",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(target.endpoint)
            .expected([audience.clone()])
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {audience: 'https://mcp.example'}}]\n";

    fn with(claims: &str) -> usize {
        let header = format!("Bearer {}", jwt(r#"{"alg":"RS256"}"#, claims));
        Bench::new(AudienceMismatch, PINS)
            .request(&request("POST", "/mcp", &[("Authorization", &header)]), true)
            .len()
    }

    #[test]
    fn fires_on_another_audience_and_on_none() {
        assert_eq!(with(r#"{"aud":"https://graph.example"}"#), 1);
        assert_eq!(with(r#"{"aud":["a","b"]}"#), 1);
        assert_eq!(with(r#"{"sub":"x"}"#), 1);
    }

    #[test]
    fn stays_silent_on_its_own_audience_and_on_opaque_tokens() {
        assert_eq!(with(r#"{"aud":["x","https://mcp.example/"]}"#), 0);
        assert_eq!(with(r#"{"aud":"x","resource":"https://mcp.example"}"#), 0);
        let opaque = request("POST", "/mcp", &[("Authorization", "Bearer abc.def")]);
        assert!(
            Bench::new(AudienceMismatch, PINS)
                .request(&opaque, true)
                .is_empty()
        );
    }
}
