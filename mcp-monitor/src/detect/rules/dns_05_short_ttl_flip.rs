//! DNS-05 short-ttl-flip: TTL far below baseline together with a changed answer.

use super::prelude::*;
use std::net::IpAddr;

use crate::proto::dns::RecordData;

const META: Meta = Meta {
    id: "DNS-05",
    slug: "short-ttl-flip",
    category: "dns",
    trigger: "TTL far below baseline together with a changed answer",
    silent_on: "health-checked records",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "A pinned name was answered with new addresses and a time to live far below the usual: an answer that is meant to be gone soon.",
        attacker: "Changes the record for as long as it takes to catch an agent (fast flux, a hijacked DNS account) and keeps the time to live short so that caches hold no proof.",
        wire: "A response for a pinned name whose addresses are all new and whose TTL is at most 60 seconds and a twentieth of the highest seen for the name.",
        act: "Ask the zone's own servers for the record now, and compare with passive DNS. Look at who changed the zone.",
        quiet: "Records that always live briefly (health checks, load balancers) are silent: their usual TTL is short. So are new addresses inside the pinned prefixes, and old addresses with the last seconds of a cached TTL.",
    },
};

/// Answers of a name before it can be judged.
const LEARN: u32 = 3;
/// How far below the highest TTL counts as far, and what is short in any case.
const FACTOR: u32 = 20;
const SHORT: u32 = 60;
/// Addresses remembered of one name.
const MAX_ADDRESSES: usize = 64;

#[derive(Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Usual {
    answers: u32,
    highest_ttl: u32,
    addresses: Vec<IpAddr>,
}

/// Remembers TTL and addresses by name and type.
#[derive(Default)]
pub(super) struct ShortTtlFlip {
    usual: Remembered<(Box<str>, u16), Usual>,
}

impl Rule for ShortTtlFlip {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.usual)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Dns { message, .. } = &seen.kind else {
            return;
        };
        let Some(question) = message.questions.first().filter(|_| message.response) else {
            return;
        };
        let index = endpoint_of_host(world, &question.name);
        let Some(endpoint) = world.pins.endpoint(index) else {
            return;
        };
        let addresses: Vec<(IpAddr, u32)> = message
            .answers
            .iter()
            .filter_map(|record| match record.data {
                RecordData::Address(ip) => Some((ip, record.ttl)),
                _ => None,
            })
            .collect();
        let Some(ttl) = addresses.iter().map(|(_, ttl)| *ttl).min() else {
            return;
        };
        let key = (question.name.clone(), question.qtype);
        let mut usual = self.usual.get(&key).cloned().unwrap_or_default();
        let changed = !addresses.iter().any(|(ip, _)| usual.addresses.contains(ip));
        let pinned =
            !endpoint.addresses.is_empty() && addresses.iter().all(|(ip, _)| endpoint.allows_address(*ip));
        let short = ttl <= SHORT && ttl.saturating_mul(FACTOR) <= usual.highest_ttl;
        if changed && short && !pinned && usual.answers >= LEARN {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} suddenly has other addresses, for {ttl} s instead of up to {} s; ask the zone's own servers and who changed it",
                        endpoint.name, usual.highest_ttl
                    ),
                )
                .at(index)
                .expected(usual.addresses.iter().map(ToString::to_string))
                .observed(addresses.iter().map(|(ip, _)| ip.to_string()).collect::<Vec<_>>().join(" ")),
            );
        }
        // Counted up to where it is enough, so that an ordinary answer changes nothing.
        usual.answers = usual.answers.saturating_add(1).min(LEARN);
        usual.highest_ttl = usual.highest_ttl.max(ttl);
        for (ip, _) in addresses {
            if !usual.addresses.contains(&ip) && usual.addresses.len() < MAX_ADDRESSES {
                usual.addresses.push(ip);
            }
        }
        self.usual.insert(key, usual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn says(bench: &mut Bench, ttl: u32, address: &str) -> Vec<Finding> {
        let mut answer = dns_answer(1, "mcp.example", &[], &[address]);
        answer.answers[0].ttl = ttl;
        bench.dns(Direction::ToClient, &answer)
    }

    fn after(pins: &str, ttl: u32) -> Bench {
        let mut bench = Bench::new(ShortTtlFlip::default(), pins);
        for _ in 0..LEARN {
            assert!(says(&mut bench, ttl, "203.0.113.5").is_empty());
        }
        bench
    }

    #[test]
    fn fires_on_a_short_lived_change() {
        let found = says(&mut after(PINS, 3600), 5, "198.51.100.66");
        assert_eq!(found[0].observed.as_deref(), Some("198.51.100.66"));
        assert_eq!(found[0].expected, ["203.0.113.5"]);
    }

    #[test]
    fn stays_silent_on_health_checks_caches_and_pinned_prefixes() {
        assert!(says(&mut after(PINS, 30), 30, "198.51.100.66").is_empty());
        assert!(
            says(&mut after(PINS, 3600), 3, "203.0.113.5").is_empty(),
            "end of a cached TTL"
        );
        assert!(says(&mut after(PINS, 3600), 3600, "198.51.100.66").is_empty());
        let pinned = PINS.replace("mcp'}", "mcp', addresses: [198.51.100.0/24, 203.0.113.0/24]}");
        assert!(says(&mut after(&pinned, 3600), 5, "198.51.100.66").is_empty());
    }
}
