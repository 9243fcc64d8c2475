//! CP-04 scope-escalation: challenge asks for scopes beyond those granted before.

use super::prelude::*;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::Value;

use super::{oauth::answer, secrets::presented};
use crate::{
    baseline::jwt_part,
    mcp::context::{ServerKey, Target},
    proto::http::RequestHead,
};

const META: Meta = Meta {
    id: "CP-04",
    slug: "scope-escalation",
    category: "capability",
    trigger: "challenge asks for scopes beyond those granted before",
    silent_on: "first step-up listed",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &["MCP02"],
        atlas: &[],
    },
    listens: &[Kind::Response, Kind::Document],
    page: Page {
        means: "A server asks an agent for more rights than it has had so far. Users tend to click such a request away, and agents step up without asking.",
        attacker: "Took over a server that was approved with few rights, and asks for those that it wants, one harmless request after the other.",
        wire: "A 401 or 403 whose `WWW-Authenticate` has a `scope` with names that no token accepted by this server had, no token response gave, and no earlier challenge of it asked for.",
        act: "Ask whether the tool that was called needs the scope. Refuse it in the client or at the authorization server if not; if a token with it was issued, revoke it.",
        quiet: "The first challenge of a server is the baseline where nothing was granted yet. A step-up that is known and accepted is listed by scope: `rules: {CP-04: {allow: [\"files:write\", \"repo:*\"]}}`. Said once per server and scopes. What an opaque token grants is known from the token response only.",
    },
};

/// Scopes kept per server or token.
const MAX_SCOPES: usize = 256;

type Scopes = BTreeSet<Box<str>>;

/// Scopes known of each server, and of each token by a hash of it.
#[derive(Default)]
pub(super) struct ScopeEscalation {
    granted: Remembered<ServerKey, Scopes>,
    tokens: Bounded<u64, Scopes>,
    learned: Once<(ServerKey, u64)>,
}

