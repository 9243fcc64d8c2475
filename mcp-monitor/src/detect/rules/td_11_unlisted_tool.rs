//! TD-11 unlisted-tool: call of a tool never listed.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use super::calls::is_call;
use crate::{
    baseline::{Bounded, KnownLists, ToolList},
    flow::FlowId,
    mcp::{
        Message, MessageKind, RequestId,
        context::{ClientKey, MessageContext, ServerKey, Session},
        json,
    },
};

const META: Meta = Meta {
    id: "TD-11",
    slug: "unlisted-tool",
    category: "definition",
    trigger: "call of a tool never listed",
    silent_on: "list missed by capture loss; a call that the server refuses",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Close],
    page: Page {
        means: "An agent called a tool that the server never listed to it: a hidden tool, or a model that was told of it elsewhere.",
        attacker: "Keeps a tool out of the list that reviewers see and names it in a prompt, a result or another tool's description.",
        wire: "A `tools/call` whose name stands in no `tools/list` result that this client got from this server, after a complete list was seen, and which the server carries out.",
        act: "Find where the agent learned the name: look through the results and descriptions before the call.",
        quiet: "Sessions with lost bytes are silent, since the list may have been in them. A call that the server answers with an error or with `isError` is silent too: there is no such tool, the model made the name up.",
    },
};

/// Names of tools.
type Names = Arc<BTreeSet<Arc<str>>>;

/// Names each client was ever given by each server.
pub(super) struct UnlistedTool {
    listed: Remembered<(ClientKey, ServerKey), Names>,
    /// Names of each list: clients that were given one list share them.
    sets: KnownLists<Names>,
    /// Calls of unlisted tools that wait for their answer, each with its connection.
    asked: Bounded<(ClientKey, ServerKey, RequestId), (FlowId, Finding)>,
}

/// Most names kept per client and server.
const MAX_NAMES: usize = 8192;
/// Most calls that wait for their answer; the oldest of more is not said.
const MAX_ASKED: usize = 256;

impl Default for UnlistedTool {
    fn default() -> Self {
        Self {
            listed: Remembered::default(),
            sets: KnownLists::default(),
            asked: Bounded::new(MAX_ASKED),
        }
    }
}

impl Rule for UnlistedTool {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.listed)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        match &seen.kind {
            SeenKind::Message { message, context } => {
                if let Some(list) = world.tools {
                    self.learn(context.session, list);
                } else if is_call(message) {
                    self.call(seen, world, message, context);
                } else if matches!(message.kind, MessageKind::Response | MessageKind::Error) {
                    self.answer(message, context, out);
                }
            }
            // What was never answered is judged by the call alone.
            SeenKind::Close(_) => {
                let Some(flow) = seen.flow else { return };
                let left: Vec<_> = self
                    .asked
                    .iter()
                    .filter(|(_, (on, _))| *on == flow.info.id)
                    .map(|(key, _)| key.clone())
                    .collect();
                let mut found: Vec<Finding> = left
                    .iter()
                    .filter_map(|key| Some(self.asked.remove(key)?.1))
                    .collect();
                found.sort_by_key(|finding| finding.evidence.first().map(|packet| packet.order));
                out.append(&mut found);
            }
            _ => {}
        }
    }
}

impl UnlistedTool {
    fn learn(&mut self, session: &Session, list: &ToolList) {
        let key = (session.client.clone(), session.server.clone());
        let given = self.sets.get(list, || {
            let names = list
                .tools
                .iter()
                .take(MAX_NAMES)
                .map(|tool| Arc::clone(&tool.name));
            Arc::new(names.collect())
        });
        let known = self.listed.peek(&key);
        if known.is_some_and(|names| {
            Arc::ptr_eq(names, &given) || list.tools.iter().all(|tool| names.contains(&tool.name))
        }) {
            return self.listed.confirm(key);
        }
        let names = match known.cloned() {
            None => given,
            Some(mut names) => {
                let more = list.tools.iter().take(MAX_NAMES.saturating_sub(names.len()));
                Arc::make_mut(&mut names).extend(more.map(|tool| Arc::clone(&tool.name)));
                names
            }
        };
        self.listed.insert(key, names);
    }

