//! RED-06 authorization-server-changed: `authorization_servers` differs from pin or baseline.

use super::prelude::*;
use std::collections::BTreeSet;

use crate::{mcp::context::ServerKey, types::Direction as Way};

const META: Meta = Meta {
    id: "RED-06",
    slug: "authorization-server-changed",
    category: "redirection",
    trigger: "`authorization_servers` differs from pin or baseline",
    silent_on: "same set reordered",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Document],
    page: Page {
        means: "A server names another authorization server than pinned, or than before. Clients will send their users, and their codes and secrets, there.",
        attacker: "Changes the protected-resource metadata so that logins go to a look-alike of theirs.",
        wire: "`authorization_servers` in the answer to `/.well-known/oauth-protected-resource` holds an entry that `auth.authorization_servers` does not, or differs as a set from the one before.",
        act: "Stop logins to the new server until its owner confirms it. Revoke what clients got or sent there.",
        quiet: "Order and trailing slashes make no difference. Pin every authorization server that is in use.",
    },
};

/// The latest set of each resource, by its server and path.
#[derive(Default)]
pub(super) struct AuthorizationServerChanged {
    known: Remembered<(ServerKey, Box<str>), BTreeSet<String>>,
}

impl Rule for AuthorizationServerChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Document { document, target, .. } = &seen.kind else {
            return;
        };
        let metadata = target.path.contains("/.well-known/oauth-protected-resource");
        if document.direction != Way::ToClient || !metadata {
            return;
        }
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&document.body) else {
            return;
        };
        let Some(list) = body.get("authorization_servers").and_then(|s| s.as_array()) else {
            return;
        };
        let plain = |s: &str| s.trim_end_matches('/').to_owned();
        let now: BTreeSet<String> = list
            .iter()
            .filter_map(|s| s.as_str())
            .take(64)
            .map(plain)
            .collect();
        let before = self
            .known
            .insert((target.host_key(), target.path.clone()), now.clone());
        let pinned = world
            .pins
            .endpoint(target.endpoint)
            .map_or(&[][..], |e| &e.auth.authorization_servers);
        let expected: Vec<String> = if !pinned.is_empty() {
            let pinned: Vec<String> = pinned.iter().map(|s| plain(s)).collect();
            if now.iter().all(|s| pinned.contains(s)) {
                return;
            }
            pinned
        } else {
            match before.filter(|before| *before != now) {
                Some(before) => before.iter().map(|s| shown(s)).collect(),
                None => return,
            }
        };
        let observed = now.iter().map(|s| shown(s)).collect::<Vec<_>>().join(" ");
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} now sends logins to {observed}; stop them until the owner confirms that authorization server",
                    label(world, target.endpoint, &target.origin.host)
                ),
            )
            .at(target.endpoint)
            .expected(expected)
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {authorization_servers: ['https://login.example', 'https://b.example']}}]\n";

    fn bench(pins: &str) -> Bench {
        let mut bench = Bench::new(AuthorizationServerChanged::default(), pins);
        bench.server(
            "https://mcp.example/.well-known/oauth-protected-resource",
            "203.0.113.5",
        );
        bench
    }

    fn gives(bench: &mut Bench, servers: &str) -> usize {
        let body = format!(r#"{{"resource":"x","authorization_servers":{servers}}}"#);
        bench
            .document(Direction::ToClient, "application/json", &body)
            .len()
    }

    #[test]
    fn fires_against_the_pin_and_against_what_was_before() {
        assert_eq!(gives(&mut bench(PINS), r#"["https://evil.example"]"#), 1);
        let mut b = bench("");
        assert_eq!(gives(&mut b, r#"["https://login.example"]"#), 0);
        assert_eq!(gives(&mut b, r#"["https://evil.example"]"#), 1);
    }

    #[test]
    fn stays_silent_on_another_order_and_on_pinned_servers() {
        assert_eq!(
            gives(
                &mut bench(PINS),
                r#"["https://b.example/","https://login.example"]"#
            ),
            0
        );
        let mut b = bench("");
        gives(&mut b, r#"["https://a.example","https://b.example"]"#);
        assert_eq!(gives(&mut b, r#"["https://b.example","https://a.example/"]"#), 0);
    }
}
