//! DNS-02 cname-drift: CNAME chain of a pinned name leaves the pinned targets.

use super::{
    domain::{same_site, site},
    prelude::*,
};
use crate::proto::dns::{Message, RecordData};

const META: Meta = Meta {
    id: "DNS-02",
    slug: "cname-drift",
    category: "dns",
    trigger: "CNAME chain of a pinned name leaves the pinned targets, or, where none are pinned, the domains it used to lead to",
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
        means: "The chain of aliases of a pinned name leads through a name that is not among its pinned `cnames`. Where none are pinned: it ends in a registered domain in which it never ended before (medium).",
        attacker: "Changed the alias at the DNS provider, or registered the abandoned target of a dangling one (subdomain takeover), so that the pinned name leads to their machine.",
        wire: "A DNS response to a question for a pinned name, with a CNAME record whose target no entry of `cnames` matches; without `cnames`, whose last target is under another registered domain (Public Suffix List) than in the answers before, of which there were at least three in a row alike.",
        act: "Ask the zone's own servers for the alias. If it is new, ask the server's owner; if the target's zone is a hosting provider, check whether the account there is still theirs.",
        quiet: "Order and TTL make no difference. Pin a provider's whole zone as `*.edge.example` where targets rotate. A server that several providers deliver has all their domains learned within its first answers, or pin them.",
    },
};

/// Answers in a row that end in a known domain before a new one is news.
const SETTLE: u32 = 3;

/// Registered domains in which the chain of each pinned name ended, where its pin names no aliases.
#[derive(Default)]
pub(super) struct CnameDrift {
    ends: Remembered<Box<str>, Habit<Box<str>>>,
}

impl Rule for CnameDrift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.ends)
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
            return self.unpinned(&question.name, message, index, world, out);
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

impl CnameDrift {
    /// Nobody said where the name may lead: it should go on leading to whom it did.
    fn unpinned(
        &mut self,
        name: &str,
        message: &Message,
        index: Option<usize>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        if !message
            .answers
            .iter()
            .any(|record| matches!(record.data, RecordData::Address(_)))
        {
            return;
        }
        let Some(end) = end_of_chain(name, message) else {
            return;
        };
        let domain = site(end);
        let mut habit = self.ends.get(name).cloned().unwrap_or_default();
        let before = habit.breaks(domain.into(), SETTLE).map(<[_]>::to_vec);
        self.ends.insert(name.into(), habit);
        let Some(before) = before.filter(|_| !same_site(end, name)) else {
            return;
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} is now an alias of {}, of a domain that it never led to; ask the zone's own servers and check who owns that name, then pin `cnames`",
                    label(world, index, name),
                    shown(end)
                ),
            )
            .at(index)
            .severity(Severity::Medium)
            .expected(before.iter().map(|domain| shown(domain)))
            .observed(shown(end)),
        );
    }
}

/// The last alias that `name` leads to, itself if it is none; `None` for a chain that goes in circles.
fn end_of_chain<'a>(name: &'a str, message: &'a Message) -> Option<&'a str> {
    let mut end = name;
    for _ in 0..=message.answers.len() {
        let next = message.answers.iter().find_map(|record| match &record.data {
            RecordData::Cname(target) if *record.name == *end => Some(&**target),
            _ => None,
        });
        match next {
            Some(target) => end = target,
            None => return Some(end),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', cnames: [edge.cdn.example, '*.pop.example']}]\n";

    #[test]
    fn fires_when_the_chain_leaves_the_pinned_names() {
        let mut bench = Bench::new(CnameDrift::default(), PINS);
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
        let mut bench = Bench::new(CnameDrift::default(), PINS);
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
            Bench::new(CnameDrift::default(), &unpinned)
                .dns(Direction::ToClient, &other)
                .is_empty()
        );
    }

    #[test]
    fn without_pinned_aliases_fires_on_a_domain_that_the_name_never_led_to() {
        let pins = "endpoints: [{name: a, url: 'https://mcp.vendor.com/mcp'}]\n";
        let mut bench = Bench::new(CnameDrift::default(), pins);
        let mut ask = |aliases: &[&str]| {
            bench.dns(
                Direction::ToClient,
                &dns_answer(1, "mcp.vendor.com", aliases, &["203.0.113.5"]),
            )
        };
        assert!(ask(&["mcp.vendor.com.edge.net"]).is_empty(), "the first");
        assert!(ask(&["lb.cdn.org"]).is_empty(), "not settled");
        for n in 0..3 {
            assert!(
                ask(&[&format!("n{n}.edge.net")]).is_empty(),
                "hosts of one domain"
            );
        }
        assert!(ask(&["lb.cdn.org"]).is_empty(), "known");
        let found = ask(&["n1.edge.net", "abandoned.cloudapp.io"]);
        assert_eq!(found[0].observed.as_deref(), Some("abandoned.cloudapp.io"));
        assert_eq!(found[0].severity, Some(Severity::Medium));
        assert!(ask(&["abandoned.cloudapp.io"]).is_empty(), "said once");
        for _ in 0..3 {
            assert!(ask(&[]).is_empty(), "its own address");
        }
        assert!(ask(&["a.example.net", "mcp.vendor.com"]).is_empty(), "in circles");
    }
}
