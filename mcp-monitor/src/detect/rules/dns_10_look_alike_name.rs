//! DNS-10 look-alike-name: query for a confusable of a pinned name (edit distance, homoglyph, punycode).

use super::prelude::*;
use std::net::IpAddr;

use super::{
    confusable::{one_slip, skeleton},
    domain::site,
};

const META: Meta = Meta {
    id: "DNS-10",
    slug: "look-alike-name",
    category: "dns",
    trigger: "query for a confusable of a pinned name (edit distance, homoglyph, punycode)",
    silent_on: "the pinned names themselves",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["third-party-server-compromise"],
        owasp_mcp: &[],
        atlas: &["AML.T0073"],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "An agent asked for a name that can be taken for a pinned one: by a reader who approves a configuration, or by a model that writes one.",
        attacker: "Registered a look-alike of an approved server's domain and put it where the agent or its user reads: a package's documentation, a prompt, a tool's answer, a typing error waiting to happen.",
        wire: "A DNS query for a name whose registered part differs from a pinned one by one slip (a letter more, less, other, or two swapped), or only by look-alikes: digits for letters, `rn` for `m`, letters of other scripts (punycode).",
        act: "Find out where the agent has the name from. Block the domain. If it is an honest neighbour with a similar name, accept it under `suppress`.",
        quiet: "Pinned names, names below or beside them under the same registered domain, and numbers that differ (`mcp1`, `mcp2`) are silent. Registered parts shorter than six characters are compared by look-alikes only.",
    },
};

const A: u16 = 1;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;
/// Shorter names are one slip away from too many others.
const MIN_FOR_SLIPS: usize = 6;

/// Says each name once per client, and remembers names that are none.
#[derive(Default)]
pub(super) struct LookAlikeName {
    judged: Once<(IpAddr, Box<str>)>,
}

impl Rule for LookAlikeName {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let Some(question) = message.questions.first() else {
            return;
        };
        if message.response || world.pins.is_empty() || !matches!(question.qtype, A | AAAA | HTTPS) {
            return;
        }
        let asked = question.name.as_ref();
        if endpoint_of_host(world, asked).is_some()
            || !self.judged.first((flow.info.client.ip(), question.name.clone()))
        {
            return;
        }
        let zone = site(asked);
        let looks = skeleton(zone);
        let found = world.pins.endpoints.iter().position(|endpoint| {
            let host = endpoint.url.host.to_string();
            let pinned = site(&host);
            zone != pinned
                && pinned.contains('.')
                && (looks == skeleton(pinned) || (pinned.len() >= MIN_FOR_SLIPS && one_slip(zone, pinned)))
        });
        let Some(endpoint) = world.pins.endpoint(found) else {
            return;
        };
        // A pinned name may itself look like another pinned one.
        if world
            .pins
            .endpoints
            .iter()
            .any(|e| site(&e.url.host.to_string()) == zone)
        {
            return;
        }
        let (unicode, _) = idna::domain_to_unicode(asked);
        let reads = if unicode == asked {
            String::new()
        } else {
            format!(", which reads {}", shown(&unicode))
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} looked up {}{reads}: a look-alike of {}; find out where it has the name from and block it",
                    agent(seen),
                    shown(asked),
                    endpoint.name
                ),
            )
            .at(found)
            .expected([endpoint.url.host.to_string()])
            .observed(shown(asked)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.marketdata.example/mcp'}, {name: b, url: 'https://mcp1.example/'}]\n";

    fn asks(name: &str) -> Vec<Finding> {
        let mut query = dns_answer(1, name, &[], &[]);
        query.response = false;
        Bench::new(LookAlikeName::default(), PINS).dns(Direction::ToServer, &query)
    }

    #[test]
    fn fires_on_slips_look_alikes_and_other_scripts() {
        for name in [
            "mcp.marketdat.example",
            "mcp.marketdtaa.example",
            "api.rnarketdata.example",
            "marketdata.exarnple",
            "mcp.m4rketdata.example",
            // The fourth letter is Cyrillic.
            "mcp.xn--maretdata-x1h.example",
        ] {
            let found = asks(name);
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].endpoint, Some(0));
        }
    }

    #[test]
    fn stays_silent_on_pinned_names_their_zone_and_strangers() {
        for name in [
            "mcp.marketdata.example",
            "mcq.marketdata.example",
            "marketdata.example",
            "mcp.marketplace.example",
            "mcp2.example",
            "mcp.marketdata.example.default.svc.cluster.local",
            "localhost",
            "",
        ] {
            assert!(asks(name).is_empty(), "{name}");
        }
        let mut bench = Bench::new(LookAlikeName::default(), PINS);
        let mut query = dns_answer(1, "mcp.marketdat.example", &[], &[]);
        assert!(bench.dns(Direction::ToClient, &query).is_empty(), "an answer");
        query.response = false;
        assert_eq!(bench.dns(Direction::ToServer, &query).len(), 1);
        assert!(bench.dns(Direction::ToServer, &query).is_empty(), "once");
    }
}