    fn call(&mut self, seen: &Seen<'_>, world: &World<'_>, message: &Message, context: &MessageContext<'_>) {
        let session = context.session;
        let key = (session.client.clone(), session.server.clone());
        let (Some(names), Some(tool), Some(id), Some(flow)) =
            (self.listed.get(&key), &message.name, &message.id, seen.flow)
        else {
            return;
        };
        if session.lossy || names.contains(tool) || names.len() >= MAX_NAMES {
            return;
        }
        let index = context.target.endpoint;
        let tool = shown(tool);
        let finding = Finding::new(
            META.id,
            format!(
                "{} called {tool} of {}, which never listed it; find where the agent learned the name",
                agent(seen),
                label(world, index, &context.target.origin.host)
            ),
        )
        .at(index)
        .observed(tool)
        .shown_by(message.first);
        self.asked
            .insert((key.0, key.1, id.clone()), (flow.info.id, finding));
    }

    /// A server that refuses the call has no such tool.
    fn answer(&mut self, message: &Message, context: &MessageContext<'_>, out: &mut Vec<Finding>) {
        if self.asked.iter().next().is_none() {
            return;
        }
        let session = context.session;
        let Some(id) = &message.id else { return };
        let key = (session.client.clone(), session.server.clone(), id.clone());
        let asked = self.asked.remove(&key);
        let refused = message.error_code.is_some()
            || message
                .result()
                .is_some_and(|result| json::path(result, &["isError"]) == Some(b"true"));
        if !refused {
            out.extend(asked.map(|(_, finding)| finding));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"hidden"}}"#;

    const DONE: &str = r#"{"jsonrpc":"2.0","id":5,"result":{"content":[]}}"#;

    /// Calls the tool, then has the answer.
    fn called(bench: &mut Bench, answer: &str) -> Vec<Finding> {
        assert!(bench.says(CALL).is_empty());
        bench.answers(answer, Some("tools/call"))
    }

    #[test]
    fn fires_on_a_call_of_a_tool_that_no_list_had() {
        let mut bench = Bench::new(UnlistedTool::default(), "");
        bench.lists_tools(r#"[{"name":"a"}]"#);
        let found = called(&mut bench, DONE);
        assert_eq!(found[0].observed.as_deref(), Some("hidden"));
        assert_eq!(found[0].evidence.len(), 1);
        assert!(bench.close().is_empty());
    }

    #[test]
    fn fires_at_the_end_of_the_connection_where_nothing_answered() {
        let mut bench = Bench::new(UnlistedTool::default(), "");
        bench.lists_tools(r#"[{"name":"a"}]"#);
        assert!(bench.says(CALL).is_empty());
        assert_eq!(bench.close().len(), 1);
    }

    #[test]
    fn stays_silent_where_the_server_refuses() {
        for refusal in [
            r#"{"jsonrpc":"2.0","id":5,"result":{"content":[{"type":"text","text":"Unknown tool: hidden"}],"isError":true}}"#,
            r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"Unknown tool"}}"#,
        ] {
            let mut bench = Bench::new(UnlistedTool::default(), "");
            bench.lists_tools(r#"[{"name":"a"}]"#);
            assert!(called(&mut bench, refusal).is_empty());
            assert!(bench.close().is_empty());
        }
    }

    #[test]
    fn stays_silent_on_listed_tools_without_a_list_and_after_loss() {
        let mut bench = Bench::new(UnlistedTool::default(), "");
        assert!(called(&mut bench, DONE).is_empty());
        bench.lists_tools(r#"[{"name":"a"}]"#);
        bench.session.lossy = true;
        assert!(called(&mut bench, DONE).is_empty());
        bench.session.lossy = false;
        bench.lists_tools(r#"[{"name":"hidden"}]"#);
        assert!(called(&mut bench, DONE).is_empty());
    }
}
