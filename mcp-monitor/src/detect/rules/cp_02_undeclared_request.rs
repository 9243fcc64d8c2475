//! CP-02 undeclared-request: sampling, elicitation or roots request the client did not declare.

use super::{mcp::answers, prelude::*};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use crate::{
    mcp::{MessageKind, context::ServerKey},
    types::Direction as Way,
};

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

/// A client of a server that gives no session ids.
type Client = (ServerKey, IpAddr);

/// Different declarations kept of one client; with more of them nothing is said of it.
const MAX_DECLARED: usize = 8;

/// What clients declared in sessions without an id: a stream that is open beside says nothing of it.
#[derive(Default)]
pub(super) struct UndeclaredRequest {
    declared: Bounded<Client, BTreeSet<Arc<str>>>,
}

impl Rule for UndeclaredRequest {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let session = context.session;
        let nameless = session.id.is_none();
        let client = (session.server.clone(), session.client.ip);
        if let Some(capabilities) = session.client_capabilities.as_ref().filter(|_| nameless)
            && answers(context, "initialize")
        {
            let mut all = self.declared.remove(&client).unwrap_or_default();
            if all.len() <= MAX_DECLARED {
                all.insert(Arc::clone(capabilities));
            }
            self.declared.insert(client.clone(), all);
        }
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
        let texts: Vec<&Arc<str>> = match &session.client_capabilities {
            Some(capabilities) => vec![capabilities],
            // Of several programs on one host, what none of them declared.
            None => {
                let all = self.declared.peek(&client).filter(|_| nameless);
                all.filter(|all| all.len() <= MAX_DECLARED)
                    .into_iter()
                    .flatten()
                    .collect()
            }
        };
        let declared: Option<Vec<serde_json::Value>> =
            texts.iter().map(|text| serde_json::from_str(text).ok()).collect();
        let Some(declared) = declared.filter(|all| !all.is_empty()) else {
            return;
        };
        let index = context.target.endpoint;
        for (method, capability) in NEEDS.iter().filter(|(m, _)| asked.contains(m)) {
            let has = |c: &serde_json::Value| c.get(capability).is_some_and(|c| !c.is_null());
            if declared.iter().any(has) {
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
        let mut bench = Bench::new(UndeclaredRequest::default(), "");
        assert_eq!(
            bench.answers(SAMPLING, None)[0].observed.as_deref(),
            Some("sampling/createMessage")
        );
        assert_eq!(bench.answers(INPUT, Some("tools/call")).len(), 1);
    }

    #[test]
    fn stays_silent_on_what_was_declared_on_unknown_capabilities_and_on_clients() {
        let mut bench = Bench::new(UndeclaredRequest::default(), "");
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

    #[test]
    fn a_stream_without_a_session_id_is_held_against_what_its_client_declared_elsewhere() {
        let ask = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
        let agreed = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let begins = |bench: &mut Bench, declares: &str| {
            bench.session.client_capabilities = Some(declares.into());
            bench.says(ask);
            bench.answers(agreed, Some("initialize"));
            bench.session.client_capabilities = None;
        };
        let mut bench = Bench::new(UndeclaredRequest::default(), "");
        bench.session.id = None;
        begins(&mut bench, "{}");
        assert_eq!(bench.answers(SAMPLING, None).len(), 1);
        begins(&mut bench, r#"{"sampling":{}}"#);
        assert!(
            bench.answers(SAMPLING, None).is_empty(),
            "another program may have asked for it"
        );
        bench.session.client.ip = "10.1.0.77".parse().unwrap();
        assert!(
            bench.answers(SAMPLING, None).is_empty(),
            "nothing is known of this client"
        );
    }
}
