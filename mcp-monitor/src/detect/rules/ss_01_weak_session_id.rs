//! SS-01 weak-session-id: session ids sequential, pointer-like or of low entropy.

use super::prelude::*;
use std::sync::Arc;

use super::super::session_ids::{Weakness, weakness};
use crate::mcp::context::{ServerKey, Target};

const META: Meta = Meta {
    id: "SS-01",
    slug: "weak-session-id",
    category: "session",
    trigger: "session ids sequential, pointer-like or of low entropy",
    silent_on: "short opaque random ids",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "credential-harvesting"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Response, Kind::SseEndpoint],
    page: Page {
        means: "A server hands out session ids that can be guessed. Who guesses one speaks in another client's session, and can put answers into it (prompt hijacking).",
        attacker: "Opens a few sessions of their own, works out the next ids, and posts messages with them (CVE-2025-6515: ids were addresses of objects in memory).",
        wire: "New `Mcp-Session-Id` values (or `sessionId` of HTTP+SSE) of one server. Pointer-like: `0x` and hex digits, or three ids that all look like aligned user-space addresses. Sequential: a spacing test on ids that are numbers; from the third id on, the largest distance D between successive ids of a range S gives p = ((2D+1)/S)^(n-1). Low entropy: from the fourth id on, the part in which ids differ has room for less than 2^20 values; or an id has at most three characters.",
        act: "Update the server: ids must come from a secure random generator (at least 128 bits). Until then bind sessions to credentials, and look for one session id used by two clients (SS-02).",
        quiet: "Tests are on 3 to 64 different ids of one server. Probability of a false alarm for a server whose ids have at least 28 random bits: below one in a million for each test, over all looks (the spacing test spends 10^-6 / (n(n-1)) on the n-th id). Short ids that are random are silent, as are ids that begin with a time or a host and end in random letters and digits (UUID versions 4 and 7, ULID).",
    },
};

/// Ids of one server that are kept.
const MAX_IDS: usize = 64;
/// Longest id that is looked at, bytes.
const MAX_ID: usize = 256;
/// Servers whose ids are kept.
const MAX_SERVERS: usize = 4096;

#[derive(Clone, Default)]
struct Issued {
    ids: Vec<Arc<str>>,
    said: bool,
}

/// The latest ids of each server, in the order in which they were given out. Never shown.
pub(super) struct WeakSessionId {
    issued: Bounded<ServerKey, Issued>,
}

impl Default for WeakSessionId {
    fn default() -> Self {
        Self {
            issued: Bounded::new(MAX_SERVERS),
        }
    }
}

impl Rule for WeakSessionId {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (id, target): (&str, &Target) = match &seen.kind {
            // A session begins where the response names an id that the request did not.
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                mcp: true,
                ..
            } if request.headers.get("mcp-session-id").is_none() => {
                let Some(id) = head.headers.get_str("mcp-session-id") else {
                    return;
                };
                (id, target)
            }
            SeenKind::SseEndpoint {
                event,
                ordinal: 1,
                target,
            } => {
                let Some(id) = std::str::from_utf8(&event.data).ok().and_then(query_id) else {
                    return;
                };
                (id, target)
            }
            _ => return,
        };
        if id.is_empty() || id.len() > MAX_ID {
            return;
        }
        let server = target.server_key();
        let mut issued = self.issued.remove(&server).unwrap_or_default();
        if !issued.said && issued.ids.iter().all(|known| **known != *id) {
            if issued.ids.len() >= MAX_IDS {
                issued.ids.remove(0);
            }
            issued.ids.push(id.into());
            let ids: Vec<&str> = issued.ids.iter().map(|id| &**id).collect();
            if let Some(weakness) = weakness(&ids) {
                issued.said = true;
                let n = ids.len();
                let what = match weakness {
                    Weakness::Pointer => "look like addresses in memory".to_owned(),
                    Weakness::Sequential => "follow one another".to_owned(),
                    Weakness::LowEntropy { bits } => format!("differ in at most {bits} bits"),
                };
                let name = label(world, target.endpoint, &target.origin.host);
                out.push(
                    Finding::new(
                        META.id,
                        format!("session ids of {name} can be guessed: {n} in a row {what}; update the server and look for sessions used by two clients"),
                    )
                    .at(target.endpoint)
                    .expected(["random ids of at least 128 bits"])
                    .observed(format!("{n} ids that {what}")),
                );
            }
        }
        self.issued.insert(server, issued);
    }
}

/// `sessionId` or `session_id` of the URI in an `endpoint` event.
fn query_id(uri: &str) -> Option<&str> {
    uri.split_once('?')?.1.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let named = key.eq_ignore_ascii_case("sessionid") || key.eq_ignore_ascii_case("session_id");
        named.then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(bench: &mut Bench, ids: &[&str]) -> Vec<Finding> {
        let mut found = Vec::new();
        for id in ids {
            bench.request(&request("POST", "/mcp", &[]), true);
            found.extend(bench.response(&response(200, &[("Mcp-Session-Id", id)]), true));
        }
        found
    }

    #[test]
    fn fires_once_on_ids_that_can_be_guessed_and_does_not_show_them() {
        let mut bench = Bench::new(WeakSessionId::default(), "");
        let found = issue(&mut bench, &["100041", "100042", "100043", "100044"]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("3 ids that follow one another")
        );
        assert!(!format!("{found:?}").contains("10004"));
        let mut bench = Bench::new(WeakSessionId::default(), "");
        assert_eq!(
            bench.sse_endpoint("/message?sessionId=0x7f3a5c001b40", 1).len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_random_ids_and_on_one_id_seen_again() {
        let mut bench = Bench::new(WeakSessionId::default(), "");
        let ids = ["k3J9x2Qa", "Zp81mmTe", "a0Vw7LrY", "9sXc4BnD", "uE6tHq2K"];
        assert!(issue(&mut bench, &ids).is_empty());
        assert!(issue(&mut bench, &["k3J9x2Qa"; 8]).is_empty());
        let mut bench = Bench::new(WeakSessionId::default(), "");
        bench.request(&request("POST", "/mcp", &[("Mcp-Session-Id", "1")]), true);
        assert!(
            bench
                .response(&response(200, &[("Mcp-Session-Id", "1")]), true)
                .is_empty()
        );
    }
}