impl Rule for ScopeEscalation {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.granted)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        match &seen.kind {
            // RFC 6749 section 5.1.
            SeenKind::Document { document, .. } => {
                if memchr::memmem::find(&document.body, b"\"access_token\"").is_none() {
                    return;
                }
                let Some(body) = answer(document) else { return };
                let text = |key: &str| body.get(key).and_then(Value::as_str);
                if let (Some(token), Some(scope)) = (text("access_token"), text("scope")) {
                    self.tokens.insert(hash(token.as_bytes()), scopes(scope));
                }
            }
            SeenKind::Response {
                request: Some(request),
                head,
                target,
                mcp: true,
                ..
            } => match head.status {
                200..=299 => self.accepted(request, target),
                401 | 403 => {
                    let asked = head.headers.get_all("www-authenticate").find_map(scope);
                    if let Some(asked) = asked {
                        self.challenge(scopes(asked), target, seen, world, out);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}

impl ScopeEscalation {
    /// A token that the server took: what it grants is granted.
    fn accepted(&mut self, request: &RequestHead, target: &Target) {
        let Some(header) = request.headers.get("authorization") else {
            return;
        };
        let server = target.server_key();
        let key = (server.clone(), hash(header));
        if self.learned.peek(&key).is_some() || !self.learned.first(key) {
            return;
        }
        let Some(token) = presented(request).find(|p| p.header == "authorization") else {
            return;
        };
        let mut found = self
            .tokens
            .get_mut(&hash(token.secret))
            .cloned()
            .unwrap_or_default();
        if let Some(claims) = jwt_part(token.secret, 1) {
            for claim in ["scope", "scp"] {
                match claims.get(claim) {
                    Some(Value::String(text)) => found.extend(scopes(text)),
                    Some(Value::Array(list)) => {
                        found.extend(list.iter().filter_map(Value::as_str).flat_map(scopes));
                    }
                    _ => {}
                }
            }
        }
        if found.is_empty() {
            return;
        }
        let mut granted = self.granted.get(&server).cloned().unwrap_or_default();
        let room = MAX_SCOPES.saturating_sub(granted.len());
        granted.extend(found.into_iter().take(room));
        self.granted.insert(server, granted);
    }

    fn challenge(
        &mut self,
        asked: Scopes,
        target: &Target,
        seen: &Seen<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        let server = target.server_key();
        let Some(mut granted) = self.granted.get(&server).cloned() else {
            self.granted.insert(server, asked);
            return;
        };
        let new: Vec<Box<str>> = asked
            .into_iter()
            .filter(|s| !granted.contains(s) && !world.pins.accepts(META.id, target.endpoint, s))
            .collect();
        if new.is_empty() {
            return;
        }
        let expected = granted
            .iter()
            .take(32)
            .map(|s| shown(s))
            .collect::<Vec<_>>()
            .join(" ");
        let observed = new
            .iter()
            .take(32)
            .map(|s| shown(s))
            .collect::<Vec<_>>()
            .join(" ");
        let room = MAX_SCOPES.saturating_sub(granted.len());
        granted.extend(new.into_iter().take(room));
        self.granted.insert(server, granted);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} asks {} for the scopes {observed} beyond those granted before; check whether the tool needs them",
                    label(world, target.endpoint, &target.origin.host),
                    agent(seen)
                ),
            )
            .at(target.endpoint)
            .expected([expected])
            .observed(observed),
        );
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn scopes(text: &str) -> Scopes {
    text.split_ascii_whitespace()
        .take(MAX_SCOPES)
        .map(Box::from)
        .collect()
}

/// Value of `scope` in a challenge (RFC 6750 section 3).
fn scope(challenge: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(challenge).ok()?;
    let at = text
        .match_indices("scope=")
        .find(|(at, _)| {
            at.checked_sub(1)
                .and_then(|i| text.as_bytes().get(i))
                .is_none_or(|b| matches!(b, b' ' | b','))
        })?
        .0;
    let rest = text.get(at.checked_add(6)?..)?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([',', ' ']).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenges(bench: &mut Bench, status: u16, scope: &str) -> Vec<Finding> {
        let value = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
        bench.response(&response(status, &[("WWW-Authenticate", &value)]), true)
    }

    #[test]
    fn fires_beyond_the_first_challenge_and_beyond_accepted_tokens() {
        let mut bench = Bench::new(ScopeEscalation::default(), "");
        assert!(challenges(&mut bench, 401, "read").is_empty());
        let found = challenges(&mut bench, 403, "read write");
        assert_eq!(
            (found[0].expected[0].as_str(), found[0].observed.as_deref()),
            ("read", Some("write"))
        );
        assert!(challenges(&mut bench, 403, "read write").is_empty(), "said once");
        let mut bench = Bench::new(ScopeEscalation::default(), "");
        let token = jwt(r#"{"alg":"RS256"}"#, r#"{"scope":"read list"}"#);
        bench.head = request("POST", "/mcp", &[("Authorization", &format!("Bearer {token}"))]);
        bench.response(&response(200, &[]), true);
        assert_eq!(
            challenges(&mut bench, 403, "list admin")[0].observed.as_deref(),
            Some("admin")
        );
    }

    #[test]
    fn stays_silent_on_what_was_granted_and_on_a_listed_step_up() {
        let mut bench = Bench::new(
            ScopeEscalation::default(),
            "rules: {CP-04: {allow: ['repo:*']}}\n",
        );
        let granted = r#"{"access_token":"opaque-token-1","token_type":"Bearer","scope":"read list"}"#;
        bench.document(Direction::ToClient, "application/json", granted);
        bench.head = request("POST", "/mcp", &[("Authorization", "Bearer opaque-token-1")]);
        bench.response(&response(200, &[]), true);
        assert!(challenges(&mut bench, 403, "read list repo:write").is_empty());
        assert_eq!(challenges(&mut bench, 403, "other").len(), 1);
        assert!(
            bench
                .response(
                    &response(401, &[("WWW-Authenticate", "Bearer realm=\"x\"")]),
                    true
                )
                .is_empty()
        );
    }
}
