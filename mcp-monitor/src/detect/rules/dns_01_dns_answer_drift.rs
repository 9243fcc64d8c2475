//! DNS-01 dns-answer-drift: A/AAAA answer for a pinned name outside its prefixes.

use super::prelude::*;

const META: Meta = Meta {
    id: "DNS-01",
    slug: "dns-answer-drift",
    category: "dns",
    trigger: "A/AAAA answer for a pinned name outside its prefixes",
    silent_on: "GeoDNS inside the prefixes; other names",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &["MCP09"],
        atlas: &["AML.T0008.002"],
    },
    listens: &[Kind::Drift],
    page: Page {
        means: "A resolver gave an address for a pinned name that lies outside the pinned prefixes. Often the first sign of a hijack, seconds before the first connection.",
        attacker: "Changed the record at the registrar or DNS provider, poisoned a resolver's cache, or answered faster than the real resolver.",
        wire: "A DNS response for a pinned name (also through CNAMEs) with an A or AAAA record that no prefix under `addresses` holds.",
        act: "Ask a trusted resolver, and the zone's own servers, for the same name. If they differ, the resolver is poisoned; if they agree, ask the server's owner whether it moved. Look for DST-02 after it: a connection was made.",
        quiet: "Pin the prefixes that the provider announces, so that CDN rotation and GeoDNS stay inside. For a planned move add the new prefix first, or suppress with `until`. Answers that lead to a gateway listed under `gateway` are silent.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct DnsAnswerDrift;

impl Rule for DnsAnswerDrift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Drift(drift) = &seen.kind else {
            return;
        };
        let Some(endpoint) = world.pins.endpoint(Some(drift.endpoint)) else {
            return;
        };
        if drift.kind != DriftKind::DnsAnswer || world.pins.is_gateway(drift.address) {
            return;
        }
        let mut expected: Vec<String> = world
            .pins
            .prefixes_of_host(&endpoint.url.host.to_string())
            .iter()
            .map(ToString::to_string)
            .collect();
        if expected.is_empty() {
            expected = endpoint.address_texts();
        }
        let resolver = seen
            .flow
            .map_or_else(String::new, |f| format!(" by {}", f.info.server.ip()));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} resolved to {}{resolver}, outside its pinned addresses; compare with a trusted resolver and ask the server's owner",
                    endpoint.name, drift.address
                ),
            )
            .at(Some(drift.endpoint))
            .expected(expected)
            .observed(drift.address.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', addresses: [203.0.113.0/24]}]\n";

    #[test]
    fn fires_on_the_verdict_about_an_answer() {
        let found = Bench::new(DnsAnswerDrift, PINS).drift(DriftKind::DnsAnswer, "198.51.100.66");
        assert_eq!(found[0].endpoint, Some(0));
        assert_eq!(found[0].expected, ["203.0.113.0/24"]);
        assert_eq!(found[0].observed.as_deref(), Some("198.51.100.66"));
    }

    #[test]
    fn stays_silent_on_other_verdicts_and_on_answers_without_one() {
        let mut bench = Bench::new(DnsAnswerDrift, PINS);
        assert!(bench.drift(DriftKind::Connect, "198.51.100.66").is_empty());
        let gateway = format!("{PINS}gateway: {{addresses: [10.0.9.0/24]}}\n");
        let mut through = Bench::new(DnsAnswerDrift, &gateway);
        assert!(through.drift(DriftKind::DnsAnswer, "10.0.9.7").is_empty());
        let answer = dns_answer(1, "mcp.example", &[], &["203.0.113.9"]);
        assert!(bench.dns(Direction::ToClient, &answer).is_empty());
    }
}
