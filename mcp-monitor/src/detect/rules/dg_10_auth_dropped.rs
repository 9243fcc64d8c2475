//! DG-10 auth-dropped: a server that required credentials now answers without them.

use super::prelude::*;
use std::sync::Arc;

use super::{mcp::is_mcp, secrets::presented};
use crate::{
    flow::FlowId,
    mcp::{MessageKind, context::ServerKey},
    proto::http::ExchangeId,
};

const META: Meta = Meta {
    id: "DG-10",
    slug: "auth-dropped",
    category: "downgrade",
    trigger: "a server that required credentials now answers without them",
    silent_on: "methods public before",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "privilege-escalation"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Response],
    page: Page {
        means: "A server that requires credentials answered a request that carried none.",
        attacker: "Replaced the server by one that takes all comers, or an update or a proxy switched authentication off: anybody who reaches it can now use its tools.",
        wire: "A JSON-RPC result for a request without credentials, at an endpoint with `auth.required: true`, or for a method that the same server refused with 401 before.",
        act: "Check the server's authentication now; ask the owner for the change. Until then treat its data as open and its answers as unproven.",
        quiet: "Methods that were public before are silent without a pin. Client certificates are not seen as credentials here: leave `auth.required` out for them.",
    },
};

/// Methods that each server refused without credentials.
#[derive(Default)]
pub(super) struct AuthDropped {
    asked: Bounded<(FlowId, ExchangeId), Arc<str>>,
    refused: Remembered<(ServerKey, Arc<str>), ()>,
    said: Once<FlowId>,
}

impl Rule for AuthDropped {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.refused)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let id = flow.info.id;
        match &seen.kind {
            SeenKind::Response {
                exchange,
                head,
                target,
                ..
            } => {
                if let Some(method) = self.asked.remove(&(id, *exchange))
                    && head.status == 401
                {
                    self.refused.insert((target.server_key(), method), ());
                }
            }
            SeenKind::Message { message, context } if is_mcp(message, context) => {
                if context.response.is_none() {
                    if let (MessageKind::Request, Some(method)) = (message.kind, &message.method) {
                        self.asked.insert((id, message.exchange), Arc::clone(method));
                    }
                    return;
                }
                let (Some(answered), Some(request)) = (context.answers, context.request) else {
                    return;
                };
                if message.kind != MessageKind::Response
                    || request.partial
                    || presented(request).next().is_some()
                {
                    return;
                }
                let index = context.target.endpoint;
                let endpoint = world.pins.endpoint(index);
                let pinned = endpoint.is_some_and(|e| e.auth.required == Some(true));
                let refused = endpoint.is_none_or(|e| e.auth.required != Some(false))
                    && self
                        .refused
                        .get(&(context.target.server_key(), Arc::clone(&answered.method)))
                        .is_some();
                if !(pinned || refused) || !self.said.first(id) {
                    return;
                }
                let method = shown(&answered.method);
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{} answered {method} of {} without credentials although it requires them; check its authentication now",
                            label(world, index, &context.target.origin.host),
                            agent(seen)
                        ),
                    )
                    .at(index)
                    .expected(["401 without credentials"])
                    .observed(format!("a result of {method} without credentials")),
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#;
    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', auth: {required: true}}]\n";

    #[test]
    fn fires_against_the_pin_and_against_an_earlier_refusal() {
        let mut bench = Bench::new(AuthDropped::default(), PINS);
        assert_eq!(bench.answers(RESULT, Some("tools/list")).len(), 1);
        let mut bench = Bench::new(AuthDropped::default(), "");
        bench.says(ASK);
        bench.response(&response(401, &[]), true);
        assert_eq!(bench.answers(RESULT, Some("tools/list")).len(), 1);
    }

    #[test]
    fn stays_silent_with_credentials_and_on_methods_that_were_public() {
        let mut bench = Bench::new(AuthDropped::default(), PINS);
        bench.head = request("POST", "/mcp", &[("Authorization", "Bearer abcdef")]);
        assert!(bench.answers(RESULT, Some("tools/list")).is_empty());
        let mut bench = Bench::new(AuthDropped::default(), "");
        bench.says(ASK.replace("tools/list", "tools/call").as_str());
        bench.response(&response(401, &[]), true);
        assert!(bench.answers(RESULT, Some("tools/list")).is_empty());
    }
}
