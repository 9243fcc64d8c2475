//! CR-12 canary: a configured canary value seen anywhere.

use super::super::credentials::{json_unescaped, percent_decoded};
use super::prelude::*;
use crate::config::pins::Canary;

const META: Meta = Meta {
    id: "CR-12",
    slug: "canary",
    category: "credential",
    trigger: "a configured canary value seen anywhere",
    silent_on: "",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Request, Kind::Message, Kind::Document],
    page: Page {
        means: "A value that was planted to be found, and that no honest program uses, crossed the wire.",
        attacker: "Read the place where the canary lay (a share, a repository, an environment) and is carrying off what was there, or is trying it out.",
        wire: "The configured value in a URL, a header, an MCP message or another small body: as it is, behind JSON escapes or percent-encoding, or in base64 or hex.",
        act: "Treat the place of the canary as read by somebody: the name in the alert says which. Find the agent's session and what it read before.",
        quiet: "Nothing honest carries it. Plant another value if this one became known.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct CanaryValue;

impl Rule for CanaryValue {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if world.pins.canaries.is_empty() {
            return;
        }
        let (target, place) = match &seen.kind {
            SeenKind::Request { target, .. } => (*target, "an HTTP request head"),
            SeenKind::Message { context, .. } => (context.target, "an MCP message"),
            SeenKind::Document { target, .. } => (*target, "an HTTP body"),
            _ => return,
        };
        let mut found: Vec<&Canary> = Vec::new();
        let mut look = |text: &[u8]| {
            for canary in world.pins.canaries_in(text) {
                if !found.iter().any(|c| std::ptr::eq(*c, canary)) {
                    found.push(canary);
                }
            }
        };
        match &seen.kind {
            SeenKind::Request { head, .. } => {
                encoded(&head.target, &mut look);
                head.headers
                    .iter()
                    .for_each(|(_, value)| encoded(value, &mut look));
            }
            SeenKind::Message { message, .. } => encoded(&message.body, &mut look),
            SeenKind::Document { document, .. } => encoded(&document.body, &mut look),
            _ => {}
        }
        for canary in found {
            let name = shown(&canary.name);
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "the canary {name} was seen in {place} between {} and {}; treat its place as read and find the session",
                        agent(seen),
                        label(world, target.endpoint, &target.origin.host)
                    ),
                )
                .at(target.endpoint)
                .observed(format!("canary {name}")),
            );
        }
    }
}

/// A text as it is, with the escapes of JSON resolved, and percent-decoded.
fn encoded(text: &[u8], look: &mut impl FnMut(&[u8])) {
    look(text);
    let plain = json_unescaped(text);
    if let Some(plain) = &plain {
        look(plain);
    }
    if let Some(plain) = percent_decoded(plain.as_deref().unwrap_or(text)) {
        look(&plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "canaries: [{name: hr-share, value: CANARY-7f3a}]\n";

    #[test]
    fn fires_wherever_it_is_seen_and_does_not_show_it() {
        let mut bench = Bench::new(CanaryValue, PINS);
        let found = bench.says(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":"CANARY-7f3a"}}}"#);
        assert_eq!(found[0].observed.as_deref(), Some("canary hr-share"));
        assert!(!format!("{found:?}").contains("7f3a"));
        assert_eq!(
            bench
                .request(&request("GET", "/?q=CANARY-7f3a", &[]), false)
                .len(),
            1
        );
        assert_eq!(
            bench
                .request(&request("GET", "/", &[("x", "CANARY-7f3a")]), false)
                .len(),
            1
        );
        assert_eq!(
            bench
                .document(Direction::ToServer, "text/plain", "a=CANARY-7f3a")
                .len(),
            1
        );
    }

    #[test]
    fn sees_through_one_layer_of_encoding() {
        let mut bench = Bench::new(CanaryValue, PINS);
        for text in [
            "\\u0043ANARY\\u002d7f3a",
            "eHggQ0FOQVJZLTdmM2Ega3k",
            "43414e4152592d37663361",
            "CANARY%2D7f3a",
        ] {
            let json = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{{"x":"{text}"}}}}}}"#
            );
            assert_eq!(bench.says(&json).len(), 1, "{text}");
        }
        assert_eq!(
            bench
                .request(&request("GET", "/?q=%43ANARY-7f3a", &[]), false)
                .len(),
            1
        );
    }

    #[test]
    fn stays_silent_otherwise() {
        let head = request("GET", "/?q=CANARY", &[]);
        assert!(Bench::new(CanaryValue, PINS).request(&head, false).is_empty());
        assert!(Bench::new(CanaryValue, "").request(&head, false).is_empty());
    }
}
