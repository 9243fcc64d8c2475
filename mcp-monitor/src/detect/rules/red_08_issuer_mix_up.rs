//! RED-08 issuer-mix-up: callback `iss` is not the recorded issuer.

use super::prelude::*;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde_json::Value;
use url::Url;

use super::{
    domain::is_loopback,
    oauth::{Asked, Parameters, answer, authority, is_server_metadata},
    origin::origin_of,
};
use crate::{
    mcp::context::Target,
    types::{Direction as Way, Timestamp},
};

const META: Meta = Meta {
    id: "RED-08",
    slug: "issuer-mix-up",
    category: "redirection",
    trigger: "callback `iss` is not the recorded issuer",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "credential-harvesting"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Document, Kind::Request],
    page: Page {
        means: "The answer to a login came from another authorization server than the one that the client asked (RFC 9207). A client that goes on sends the code of one server to the other.",
        attacker: "Runs, or controls the metadata of, one of two authorization servers that a client uses, and mixes the two up to get codes of the honest one (SAFE-T1008).",
        wire: "A request to the client's redirect URI with `code` (or `error`) and an `iss` that differs from the issuer in the metadata of the server to which the request with the same `state`, or with that redirect URI, was sent; or no `iss` although that metadata says `authorization_response_iss_parameter_supported`.",
        act: "Discard the login. Find which MCP server started it and what its metadata names (RED-06, RED-07). Revoke tokens issued after it.",
        quiet: "Only logins whose beginning was seen are judged: the metadata, the authorization request or the registration. A trailing slash makes no difference.",
    },
};

/// A login later than this after the metadata is not held against it alone.
const RECENT: Duration = Duration::from_secs(600);
/// Longest value remembered, bytes.
const MAX_VALUE: usize = 512;
/// Issuers of one redirect URI.
const MAX_ISSUERS: usize = 8;

/// What metadata said of the server with this authorization endpoint.
#[derive(Clone)]
struct Recorded {
    issuer: String,
    announces: bool,
}

/// Issuers by authorization endpoint, by `state`, by redirect URI, and by the client that read their metadata.
#[derive(Default)]
pub(super) struct IssuerMixUp {
    by_endpoint: Bounded<String, Recorded>,
    by_state: Bounded<String, Recorded>,
    by_redirect: Bounded<String, BTreeSet<String>>,
    by_client: Bounded<IpAddr, Vec<(String, Timestamp)>>,
}

impl Rule for IssuerMixUp {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        self.learn(seen);
        let SeenKind::Request { head, target, .. } = &seen.kind else {
            return;
        };
        let Some(query) = head.query() else { return };
        let has = |name: &[u8]| memchr::memmem::find(query, name).is_some();
        if !has(b"state=") || !(has(b"code=") || has(b"error=")) || has(b"response_type=") {
            return;
        }
        let parameters = Parameters::of_query(head);
        let (Some(state), true) = (
            parameters.get("state"),
            parameters.get("code").or(parameters.get("error")).is_some(),
        ) else {
            return;
        };
        let iss = parameters.get("iss");
        let (expected, announces) = match self.by_state.remove(state) {
            Some(recorded) => (vec![recorded.issuer], recorded.announces),
            None => (self.candidates(seen, target), false),
        };
        if expected.is_empty() {
            return;
        }
        let observed = match iss {
            Some(iss) if expected.iter().any(|e| plain(e) == plain(iss)) => return,
            Some(iss) => format!("iss {}", shown(iss)),
            None if announces => "no iss".to_owned(),
            None => return,
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "a login at {} was answered with {observed} instead of the issuer it began with; discard it and revoke what was issued",
                    label(world, target.endpoint, &target.origin.host)
                ),
            )
            .at(target.endpoint)
            .expected(expected.iter().map(|e| format!("iss {}", shown(e))))
            .observed(observed),
        );
    }
}

impl IssuerMixUp {
    fn learn(&mut self, seen: &Seen<'_>) {
        if let SeenKind::Document { document, target, .. } = &seen.kind {
            if document.direction == Way::ToClient && is_server_metadata(&target.path) {
                self.metadata(seen, answer(document));
                return;
            }
            // Dynamic registration (RFC 7591).
            if document.direction == Way::ToServer
                && memchr::memmem::find(&document.body, b"\"redirect_uris\"").is_some()
            {
                let body: Option<Value> = serde_json::from_slice(&document.body).ok();
                let uris = body.as_ref().and_then(|b| b.get("redirect_uris")?.as_array());
                let issuer = self.issuer_at(target).map(|r| r.issuer);
                for uri in uris.into_iter().flatten().filter_map(Value::as_str).take(16) {
                    self.link(uri, issuer.clone());
                }
                return;
            }
        }
        if let Some((Asked::Authorization(parameters), target)) = Asked::of(seen) {
            let Some(recorded) = self.issuer_at(target) else {
                return;
            };
            if let Some(uri) = parameters.get("redirect_uri") {
                self.link(uri, Some(recorded.issuer.clone()));
            }
            if let Some(state) = parameters.get("state").filter(|s| s.len() <= MAX_VALUE) {
                self.by_state.insert(state.to_owned(), recorded);
            }
        }
    }

