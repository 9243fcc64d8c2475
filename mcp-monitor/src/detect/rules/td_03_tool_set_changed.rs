//! TD-03 tool-set-changed: tool added or removed.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    baseline::Principal,
    mcp::context::{ClientKey, ServerKey},
};

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
        quiet: "Lists are compared only with lists for the same client capabilities and credentials, because servers offer by these; the pages of one list are put together first. A pinned tool that was never offered to this kind of client is silent. Tools that a server adds in the first 10 seconds of a session and announces with `notifications/tools/list_changed` (it waits to see what the client can do) are learned once; what was added under an announcement may be missing from a later list without an alert.",
    },
};

/// For whom a list was made.
type Audience = (ServerKey, Option<Arc<str>>, Option<Arc<str>>, Principal);

/// How long after its start a session's announced growth is the server getting ready.
const SETTLING: Duration = Duration::from_secs(10);
/// Most names kept of tools that come and go.
const MAX_LATE: usize = 4096;

/// The names of one audience.
#[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Set {
    names: BTreeSet<Arc<str>>,
    /// Added under an announcement: a session's first list may be without them.
    late: BTreeSet<Arc<str>>,
    /// The session whose list was the first.
    learned_in: Option<Arc<str>>,
    /// A session that was just beginning was told of more tools and did not ask again: they are still to be
    /// learned.
    open: bool,
}

type Listener = (ServerKey, ClientKey, Option<Arc<str>>);

/// The latest set of names per server and audience; what each session listed for; and sessions that were
/// told of a change since their last list.
#[derive(Default)]
pub(super) struct ToolSetChanged {
    sets: Remembered<Audience, Set>,
    listed: Bounded<Listener, Audience>,
    announced: Once<Listener>,
}

impl Rule for ToolSetChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.sets)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let session = context.session;
        let listener = || (session.server.clone(), session.client.clone(), session.id.clone());
        let beginning = seen.at.time.since(session.start) <= SETTLING;
        if message.is("notifications/tools/list_changed") {
            self.announced.first(listener());
            if let Some(audience) = self.listed.get_mut(&listener()).filter(|_| beginning)
                && let Some(mut set) = self.sets.get(audience).cloned()
            {
                // Where growth was learned before, there is none that is still to come.
                set.open |= set.late.is_empty();
                self.sets.insert(audience.clone(), set);
            }
            return;
        }
        let Some(list) = world.tools else { return };
        let announced = self.announced.remove(&listener()).is_some();
        let index = context.target.endpoint;
        let pinned = world.pins.endpoint(index).and_then(|e| e.mcp.tools.as_ref());
        let audience = (
            list.server.clone(),
            list.era.clone(),
            list.capabilities.clone(),
            list.principal,
        );
        if list.again && pinned.is_none() {
            self.listed.insert(listener(), audience);
            return;
        }
        let name = label(world, index, &context.target.origin.host);
        let now: BTreeSet<Arc<str>> = list.tools.iter().map(|t| Arc::clone(&t.name)).collect();
        let before = self.sets.get(&audience).cloned();
        let mut late = before.as_ref().map(|b| b.late.clone()).unwrap_or_default();
        let new: Vec<Arc<str>> = before
            .iter()
            .flat_map(|b| now.difference(&b.names).filter(|t| !b.late.contains(*t)).cloned())
            .collect();
        let learned_in = before
            .as_ref()
            .map_or_else(|| session.id.clone(), |b| b.learned_in.clone());
        let open = before.as_ref().is_some_and(|b| b.open);
        // Servers register tools that depend on the client once it is ready, and say so. That is learned
        // once: later growth is news, however it is announced.
        let settling = beginning && (open || (announced && learned_in == session.id));
        if announced || settling {
            let room = MAX_LATE.saturating_sub(late.len());
            late.extend(new.iter().take(room).cloned());
        }
        let added: Vec<&Arc<str>> = match pinned {
            Some(pinned) => now.iter().filter(|t| !pinned.contains_key(&***t)).collect(),
            None if settling => Vec::new(),
            None => new.iter().collect(),
        };
        let removed: Vec<Arc<str>> = before
            .iter()
            .flat_map(|b| b.names.difference(&now).filter(|t| !late.contains(*t)).cloned())
            .collect();
        let set = Set {
            names: now.clone(),
            open: open && new.is_empty(),
            late,
            learned_in,
        };
        self.listed.insert(listener(), audience.clone());
        self.sets.insert(audience, set);
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
        for tool in &removed {
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

    const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

    #[test]
    fn stays_silent_on_announced_growth_while_a_session_begins() {
        let mut bench = Bench::new(ToolSetChanged::default(), "");
        for session in ["first", "second"] {
            bench.session.id = Some(session.into());
            bench.session.start = bench.at().time;
            assert!(bench.lists_tools(r#"[{"name":"a"}]"#).is_empty(), "{session}");
            bench.answers(CHANGED, None);
            assert!(
                bench.lists_tools(r#"[{"name":"a"},{"name":"roots"}]"#).is_empty(),
                "{session}"
            );
        }
    }

    #[test]
    fn learns_growth_that_the_first_session_did_not_ask_for_but_only_once() {
        let mut bench = Bench::new(ToolSetChanged::default(), "");
        let mut lists = |session: &str, tools: &str| {
            bench.wait(Duration::from_secs(60));
            bench.session.id = Some(session.into());
            bench.session.start = bench.at().time;
            let found = bench.lists_tools(tools).len();
            bench.answers(CHANGED, None);
            found
        };
        assert_eq!(lists("first", r#"[{"name":"a"}]"#), 0);
        assert_eq!(lists("second", r#"[{"name":"a"},{"name":"roots"}]"#), 0);
        assert_eq!(lists("third", r#"[{"name":"a"}]"#), 0);
        assert_eq!(
            lists("fourth", r#"[{"name":"a"},{"name":"roots"},{"name":"evil"}]"#),
            1
        );
    }

    #[test]
    fn fires_once_on_announced_growth_later_and_on_growth_without_a_word() {
        let mut bench = Bench::new(ToolSetChanged::default(), "");
        bench.lists_tools(r#"[{"name":"a"}]"#);
        bench.wait(Duration::from_secs(60));
        bench.answers(CHANGED, None);
        assert_eq!(bench.lists_tools(r#"[{"name":"a"},{"name":"b"}]"#).len(), 1);
        assert!(
            bench.lists_tools(r#"[{"name":"a"}]"#).is_empty(),
            "it comes and goes"
        );
        assert!(bench.lists_tools(r#"[{"name":"a"},{"name":"b"}]"#).is_empty());
        bench.session.start = bench.at().time;
        assert_eq!(
            bench
                .lists_tools(r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#)
                .len(),
            1
        );
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
