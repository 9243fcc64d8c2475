//! TD-03 tool-set-changed: tool added or removed.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use crate::{baseline::Principal, mcp::context::ServerKey};

const META: Meta = Meta {
    id: "TD-03",
    slug: "tool-set-changed",
    category: "definition",
    trigger: "tool added or removed",
    silent_on: "other capabilities, scope, page of a list",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &["MCP02"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server offers a tool that was not approved, or not there before, or no longer offers one.",
        attacker: "Adds a tool to a trusted server (often one that shadows another's), or takes one away so that the model uses a replacement.",
        wire: "A complete `tools/list` (all pages together) with a name that the pin does not have, or whose names differ from the list before for the same server, revision, capabilities and principal.",
        act: "Read the new tool's definition and ask the owner. Approve it with `pin learn`, or keep it from the agents.",
        quiet: "Lists are compared only with lists for the same client capabilities and credentials, because servers offer by these; the pages of one list are put together first. A pinned tool that was never offered to this kind of client is silent.",
    },
};

/// For whom a list was made.
type Audience = (ServerKey, Option<Arc<str>>, Option<Arc<str>>, Principal);

/// The latest set of names per server and audience.
#[derive(Default)]
pub(super) struct ToolSetChanged {
    sets: Remembered<Audience, BTreeSet<Arc<str>>>,
}

impl Rule for ToolSetChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.sets)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { context, .. }, Some(list)) = (&seen.kind, world.tools) else {
            return;
        };
        let index = context.target.endpoint;
        let pinned = world.pins.endpoint(index).and_then(|e| e.mcp.tools.as_ref());
        let name = label(world, index, &context.target.origin.host);
        let now: BTreeSet<Arc<str>> = list.tools.iter().map(|t| Arc::clone(&t.name)).collect();
        let audience = (
            list.server.clone(),
            list.era.clone(),
            list.capabilities.clone(),
            list.principal,
        );
        let before = self.sets.insert(audience, now.clone());
        let added: Vec<&Arc<str>> = match (pinned, &before) {
            (Some(pinned), _) => now.iter().filter(|t| !pinned.contains_key(&***t)).collect(),
            (None, Some(before)) => now.difference(before).collect(),
            (None, None) => Vec::new(),
        };
        let removed = before.iter().flat_map(|before| before.difference(&now));
        let mut say = |tool: &str, what: &str, expected: Vec<String>, advice: &str| {
            let tool = shown(tool);
            out.push(
                Finding::new(META.id, format!("{name} {what} the tool {tool}; {advice}"))
                    .at(index)
                    .expected(expected)
                    .observed(format!("{what} {tool}")),
            );
        };
        for tool in added {
            let why = if pinned.is_some() {
                "not in the pinned tools"
            } else {
                "not offered before"
            };
            say(
                tool,
                "added",
                vec![why.to_owned()],
                "read its definition, then approve it or keep it from the agents",
            );
        }
        for tool in removed {
            say(
                tool,
                "removed",
                vec![shown(tool)],
                "ask the owner, and check that no other server's tool takes its place",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_on_added_and_removed_tools() {
        let mut bench = Bench::new(ToolSetChanged::default(), "");
        assert!(bench.lists_tools(r#"[{"name":"a"},{"name":"b"}]"#).is_empty());
        let found = bench.lists_tools(r#"[{"name":"a"},{"name":"c"}]"#);
        let observed: Vec<_> = found.iter().map(|f| f.observed.clone().unwrap()).collect();
        assert_eq!(observed, ["added c", "removed b"]);
    }

    #[test]
    fn fires_on_a_tool_that_the_pin_does_not_have() {
        let pins = format!(
            "endpoints: [{{name: a, url: 'https://mcp.example/mcp', mcp: {{tools: {{a: 'sha256:{0}', z: 'sha256:{0}'}}}}}}]\n",
            "0".repeat(64)
        );
        let found =
            Bench::new(ToolSetChanged::default(), &pins).lists_tools(r#"[{"name":"a"},{"name":"x"}]"#);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].observed.as_deref(), Some("added x"));
    }

    #[test]
    fn stays_silent_on_other_capabilities_other_scopes_and_pages() {
        let mut bench = Bench::new(ToolSetChanged::default(), "");
        bench.lists_tools(r#"[{"name":"a"},{"name":"b"}]"#);
        bench.session.client_capabilities = Some(r#"{"roots":{}}"#.into());
        assert!(bench.lists_tools(r#"[{"name":"a"}]"#).is_empty());
        bench.session.client_capabilities = Some("{}".into());
        bench.head = request("POST", "/mcp", &[("authorization", "Bearer other-scope")]);
        assert!(bench.lists_tools(r#"[{"name":"a"}]"#).is_empty());
        bench.head = request("POST", "/mcp", &[]);
        let mut found = bench.says(r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#);
        found.extend(bench.answers(
            r#"{"jsonrpc":"2.0","id":8,"result":{"tools":[{"name":"a"}],"nextCursor":"p2"}}"#,
            Some("tools/list"),
        ));
        found
            .extend(bench.says(r#"{"jsonrpc":"2.0","id":9,"method":"tools/list","params":{"cursor":"p2"}}"#));
        found.extend(bench.answers(
            r#"{"jsonrpc":"2.0","id":9,"result":{"tools":[{"name":"b"}]}}"#,
            Some("tools/list"),
        ));
        assert!(found.is_empty(), "{found:?}");
    }
}
