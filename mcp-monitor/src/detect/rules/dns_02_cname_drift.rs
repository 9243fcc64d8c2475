//! DNS-02 cname-drift: CNAME chain of a pinned name leaves the pinned targets.

use super::prelude::*;
use crate::proto::dns::RecordData;

const META: Meta = Meta {
    id: "DNS-02",
    slug: "cname-drift",
    category: "dns",
    trigger: "CNAME chain of a pinned name leaves the pinned targets",
    silent_on: "reordered chain, TTL changes",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "The chain of aliases of a pinned name leads through a name that is not among its pinned `cnames`.",
        attacker: "Changed the alias at the DNS provider, or registered the abandoned target of a dangling one (subdomain takeover), so that the pinned name leads to their machine.",
        wire: "A DNS response to a question for a pinned name, with a CNAME record whose target no entry of `cnames` matches.",
        act: "Ask the zone's own servers for the alias. If it is new, ask the server's owner; if the target's zone is a hosting provider, check whether the account there is still theirs.",
        quiet: "Order and TTL make no difference. Pin a provider's whole zone as `*.edge.example` where targets rotate.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct CnameDrift;

impl Rule for CnameDrift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Dns {
            direction: _,
            message,
        } = &seen.kind
        else {
            return;
        };
        let Some(question) = message.questions.first().filter(|_| message.response) else {
            return;
        };
        let index = endpoint_of_host(world, &question.name);
        let Some(endpoint) = world.pins.endpoint(index) else {
            return;
        };
        if endpoint.cnames.is_empty() {
            return;
        }
        let stray = message.answers.iter().find_map(|record| match &record.data {
            RecordData::Cname(target)
                if !endpoint.cnames.iter().any(|p| p.matches(target))
                    && !endpoint.url.host.matches(target) =>
            {
                Some(target)
            }
            _ => None,
        });
        let Some(target) = stray else { return };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} is now an alias of {}, which is not pinned; ask the zone's own servers and check who owns that name",
                    endpoint.name,
                    shown(target)
                ),
            )
            .at(index)
            .expected(endpoint.cnames.iter().map(ToString::to_string))
            .observed(shown(target)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', cnames: [edge.cdn.example, '*.pop.example']}]\n";

    #[test]
    fn fires_when_the_chain_leaves_the_pinned_names() {
        let mut bench = Bench::new(CnameDrift, PINS);
        let answer = dns_answer(
            1,
            "mcp.example",
            &["edge.cdn.example", "box.evil.example"],
            &["203.0.113.5"],
        );
        let found = bench.dns(Direction::ToClient, &answer);
        assert_eq!(found[0].observed.as_deref(), Some("box.evil.example"));
        assert_eq!(found[0].expected, ["edge.cdn.example", "*.pop.example"]);
    }

    #[test]
    fn stays_silent_on_another_order_on_rotation_and_on_other_names() {
        let mut bench = Bench::new(CnameDrift, PINS);
        let mut answer = dns_answer(
            1,
            "mcp.example",
            &["edge.cdn.example", "fra3.pop.example"],
            &["203.0.113.5"],
        );
        assert!(bench.dns(Direction::ToClient, &answer).is_empty());
        answer.answers.reverse();
        answer.answers[0].ttl = 1;
        assert!(bench.dns(Direction::ToClient, &answer).is_empty());
        let other = dns_answer(1, "other.example", &["box.evil.example"], &["203.0.113.5"]);
        assert!(bench.dns(Direction::ToClient, &other).is_empty());
        let unpinned = PINS.replace(", cnames: [edge.cdn.example, '*.pop.example']", "");
        let other = dns_answer(1, "mcp.example", &["anything.example"], &["203.0.113.5"]);
        assert!(
            Bench::new(CnameDrift, &unpinned)
                .dns(Direction::ToClient, &other)
                .is_empty()
        );
    }
}
