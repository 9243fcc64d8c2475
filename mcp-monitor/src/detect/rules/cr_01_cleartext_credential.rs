//! CR-01 cleartext-credential: Authorization, API-key header or cookie over cleartext off the host (a session id alone: severity medium).

use super::prelude::*;
use super::secrets::presented;
use crate::mcp::context::Scheme;

const META: Meta = Meta {
    id: "CR-01",
    slug: "cleartext-credential",
    category: "credential",
    trigger: "Authorization, API-key header or cookie over cleartext off the host (a session id alone: severity medium)",
    silent_on: "loopback; mesh marked as encrypting",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "weak-communication-security"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Request],
    page: Page {
        means: "A credential crossed the network in cleartext: everybody on the path can take and use it.",
        attacker: "Only needs to listen: on the same network, on a router, in a compromised pod. Often follows a downgrade (DG-01) or a redirect (RED-01).",
        wire: "`Authorization`, an API-key header or `Cookie` in a cleartext HTTP request to another host. A session id alone is a lesser finding (medium): it lets a listener speak in the session.",
        act: "Revoke the credential; the alert names its kind, place and fingerprint. Move the server to https, and find why the agent used http.",
        quiet: "Loopback is silent. Where a service mesh encrypts what the monitor sees in cleartext, set `mesh_encrypted: true` on the endpoint.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct CleartextCredential;

impl Rule for CleartextCredential {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Request { head, target, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let ends = (flow.info.client.ip(), target.address.ip());
        let on_host = ends.1.to_canonical().is_loopback() || ends.0 == ends.1;
        let endpoint = world.pins.endpoint(target.endpoint);
        if target.origin.scheme != Scheme::Http || on_host || endpoint.is_some_and(|e| e.mesh_encrypted) {
            return;
        }
        let finding = |what: &str, observed: String| {
            let name = label(world, target.endpoint, &target.origin.host);
            Finding::new(
                META.id,
                format!(
                    "{} sent {what} to {name} ({}) in cleartext; revoke it, and move the server to https",
                    agent(seen),
                    ends.1
                ),
            )
            .at(target.endpoint)
            .expected(["TLS"])
            .observed(observed)
        };
        let before = out.len();
        for credential in presented(head).filter(|c| c.reusable) {
            out.push(finding(&credential.describe(), credential.describe_with(world)));
        }
        let session = head.headers.get("mcp-session-id").is_some()
            || head.query().is_some_and(|q| {
                url::form_urlencoded::parse(q)
                    .any(|(k, v)| k.eq_ignore_ascii_case("sessionid") && !v.is_empty())
            });
        if session && out.len() == before {
            out.push(finding("its session id", "session id".to_owned()).severity(Severity::Medium));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(url: &str, ip: &str, headers: &[(&str, &str)]) -> Vec<Finding> {
        let mut bench = Bench::new(
            CleartextCredential,
            "endpoints: [{name: m, url: 'http://mesh.example/', mesh_encrypted: true}]\n",
        );
        bench.server(url, ip);
        bench.request(&request("POST", "/mcp", headers), true)
    }

    const BEARER: (&str, &str) = ("authorization", "Bearer s3cr3t-value-0123456789");

    #[test]
    fn fires_on_headers_and_says_kind_place_and_length() {
        let found = sends("http://mcp.example/mcp", "203.0.113.5", &[BEARER]);
        let observed = found[0].observed.as_deref().unwrap();
        assert!(
            observed.starts_with("bearer credential in authorization header, 23 bytes, fingerprint "),
            "{observed}"
        );
        assert!(!format!("{found:?}").contains("s3cr3t"));
        for header in ["X-API-Key", "Cookie", "api-key"] {
            assert_eq!(
                sends("http://mcp.example/mcp", "203.0.113.5", &[(header, "k")]).len(),
                1,
                "{header}"
            );
        }
    }

    #[test]
    fn a_session_id_alone_is_medium() {
        let found = sends(
            "http://mcp.example/mcp",
            "203.0.113.5",
            &[("mcp-session-id", "abc")],
        );
        assert_eq!(found[0].severity, Some(Severity::Medium));
        let both = sends(
            "http://mcp.example/mcp",
            "203.0.113.5",
            &[("mcp-session-id", "abc"), BEARER],
        );
        assert_eq!((both.len(), both[0].severity), (1, None));
    }

    #[test]
    fn stays_silent_on_loopback_tls_mesh_and_no_credential() {
        assert!(sends("http://127.0.0.1:3001/mcp", "127.0.0.1", &[BEARER]).is_empty());
        assert!(sends("http://[::1]:3001/mcp", "::1", &[BEARER]).is_empty());
        assert!(sends("https://mcp.example/mcp", "203.0.113.5", &[BEARER]).is_empty());
        assert!(sends("http://mesh.example/", "10.0.0.7", &[BEARER]).is_empty());
        assert!(
            sends(
                "http://mcp.example/mcp",
                "203.0.113.5",
                &[("accept", "*/*"), ("authorization", "Bearer ")]
            )
            .is_empty()
        );
    }
}
