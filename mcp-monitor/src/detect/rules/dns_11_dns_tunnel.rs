//! DNS-11 dns-tunnel: bursts of high-entropy labels under one zone from an agent.

use super::prelude::*;
use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    net::IpAddr,
    time::Duration,
};

use super::{
    addresses::is_internal_name,
    domain::{below, site},
};
use crate::types::Timestamp;

const META: Meta = Meta {
    id: "DNS-11",
    slug: "dns-tunnel",
    category: "dns",
    trigger: "bursts of high-entropy labels under one zone from an agent",
    silent_on: "CDN and AV names",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &[],
        atlas: &["AML.T0025"],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "A client asks for one random-looking name after the other under one zone: data leaves, or commands arrive, through DNS.",
        attacker: "Has code at work in the agent or a tool and uses DNS, which gets out nearly everywhere, to carry secrets off: each query is a piece of them, encoded into labels of a zone whose server is theirs.",
        wire: "Queries for ever new names under one registered domain, most of them with 24 or more characters before it that are distributed like encoded data rather than words. Wald's sequential probability ratio test on the share of such names (at most 1 in 5 against 9 in 10) decides; under honest names it raises a false alarm with a probability below one in a million per test, and a test ends when the client pauses for a minute.",
        act: "Find the process that asks. Decode the labels (base32, hex) to see what left, and rotate it. Block the zone at the resolver.",
        quiet: "Content networks, virus scanners and block lists put hashes into names by design; the best known are left out by name. For others, accept the zone's alert under `suppress`.",
    },
};

/// Shorter names carry too little.
const MIN_CHARACTERS: usize = 24;
/// A client that pauses for so long begins a new test.
const PAUSE: Duration = Duration::from_secs(60);
/// Names of one zone remembered so that a repeated question is not taken for a new one.
const RECENT: usize = 64;

/// The sequential probability ratio test (Wald, 1945) of whether a name looks random: in at most one of five
/// (honest), or in nine of ten (tunnel).
pub(super) mod test {
    pub(in super::super) const HONEST: f64 = 0.2;
    const TUNNEL: f64 = 0.9;
    /// Probability of calling an honest zone a tunnel.
    pub(in super::super) const FALSE_ALARM: f64 = 1e-6;
    /// Probability of calling a tunnel honest; the next test begins at once.
    const MISSED: f64 = 0.01;

    /// One test under way: the logarithm of the likelihood ratio.
    #[derive(Default)]
    pub(in super::super) struct Sprt(f64);

    impl Sprt {
        /// Takes an observation; true if the zone is decided to be a tunnel.
        pub(in super::super) fn observe(&mut self, random: bool) -> bool {
            self.0 += if random {
                (TUNNEL / HONEST).ln()
            } else {
                ((1.0 - TUNNEL) / (1.0 - HONEST)).ln()
            };
            let decided = self.0 >= ((1.0 - MISSED) / FALSE_ALARM).ln();
            if decided || self.0 <= (MISSED / (1.0 - FALSE_ALARM)).ln() {
                self.0 = 0.0;
            }
            decided
        }
    }
}

/// Zones whose names hold hashes by design: content networks, virus scanners, block lists.
const BY_DESIGN: &[&str] = &[
    "akadns.net",
    "akamai.net",
    "akamaiedge.net",
    "akamaihd.net",
    "amazonaws.com",
    "avast.com",
    "avg.com",
    "azureedge.net",
    "bitdefender.net",
    "cloudflare.net",
    "cloudfront.net",
    "edgekey.net",
    "edgesuite.net",
    "eset.com",
    "fastly.net",
    "fbcdn.net",
    "footprint.net",
    "googleusercontent.com",
    "googlevideo.com",
    "gstatic.com",
    "kaspersky-labs.com",
    "llnwd.net",
    "mcafee.com",
    "msedge.net",
    "sophosxl.net",
    "spamhaus.org",
    "surbl.org",
    "symantec.com",
    "trafficmanager.net",
    "trendmicro.com",
    "uribl.com",
    "webroot.com",
    "windows.net",
];

/// The name or one above it is such a zone. Some of them are public suffixes, so that `registered` is longer.
fn is_by_design(name: &str) -> bool {
    let above = name
        .match_indices('.')
        .filter_map(|(dot, _)| name.get(dot.saturating_add(1)..));
    std::iter::once(name)
        .chain(above)
        .any(|zone| BY_DESIGN.binary_search(&zone).is_ok())
}

#[derive(Default)]
struct Zone {
    test: test::Sprt,
    last: Timestamp,
    recent: VecDeque<u64>,
    example: Box<str>,
}

/// Remembers a test by client and zone.
#[derive(Default)]
pub(super) struct DnsTunnel {
    zones: Bounded<(IpAddr, Box<str>), Zone>,
}

