//! SS-03 session-fixation: an id the client sent with initialize is echoed as the session.

use super::mcp::answers;
use super::prelude::*;

const META: Meta = Meta {
    id: "SS-03",
    slug: "session-fixation",
    category: "session",
    trigger: "an id the client sent with initialize is echoed as the session",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP07"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server made the session id that a client brought into the id of the new session. Whoever chose it knows it.",
        attacker: "Gives a client a session id beforehand (a link, a configuration) and joins the session once the client has opened it.",
        wire: "`initialize` with an `Mcp-Session-Id` header, answered with the same value.",
        act: "Fix the server: it must make a new, random id for each session. End sessions that were opened so.",
        quiet: "None known: a server must make the id itself.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct SessionFixation;

impl Rule for SessionFixation {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.result.is_none() || !answers(context, "initialize") {
            return;
        }
        let (Some(request), Some(response)) = (context.request, context.response) else {
            return;
        };
        let sent = request.headers.get("mcp-session-id").filter(|id| !id.is_empty());
        if sent.is_none() || sent != response.headers.get("mcp-session-id") {
            return;
        }
        let index = context.target.endpoint;
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} took over the session id that {} brought to initialize; fix the server and end the session",
                    label(world, index, &context.target.origin.host),
                    agent(seen)
                ),
            )
            .at(index)
            .expected(["an id made by the server"])
            .observed("the client's id"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    fn opens(sent: &str, given: &str, method: &str) -> usize {
        let mut bench = Bench::new(SessionFixation, "");
        bench.head = request("POST", "/mcp", &[("mcp-session-id", sent)]);
        bench.reply = response(200, &[("Mcp-Session-Id", given)]);
        bench.answers(RESULT, Some(method)).len()
    }

    #[test]
    fn fires_when_the_client_s_id_is_echoed() {
        assert_eq!(opens("chosen", "chosen", "initialize"), 1);
    }

    #[test]
    fn stays_silent_on_a_new_id_and_on_later_messages() {
        assert_eq!(opens("old", "new", "initialize"), 0);
        assert_eq!(opens("", "", "initialize"), 0);
        assert_eq!(opens("same", "same", "tools/list"), 0);
    }
}
