//! SS-04 session-to-other-origin: a session id presented to another origin.

use super::prelude::*;
use std::hash::{BuildHasher as _, RandomState};

use crate::mcp::context::ServerKey;

const META: Meta = Meta {
    id: "SS-04",
    slug: "session-to-other-origin",
    category: "session",
    trigger: "a session id presented to another origin",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Request, Kind::Response],
    page: Page {
        means: "A session id that one server gave was presented to another, which can now speak in that session.",
        attacker: "Redirects the client, or names a foreign endpoint, and collects the session ids that arrive.",
        wire: "`Mcp-Session-Id` of one server's response in a request to another host, or on loopback to another port.",
        act: "End the session at the first server. Find what sent the client to the second: RED-01 and RED-03 say.",
        quiet: "A server behind a proxy gives the same id on both sides, and then both are its servers.",
    },
};

/// Servers that gave each session id, by a keyed hash of it.
#[derive(Default)]
pub(super) struct SessionToOtherOrigin {
    given: Bounded<u64, Vec<ServerKey>>,
    key: RandomState,
}

/// A session id has at most this many servers: those of a chain of proxies.
const MAX_SERVERS: usize = 8;

impl Rule for SessionToOtherOrigin {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        match &seen.kind {
            // Where the request was lost, the host is a guess from the address.
            SeenKind::Response {
                head,
                target,
                request: Some(_),
                ..
            } => {
                let Some(id) = head.headers.get("mcp-session-id") else {
                    return;
                };
                let print = self.key.hash_one(id);
                let key = target.host_key();
                match self.given.get_mut(&print) {
                    Some(servers) if !servers.contains(&key) && servers.len() < MAX_SERVERS => {
                        servers.push(key)
                    }
                    Some(_) => {}
                    None => {
                        self.given.insert(print, vec![key]);
                    }
                }
            }
            SeenKind::Request { head, target, .. } => {
                let Some(id) = head.headers.get("mcp-session-id") else {
                    return;
                };
                let print = self.key.hash_one(id);
                let key = target.host_key();
                let Some(servers) = self.given.get_mut(&print).filter(|s| !s.contains(&key)) else {
                    return;
                };
                let owners: Vec<String> = servers.iter().map(|s| s.0.to_string()).collect();
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{} presented a session id of {} to {}; end that session and find what sent the client there",
                            agent(seen),
                            owners.join(", "),
                            label(world, target.endpoint, &key.0)
                        ),
                    )
                    .at(target.endpoint)
                    .expected(owners)
                    .observed(key.0.to_string()),
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_on_another_server_and_stays_silent_on_its_own_and_on_a_proxy_s() {
        let mut bench = Bench::new(SessionToOtherOrigin::default(), "");
        let (with_id, gives) = (
            request("POST", "/mcp", &[("Mcp-Session-Id", "abc")]),
            response(200, &[("mcp-session-id", "abc")]),
        );
        bench.server("http://127.0.0.1:3001/mcp", "127.0.0.1");
        assert!(bench.request(&with_id, true).is_empty(), "nobody gave it yet");
        bench.response(&gives, true);
        assert!(bench.request(&with_id, true).is_empty());
        bench.server("http://127.0.0.1:8080/mcp", "127.0.0.1");
        bench.response(&gives, true);
        assert!(bench.request(&with_id, true).is_empty(), "a proxy passes it on");
        bench.server("http://evil.example/mcp", "198.51.100.66");
        let found = bench.request(&with_id, true);
        assert_eq!(found[0].observed.as_deref(), Some("evil.example"));
        assert!(!format!("{found:?}").contains("abc"));
    }
}
