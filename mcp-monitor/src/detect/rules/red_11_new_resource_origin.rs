//! RED-11 new-resource-origin: icon, resource link, `$ref` or UI policy names a new origin.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use url::Url;

use super::{
    domain::{is_below, same_site, site},
    listing::Listings,
    mcp::{answers, audience, result},
};
use crate::{
    baseline::Audience,
    mcp::context::{MessageContext, ServerKey},
};

const META: Meta = Meta {
    id: "RED-11",
    slug: "new-resource-origin",
    category: "redirection",
    trigger: "icon, resource link, `$ref` or UI policy names a new origin",
    silent_on: "known CDN",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["agent-tracking", "update-poisoning"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server's definitions, or a tool's results, now make agents and their users fetch from a host that this server never named before. Each fetch tells that host who uses which tool, and it can answer with whatever it likes.",
        attacker: "Adds an icon, a schema reference, a resource link or an entry of a UI's content policy that points to a machine of theirs: a tracking pixel, or a place to load instructions from.",
        wire: "In `initialize`, `server/discover` or a list: `icons[].src`, a network `$ref`, `_meta.ui.csp` domains, or an http(s) `uri`, whose origin the same list for the same kind of client did not have before. In results of one tool: a `resource_link` to a site that none of its earlier results linked to.",
        act: "Ask the server's owner about the host. Look which clients fetched from it. Icons should come from the server's own origin, and no client should fetch a network `$ref`.",
        quiet: "The first whole list of each kind of client is learned. The server's own registrable domain and large public CDNs are silent. A tool that links to more than three sites is taken to link anywhere. List other hosts: `rules: {RED-11: {allow: [cdn.vendor.example]}}`.",
    },
};

/// Hosts that anybody's pages load from: host, or what it ends in.
const CDNS: &[&str] = &[
    "cdn.jsdelivr.net",
    "unpkg.com",
    "esm.sh",
    "cdn.skypack.dev",
    "cdnjs.cloudflare.com",
    "ajax.googleapis.com",
    "fonts.googleapis.com",
    "fonts.gstatic.com",
    "www.gstatic.com",
    "code.jquery.com",
    "stackpath.bootstrapcdn.com",
    "maxcdn.bootstrapcdn.com",
    "cdn.tailwindcss.com",
    "use.fontawesome.com",
    "use.typekit.net",
    "ajax.aspnetcdn.com",
    "cdn.simpleicons.org",
    "avatars.githubusercontent.com",
    "json-schema.org",
    "www.w3.org",
];

const LISTS: &[(&str, &str)] = &[
    ("prompts/list", "prompts"),
    ("resources/list", "resources"),
    ("resources/templates/list", "resourceTemplates"),
];

/// Origins kept per list.
const MAX_ORIGINS: usize = 256;
/// Results of a tool with links before a new site counts.
const LEARNING: u32 = 3;
/// A tool with links to more sites than this links anywhere.
const MAX_SITES: usize = 3;

/// Sites that one tool's results link to.
#[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Links {
    results: u32,
    sites: BTreeSet<String>,
}

type Defined = Remembered<(Audience, Box<str>), BTreeSet<String>>;
type Linked = Remembered<(ServerKey, Arc<str>), Links>;

/// Origins named by each list for each audience, and by each tool's results.
pub(super) struct NewResourceOrigin {
    known: Together<Defined, Linked>,
    lists: Listings,
}

impl Default for NewResourceOrigin {
    fn default() -> Self {
        Self {
            known: Together::default(),
            lists: Listings::new(LISTS),
        }
    }
}