impl Rule for DnsTunnel {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let Some(question) = message.questions.first().filter(|_| !message.response) else {
            return;
        };
        let name = question.name.as_ref();
        let registered = site(name);
        let below = below(name, registered);
        if below.is_empty() || is_by_design(name) || is_internal_name(name) {
            return;
        }
        let index = endpoint_of_host(world, name);
        if index.is_some() {
            return;
        }
        let key = (flow.info.client.ip(), Box::from(registered));
        if self.zones.get_mut(&key).is_none() {
            self.zones.insert(key.clone(), Zone::default());
        }
        let Some(zone) = self.zones.get_mut(&key) else {
            return;
        };
        if seen.at.time.since(zone.last) > PAUSE {
            *zone = Zone::default();
        }
        zone.last = seen.at.time;
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(below);
        if zone.recent.contains(&hash) {
            return;
        }
        if zone.recent.len() >= RECENT {
            zone.recent.pop_front();
        }
        zone.recent.push_back(hash);
        let random = looks_random(below);
        if random {
            zone.example = below.into();
        }
        if !zone.test.observe(random) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} sends data through DNS: ever new random names under {}; find the process and block the zone",
                    agent(seen),
                    shown(registered)
                ),
            )
            .expected(["names that repeat, or that are words"])
            .observed(format!("{} characters before {}", zone.example.len(), shown(registered))),
        );
    }
}

/// Frequencies of a to z in English, per mille; digits and hyphens of host names count as 5.
const ENGLISH: [u16; 26] = [
    82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1,
];

/// The characters are distributed like encoded data rather than like words: their likelihood under a
/// uniform distribution over 36 characters is higher. And there are enough of them, and not few different ones.
fn looks_random(below: &str) -> bool {
    let mut counts = [0_u32; 36];
    let (mut total, mut bits) = (0_u32, 0.0);
    for byte in below.bytes() {
        let (slot, frequency) = match byte {
            b'a'..=b'z' => {
                let letter = usize::from(byte.saturating_sub(b'a'));
                (letter, ENGLISH.get(letter).copied().unwrap_or(5))
            }
            b'0'..=b'9' => (usize::from(byte.saturating_sub(b'0')).saturating_add(26), 5),
            _ => continue,
        };
        total = total.saturating_add(1);
        if let Some(count) = counts.get_mut(slot) {
            *count = count.saturating_add(1);
        }
        bits += (1000.0 / 36.0 / f64::from(frequency)).log2();
    }
    if usize::try_from(total).unwrap_or(usize::MAX) < MIN_CHARACTERS {
        return false;
    }
    let total = f64::from(total);
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum();
    bits > 0.0 && entropy > 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(bench: &mut Bench, name: &str) -> usize {
        let mut query = dns_answer(1, name, &[], &[]);
        query.response = false;
        bench.dns(Direction::ToServer, &query).len()
    }

    /// 40 characters of base32, another for each number.
    fn encoded(n: u64) -> String {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(n.to_be_bytes())
            .iter()
            .chain(&Sha256::digest((!n).to_be_bytes()))
            .take(40)
            .map(|b| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(b % 32)]))
            .collect()
    }

    fn burst(zone: &str, pause: Duration) -> usize {
        let mut bench = Bench::new(DnsTunnel::default(), "");
        (0..20)
            .map(|n| {
                bench.wait(pause);
                asks(&mut bench, &format!("{}.{zone}", encoded(n)))
            })
            .sum()
    }

    #[test]
    fn fires_on_a_burst_of_encoded_names() {
        assert!(burst("t.evil.example", Duration::from_millis(100)) >= 1);
        let mut bench = Bench::new(DnsTunnel::default(), "");
        let hex = |n: u64| {
            encoded(n)
                .bytes()
                .map(|b| format!("{:x}", b % 16))
                .collect::<String>()
        };
        assert_eq!(
            (0..10)
                .map(|n| asks(&mut bench, &format!("{}.evil.example", hex(n))))
                .sum::<usize>(),
            1
        );
    }

    #[test]
    fn stays_silent_on_repeats_words_content_networks_scanners_and_slow_names() {
        let mut bench = Bench::new(DnsTunnel::default(), "");
        let one = encoded(1);
        for n in 0..200 {
            assert_eq!(asks(&mut bench, &format!("{one}.site.example")), 0);
            assert_eq!(
                asks(
                    &mut bench,
                    &format!("payments-settlement-service-{n}.prod.corp.example")
                ),
                0
            );
            assert_eq!(asks(&mut bench, &format!("{n}.1.168.192.in-addr.arpa")), 0);
        }
        let quick = Duration::from_millis(100);
        assert_eq!(burst("cloudfront.net", quick), 0);
        assert_eq!(burst("d111111abcdef8.cloudfront.net", quick), 0);
        assert_eq!(burst("avqs.mcafee.com", quick), 0);
        assert_eq!(burst("evil.example", Duration::from_secs(61)), 0);
        assert!(BY_DESIGN.is_sorted());
    }

    #[test]
    fn words_are_not_random_and_encodings_are() {
        for words in [
            "my-long-service-name-production",
            "internal-loadbalancer-europe-west",
            "staging-customer-database-replica",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(!looks_random(words), "{words}");
        }
        assert!((0..1000).filter(|n| looks_random(&encoded(*n))).count() > 980);
        assert!(!looks_random("k7x2q9"), "too short");
    }
}
