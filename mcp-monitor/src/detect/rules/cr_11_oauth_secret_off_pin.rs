//! CR-11 oauth-secret-off-pin: refresh token, client secret or code verifier to an unpinned host.

use super::prelude::*;
use std::net::IpAddr;

use url::Url;

use super::{
    domain::is_below,
    oauth::{AuthorizationServers, Parameters, pinned_for},
    secrets::presented,
};
use crate::mcp::context::{EndpointIndex, Target};

const META: Meta = Meta {
    id: "CR-11",
    slug: "oauth-secret-off-pin",
    category: "credential",
    trigger: "refresh token, client secret or code verifier to an unpinned host",
    silent_on: "the pinned authorization server",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP01"],
        atlas: &["AML.T0055"],
    },
    listens: &[Kind::Document, Kind::Message],
    page: Page {
        means: "A client sent what only its authorization server may see to another host. Who runs that host can now get tokens in the client's name, a refresh token even for weeks.",
        attacker: "Changed the metadata (RED-06, RED-07) or the DNS answer, so that the client's token request went to them.",
        wire: "A token request (form or JSON) with `refresh_token`, `client_secret`, `client_assertion` or `code_verifier` (or the client's secret as `Authorization: Basic`) to a host that no `auth.authorization_servers` names, from a client of an endpoint that pins them, or for such an endpoint by `resource`, or with a secret that went to the pinned server before.",
        act: "Revoke the refresh token and rotate the client secret at the real authorization server now. Then find where the client learned the host: the metadata it fetched before.",
        quiet: "Needs `auth.authorization_servers` in a pin. A client that also logs in to something else than MCP: large public providers are known; list others by host, `rules: {CR-11: {allow: [sso.corp.example]}}`.",
    },
};

/// Parameters that are such secrets.
const SECRETS: &[&str] = &[
    "refresh_token",
    "client_secret",
    "client_assertion",
    "code_verifier",
];

/// Authorization servers that clients use for other things than MCP.
const PROVIDERS: &[&str] = &[
    "googleapis.com",
    "accounts.google.com",
    "login.microsoftonline.com",
    "login.windows.net",
    "github.com",
    "gitlab.com",
    "amazonaws.com",
    "amazoncognito.com",
    "slack.com",
    "salesforce.com",
    "okta.com",
    "auth0.com",
    "atlassian.com",
    "anthropic.com",
    "openai.com",
    "huggingface.co",
];

/// Where clients logged in for MCP, and fingerprints of secrets that pinned servers got.
#[derive(Default)]
pub(super) struct OauthSecretOffPin {
    servers: AuthorizationServers,
    clients: Bounded<IpAddr, EndpointIndex>,
    known: Bounded<String, EndpointIndex>,
}

impl Rule for OauthSecretOffPin {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let pins = world.pins;
        let with_servers = |index: &EndpointIndex| {
            pins.endpoint(Some(*index))
                .is_some_and(|e| !e.auth.authorization_servers.is_empty())
        };
        let Some(client) = seen.flow.map(|f| f.info.client.ip()) else {
            return;
        };
        match &seen.kind {
            SeenKind::Message { message, context } => {
                if message.is("initialize")
                    && let Some(index) = context.target.endpoint.filter(with_servers)
                {
                    self.clients.insert(client, index);
                }
            }
            SeenKind::Document {
                document,
                request,
                target,
                ..
            } => {
                self.servers.learn(seen);
                if let Some(index) = target.endpoint.filter(with_servers) {
                    self.clients.insert(client, index);
                }
                let Some(parameters) = Parameters::of_body(document) else {
                    return;
                };
                // RFC 6749 section 2.3.1: the secret may be in the header.
                let basic = || {
                    parameters.get("grant_type")?;
                    let head = (*request)?;
                    let presented = presented(head).find(|p| p.kind == "basic")?;
                    Some(("client secret (Basic)", presented.secret))
                };
                let Some((kind, secret)) = SECRETS
                    .iter()
                    .find_map(|s| Some((*s, parameters.get(s)?.as_bytes())))
                    .or_else(basic)
                else {
                    return;
                };
                let print = world.fingerprints.fingerprint(secret).to_string();
                if let Some(index) = pinned_for(target, world) {
                    self.known.insert(print, index);
                    return;
                }
                if pins.accepts(META.id, target.endpoint, &target.origin.host) {
                    return;
                }
                let index = self
                    .whose(target, &parameters, &print, world, client)
                    .filter(with_servers);
                let Some(endpoint) = pins.endpoint(index) else {
                    return;
                };
                let there = shown(&target.origin.to_string());
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{} sent a {kind} of {} to {there}, which is not its authorization server; revoke it there now",
                            agent(seen),
                            endpoint.name
                        ),
                    )
                    .at(index)
                    .expected(endpoint.auth.authorization_servers.iter().map(|s| shown(s)))
                    .observed(format!("{kind}, {} bytes, fingerprint {print}, to {there}", secret.len())),
                );
            }
            _ => {}
        }
    }
}

