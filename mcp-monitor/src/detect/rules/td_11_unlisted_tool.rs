//! TD-11 unlisted-tool: call of a tool never listed.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use crate::mcp::{
    MessageKind,
    context::{ClientKey, ServerKey},
};

const META: Meta = Meta {
    id: "TD-11",
    slug: "unlisted-tool",
    category: "definition",
    trigger: "call of a tool never listed",
    silent_on: "list missed by capture loss",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent called a tool that the server never listed to it: a hidden tool, or a model that was told of it elsewhere.",
        attacker: "Keeps a tool out of the list that reviewers see and names it in a prompt, a result or another tool's description.",
        wire: "A `tools/call` whose name stands in no `tools/list` result that this client got from this server, after a complete list was seen.",
        act: "Find where the agent learned the name: look through the results and descriptions before the call.",
        quiet: "Sessions with lost bytes are silent, since the list may have been in them.",
    },
};

/// Names each client was ever given by each server.
#[derive(Default)]
pub(super) struct UnlistedTool {
    listed: Remembered<(ClientKey, ServerKey), BTreeSet<Arc<str>>>,
}

/// Most names kept per client and server.
const MAX_NAMES: usize = 8192;

impl Rule for UnlistedTool {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.listed)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let session = context.session;
        let call = message.kind == MessageKind::Request && message.is("tools/call");
        if world.tools.is_none() && !call {
            return;
        }
        let key = (session.client.clone(), session.server.clone());
        if let Some(list) = world.tools {
            let mut names = self.listed.peek(&key).cloned().unwrap_or_default();
            for tool in list.tools.iter().take(MAX_NAMES.saturating_sub(names.len())) {
                names.insert(Arc::clone(&tool.name));
            }
            self.listed.insert(key, names);
            return;
        }
        let (Some(names), Some(tool)) = (self.listed.get(&key), &message.name) else {
            return;
        };
        if session.lossy || names.contains(tool) || names.len() >= MAX_NAMES {
            return;
        }
        let index = context.target.endpoint;
        let tool = shown(tool);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} called {tool} of {}, which never listed it; find where the agent learned the name",
                    agent(seen),
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .observed(tool),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"hidden"}}"#;

    #[test]
    fn fires_on_a_call_of_a_tool_that_no_list_had() {
        let mut bench = Bench::new(UnlistedTool::default(), "");
        bench.lists_tools(r#"[{"name":"a"}]"#);
        assert_eq!(bench.says(CALL)[0].observed.as_deref(), Some("hidden"));
    }

    #[test]
    fn stays_silent_on_listed_tools_without_a_list_and_after_loss() {
        let mut bench = Bench::new(UnlistedTool::default(), "");
        assert!(bench.says(CALL).is_empty());
        bench.lists_tools(r#"[{"name":"a"}]"#);
        bench.session.lossy = true;
        assert!(bench.says(CALL).is_empty());
        bench.session.lossy = false;
        bench.lists_tools(r#"[{"name":"hidden"}]"#);
        assert!(bench.says(CALL).is_empty());
    }
}
