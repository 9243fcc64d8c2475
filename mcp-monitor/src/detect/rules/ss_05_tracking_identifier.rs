//! SS-05 tracking-identifier: cookies, or per-client unique ids or URLs in descriptions and icons.

use super::prelude::*;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::mcp::{answers, result};
use crate::{
    baseline::{Known, KnownLists, Tool},
    mcp::context::{ClientKey, EndpointIndex, ServerKey},
};

const META: Meta = Meta {
    id: "SS-05",
    slug: "tracking-identifier",
    category: "session",
    trigger: "cookies, or per-client unique ids or URLs in descriptions and icons",
    silent_on: "load-balancer cookie",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["agent-tracking"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Response],
    page: Page {
        means: "A server marks its clients so that it knows each again: by a cookie, or by definitions that are the same for all but for an id that only one client gets. With that it can follow an agent over sessions and credentials, and treat it differently.",
        attacker: "Builds profiles of who asks what, or serves the harmful variant of a tool only to chosen agents.",
        wire: "`Set-Cookie` in a response of MCP whose name no load balancer uses; or two clients whose definition of one tool (or the server's instructions) differs only in tokens of at least 12 characters of mixed digits and letters, in its texts or in the URLs of its icons.",
        act: "Ask the operator what the mark is for. MCP clients need no cookies: turn them off. Compare what marked and fresh clients are served.",
        quiet: "Cookies of known load balancers and gateways are silent, as are empty ones, signed URLs (by the names of their parameters), and tokens that one client was seen to get anew with another list. List others by name: `rules: {SS-05: {allow: [gw_affinity]}}`. Said once per server and cookie or tool.",
    },
};

/// Cookies that load balancers, gateways and bot filters set: names, or what they begin with.
const LOAD_BALANCERS: &[&str] = &[
    "awsalb",
    "awselb",
    "bigipserver",
    "serverid",
    "srv_id",
    "routeid",
    "route",
    "arraffinity",
    "gclb",
    "__cf_bm",
    "cf_clearance",
    "_cfuvid",
    "__cflb",
    "ingresscookie",
    "x-oracle-bmc-lbs-route",
    "incap_ses_",
    "nlbi_",
    "visid_incap_",
    "ts01",
    "citrix_ns_id",
    "nsc_",
    "akamai_",
    "ak_bmsc",
    "bm_sv",
    "lb",
    "sticky",
    "haproxy",
    "traefik",
    "envoy",
    "kong",
    "stickysession",
    "backend",
    "upstream",
    "applicationgatewayaffinity",
];

/// Shortest value of a cookie, and shortest token, that can tell clients apart.
const MIN_COOKIE: usize = 8;
const MIN_TOKEN: usize = 12;
/// Clients compared for one definition.
const MAX_CLIENTS: usize = 16;
/// Tokens of one definition.
const MAX_TOKENS: usize = 64;
/// Marked definitions of one server's list.
const MAX_MARKED: usize = 64;

type Hash = [u8; 32];

/// Of a definition with tokens: what it is without them, and them.
type Marks = Option<(Hash, Hash)>;

struct Marked {
    name: Arc<str>,
    frame: Hash,
    tokens: Hash,
}

/// Tokens of each client for one definition; `None` once they changed for one client.
type Clients = Option<Vec<(ClientKey, Hash)>>;

/// Cookies that were said, and the tokens that each client got.
#[derive(Default)]
pub(super) struct TrackingIdentifier {
    said: Once<(ServerKey, Box<str>)>,
    clients: Bounded<(ServerKey, Arc<str>, Hash), Clients>,
    /// Of each definition, by its hash.
    tools: Bounded<Hash, Marks>,
    lists: KnownLists<Arc<[Marked]>>,
    server: Known<Marks>,
}

