//! PV-04 era-violation: server request on a modern stream; batch where not allowed; method of another revision.

use super::prelude::*;

use crate::{
    mcp::{Message, MessageKind, Revision, context::MessageContext},
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "PV-04",
    slug: "era-violation",
    category: "protocol",
    trigger: "server request on a modern stream; batch where not allowed; method of another revision",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A peer says something that the agreed revision of the protocol does not have: a request from the server where servers send none (2026-07-28), a batch where batches were removed (2025-06-18 on) or an `initialize` in one, or a method of another revision that was carried out.",
        attacker: "Reaches code that the agreed revision would not have run: a sampling request through a modern stream, several calls in one batch past a filter that reads one, an old method without the new checks.",
        wire: "`{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\",…}` from the server with `MCP-Protocol-Version: 2026-07-28`; a body that begins with `[`.",
        act: "Find out which of the two is not what it says it is: compare the peer's software version with the revision it agreed on. Look at what the message asked for.",
        quiet: "Probing is silent: a client may try a method of another revision, and only an answer other than an error counts. An SDK that is sloppy about revisions: suppress the rule on the endpoint with its version as the reason.",
    },
};

/// Has no memory.
#[derive(Default)]
pub(super) struct EraViolation;

/// The last revision before 2026-07-28, and the one that had batches.
const LEGACY: &str = Revision::V2025_11_25;
const BATCHES: &str = Revision::V2025_03_26;

/// First and last revision of the methods that not all have.
const METHODS: &[(&str, &str, &str)] = &[
    ("ping", "", LEGACY),
    ("logging/setLevel", "", LEGACY),
    ("resources/subscribe", "", LEGACY),
    ("resources/unsubscribe", "", LEGACY),
    ("sampling/createMessage", "", LEGACY),
    ("roots/list", "", LEGACY),
    ("elicitation/create", Revision::V2025_06_18, LEGACY),
    ("notifications/elicitation/complete", LEGACY, LEGACY),
    ("notifications/tasks/status", LEGACY, LEGACY),
    ("tasks/list", LEGACY, LEGACY),
    ("tasks/result", LEGACY, LEGACY),
    ("tasks/get", LEGACY, "9"),
    ("tasks/cancel", LEGACY, "9"),
    ("tasks/update", Revision::V2026_07_28, "9"),
    ("server/discover", Revision::V2026_07_28, "9"),
    ("subscriptions/listen", Revision::V2026_07_28, "9"),
    (
        "notifications/subscriptions/acknowledged",
        Revision::V2026_07_28,
        "9",
    ),
];

impl Rule for EraViolation {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let Some((what, expected)) = violation(message, context) else {
            return;
        };
        let index = context.target.endpoint;
        let name = label(world, index, &context.target.origin.host);
        let (from, to) = match message.direction {
            Way::ToServer => (agent(seen), name),
            Way::ToClient => (name, agent(seen)),
        };
        out.push(
            Finding::new(
                META.id,
                format!("{from} sent {to} {what}, which the agreed revision does not have; find out which of the two is not what it says"),
            )
            .at(index)
            .expected([expected])
            .observed(what),
        );
    }
}

/// What is wrong, and what the revision says.
fn violation(message: &Message, context: &MessageContext<'_>) -> Option<(String, String)> {
    let header = context
        .request
        .and_then(|r| r.headers.get_str("mcp-protocol-version"))
        .filter(|text| is_date(text));
    let era = header.or(context.session.negotiated.as_ref().map(Revision::as_str));
    if message.batch {
        if message.is("initialize") {
            return Some(("initialize in a batch".to_owned(), "initialize alone".to_owned()));
        }
        if let Some(era) = era.filter(|era| *era > BATCHES) {
            return Some((
                format!("a batch in {}", era),
                format!("one message a body in {}", era),
            ));
        }
    }
    let era = era?;
    let modern = era >= Revision::V2026_07_28;
    let shows = |method: &str| format!("{} in {}", shown(method), era);
    match (message.kind, message.direction) {
        (MessageKind::Request, Way::ToClient) => {
            let method = message.method.as_deref()?;
            if modern {
                let expected = format!("no requests of the server in {}", era);
                return Some((format!("the request {}", shows(method)), expected));
            }
            outside(method, era).map(|expected| (format!("the request {}", shows(method)), expected))
        }
        (MessageKind::Notification, Way::ToClient) => {
            let method = message.method.as_deref()?;
            outside(method, era).map(|expected| (format!("the notification {}", shows(method)), expected))
        }
        (MessageKind::Response | MessageKind::Error, Way::ToServer) if modern => Some((
            format!("a response of the client in {}", era),
            format!("no responses of the client in {}", era),
        )),
        // A client may try; the server carried it out.
        (MessageKind::Response, Way::ToClient) => {
            let method = &*context.answers?.method;
            outside(method, era).map(|expected| (format!("an answer to {}", shows(method)), expected))
        }
        _ => None,
    }
}

/// `YYYY-MM-DD`: a revision of another form is never compared.
fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(n, b)| match n {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// What the table says, if the revision does not have the method.
fn outside(method: &str, era: &str) -> Option<String> {
    let (_, first, last) = METHODS.iter().find(|(name, ..)| *name == method)?;
    if era < *first {
        Some(format!("{} from {first} on", shown(method)))
    } else if era > *last {
        Some(format!("{} until {last}", shown(method)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(era: &str) -> Bench {
        let mut bench = Bench::new(EraViolation, "");
        bench.session.negotiated = Revision::parse(era);
        bench
    }

    fn request_of(method: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{}}}}"#)
    }

    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    #[test]
    fn fires_on_what_the_revision_does_not_have() {
        let sampling = request_of("sampling/createMessage");
        assert_eq!(bench("2026-07-28").answers(&sampling, None).len(), 1);
        assert_eq!(bench("2026-07-28").replies(RESULT, Some("roots/list")).len(), 1);
        assert_eq!(
            bench("2025-03-26")
                .answers(&request_of("elicitation/create"), None)
                .len(),
            1
        );
        assert_eq!(bench("2025-06-18").answers(RESULT, Some("tasks/list")).len(), 1);
        let mut batch = bench("2025-06-18");
        batch.batch = true;
        let found = batch.says(&request_of("tools/list"));
        assert_eq!(found[0].observed.as_deref(), Some("a batch in 2025-06-18"));
        let mut batch = bench("2025-03-26");
        batch.batch = true;
        assert_eq!(batch.says(&request_of("initialize")).len(), 1);
    }

    #[test]
    fn stays_silent_on_what_it_has_and_on_probes() {
        let mut batch = bench("2025-03-26");
        batch.batch = true;
        assert!(batch.says(&request_of("tools/list")).is_empty());
        let mut legacy = bench("2025-11-25");
        for method in [
            "sampling/createMessage",
            "roots/list",
            "elicitation/create",
            "ping",
        ] {
            assert!(legacy.answers(&request_of(method), None).is_empty(), "{method}");
        }
        assert!(legacy.replies(RESULT, Some("roots/list")).is_empty());
        assert!(legacy.says(&request_of("server/discover")).is_empty());
        let refused = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}"#;
        assert!(legacy.answers(refused, Some("server/discover")).is_empty());
        legacy.head = request("POST", "/mcp", &[("MCP-Protocol-Version", "2026-07-28")]);
        assert!(legacy.answers(RESULT, Some("server/discover")).is_empty());
        assert!(
            bench("2025-11-25")
                .answers(RESULT, Some("vendor/extension"))
                .is_empty()
        );
    }
}
