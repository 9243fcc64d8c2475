//! CR-12 canary: a configured canary value seen anywhere.

use super::prelude::*;

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
        wire: "The configured value in a URL, a header, an MCP message or another small body.",
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
        let canaries = &world.pins.canaries;
        if canaries.is_empty() {
            return;
        }
        let (target, place) = match &seen.kind {
            SeenKind::Request { target, .. } => (*target, "an HTTP request head"),
            SeenKind::Message { context, .. } => (context.target, "an MCP message"),
            SeenKind::Document { target, .. } => (*target, "an HTTP body"),
            _ => return,
        };
        for canary in canaries {
            let holds = |text: &[u8]| memchr::memmem::find(text, canary.expose()).is_some();
            let found = match &seen.kind {
                SeenKind::Request { head, .. } => {
                    holds(&head.target) || head.headers.iter().any(|(_, v)| holds(v))
                }
                SeenKind::Message { message, .. } => holds(&message.body),
                SeenKind::Document { document, .. } => holds(&document.body),
                _ => false,
            };
            if !found {
                continue;
            }
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
    fn stays_silent_otherwise() {
        let head = request("GET", "/?q=CANARY", &[]);
        assert!(Bench::new(CanaryValue, PINS).request(&head, false).is_empty());
        assert!(Bench::new(CanaryValue, "").request(&head, false).is_empty());
    }
}
