//! DNS-04 rebinding: public name answered with loopback, private or link-local address, or flip between both.

use super::addresses::{is_internal_name, local_kind};
use super::{domain::site, prelude::*};
use std::net::IpAddr;

use crate::proto::dns::RecordData;

const META: Meta = Meta {
    id: "DNS-04",
    slug: "rebinding",
    category: "dns",
    trigger: "public name answered with loopback, private or link-local address, or flip between both",
    silent_on: "pinned split horizon",
    severity: Severity::Critical,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "A public name was answered with a loopback, private or link-local address: DNS rebinding, or a local machine standing in for a public server.",
        attacker: "Owns a name and lets it point to 127.0.0.1 or an inner address after a first harmless answer, to make a browser or an agent talk to services that trust local callers; or answers in the name of a pinned server with a proxy of their own.",
        wire: "An A or AAAA record in 127.0.0.0/8, ::1, RFC 1918, RFC 4193, 169.254.0.0/16 or fe80::/10 (for pinned names also 0.0.0.0) for a name outside the internal-use suffixes such as `.internal`, `.local`, `.test`, `.home.arpa`, `.svc`. Critical for loopback and link-local addresses, for pinned names, and where the same resolver gave the name a public address before (the flip of a rebinding) or beside. A private address for a name that nobody pinned and that never had a public one is how split horizon looks as well: medium, and once for a registered domain.",
        act: "Ask a public resolver for the same name. Look at what the agent did with the answer: the connections that follow, and which service listens at that address.",
        quiet: "Split horizon: pin the server with its inner prefixes under `addresses`. For an organisation's own zone that has inner addresses on purpose, pin `*.corp.example` with those prefixes.",
    },
};

/// Which names had public addresses, and which domains were reported.
#[derive(Default)]
pub(super) struct Rebinding {
    /// By resolver: one that serves an inner view is another resolver, or never gives a public address.
    public: Once<(IpAddr, Box<str>)>,
    said: Once<Box<str>>,
}

impl Rule for Rebinding {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Dns { message, .. } = &seen.kind else {
            return;
        };
        let Some(question) = message.questions.first().filter(|_| message.response) else {
            return;
        };
        let index = endpoint_of_host(world, &question.name);
        if is_internal_name(&question.name) {
            return;
        }
        let Some(flow) = seen.flow else { return };
        let pinned = world.pins.prefixes_of_host(&question.name);
        let (mut local, mut public) = (None, false);
        for record in &message.answers {
            let RecordData::Address(address) = record.data else {
                continue;
            };
            match local_kind(address) {
                // Filtering resolvers answer blocked names with 0.0.0.0; overlay networks use shared space.
                Some("unspecified") if index.is_none() => {}
                Some("shared") => {}
                None => public = true,
                Some(kind) => {
                    let expected =
                        pinned.iter().any(|net| net.contains(&address)) || world.pins.is_gateway(address);
                    local = local.or((!expected).then_some((kind, address)));
                }
            }
        }
        let resolver = flow.info.server.ip();
        let mut flips = public;
        if public {
            self.public.first((resolver, question.name.as_ref().into()));
        }
        let Some((kind, address)) = local else { return };
        flips |= self
            .public
            .peek(&(resolver, question.name.as_ref().into()))
            .is_some();
        let certain = flips || index.is_some() || kind != "private";
        if !certain && !self.said.first(site(&question.name).into()) {
            return;
        }
        let name = label(world, index, &question.name);
        let expected = if pinned.is_empty() {
            vec!["a public address".to_owned()]
        } else {
            pinned.iter().map(ToString::to_string).collect()
        };
        let before = if flips { ", after a public one" } else { "" };
        let rest = if certain {
            ""
        } else {
            "; if it is split horizon, pin the domain with its inner prefixes"
        };
        let finding = Finding::new(
            META.id,
            format!(
                "the public name {name} was answered with the {kind} address {address}{before} for {}; ask a public resolver, and check what the agent reached there{rest}",
                agent(seen)
            ),
        )
        .at(index)
        .expected(expected)
        .observed(format!("{} {address}", shown(&question.name)));
        out.push(if certain {
            finding
        } else {
            finding.severity(Severity::Medium)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "endpoints: [{name: a, url: 'https://mcp.example.com/', addresses: [10.0.0.0/8]}]\n";

    fn answer(pins: &str, name: &str, address: &str) -> usize {
        Bench::new(Rebinding::default(), pins)
            .dns(Direction::ToClient, &dns_answer(1, name, &[], &[address]))
            .len()
    }

    #[test]
    fn fires_on_a_local_address_for_a_public_name() {
        for address in [
            "127.0.0.1",
            "10.0.0.5",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "fd00::5",
        ] {
            assert_eq!(answer("", "cdn.example.com", address), 1, "{address}");
        }
        assert_eq!(answer(SPLIT, "mcp.example.com", "0.0.0.0"), 1);
    }

    #[test]
    fn stays_silent_on_split_horizon_inner_names_and_public_answers() {
        assert_eq!(answer(SPLIT, "mcp.example.com", "10.0.0.5"), 0);
        assert_eq!(answer("", "db.internal", "10.0.0.5"), 0);
        assert_eq!(answer("", "mcp.test", "10.0.0.5"), 0);
        assert_eq!(answer("", "printer", "192.168.1.9"), 0);
        assert_eq!(answer("", "ads.example.com", "0.0.0.0"), 0);
        assert_eq!(answer("", "cdn.example.com", "203.0.113.5"), 0);
    }

    #[test]
    fn a_flip_is_critical_and_an_inner_view_is_said_once_for_its_domain() {
        let mut bench = Bench::new(Rebinding::default(), "");
        let mut answer = |name: &str, address: &str| {
            let found = bench.dns(Direction::ToClient, &dns_answer(1, name, &[], &[address]));
            found.into_iter().map(|f| f.severity).collect::<Vec<_>>()
        };
        assert_eq!(answer("a.corp.example.com", "10.0.0.5"), [Some(Severity::Medium)]);
        assert_eq!(answer("b.corp.example.com", "10.0.0.6"), []);
        assert_eq!(answer("c.other.net", "10.0.0.6"), [Some(Severity::Medium)]);
        assert_eq!(answer("b.corp.example.com", "203.0.113.5"), []);
        assert_eq!(
            answer("b.corp.example.com", "10.0.0.6"),
            [None],
            "as the rule says"
        );
        assert_eq!(answer("a.corp.example.com", "127.0.0.1"), [None]);
        let mut bench = Bench::new(Rebinding::default(), "");
        let both = dns_answer(1, "x.example.com", &[], &["203.0.113.5", "192.168.0.1"]);
        assert_eq!(bench.dns(Direction::ToClient, &both)[0].severity, None);
    }
}
