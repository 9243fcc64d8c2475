//! CP-06 toxic-flow: untrusted content read, private data read, then external write, in one session.

use super::prelude::*;
use std::{collections::HashMap, sync::Arc};

use super::words::Judged;
use crate::baseline::{Hints, KnownLists};
use crate::mcp::{
    MessageKind,
    context::{ClientKey, MessageContext, ServerKey, Session},
};

const META: Meta = Meta {
    id: "CP-06",
    slug: "toxic-flow",
    category: "capability",
    trigger: "untrusted content read, private data read, then external write, in one session",
    silent_on: "one of the three missing",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "privilege-escalation"],
        owasp_mcp: &["MCP06"],
        atlas: &["AML.T0086"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "In one session an agent read something that strangers can write, read something private, and then sent something outside. Each is ordinary; the three together are how data is stolen through an agent.",
        attacker: "Leaves an instruction where the agent will read it (an issue, a web page, a mail): look up this, send it there.",
        wire: "In one MCP session, successful results of a tool that reads untrusted content (by name: `fetch_url`, `list_issues`, `read_email`…) and of one that reads private data (`read_file`, `query_database`, a `file:` resource…), and after both a call of a tool that carries something outside (`send_…`, `create_issue`, `upload_…`, or annotated `openWorldHint: true` and `readOnlyHint: false`).",
        act: "Read the three messages in this order. Does the outgoing one hold what the private one returned? Then treat it as disclosed. Separate the three abilities between agents, or ask a person before the last.",
        quiet: "Said once per session. What a tool says of itself counts before the words of its name: with `openWorldHint: false` it neither reads what strangers write nor sends anything outside, with `readOnlyHint: true` it sends nothing. (Whoever leaves the instruction is not the server, so its word is worth something here.) List those that are harmless here: `rules: {CP-06: {allow: [notify_oncall]}}`.",
    },
};

type SessionId = (ServerKey, ClientKey, Option<Arc<str>>);

/// What one session has read, by tool.
#[derive(Clone, Default)]
struct Read {
    untrusted: Option<Arc<str>>,
    private: Option<Arc<str>>,
    said: bool,
}

/// Tools kept per server with what they say of themselves.
const MAX_NAMES: usize = 1024;

/// A tool writes outside, by its annotations; else by its name.
fn writes_outside(hints: Hints, by_name: bool) -> bool {
    match (hints.open_world, hints.read_only) {
        (Some(false), _) | (_, Some(true)) => false,
        (Some(true), Some(false)) => true,
        _ => by_name,
    }
}

/// What each session has read, and what the tools of each server say of themselves.
#[derive(Default)]
pub(super) struct ToxicFlow {
    sessions: Bounded<SessionId, Read>,
    stated: Bounded<ServerKey, Arc<HashMap<Arc<str>, Hints>>>,
    lists: KnownLists<Arc<HashMap<Arc<str>, Hints>>>,
    judged: Judged,
}

impl Rule for ToxicFlow {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if let Some(list) = world.tools {
            let stated = self.lists.get(list, || {
                let stated = list.tools.iter().filter(|t| t.hints.stated).take(MAX_NAMES);
                Arc::new(stated.map(|t| (Arc::clone(&t.name), t.hints)).collect())
            });
            self.stated.insert(list.server.clone(), stated);
            return;
        }
        match message.kind {
            MessageKind::Response => {
                let Some(answered) = context.answers else { return };
                let Some(name) = &answered.name else { return };
                let (untrusted, private) = match &*answered.method {
                    "tools/call" => {
                        let does = self.judged.name(name);
                        let closed = self.stated(&context.session.server, name).open_world == Some(false);
                        (does.reads_untrusted && !closed, does.reads_private)
                    }
                    "resources/read" => (
                        name.starts_with("http:") || name.starts_with("https:"),
                        name.starts_with("file:"),
                    ),
                    _ => return,
                };
                if !(untrusted || private)
                    || world.pins.accepts(META.id, context.target.endpoint, name)
                    || world.facts.failed(message)
                {
                    return;
                }
                let key = id(context.session);
                let mut read = self.sessions.remove(&key).unwrap_or_default();
                // One tool is one of the two, not both.
                if untrusted && read.untrusted.is_none() {
                    read.untrusted = Some(Arc::clone(name));
                } else if private && read.private.is_none() {
                    read.private = Some(Arc::clone(name));
                }
                self.sessions.insert(key, read);
            }
            MessageKind::Request if message.is("tools/call") => {
                self.write(seen, message.name.as_ref(), context, world, out)
            }
            _ => {}
        }
    }
}

