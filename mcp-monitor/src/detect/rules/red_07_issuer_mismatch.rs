//! RED-07 issuer-mismatch: metadata `issuer` differs from its URL, or endpoints leave the issuer.

use super::prelude::*;
use serde_json::Value;
use url::Url;

use super::{
    domain::{is_below, same_site},
    oauth::{answer, authority, authority_of, is_server_metadata},
    origin::origin_of,
};
use crate::mcp::context::{Scheme, Target};

const META: Meta = Meta {
    id: "RED-07",
    slug: "issuer-mismatch",
    category: "redirection",
    trigger: "metadata `issuer` differs from its URL, or endpoints leave the issuer",
    silent_on: "providers listed as allowed",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "credential-harvesting"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Document],
    page: Page {
        means: "An authorization server's metadata speaks for somebody else: its `issuer` is not the host it was fetched from, or it sends logins, codes or tokens to a host of another domain. RFC 8414 section 3.3 tells clients to refuse such metadata; not all do.",
        attacker: "Serves metadata that claims a trusted issuer but has an `authorization_endpoint` or `token_endpoint` of theirs, or alters one URL of genuine metadata: the client then hands its code, verifier and secret to them.",
        wire: "The answer to `/.well-known/oauth-authorization-server` or `/.well-known/openid-configuration`: `issuer` with another host, or another tenant path, than the URL; or an `…_endpoint` or `jwks_uri` whose registrable domain is not the issuer's.",
        act: "Do not log in until the owner of the issuer confirms the URL that the alert names. If a client did: revoke its tokens, rotate its client secret, and look for the token request (CR-11).",
        quiet: "Large providers that really use several domains (Google, Microsoft, Amazon Cognito, Facebook, Apple, GitHub, LinkedIn, PayPal) are known. Sub-domains of one registrable domain are one operator. An authorization server pinned under `auth.authorization_servers` is silent; list others by host: `rules: {RED-07: {allow: [idp.example]}}`.",
    },
};

/// Issuers that really use other domains: host (or what it ends in), and the domains.
const PROVIDERS: &[(&str, &[&str])] = &[
    ("accounts.google.com", &["googleapis.com", "google.com"]),
    ("securetoken.google.com", &["googleapis.com"]),
    (
        "login.microsoftonline.com",
        &["microsoft.com", "windows.net", "microsoftonline.com"],
    ),
    (
        "sts.windows.net",
        &["microsoft.com", "windows.net", "microsoftonline.com"],
    ),
    ("microsoftonline.us", &["microsoft.us", "microsoftonline.us"]),
    ("amazonaws.com", &["amazoncognito.com", "amazonaws.com"]),
    ("facebook.com", &["facebook.com", "fbsbx.com"]),
    ("appleid.apple.com", &["apple.com"]),
    ("github.com", &["github.com", "githubusercontent.com"]),
    ("linkedin.com", &["linkedin.com"]),
    ("paypal.com", &["paypal.com", "paypalobjects.com"]),
];

/// Most endpoints named in one finding.
const MAX_NAMED: usize = 4;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct IssuerMismatch;

impl Rule for IssuerMismatch {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Document { document, target, .. } = &seen.kind else {
            return;
        };
        if !is_server_metadata(&target.path) {
            return;
        }
        let Some(body) = answer(document) else { return };
        let Some(issuer) = body.get("issuer").and_then(Value::as_str) else {
            return;
        };
        let Some((url, origin)) = Url::parse(issuer)
            .ok()
            .and_then(|u| Some((u.clone(), origin_of(&u)?)))
        else {
            return;
        };
        let pinned = |host: &str| {
            world.pins.accepts(META.id, target.endpoint, host)
                || world.pins.endpoint(target.endpoint).is_some_and(|e| {
                    let servers = e.auth.authorization_servers.iter();
                    servers
                        .filter_map(|s| Url::parse(s).ok())
                        .any(|u| u.host_str() == Some(host))
                })
        };
        let name = label(world, target.endpoint, &target.origin.host);
        if differs(target, &url) && !pinned(&origin.host) {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "authorization metadata of {name} claims the issuer {}; do not log in until that issuer's owner confirms it",
                        shown(issuer)
                    ),
                )
                .at(target.endpoint)
                .expected([format!("issuer {}", target.origin)])
                .observed(format!("issuer {}", shown(issuer))),
            );
        }
        let foreign: Vec<String> = body
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.ends_with("_endpoint") || *key == "jwks_uri")
            .filter_map(|(key, value)| {
                let there = origin_of(&Url::parse(value.as_str()?).ok()?)?;
                let known = same_site(&there.host, &origin.host)
                    || is_provider(&origin.host, &there.host)
                    || pinned(&there.host);
                (!known).then(|| format!("{} {there}", shown(key)))
            })
            .take(MAX_NAMED)
            .collect();
        if foreign.is_empty() {
            return;
        }
        let observed = foreign.join(", ");
        out.push(
            Finding::new(
                META.id,
                format!(
                    "authorization metadata of {name} leaves its issuer {}: {observed}; do not log in until its owner confirms these hosts",
                    shown(issuer)
                ),
            )
            .at(target.endpoint)
            .expected([format!("endpoints of {}", origin.host)])
            .observed(observed),
        );
    }
}

