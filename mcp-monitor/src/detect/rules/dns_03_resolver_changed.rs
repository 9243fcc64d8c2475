//! DNS-03 resolver-changed: answer for a pinned name came from a resolver not listed.

use super::prelude::*;

const META: Meta = Meta {
    id: "DNS-03",
    slug: "resolver-changed",
    category: "dns",
    trigger: "answer for a pinned name came from a resolver not listed",
    silent_on: "node-local cache that is listed",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "A pinned name was resolved by a server that is not listed under `resolvers`.",
        attacker: "Gave the host another resolver (rogue DHCP, changed resolv.conf, a proxy on the host) in order to choose the answers.",
        wire: "A DNS response for a pinned name whose sender no entry of `resolvers` holds.",
        act: "Look at the resolver configuration of the host or pod, and where it came from. Compare the answer with that of a listed resolver.",
        quiet: "List node-local caches and stub resolvers (127.0.0.53, 169.254.20.10) too: the monitor sees both legs.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct ResolverChanged;

impl Rule for ResolverChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let resolvers = &world.pins.resolvers;
        let resolver = flow.info.server.ip();
        if resolvers.is_empty() || !message.response || resolvers.iter().any(|net| net.contains(&resolver)) {
            return;
        }
        let Some(question) = message.questions.first() else {
            return;
        };
        let index = endpoint_of_host(world, &question.name);
        if index.is_none() {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} was resolved for {} by {resolver}, which is not a listed resolver; check the DNS configuration of that host",
                    label(world, index, &question.name),
                    flow.info.client.ip()
                ),
            )
            .at(index)
            .expected(resolvers.iter().map(ToString::to_string))
            .observed(resolver.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\nresolvers: [10.96.0.10, 169.254.20.10]\n";

    fn ask(pins: &str, resolver: &str, name: &str) -> Vec<Finding> {
        let mut bench = Bench::new(ResolverChanged, pins);
        bench.reflow(
            "10.1.0.5:5353".parse().unwrap(),
            format!("{resolver}:53").parse().unwrap(),
            Transport::Udp,
        );
        bench.dns(Direction::ToClient, &dns_answer(1, name, &[], &["203.0.113.5"]))
    }

    #[test]
    fn fires_on_an_answer_of_another_resolver() {
        let found = ask(PINS, "10.1.0.66", "mcp.example");
        assert_eq!(found[0].observed.as_deref(), Some("10.1.0.66"));
    }

    #[test]
    fn stays_silent_on_listed_ones_other_names_and_without_a_list() {
        assert!(ask(PINS, "169.254.20.10", "mcp.example").is_empty());
        assert!(ask(PINS, "10.1.0.66", "other.example").is_empty());
        assert!(ask(PINS.split('\n').next().unwrap(), "10.1.0.66", "mcp.example").is_empty());
    }
}
