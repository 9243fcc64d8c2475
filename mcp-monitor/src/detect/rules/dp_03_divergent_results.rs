//! DP-03 divergent-results: same arguments, results that differ between servers or replicas.

use super::prelude::*;
use std::{net::IpAddr, sync::Arc};

use super::super::MAX_RESULT;
use super::calls::{Asked, is_call, tool_of_result};
use super::sameness::Sameness;
use crate::{
    baseline::{Principal, principal_of_request},
    mcp::context::MessageContext,
};

const META: Meta = Meta {
    id: "DP-03",
    slug: "divergent-results",
    category: "poisoning",
    trigger: "same arguments, results that differ between servers or replicas",
    silent_on: "live data marked so",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["data-poisoning", "logic-backdoor"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0099"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "Two replicas of one server answer the same call of the same tool, on behalf of the same principal, differently, and each keeps to its answer. One of them was changed.",
        attacker: "Took over one replica, or one address of a name, and poisons its answers only, so that who checks another replica finds nothing.",
        wire: "`tools/call` with equal arguments to two addresses of one host: A answers X, B answers Y, A answers X again, B answers Y again.",
        act: "Take both answers from the evidence packets and ask the server's owner which is right. Until then keep agents on the replica that was there before (the one named under expected).",
        quiet: "Data that changes is silent: an answer counts only if each replica repeats its own. Tools marked `openWorldHint: true` are left out; list others that are live under `rules: {DP-03: {allow: [tool_name]}}`. Endpoints that pin the same `mcp.server.name` count as replicas of one service.",
    },
};

/// One service: the server name that endpoints pin, else the host.
type Group = Arc<str>;
/// One call: service, tool, principal, arguments.
type Call = (Group, Arc<str>, Principal, u64);

/// What one replica answered.
#[derive(Clone, Debug)]
struct Answer {
    replica: IpAddr,
    digest: u128,
    /// How often it was this.
    times: u32,
}

/// Replicas of services, and what they answered.
#[derive(Default)]
pub(super) struct DivergentResults {
    replicas: Bounded<Group, Vec<IpAddr>>,
    asked: Asked,
    answers: Bounded<Call, Vec<Answer>>,
    live: Once<(Group, Arc<str>)>,
    sameness: Sameness,
}

/// Replicas of one service that are told apart.
const MAX_REPLICAS: usize = 8;
/// Each replica says its answer so often before they are compared.
const TIMES: u32 = 2;

impl Rule for DivergentResults {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { message, context }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        if let Some(list) = world.tools {
            let group = group(world, context);
            for tool in list.tools.iter() {
                if tool.hints.open_world == Some(true) {
                    self.live.first((Arc::clone(&group), Arc::clone(&tool.name)));
                }
            }
            return;
        }
        if is_call(message) {
            let group = group(world, context);
            if self.has_replicas(&group, context.target.address.ip()) {
                self.asked.note(flow.info.id, message);
            }
            return;
        }
        let Some(tool) = tool_of_result(message, context) else {
            return;
        };
        let Some(arguments) = self.asked.take(flow.info.id, message) else {
            return;
        };
        let index = context.target.endpoint;
        let group = group(world, context);
        if self.live.peek(&(Arc::clone(&group), Arc::clone(tool))).is_some()
            || world.pins.accepts(META.id, index, tool)
        {
            return;
        }
        let facts = world.facts;
        let Some(said) = facts
            .structured(message)
            .or_else(|| facts.content(message))
            .filter(|_| message.result().is_some_and(|r| r.len() <= MAX_RESULT))
        else {
            return;
        };
        let digest = self.sameness.digest(said);
        let principal = context.request.map(principal_of_request).unwrap_or_default();
        let call = (group, Arc::clone(tool), principal, arguments);
        let replica = context.target.address.ip();
        let Some(other) = self.compare(call, replica, digest) else {
            return;
        };
        let name = label(world, index, &context.target.origin.host);
        let tool = shown(tool);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{name} answers {tool} with the same arguments differently at {replica} than at {other}, each time again; ask its owner which is right, {} got the answer of {replica}",
                    agent(seen)
                ),
            )
            .at(index)
            .expected([format!("the answer of {other} to {tool}")])
            .observed(format!("another answer of {replica}")),
        );
    }
}