    fn metadata(&mut self, seen: &Seen<'_>, body: Option<Value>) {
        let Some(body) = body else { return };
        let text = |key: &str| {
            body.get(key)
                .and_then(Value::as_str)
                .filter(|t| t.len() <= MAX_VALUE)
        };
        let Some(issuer) = text("issuer") else { return };
        let recorded = Recorded {
            issuer: issuer.to_owned(),
            announces: body.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        };
        for key in [
            "authorization_endpoint",
            "registration_endpoint",
            "pushed_authorization_request_endpoint",
        ] {
            if let Some(place) = text(key).and_then(|url| place(&Url::parse(url).ok()?)) {
                self.by_endpoint.insert(place, recorded.clone());
            }
        }
        if let Some(flow) = seen.flow {
            let client = flow.info.client.ip();
            let mut known = self.by_client.remove(&client).unwrap_or_default();
            known.retain(|(i, at)| i != issuer && seen.at.time.since(*at) <= RECENT);
            if known.len() >= MAX_ISSUERS {
                known.remove(0);
            }
            known.push((issuer.to_owned(), seen.at.time));
            self.by_client.insert(client, known);
        }
    }

    fn issuer_at(&mut self, target: &Target) -> Option<Recorded> {
        let key = format!(
            "{}{}",
            authority(&target.origin),
            target.path.trim_end_matches('/')
        );
        self.by_endpoint.get_mut(&key).cloned()
    }

    fn link(&mut self, redirect_uri: &str, issuer: Option<String>) {
        let Some((place, issuer)) = Url::parse(redirect_uri).ok().and_then(|u| place(&u)).zip(issuer) else {
            return;
        };
        let mut issuers = self.by_redirect.remove(&place).unwrap_or_default();
        if issuers.len() < MAX_ISSUERS {
            issuers.insert(issuer);
        }
        self.by_redirect.insert(place, issuers);
    }

    /// Issuers that a callback without known `state` may come from.
    fn candidates(&mut self, seen: &Seen<'_>, target: &Target) -> Vec<String> {
        let key = format!(
            "{}{}",
            authority(&target.origin),
            target.path.trim_end_matches('/')
        );
        if let Some(issuers) = self.by_redirect.get_mut(&key) {
            return issuers.iter().cloned().collect();
        }
        // A client listens where it is: what it read lately is what it logs in to.
        let known = self.by_client.peek(&target.address.ip());
        known
            .filter(|_| is_loopback(&target.origin.host))
            .into_iter()
            .flatten()
            .filter(|(_, at)| seen.at.time.since(*at) <= RECENT)
            .map(|(issuer, _)| issuer.clone())
            .collect()
    }
}

/// Without what may differ in writing.
fn plain(issuer: &str) -> &str {
    issuer.trim_end_matches('/')
}

/// Authority and path.
fn place(url: &Url) -> Option<String> {
    Some(format!(
        "{}{}",
        authority(&origin_of(url)?),
        url.path().trim_end_matches('/')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged_in(bench: &mut Bench, announces: bool) {
        bench.server(
            "https://login.example/.well-known/oauth-authorization-server",
            "203.0.113.5",
        );
        let body = format!(
            r#"{{"issuer":"https://login.example","authorization_endpoint":"https://login.example/authorize","authorization_response_iss_parameter_supported":{announces}}}"#
        );
        bench.document(Direction::ToClient, "application/json", &body);
        bench.server("https://login.example/authorize", "203.0.113.5");
        let ask =
            "/authorize?response_type=code&state=s1&redirect_uri=http%3A%2F%2Flocalhost%3A7777%2Fcallback";
        assert!(bench.request(&request("GET", ask, &[]), false).is_empty());
    }

    fn calls_back(bench: &mut Bench, query: &str) -> Vec<Finding> {
        bench.server("http://localhost:7777/callback", "127.0.0.1");
        bench.request(&request("GET", &format!("/callback?{query}"), &[]), false)
    }

    #[test]
    fn fires_on_another_issuer_by_state_and_by_redirect_uri() {
        let mut bench = Bench::new(IssuerMixUp::default(), "");
        logged_in(&mut bench, false);
        let found = calls_back(&mut bench, "code=c&state=s1&iss=https%3A%2F%2Fevil.example");
        assert_eq!(found[0].expected, ["iss https://login.example"]);
        assert_eq!(found[0].observed.as_deref(), Some("iss https://evil.example"));
        assert_eq!(
            calls_back(&mut bench, "code=c&state=other&iss=https://evil.example").len(),
            1
        );
    }

    #[test]
    fn fires_where_an_announced_issuer_is_missing() {
        let mut bench = Bench::new(IssuerMixUp::default(), "");
        logged_in(&mut bench, true);
        assert_eq!(
            calls_back(&mut bench, "code=c&state=s1")[0].observed.as_deref(),
            Some("no iss")
        );
    }

    #[test]
    fn stays_silent_on_the_same_issuer_without_announcement_and_on_unknown_logins() {
        let mut bench = Bench::new(IssuerMixUp::default(), "");
        logged_in(&mut bench, false);
        assert!(calls_back(&mut bench, "code=c&state=s1&iss=https://login.example/").is_empty());
        logged_in(&mut bench, false);
        assert!(calls_back(&mut bench, "code=c&state=s1").is_empty());
        let mut bench = Bench::new(IssuerMixUp::default(), "");
        assert!(calls_back(&mut bench, "code=c&state=s1&iss=https://any.example").is_empty());
    }
}