impl Rule for NewResourceOrigin {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let mut origins = BTreeSet::new();
        if let Some((member, items)) = self.lists.observe(message, context) {
            items.iter().for_each(|item| collect(item, &mut origins));
            self.defines(member, origins, context, world, out);
        } else if let Some(list) = world.tools {
            if !list.again {
                list.tools
                    .iter()
                    .for_each(|t| collect(&t.definition, &mut origins));
                self.defines("tools", origins, context, world, out);
            }
        } else if answers(context, "initialize") || answers(context, "server/discover") {
            if let Some(info) = result(message) {
                collect(&info, &mut origins);
                self.defines("server", origins, context, world, out);
            }
        } else if answers(context, "tools/call")
            && let Some(tool) = context.answers.and_then(|a| a.name.clone())
            && let Some(text) = message.result()
            && memchr::memmem::find(text, b"\"resource_link\"").is_some()
            && let Some(result) = result(message)
        {
            let content = result.get("content").and_then(Value::as_array);
            let links = content
                .into_iter()
                .flatten()
                .filter(|c| c.get("type").and_then(Value::as_str) == Some("resource_link"))
                .filter_map(|c| origin(c.get("uri")?.as_str()?));
            origins.extend(links.take(MAX_ORIGINS));
            self.links(&tool, origins, context, world, out);
        }
    }
}

impl NewResourceOrigin {
    fn defines(
        &mut self,
        what: &'static str,
        mut origins: BTreeSet<String>,
        context: &MessageContext<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        origins.retain(|o| !is_known(o, context, world));
        let key = (audience(context), what.into());
        let Some(mut known) = self.known.0.get(&key).cloned() else {
            self.known.0.insert(key, origins);
            return;
        };
        for new in origins
            .into_iter()
            .filter(|o| !known.contains(o))
            .collect::<Vec<_>>()
        {
            let before = known.iter().map(|o| shown(o)).collect::<Vec<_>>();
            say(&new, &format!("its {what}"), before, context, world, out);
            if known.len() < MAX_ORIGINS {
                known.insert(new);
            }
        }
        self.known.0.insert(key, known);
    }

    fn links(
        &mut self,
        tool: &Arc<str>,
        mut origins: BTreeSet<String>,
        context: &MessageContext<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        origins.retain(|o| !is_known(o, context, world));
        let key = (context.session.server.clone(), Arc::clone(tool));
        let mut known = self.known.1.get(&key).cloned().unwrap_or_default();
        for new in origins {
            let host = host_of(&new).to_owned();
            let before: Vec<String> = known.sites.iter().map(|s| shown(s)).collect();
            if known.sites.len() > MAX_SITES || !known.sites.insert(site(&host).to_owned()) {
                continue;
            }
            if known.results >= LEARNING && known.sites.len() <= MAX_SITES {
                say(
                    &new,
                    &format!("results of {}", shown(tool)),
                    before,
                    context,
                    world,
                    out,
                );
            }
        }
        // Counted up to where it is enough, so that an ordinary result changes nothing.
        known.results = known.results.saturating_add(1).min(LEARNING);
        self.known.1.insert(key, known);
    }
}

fn say(
    origin: &str,
    place: &str,
    before: Vec<String>,
    context: &MessageContext<'_>,
    world: &World<'_>,
    out: &mut Vec<Finding>,
) {
    let index = context.target.endpoint;
    let (name, origin) = (label(world, index, &context.target.origin.host), shown(origin));
    let expected = if before.is_empty() {
        vec!["no foreign origin".to_owned()]
    } else {
        before
    };
    out.push(
        Finding::new(
            META.id,
            format!("{name} now names {origin} in {place}, for the first time; ask its owner about that host and see who fetched from it"),
        )
        .at(index)
        .expected(expected)
        .observed(format!("{origin} in {place}")),
    );
}

fn host_of(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host,
    }
}

fn is_known(origin: &str, context: &MessageContext<'_>, world: &World<'_>) -> bool {
    let host = host_of(origin).trim_start_matches('[').trim_end_matches(']');
    same_site(host, &context.target.origin.host)
        || CDNS.iter().any(|cdn| is_below(host, cdn))
        || world.pins.accepts(META.id, context.target.endpoint, host)
}

/// Origin of a network URL; of a UI policy's entry such as `*.host` or `host` too.
fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    matches!(url.scheme(), "http" | "https" | "ws" | "wss").then(|| url.origin().ascii_serialization())
}

