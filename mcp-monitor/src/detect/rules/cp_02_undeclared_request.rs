//! CP-02 undeclared-request: sampling, elicitation or roots request the client did not declare.

use super::prelude::*;
use crate::{mcp::MessageKind, types::Direction as Way};

const META: Meta = Meta {
    id: "CP-02",
    slug: "undeclared-request",
    category: "capability",
    trigger: "sampling, elicitation or roots request the client did not declare",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server asked the client for something the client never offered: its model (sampling), its user (elicitation) or its folders (roots).",
        attacker: "Probes whether the client answers anyway: some do, and give the server a model to command or a user to question.",
        wire: "`sampling/createMessage`, `elicitation/create` or `roots/list` from the server (or inside `inputRequests`) in a session whose client capabilities do not name it.",
        act: "Check that the client refused. Look at what else this server asked for.",
        quiet: "None known: the specification forbids it.",
    },
};

/// Requests of servers and the capability of the client that allows them.
const NEEDS: &[(&str, &str)] = &[
    ("sampling/createMessage", "sampling"),
    ("elicitation/create", "elicitation"),
    ("roots/list", "roots"),
];

/// Nothing to remember.
#[derive(Default)]
pub(super) struct UndeclaredRequest;

impl Rule for UndeclaredRequest {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let Some(capabilities) = &context.session.client_capabilities else {
            return;
        };
        if message.direction != Way::ToClient {
            return;
        }
        let mut asked: Vec<&str> = Vec::new();
        if message.kind == MessageKind::Request {
            asked.extend(message.method.as_deref());
        } else if world.facts.asks_inputs(message) {
            let requests = super::mcp::result(message).and_then(|r| r.get("inputRequests").cloned());
            for (method, _) in NEEDS {
                let found = requests.as_ref().and_then(|r| r.as_object()).is_some_and(|map| {
                    map.values()
                        .any(|v| v.get("method").and_then(|m| m.as_str()) == Some(method))
                });
                if found {
                    asked.push(method);
                }
            }
        }
        asked.retain(|method| NEEDS.iter().any(|(m, _)| m == method));
        if asked.is_empty() {
            return;
        }
        let Ok(declared) = serde_json::from_str::<serde_json::Value>(capabilities) else {
            return;
        };
        let index = context.target.endpoint;
        for (method, capability) in NEEDS.iter().filter(|(m, _)| asked.contains(m)) {
            if declared.get(capability).is_some_and(|c| !c.is_null()) {
                continue;
            }
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sent {method} to {}, whose client never declared {capability}; check that it was refused",
                        label(world, index, &context.target.origin.host),
                        agent(seen)
                    ),
                )
                .at(index)
                .expected([format!("client capability {capability}")])
                .observed(*method),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: &str = r#"{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}"#;
    const INPUT: &str = r#"{"jsonrpc":"2.0","id":9,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}}"#;

    #[test]
    fn fires_on_what_the_client_did_not_declare() {
        let mut bench = Bench::new(UndeclaredRequest, "");
        assert_eq!(
            bench.answers(SAMPLING, None)[0].observed.as_deref(),
            Some("sampling/createMessage")
        );
        assert_eq!(bench.answers(INPUT, Some("tools/call")).len(), 1);
    }

    #[test]
    fn stays_silent_on_what_was_declared_on_unknown_capabilities_and_on_clients() {
        let mut bench = Bench::new(UndeclaredRequest, "");
        assert!(bench.says(SAMPLING).is_empty());
        assert!(
            bench
                .answers(r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#, None)
                .is_empty()
        );
        bench.session.client_capabilities = Some(r#"{"sampling":{},"roots":{"listChanged":true}}"#.into());
        assert!(bench.answers(SAMPLING, None).is_empty());
        assert!(bench.answers(INPUT, Some("tools/call")).is_empty());
        bench.session.client_capabilities = None;
        assert!(bench.answers(SAMPLING, None).is_empty());
    }
}