impl OauthSecretOffPin {
    /// The endpoint that the secret is for.
    fn whose(
        &mut self,
        target: &Target,
        parameters: &Parameters,
        print: &str,
        world: &World<'_>,
        client: IpAddr,
    ) -> Option<EndpointIndex> {
        if let Some(index) = self.known.get_mut(print) {
            return Some(*index);
        }
        if let Some(Some(index)) = self.servers.concerned(target, parameters, world) {
            return Some(index);
        }
        let other = PROVIDERS.iter().any(|p| is_below(&target.origin.host, p))
            || parameters
                .get("resource")
                .and_then(|r| Url::parse(r).ok())
                .is_some_and(|r| r.host_str().is_some_and(|h| world.pins.match_host(h).is_none()));
        if other {
            return None;
        }
        self.clients.get_mut(&client).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {authorization_servers: ['https://login.example']}}]\n";
    const FORM: &str = "application/x-www-form-urlencoded";
    const INIT: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

    fn posts(bench: &mut Bench, url: &str, form: &str) -> Vec<Finding> {
        bench.server(url, "203.0.113.9");
        bench.document(Direction::ToServer, FORM, form)
    }

    #[test]
    fn fires_on_secrets_to_another_host_and_does_not_show_them() {
        for secret in ["refresh_token", "client_secret", "code_verifier"] {
            let mut bench = Bench::new(OauthSecretOffPin::default(), PINS);
            bench.says(INIT);
            let form = format!("grant_type=x&{secret}=s3cr3tvalue");
            let found = posts(&mut bench, "https://evil.example/token", &form);
            assert_eq!(found[0].expected, ["https://login.example"], "{secret}");
            assert!(!format!("{found:?}").contains("s3cr3tvalue"));
        }
    }

    #[test]
    fn fires_by_resource_and_by_a_secret_that_the_pinned_server_got() {
        let mut bench = Bench::new(OauthSecretOffPin::default(), PINS);
        let form = "grant_type=refresh_token&refresh_token=abcdef";
        assert!(posts(&mut bench, "https://login.example/token", form).is_empty());
        assert_eq!(
            posts(&mut bench, "https://accounts.google.com/token", form).len(),
            1
        );
        let mut bench = Bench::new(OauthSecretOffPin::default(), PINS);
        let form = "grant_type=x&code_verifier=v&resource=https%3A%2F%2Fmcp.example%2Fmcp";
        assert_eq!(posts(&mut bench, "https://evil.example/token", form).len(), 1);
    }

    #[test]
    fn fires_on_a_client_secret_in_the_header() {
        let mut bench = Bench::new(OauthSecretOffPin::default(), PINS);
        bench.says(INIT);
        bench.head = request(
            "POST",
            "/token",
            &[("Authorization", "Basic Y2xpZW50OnMzY3IzdHZhbHVl")],
        );
        let form = "grant_type=authorization_code&code=c";
        let found = posts(&mut bench, "https://evil.example/token", form);
        assert!(
            found[0]
                .observed
                .as_deref()
                .unwrap()
                .starts_with("client secret (Basic)")
        );
        assert!(!format!("{found:?}").contains("Y2xp"));
    }

    #[test]
    fn stays_silent_on_the_pinned_server_other_logins_and_without_a_pin() {
        let form = "grant_type=refresh_token&refresh_token=abcdef";
        let mut bench = Bench::new(OauthSecretOffPin::default(), PINS);
        assert!(
            posts(&mut bench, "https://other.example/token", form).is_empty(),
            "not a client of MCP"
        );
        bench.server("https://mcp.example/mcp", "203.0.113.5");
        bench.says(INIT);
        assert!(posts(&mut bench, "https://login.example/token", form).is_empty());
        assert!(
            posts(
                &mut bench,
                "https://oauth2.googleapis.com/token",
                "grant_type=x&refresh_token=other"
            )
            .is_empty()
        );
        let allowed = format!("{PINS}rules: {{CR-11: {{allow: [sso.example]}}}}\n");
        let mut bench = Bench::new(OauthSecretOffPin::default(), &allowed);
        bench.says(INIT);
        assert!(posts(&mut bench, "https://sso.example/token", form).is_empty());
        let mut bench = Bench::new(OauthSecretOffPin::default(), "");
        bench.says(INIT);
        assert!(posts(&mut bench, "https://evil.example/token", form).is_empty());
    }
}