impl DivergentResults {
    /// The service has been seen at more than one address. Learns this one.
    fn has_replicas(&mut self, group: &Group, address: IpAddr) -> bool {
        if let Some(known) = self.replicas.get_mut(group) {
            if !known.contains(&address) && known.len() < MAX_REPLICAS {
                known.push(address);
            }
            return known.len() > 1;
        }
        self.replicas.insert(Arc::clone(group), vec![address]);
        false
    }

    /// Learns an answer; the replica that keeps to another one, if each has said its own again after
    /// the other spoke.
    fn compare(&mut self, call: Call, replica: IpAddr, digest: u128) -> Option<IpAddr> {
        let mut answers = self.answers.remove(&call).unwrap_or_default();
        let room = answers.len() < MAX_REPLICAS;
        let mut other = None;
        match answers.iter_mut().find(|a| a.replica == replica) {
            Some(own) if own.digest == digest => {
                own.times = own.times.saturating_add(1);
                let settled = own.times >= TIMES;
                other = answers
                    .iter()
                    // Once for the two: against the one that was there before.
                    .take_while(|a| a.replica != replica)
                    .find(|a| settled && a.digest != digest && a.times >= TIMES)
                    .map(|a| a.replica);
            }
            Some(own) => {
                // The same replica says something else: the data changes, all begin anew.
                let fresh = Answer {
                    replica: own.replica,
                    digest,
                    times: 1,
                };
                answers.clear();
                answers.push(fresh);
            }
            None if room => answers.push(Answer {
                replica,
                digest,
                times: 1,
            }),
            None => {}
        }
        self.answers.insert(call, answers);
        other
    }
}

fn group(world: &World<'_>, context: &MessageContext<'_>) -> Group {
    let pinned = world
        .pins
        .endpoint(context.target.endpoint)
        .and_then(|e| e.mcp.server.as_ref()?.name.as_deref());
    pinned.map_or_else(|| Arc::clone(&context.session.server.0), Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\nrules: {DP-03: {allow: [now]}}\n";

    /// Calls at the two replicas in turn.
    fn rounds(tool: &str, answers: &[(&str, &str)]) -> Vec<Finding> {
        let mut bench = Bench::new(DivergentResults::default(), PINS);
        let mut found = Vec::new();
        bench.lists_tools(r#"[{"name":"news","annotations":{"openWorldHint":true}}]"#);
        for round in std::iter::once(&("warm", "warm")).chain(answers) {
            for (ip, answer) in [("203.0.113.5", round.0), ("203.0.113.6", round.1)] {
                bench.server("https://mcp.example/mcp", ip);
                let result = format!(r#"{{"content":[{{"type":"text","text":"{answer}"}}]}}"#);
                let arguments = if answer == "warm" { "{}" } else { r#"{"id":1}"# };
                found.extend(bench.calls(tool, arguments, &result));
            }
        }
        found
    }

    #[test]
    fn fires_when_each_replica_keeps_to_its_own_answer() {
        let found = rounds("limit", &[("7", "9"), ("7", "9")]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("another answer of 203.0.113.6")
        );
        assert_eq!(found[0].expected, ["the answer of 203.0.113.5 to limit"]);
    }

    #[test]
    fn stays_silent_on_equal_answers_and_on_live_data() {
        assert!(rounds("limit", &[("7", "7"), ("7", "7"), ("7", "7")]).is_empty());
        assert!(rounds("limit", &[("1", "2"), ("3", "4"), ("5", "6"), ("7", "8")]).is_empty());
        assert!(rounds("limit", &[("7", "9")]).is_empty(), "once is no habit");
        assert!(
            rounds("news", &[("7", "9"), ("7", "9")]).is_empty(),
            "marked as open world"
        );
        assert!(rounds("now", &[("7", "9"), ("7", "9")]).is_empty(), "listed");
    }
}