impl ToxicFlow {
    fn stated(&self, server: &ServerKey, tool: &Arc<str>) -> Hints {
        let tools = self.stated.peek(server);
        tools
            .and_then(|tools| tools.get(tool))
            .copied()
            .unwrap_or_default()
    }

    fn write(
        &mut self,
        seen: &Seen<'_>,
        tool: Option<&Arc<str>>,
        context: &MessageContext<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        let Some(tool) = tool else { return };
        let by_name = self.judged.name(tool).writes_outside;
        if !writes_outside(self.stated(&context.session.server, tool), by_name)
            || world.pins.accepts(META.id, context.target.endpoint, tool)
        {
            return;
        }
        let Some(read) = self.sessions.get_mut(&id(context.session)) else {
            return;
        };
        let (Some(untrusted), Some(private), false) = (&read.untrusted, &read.private, read.said) else {
            return;
        };
        let index = context.target.endpoint;
        let (untrusted, private, tool) = (shown(untrusted), shown(private), shown(tool));
        read.said = true;
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} read untrusted content ({untrusted}) and private data ({private}) of {} and now calls {tool}; read what it sends",
                    agent(seen),
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected(["at most two of: untrusted content, private data, a write outside"])
            .observed(format!("{untrusted}, {private}, then {tool}")),
        );
    }
}

fn id(session: &Session) -> SessionId {
    (session.server.clone(), session.client.clone(), session.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(bench: &mut Bench, tool: &str) -> Vec<Finding> {
        let found = bench.says(&format!(
            r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"{tool}"}}}}"#
        ));
        bench.tool = Some(tool.into());
        bench.answers(
            r#"{"jsonrpc":"2.0","id":5,"result":{"content":[]}}"#,
            Some("tools/call"),
        );
        found
    }

    #[test]
    fn fires_when_the_three_come_together_in_either_order_of_reading() {
        for (first, second) in [("fetch_url", "read_file"), ("query_database", "list_issues")] {
            let mut bench = Bench::new(ToxicFlow::default(), "");
            assert!(calls(&mut bench, first).is_empty() && calls(&mut bench, second).is_empty());
            let found = calls(&mut bench, "send_email");
            assert!(found[0].observed.as_deref().unwrap().ends_with("then send_email"));
            assert!(calls(&mut bench, "send_email").is_empty(), "once per session");
        }
        let mut bench = Bench::new(ToxicFlow::default(), "");
        bench.lists_tools(r#"[{"name":"sync","annotations":{"openWorldHint":true,"readOnlyHint":false}}]"#);
        calls(&mut bench, "fetch_url");
        calls(&mut bench, "read_file");
        assert_eq!(calls(&mut bench, "sync").len(), 1);
    }

    #[test]
    fn stays_silent_with_one_of_the_three_missing() {
        for tools in [
            ["fetch_url", "send_email", "get_sum"],
            ["read_file", "send_email", "get_sum"],
            ["fetch_url", "read_file", "get_sum"],
            ["send_email", "fetch_url", "read_file"],
        ] {
            let mut bench = Bench::new(ToxicFlow::default(), "");
            assert!(tools.iter().all(|t| calls(&mut bench, t).is_empty()), "{tools:?}");
        }
        let mut bench = Bench::new(ToxicFlow::default(), "rules: {CP-06: {allow: [send_email]}}\n");
        calls(&mut bench, "fetch_url");
        bench.session.id = Some("another-session".into());
        calls(&mut bench, "read_file");
        assert!(calls(&mut bench, "send_message").is_empty(), "two sessions");
        calls(&mut bench, "fetch_url");
        assert!(calls(&mut bench, "send_email").is_empty());
    }

    #[test]
    fn what_a_tool_says_of_itself_counts_before_its_name() {
        for (tool, hint) in [
            ("fetch_issue", r#""openWorldHint":false"#),
            ("send_message", r#""openWorldHint":false"#),
            ("send_message", r#""readOnlyHint":true"#),
        ] {
            let mut bench = Bench::new(ToxicFlow::default(), "");
            bench.lists_tools(&format!(r#"[{{"name":"{tool}","annotations":{{{hint}}}}}]"#));
            let found: Vec<_> = ["fetch_issue", "read_file", "send_message"]
                .into_iter()
                .flat_map(|tool| calls(&mut bench, tool))
                .collect();
            assert!(found.is_empty(), "{tool} {hint}");
        }
    }
}
