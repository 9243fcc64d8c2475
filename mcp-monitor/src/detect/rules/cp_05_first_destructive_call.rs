//! CP-05 first-destructive-call: first call, by this agent, of a tool annotated `destructiveHint: true` or named as executing.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use super::words::Judged;
use crate::baseline::Tool;
use crate::mcp::{
    MessageKind,
    context::{ClientKey, ServerKey},
};

const META: Meta = Meta {
    id: "CP-05",
    slug: "first-destructive-call",
    category: "capability",
    trigger: "first call, by this agent, of a tool annotated `destructiveHint: true` or named as executing (an absent annotation is not one)",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &["MCP02"],
        atlas: &["AML.T0053"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent used, for the first time, a tool that can destroy or that runs commands. Most agents never do; one that begins to is worth a look.",
        attacker: "Brought the model, by a poisoned description, result or document, to use a tool that was within its reach but not part of its work.",
        wire: "The first `tools/call` of one client at one server for a tool whose latest definition has `annotations.destructiveHint: true`, or whose name says that it executes (`execute_…`, `run_command`, `shell`, `bash`, `eval`…).",
        act: "Read the call's arguments and what the agent read just before it. If this is its work, list the tool; if not, take the tool away from the agent.",
        quiet: "Said once per client, server and tool. A missing annotation is not one, and a tool that is also `readOnlyHint: true` is not destructive. List tools that are used on purpose: `rules: {CP-05: {allow: [run_sql]}}`.",
    },
};

/// Names kept per server.
const MAX_NAMES: usize = 1024;

/// Destructive tools of each server, and calls that were said.
#[derive(Default)]
pub(super) struct FirstDestructiveCall {
    destructive: Bounded<ServerKey, BTreeSet<Arc<str>>>,
    called: Remembered<(ClientKey, ServerKey, Arc<str>), ()>,
    judged: Judged,
}

impl Rule for FirstDestructiveCall {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.called)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let session = context.session;
        if let Some(list) = world.tools {
            let destructive =
                |t: &&Tool| t.hints.destructive == Some(true) && t.hints.read_only != Some(true);
            let names = list.tools.iter().filter(destructive);
            let names: BTreeSet<Arc<str>> = names.map(|t| Arc::clone(&t.name)).take(MAX_NAMES).collect();
            self.destructive.insert(list.server.clone(), names);
            return;
        }
        if message.kind != MessageKind::Request || !message.is("tools/call") {
            return;
        }
        let Some(tool) = &message.name else { return };
        let annotated = self
            .destructive
            .get_mut(&session.server)
            .is_some_and(|names| names.contains(tool));
        let why = if annotated {
            "annotated as destructive"
        } else if self.judged.name(tool).executes {
            "named as executing"
        } else {
            return;
        };
        let key = (session.client.clone(), session.server.clone(), Arc::clone(tool));
        if world.pins.accepts(META.id, context.target.endpoint, tool) || self.called.insert(key, ()).is_some()
        {
            return;
        }
        let index = context.target.endpoint;
        let tool = shown(tool);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} called {tool} of {} for the first time, a tool {why}; read its arguments and what the agent read before",
                    agent(seen),
                    label(world, index, &context.target.origin.host)
                ),
            )
            .at(index)
            .expected(["no call of it by this agent so far"])
            .observed(format!("{tool}, {why}")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(bench: &mut Bench, tool: &str) -> Option<String> {
        let json =
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
        bench.says(&json).pop().and_then(|f| f.observed)
    }

    const TOOLS: &str = r#"[{"name":"drop","annotations":{"destructiveHint":true}},{"name":"plain"},{"name":"odd","annotations":{"readOnlyHint":true,"destructiveHint":true}}]"#;

    #[test]
    fn fires_once_per_agent_and_tool() {
        let mut bench = Bench::new(FirstDestructiveCall::default(), "");
        bench.lists_tools(TOOLS);
        assert_eq!(
            calls(&mut bench, "drop").as_deref(),
            Some("drop, annotated as destructive")
        );
        assert_eq!(calls(&mut bench, "drop"), None);
        assert_eq!(
            calls(&mut bench, "run_command").as_deref(),
            Some("run_command, named as executing")
        );
        bench.session.client.info = Some(("another".into(), "1".into()));
        assert!(calls(&mut bench, "drop").is_some());
    }

    #[test]
    fn stays_silent_on_absent_hints_and_on_listed_tools() {
        let mut bench = Bench::new(
            FirstDestructiveCall::default(),
            "rules: {CP-05: {allow: [run_sql]}}\n",
        );
        bench.lists_tools(TOOLS);
        for tool in ["plain", "odd", "run_sql", "run_report", "unknown"] {
            assert_eq!(calls(&mut bench, tool), None, "{tool}");
        }
    }
}
