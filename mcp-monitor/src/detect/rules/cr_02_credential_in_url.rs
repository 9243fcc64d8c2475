//! CR-02 credential-in-url: token, key or password in path or query.

use super::super::credentials::url_credentials;
use super::prelude::*;

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
        let text = |range| head.target.get(range).unwrap_or_default();
        for found in url_credentials(&head.target) {
            let secret = text(found.secret);
            let place = match found.parameter {
                Some(name) => format!("parameter {}", shown(&String::from_utf8_lossy(text(name)))),
                None => "the URL".to_owned(),
            };
            let observed = format!(
                "{}, {} bytes, fingerprint {}, in {place}",
                found.kind,
                secret.len(),
                world.fingerprints.fingerprint(secret)
            );
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
        let found = gets("/mcp?access_token=q7Zr2mXw9Lk4Tb8c");
        assert!(
            found[0]
                .observed
                .as_deref()
                .unwrap()
                .contains("in parameter access_token")
        );
        assert!(!format!("{found:?}").contains("q7Zr2mXw9Lk4Tb8c"));
        let token = token();
        assert_eq!(gets(&format!("/hook/{token}")).len(), 1);
        assert_eq!(gets(&format!("/mcp?x={token}")).len(), 1);
    }

    #[test]
    fn stays_silent_on_sessions_signed_urls_and_oauth_codes() {
        for target in [
            "/messages?sessionId=0123456789abcdef0123456789abcdef",
            "/obj?X-Amz-Credential=a&X-Amz-Security-Token=bbbbbbbbbbbb&X-Amz-Signature=cccccccccccc",
            "/blob?sv=2024&se=2026&sig=abcdefghijkl",
            "/callback?code=abcdefghijkl&state=abcdefghijkl",
            "/search?token=on&q=password",
            "/mcp",
        ] {
            assert!(gets(target).is_empty(), "{target}");
        }
    }
}