/// Every origin that a definition makes clients fetch from. Depth is bounded by the JSON reader.
fn collect(value: &Value, origins: &mut BTreeSet<String>) {
    if origins.len() >= MAX_ORIGINS {
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, origins)),
        Value::Object(map) => {
            for (key, item) in map {
                match (key.as_str(), item) {
                    ("src" | "$ref" | "$dynamicRef" | "uri", Value::String(text)) => {
                        origins.extend(origin(text));
                    }
                    ("csp", Value::Object(policy)) => {
                        let entries = policy.values().filter_map(Value::as_array).flatten();
                        for entry in entries.filter_map(Value::as_str).take(MAX_ORIGINS) {
                            let whole = entry.contains("://").then(|| origin(&entry.replace("*.", "")));
                            origins.extend(whole.unwrap_or_else(|| {
                                origin(&format!("https://{}", entry.trim_start_matches("*.")))
                            }));
                        }
                    }
                    // Schemas may have a property of any name, so only what is a tree is followed.
                    (_, Value::Array(_) | Value::Object(_)) => collect(item, origins),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn icon(bench: &mut Bench, src: &str) -> Vec<Finding> {
        bench.lists_tools(&format!(r#"[{{"name":"t","icons":[{{"src":"{src}"}}]}}]"#))
    }

    #[test]
    fn fires_on_new_origins_of_icons_refs_and_policies() {
        let mut bench = Bench::new(NewResourceOrigin::default(), "");
        assert!(icon(&mut bench, "https://img.example/a.png").is_empty());
        let found = icon(&mut bench, "https://track.example/a.png?u=7");
        assert_eq!(found[0].expected, ["https://img.example"]);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("https://track.example in its tools")
        );
        for definition in [
            r#"{"name":"t","inputSchema":{"properties":{"a":{"$ref":"https://schema.example/x.json"}}}}"#,
            r#"{"name":"t","_meta":{"ui":{"csp":{"connectDomains":["*.collect.example"]}}}}"#,
        ] {
            assert_eq!(
                bench.lists_tools(&format!("[{definition}]")).len(),
                1,
                "{definition}"
            );
        }
    }

    #[test]
    fn fires_on_a_resource_and_on_a_link_of_a_settled_tool() {
        let mut bench = Bench::new(NewResourceOrigin::default(), "");
        let mut list = |uri: &str| {
            bench.says(r#"{"jsonrpc":"2.0","id":4,"method":"resources/list"}"#);
            let answer = format!(
                r#"{{"jsonrpc":"2.0","id":4,"result":{{"resources":[{{"name":"r","uri":"{uri}"}}]}}}}"#
            );
            bench.answers(&answer, Some("resources/list")).len()
        };
        assert_eq!((list("https://a.example/x"), list("https://b.example/x")), (0, 1));
        assert_eq!((list("https://b.example/y"), list("file:///x")), (0, 0));
        bench.tool = Some("report".into());
        let mut call = |uri: &str| {
            let answer = format!(
                r#"{{"jsonrpc":"2.0","id":5,"result":{{"content":[{{"type":"resource_link","name":"r","uri":"{uri}"}}]}}}}"#
            );
            bench.answers(&answer, Some("tools/call")).len()
        };
        for day in 0..3 {
            assert_eq!(call(&format!("https://files.example/{day}")), 0);
        }
        assert_eq!(call("https://evil.example/x"), 1);
    }

    #[test]
    fn stays_silent_on_known_cdns_own_site_and_other_kinds_of_client() {
        let mut bench = Bench::new(
            NewResourceOrigin::default(),
            "rules: {RED-11: {allow: [cdn.vendor.example]}}\n",
        );
        bench.server("https://mcp.vendor.com/mcp", "203.0.113.5");
        bench.lists_tools(r#"[{"name":"t"}]"#);
        for src in [
            "https://cdn.jsdelivr.net/x.svg",
            "https://static.vendor.com/x.png",
            "https://cdn.vendor.example/x.png",
            "data:image/png;base64,xx",
        ] {
            assert!(icon(&mut bench, src).is_empty(), "{src}");
        }
        bench.session.client_capabilities = Some(r#"{"roots":{}}"#.into());
        assert!(icon(&mut bench, "https://other.example/x").is_empty());
    }
}
