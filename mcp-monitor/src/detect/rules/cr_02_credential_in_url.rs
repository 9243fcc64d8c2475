//! CR-02 credential-in-url: token, key or password in path or query.

use super::prelude::*;
use super::secrets::found_in;

const META: Meta = Meta {
    id: "CR-02",
    slug: "credential-in-url",
    category: "credential",
    trigger: "token, key or password in path or query",
    silent_on: "`sessionId` of HTTP+SSE, signed-URL parameters",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Request],
    page: Page {
        means: "A token, key or password stands in a URL, from where it goes into logs, histories and `Referer` headers. The MCP specification forbids tokens in query strings.",
        attacker: "Reads access logs, proxies or the monitoring of the server's side, or chose a server whose documentation asks for the key in the URL.",
        wire: "A query parameter named like a credential with a value, or a known token format in path or query.",
        act: "Rotate the credential and send it in a header. Clear it from the logs along the way.",
        quiet: "`sessionId` of HTTP+SSE, OAuth `code` and `state`, and the parameters of signed URLs (S3, GCS, Azure, CloudFront) are silent.",
    },
};

/// Query parameters that are credentials by their name.
const NAMES: &[&str] = &[
    "access_token",
    "accesstoken",
    "api_key",
    "apikey",
    "api-key",
    "api_token",
    "auth",
    "auth_token",
    "authtoken",
    "authorization",
    "bearer",
    "client_secret",
    "id_token",
    "jwt",
    "passwd",
    "password",
    "private_token",
    "refresh_token",
    "secret",
    "secret_key",
    "token",
    "x-api-key",
];

/// Parameters that mark a signed URL, whose credentials are bound to one object and short-lived.
const SIGNED: &[&str] = &[
    "x-amz-signature",
    "x-goog-signature",
    "signature",
    "sig",
    "key-pair-id",
];

/// Shortest value that counts as a credential.
const MIN_LEN: usize = 8;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct CredentialInUrl;

impl Rule for CredentialInUrl {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Request { head, target, .. } = &seen.kind else {
            return;
        };
        let mut found: Vec<String> = found_in(head.path(), world)
            .into_iter()
            .map(|f| format!("{f}, in the path"))
            .collect();
        let pairs = || url::form_urlencoded::parse(head.query().unwrap_or_default());
        let signed = pairs().any(|(name, _)| SIGNED.contains(&name.to_ascii_lowercase().as_str()));
        if !signed {
            for (name, value) in pairs() {
                let known = found_in(value.as_bytes(), world);
                if !known.is_empty() {
                    found.extend(
                        known
                            .iter()
                            .map(|f| format!("{f}, in parameter {}", shown(&name))),
                    );
                } else if value.len() >= MIN_LEN && NAMES.contains(&name.to_ascii_lowercase().as_str()) {
                    found.push(format!(
                        "{} bytes, fingerprint {}, in parameter {}",
                        value.len(),
                        world.fingerprints.fingerprint(value.as_bytes()),
                        shown(&name)
                    ));
                }
            }
        }
        for observed in found {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sent a credential in a URL to {} ({observed}); rotate it and send it in a header",
                        agent(seen),
                        label(world, target.endpoint, &target.origin.host)
                    ),
                )
                .at(target.endpoint)
                .observed(observed),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gets(target: &str) -> Vec<Finding> {
        Bench::new(CredentialInUrl, "").request(&request("GET", target, &[]), true)
    }

    #[test]
    fn fires_on_names_and_on_formats_without_showing_the_value() {
        let found = gets("/mcp?access_token=abcdef123456");
        assert!(
            found[0]
                .observed
                .as_deref()
                .unwrap()
                .contains("in parameter access_token")
        );
        assert!(!format!("{found:?}").contains("abcdef123456"));
        let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
        assert_eq!(gets(&format!("/hook/{token}")).len(), 1);
        assert_eq!(gets(&format!("/mcp?x={token}")).len(), 1);
        assert_eq!(gets("/mcp?API%5FKEY=abcdef123456").len(), 1);
    }

    #[test]
    fn stays_silent_on_sessions_signed_urls_and_oauth_codes() {
        for target in [
            "/messages?sessionId=0123456789abcdef0123456789abcdef",
            "/obj?X-Amz-Credential=a&X-Amz-Security-Token=bbbbbbbbbbbb&X-Amz-Signature=cccccccccccc&token=dddddddddd",
            "/blob?sv=2024&se=2026&sig=abcdefghijkl",
            "/callback?code=abcdefghijkl&state=abcdefghijkl",
            "/search?token=on&q=password",
            "/mcp",
        ] {
            assert!(gets(target).is_empty(), "{target}");
        }
    }
}