impl Rule for TrackingIdentifier {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        match &seen.kind {
            // An authorization server's metadata is not the MCP server's word.
            SeenKind::Response {
                head,
                target,
                mcp: true,
                ..
            } if !target.path.contains("/.well-known/") => {
                for cookie in head.headers.get_all("set-cookie") {
                    let Some((name, value)) =
                        std::str::from_utf8(cookie).ok().and_then(|c| c.split_once('='))
                    else {
                        continue;
                    };
                    let (name, value) = (name.trim(), value.split(';').next().unwrap_or_default().trim());
                    let lower = name.to_ascii_lowercase();
                    if value.len() < MIN_COOKIE
                        || LOAD_BALANCERS.iter().any(|lb| is_balancer(&lower, lb))
                        || world.pins.accepts(META.id, target.endpoint, name)
                        || !self.said.first((target.host_key(), name.into()))
                    {
                        continue;
                    }
                    let observed = format!("cookie {}, {} bytes", shown(name), value.len());
                    say(
                        &observed,
                        &label(world, target.endpoint, &target.origin.host),
                        target.endpoint,
                        out,
                    );
                }
            }
            SeenKind::Message { message, context } => {
                let marked: Arc<[Marked]> = if let Some(list) = world.tools {
                    let tools = &mut self.tools;
                    self.lists.get(list, || {
                        let marked = list.tools.iter().filter_map(|tool| mark(tools, tool));
                        marked.take(MAX_MARKED).collect()
                    })
                } else if answers(context, "initialize") || answers(context, "server/discover") {
                    let name = Arc::from("the server's instructions or icons");
                    let marks = self.server.get(world.definition, || marks(&result(message)?));
                    marks
                        .map(|(frame, tokens)| Marked { name, frame, tokens })
                        .into_iter()
                        .collect()
                } else {
                    return;
                };
                let session = context.session;
                for one in marked.iter() {
                    if self.differs(&session.server, &session.client, one)
                        && self
                            .said
                            .first((session.server.clone(), one.name.as_ref().into()))
                    {
                        let observed = format!("ids of its own for each client in {}", shown(&one.name));
                        let index = context.target.endpoint;
                        say(
                            &observed,
                            &label(world, index, &context.target.origin.host),
                            index,
                            out,
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

impl TrackingIdentifier {
    /// Notes what a client got; true if it and another client each got their own.
    fn differs(&mut self, server: &ServerKey, client: &ClientKey, marked: &Marked) -> bool {
        let key = (server.clone(), Arc::clone(&marked.name), marked.frame);
        let Some(clients) = self.clients.get_mut(&key) else {
            self.clients
                .insert(key, Some(vec![(client.clone(), marked.tokens)]));
            return false;
        };
        let Some(list) = clients else { return false };
        let room = list.len() < MAX_CLIENTS;
        match list.iter().find(|(known, _)| known == client) {
            Some((_, tokens)) if *tokens == marked.tokens => {}
            Some(_) => {
                // Made anew each time: it marks nobody.
                *clients = None;
                return false;
            }
            None if room => list.push((client.clone(), marked.tokens)),
            None => {}
        }
        let own = |tokens: &Hash| list.iter().filter(|(_, t)| t == tokens).count() == 1;
        own(&marked.tokens) && list.iter().filter(|(_, tokens)| own(tokens)).count() >= 2
    }
}

/// The marks of a tool, if it has some; of a definition that was seen before, from `known`.
fn mark(known: &mut Bounded<Hash, Marks>, tool: &Tool) -> Option<Marked> {
    let marks = match known.peek(&tool.hash) {
        Some(known) => *known,
        None => {
            let made = marks(&tool.definition);
            known.insert(tool.hash, made);
            made
        }
    };
    let (frame, tokens) = marks?;
    Some(Marked {
        name: Arc::clone(&tool.name),
        frame,
        tokens,
    })
}

fn say(observed: &str, name: &str, index: Option<EndpointIndex>, out: &mut Vec<Finding>) {
    out.push(
        Finding::new(
            META.id,
            format!("{name} marks its clients ({observed}); ask its operator what for, and compare what a fresh client is served"),
        )
        .at(index)
        .expected(["no mark that tells clients apart"])
        .observed(observed),
    );
}

/// Short names must match as a whole.
fn is_balancer(name: &str, balancer: &str) -> bool {
    name == balancer
        || (balancer.len() > 5 && name.starts_with(balancer))
        || (balancer == "ts01" && name.starts_with("ts01"))
}

fn marks(definition: &Value) -> Marks {
    let (mut frame, mut tokens) = (Sha256::new(), Sha256::new());
    let mut found = 0usize;
    walk(definition, &mut frame, &mut tokens, &mut found);
    (found > 0).then(|| (frame.finalize().into(), tokens.finalize().into()))
}

/// Splits every string into tokens and the rest. Depth is bounded by the JSON reader.
fn walk(value: &Value, frame: &mut Sha256, tokens: &mut Sha256, found: &mut usize) {
    match value {
        Value::String(text) => {
            let text = match text.split_once('?') {
                Some((plain, query)) if is_signed(query) => plain,
                _ => text,
            };
            for part in text.split_inclusive(|c: char| !is_token_char(c)) {
                let token = part.trim_end_matches(|c: char| !is_token_char(c));
                if is_token(token) && *found < MAX_TOKENS {
                    *found = found.saturating_add(1);
                    tokens.update(token);
                    tokens.update([0]);
                    frame.update([1]);
                } else {
                    frame.update(part);
                }
            }
            frame.update([0]);
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, frame, tokens, found)),
        Value::Object(map) => {
            for (key, item) in map {
                frame.update(key);
                frame.update([2]);
                walk(item, frame, tokens, found);
            }
        }
        other => frame.update(other.to_string()),
    }
}

/// The query of a URL that was signed for a while, as object stores do.
fn is_signed(query: &str) -> bool {
    const SIGNATURES: &[&str] = &[
        "x-amz-signature=",
        "x-goog-signature=",
        "signature=",
        "sig=",
        "se=",
    ];
    let query = query.to_ascii_lowercase();
    SIGNATURES
        .iter()
        .any(|name| query.starts_with(name) || query.contains(&format!("&{name}")))
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Long, with at least four digits among letters: no word, no date, no version.
fn is_token(text: &str) -> bool {
    text.len() >= MIN_TOKEN
        && text.bytes().filter(u8::is_ascii_digit).count() >= 4
        && text.bytes().filter(u8::is_ascii_alphabetic).count() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(pins: &str, value: &str) -> usize {
        Bench::new(TrackingIdentifier::default(), pins)
            .response(&response(200, &[("Set-Cookie", value)]), true)
            .len()
    }

    #[test]
    fn fires_on_cookies_and_does_not_show_them() {
        let mut bench = Bench::new(TrackingIdentifier::default(), "");
        let set = response(200, &[("Set-Cookie", "visitor=a8f3c2d1e0; Max-Age=31536000")]);
        let found = bench.response(&set, true);
        assert_eq!(found[0].observed.as_deref(), Some("cookie visitor, 10 bytes"));
        assert!(!format!("{found:?}").contains("a8f3"));
        assert!(bench.response(&set, true).is_empty(), "said once");
    }

    fn lists(bench: &mut Bench, client: &str, id: &str) -> usize {
        bench.session.client.info = Some((client.into(), "1".into()));
        bench
            .lists_tools(&format!(r#"[{{"name":"t","description":"adds","icons":[{{"src":"https://mcp.example/i.png?c={id}"}}]}}]"#))
            .len()
    }

    #[test]
    fn fires_on_ids_that_each_client_gets_for_itself() {
        let mut bench = Bench::new(TrackingIdentifier::default(), "");
        assert_eq!(lists(&mut bench, "a", "8f3c2d1e0a9b7c65"), 0);
        assert_eq!(lists(&mut bench, "a", "8f3c2d1e0a9b7c65"), 0);
        assert_eq!(lists(&mut bench, "b", "17ac93be04f2d6c8"), 1);
        assert_eq!(lists(&mut bench, "c", "27ac93be04f2d6c8"), 0, "said once");
    }

    #[test]
    fn stays_silent_on_load_balancers_listed_cookies_and_common_or_changing_ids() {
        for value in [
            "AWSALB=0123456789abcdef; Path=/",
            "BIGipServerpool=12345678.20480.0000",
            "__cf_bm=abcdefghijkl",
            "route=0123456789abcdef",
            "sid=; Max-Age=0",
            "lang=en",
        ] {
            assert_eq!(cookie("", value), 0, "{value}");
        }
        assert_eq!(cookie("rules: {SS-05: {allow: [gw_*]}}\n", "gw_a=0123456789"), 0);
        let mut bench = Bench::new(TrackingIdentifier::default(), "");
        for client in ["a", "b", "a", "b"] {
            assert_eq!(lists(&mut bench, client, "8f3c2d1e0a9b7c65"), 0);
        }
        let mut bench = Bench::new(TrackingIdentifier::default(), "");
        for (client, id) in [
            ("a", "1a2b3c4d5e6f7a8b"),
            ("a", "2a2b3c4d5e6f7a8b"),
            ("b", "3a2b3c4d5e6f7a8b"),
        ] {
            assert_eq!(lists(&mut bench, client, id), 0);
        }
        let mut bench = Bench::new(TrackingIdentifier::default(), "");
        for client in ["a", "b"] {
            let id = format!("x&X-Amz-Signature={client}a2b3c4d5e6f7a8b");
            assert_eq!(lists(&mut bench, client, &id), 0);
        }
    }
}
