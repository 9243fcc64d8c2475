//! RED-05 foreign-resource-metadata: `resource_metadata` on another origin than the server.

use super::origin::{bare, origin_of, resolve, same_origin};
use super::prelude::*;

const META: Meta = Meta {
    id: "RED-05",
    slug: "foreign-resource-metadata",
    category: "redirection",
    trigger: "`resource_metadata` on another origin than the server",
    silent_on: "pinned origin",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Response],
    page: Page {
        means: "A server's challenge names metadata on another origin, so that somebody else says which authorization server the client must go to.",
        attacker: "Alters the 401 (or runs the server) to lead the client to an authorization server of theirs.",
        wire: "`WWW-Authenticate` of a 401 or 403 with `resource_metadata` whose scheme, host or port differs from the request's.",
        act: "Check who operates the named origin. Look whether the client logged in there (RED-06).",
        quiet: "An origin that is pinned for the endpoint (`redirects`, `auth.audience`) is silent. A server behind a proxy must announce its public origin.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct ForeignResourceMetadata;

impl Rule for ForeignResourceMetadata {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Response {
            head,
            target,
            mcp: true,
            ..
        } = &seen.kind
        else {
            return;
        };
        if !matches!(head.status, 401 | 403) {
            return;
        }
        let url = head
            .headers
            .get_all("www-authenticate")
            .find_map(parameter)
            .and_then(|text| resolve(target, text));
        let Some((url, origin)) = url.as_ref().and_then(|u| Some((u, origin_of(u)?))) else {
            return;
        };
        let endpoint = world.pins.endpoint(target.endpoint);
        let pinned = endpoint.is_some_and(|e| {
            let audience = e
                .auth
                .audience
                .as_deref()
                .and_then(|a| resolve(target, a.as_bytes()));
            e.redirects.contains(&origin) || audience.as_ref().and_then(origin_of).as_ref() == Some(&origin)
        });
        if pinned || same_origin(target, &origin) {
            return;
        }
        let observed = bare(url);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} sends {} to another origin for its authorization metadata, {observed}; check who operates it",
                    label(world, target.endpoint, &target.origin.host),
                    agent(seen)
                ),
            )
            .at(target.endpoint)
            .expected([target.origin.to_string()])
            .observed(observed),
        );
    }
}

/// Value of `resource_metadata` (RFC 9728 section 5.1).
pub(super) fn parameter(challenge: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"resource_metadata=";
    let start = memchr::memmem::find(challenge, NAME)?.checked_add(NAME.len())?;
    let rest = challenge.get(start..)?;
    match rest.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|b| *b == b'"').next(),
        None => rest.split(|b| matches!(b, b',' | b' ')).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenged(pins: &str, challenge: &str) -> usize {
        Bench::new(ForeignResourceMetadata, pins)
            .response(&response(401, &[("WWW-Authenticate", challenge)]), true)
            .len()
    }

    #[test]
    fn fires_on_another_origin() {
        assert_eq!(
            challenged(
                "",
                r#"Bearer error="x", resource_metadata="https://evil.example/.well-known/oauth-protected-resource""#
            ),
            1
        );
        assert_eq!(challenged("", "Bearer resource_metadata=http://mcp.example/x"), 1);
    }

    #[test]
    fn stays_silent_on_its_own_and_on_pinned_origins() {
        assert_eq!(
            challenged(
                "",
                r#"Bearer resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp""#
            ),
            0
        );
        assert_eq!(challenged("", r#"Bearer realm="x""#), 0);
        let pins = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {audience: 'https://api.example/v1'}}]\n";
        assert_eq!(
            challenged(
                pins,
                r#"Bearer resource_metadata="https://api.example/.well-known/x""#
            ),
            0
        );
    }
}