fn is_provider(issuer: &str, other: &str) -> bool {
    PROVIDERS
        .iter()
        .any(|(host, domains)| is_below(issuer, host) && domains.iter().any(|d| is_below(other, d)))
}

/// The issuer is not the one whose metadata this URL holds.
fn differs(target: &Target, issuer: &Url) -> bool {
    let Some(claimed) = origin_of(issuer) else {
        return true;
    };
    if is_provider(&claimed.host, &target.origin.host) {
        return false;
    }
    // A request seen in the clear behind a proxy that ends TLS has another scheme and port.
    let behind_proxy = target.origin.scheme == Scheme::Http && claimed.scheme == Scheme::Https;
    let same_host = claimed.host == target.origin.host;
    let one_authority = authority_of(issuer.as_str()) == Some(authority(&target.origin));
    if !(one_authority || (behind_proxy && same_host)) {
        return true;
    }
    // Servers that answer at any path under the well-known prefix are common; two tenants of one host
    // are two issuers.
    let (asked, has) = (tenant(&target.path), issuer.path().trim_matches('/'));
    !asked.is_empty() && !has.is_empty() && asked != has
}

/// The issuer's path in a metadata URL: after the well-known part, or before it.
fn tenant(path: &str) -> &str {
    let Some((before, after)) = path.split_once("/.well-known/") else {
        return "";
    };
    let before = before.trim_matches('/');
    if !before.is_empty() {
        return before;
    }
    after
        .split_once('/')
        .map_or("", |(_, rest)| rest.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pins: &str, url: &str, body: &str) -> Vec<Finding> {
        let mut bench = Bench::new(IssuerMismatch, pins);
        bench.server(url, "203.0.113.5");
        bench.document(Direction::ToClient, "application/json", body)
    }

    const AT: &str = "https://login.example/.well-known/oauth-authorization-server";

    #[test]
    fn fires_on_another_issuer_and_on_endpoints_elsewhere() {
        let found = metadata("", AT, r#"{"issuer":"https://trusted.example"}"#);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("issuer https://trusted.example")
        );
        let found = metadata(
            "",
            AT,
            r#"{"issuer":"https://login.example","authorization_endpoint":"https://login.example/a","token_endpoint":"https://evil.example/t"}"#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("token_endpoint https://evil.example")
        );
        let other = "https://login.example/realms/a/.well-known/openid-configuration";
        assert_eq!(
            metadata("", other, r#"{"issuer":"https://login.example/realms/b"}"#).len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_allowed_providers_one_domain_and_pins() {
        let google = r#"{"issuer":"https://accounts.google.com","token_endpoint":"https://oauth2.googleapis.com/token","jwks_uri":"https://www.googleapis.com/oauth2/v3/certs"}"#;
        let at = "https://accounts.google.com/.well-known/openid-configuration";
        assert!(metadata("", at, google).is_empty());
        let entra = r#"{"issuer":"https://sts.windows.net/8a9e/","token_endpoint":"https://login.microsoftonline.com/common/oauth2/token"}"#;
        let at = "https://login.microsoftonline.com/common/.well-known/openid-configuration";
        assert!(metadata("", at, entra).is_empty());
        let one = r#"{"issuer":"https://login.example.com/","token_endpoint":"https://api.example.com/t"}"#;
        assert!(
            metadata(
                "",
                "https://login.example.com/.well-known/oauth-authorization-server/mcp",
                one
            )
            .is_empty()
        );
        let other = r#"{"issuer":"https://idp.example"}"#;
        let pins = "endpoints: [{name: a, url: 'https://login.example/mcp', auth: {authorization_servers: ['https://idp.example']}}]\n";
        assert!(metadata(pins, AT, other).is_empty());
        assert!(metadata("rules: {RED-07: {allow: [idp.example]}}\n", AT, other).is_empty());
        assert!(
            metadata(
                "",
                "http://login.example:8080/.well-known/openid-configuration",
                r#"{"issuer":"https://login.example"}"#
            )
            .is_empty()
        );
    }
}
