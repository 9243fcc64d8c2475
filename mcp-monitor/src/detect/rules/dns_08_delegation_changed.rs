//! DNS-08 delegation-changed: NS/SOA of a pinned zone changed; NXDOMAIN, then alive again.

use super::prelude::*;
use std::net::IpAddr;

use crate::proto::dns::{Message, RecordData};

const META: Meta = Meta {
    id: "DNS-08",
    slug: "delegation-changed",
    category: "dns",
    trigger: "NS/SOA of a pinned zone changed; NXDOMAIN, then alive again",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns],
    page: Page {
        means: "Who answers for a pinned server's zone changed: other name servers, another primary; or the name was gone and is back.",
        attacker: "Took over the domain: at the registrar, at the DNS provider, or by registering it after it had lapsed.",
        wire: "NS records of a zone that a pinned name lies in with a name server never seen before, an SOA record with another primary, or addresses for a pinned name from a resolver that had answered NXDOMAIN.",
        act: "Look the domain up in WHOIS/RDAP: registrar, dates, name servers. Ask its owner. Until then treat the server as not theirs.",
        quiet: "Serial numbers, order and TTL make no difference. A planned move of DNS provider fires once per new name server. Answers are compared per resolver, so that a split view is not taken for a return.",
    },
};

const NXDOMAIN: u16 = 3;
/// Name servers remembered of one zone.
const MAX_SERVERS: usize = 32;

type Servers = Remembered<Box<str>, Vec<Box<str>>>;
type Primaries = Remembered<Box<str>, Habit<Box<str>>>;

/// Remembers name servers and primaries by zone, and names that did not exist by resolver.
#[derive(Default)]
pub(super) struct DelegationChanged {
    zones: Together<Servers, Primaries>,
    gone: Bounded<(IpAddr, Box<str>, u16), ()>,
}

impl Rule for DelegationChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.zones)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Dns { message, .. }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        let Some(question) = message.questions.first().filter(|_| message.response) else {
            return;
        };
        let index = endpoint_of_host(world, &question.name);
        if world.pins.endpoint(index).is_some() {
            let key = (flow.info.server.ip(), question.name.clone(), question.qtype);
            let alive = message
                .answers
                .iter()
                .any(|r| matches!(r.data, RecordData::Address(_)));
            if message.rcode == NXDOMAIN {
                self.gone.insert(key, ());
            } else if alive && self.gone.remove(&key).is_some() {
                out.push(
                    finding(
                        world,
                        index,
                        "was gone and is back; check in WHOIS who registered it since",
                    )
                    .expected(["NXDOMAIN"])
                    .observed("addresses"),
                );
            }
        }
        self.zones(message, world, out);
    }
}

impl DelegationChanged {
    fn zones(&mut self, message: &Message, world: &World<'_>, out: &mut Vec<Finding>) {
        for record in message.answers.iter().chain(&message.authorities) {
            let (zone, new, before) = match &record.data {
                RecordData::Ns(server) => {
                    let Some(index) = pinned_in(world, &record.name) else {
                        continue;
                    };
                    (index, server, self.server(&record.name, server, message))
                }
                RecordData::Soa { primary, .. } => {
                    let Some(index) = pinned_in(world, &record.name) else {
                        continue;
                    };
                    let mut habit = self.zones.1.get(&record.name).cloned().unwrap_or_default();
                    let before = habit.breaks(primary.clone(), 1).map(<[_]>::to_vec);
                    self.zones.1.insert(record.name.clone(), habit);
                    (index, primary, before)
                }
                _ => continue,
            };
            let Some(before) = before else { continue };
            let what = format!(
                "lies in {}, whose DNS servers changed; check with its owner and in WHOIS",
                shown(&record.name)
            );
            out.push(
                finding(world, Some(zone), &what)
                    .expected(before.iter().map(|name| shown(name)))
                    .observed(shown(new)),
            );
        }
    }

    /// The name servers known so far, if this one is not among them. All those of one message are one set.
    fn server(&mut self, zone: &str, server: &str, message: &Message) -> Option<Vec<Box<str>>> {
        let servers = &mut self.zones.0;
        let Some(mut known) = servers.get(zone).cloned() else {
            let set = message.answers.iter().chain(&message.authorities);
            let set = set.filter_map(|r| match &r.data {
                RecordData::Ns(name) if *r.name == *zone => Some(name.clone()),
                _ => None,
            });
            servers.insert(zone.into(), set.take(MAX_SERVERS).collect());
            return None;
        };
        if known.iter().any(|name| **name == *server) {
            return None;
        }
        let before = known.clone();
        if known.len() >= MAX_SERVERS {
            known.remove(0);
        }
        known.push(server.into());
        servers.insert(zone.into(), known);
        Some(before)
    }
}

/// The first endpoint whose name lies in this zone. Top-level domains have nobody's servers.
fn pinned_in(world: &World<'_>, zone: &str) -> Option<usize> {
    if !zone.contains('.') {
        return None;
    }
    world.pins.endpoints.iter().position(|endpoint| {
        let host = endpoint.url.host.to_string();
        host.strip_suffix(zone)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn finding(world: &World<'_>, index: Option<usize>, what: &str) -> Finding {
    Finding::new(META.id, format!("{} {what}", label(world, index, ""))).at(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::Record;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.shop.example/mcp'}]\n";

    fn with(data: Vec<RecordData>, owner: &str) -> Message {
        let mut answer = dns_answer(1, "mcp.shop.example", &[], &[]);
        answer.authorities = data
            .into_iter()
            .map(|data| Record {
                name: owner.into(),
                rtype: 0,
                class: 1,
                ttl: 1,
                data,
            })
            .collect();
        answer
    }

    fn ns(names: &[&str], owner: &str) -> Message {
        with(names.iter().map(|n| RecordData::Ns((*n).into())).collect(), owner)
    }

    fn soa(primary: &str, serial: u32) -> Message {
        let primary = primary.into();
        with(vec![RecordData::Soa { primary, serial }], "shop.example")
    }

    fn bench() -> Bench {
        Bench::new(DelegationChanged::default(), PINS)
    }

    #[test]
    fn fires_on_another_server_another_primary_and_a_return() {
        let mut bench = bench();
        let mut say = |message: &Message| bench.dns(Direction::ToClient, message);
        assert!(say(&ns(&["a.dns.example", "b.dns.example"], "shop.example")).is_empty());
        let found = say(&ns(&["a.evil.example", "b.dns.example"], "shop.example"));
        assert_eq!(found[0].observed.as_deref(), Some("a.evil.example"));
        assert_eq!(found[0].expected, ["a.dns.example", "b.dns.example"]);
        assert!(say(&soa("a.dns.example", 1)).is_empty());
        assert_eq!(say(&soa("a.evil.example", 1)).len(), 1);
        let mut gone = dns_answer(1, "mcp.shop.example", &[], &[]);
        gone.rcode = NXDOMAIN;
        assert!(say(&gone).is_empty());
        assert_eq!(
            say(&dns_answer(2, "mcp.shop.example", &[], &["198.51.100.66"])).len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_order_serials_other_zones_and_other_resolvers() {
        let mut bench = bench();
        let mut say = |message: &Message| bench.dns(Direction::ToClient, message);
        assert!(say(&ns(&["a.dns.example", "b.dns.example"], "shop.example")).is_empty());
        assert!(say(&ns(&["b.dns.example", "a.dns.example"], "shop.example")).is_empty());
        assert!(say(&ns(&["b.dns.example"], "shop.example")).is_empty());
        assert!(say(&soa("a.dns.example", 1)).is_empty());
        assert!(say(&soa("a.dns.example", 2)).is_empty());
        for zone in ["example", "other.example", "xshop.example"] {
            assert!(say(&ns(&["a.one.example"], zone)).is_empty());
            assert!(say(&ns(&["a.two.example"], zone)).is_empty());
        }
        let mut gone = dns_answer(1, "mcp.shop.example", &[], &[]);
        gone.rcode = NXDOMAIN;
        assert!(say(&gone).is_empty());
        bench.server("https://mcp.shop.example/mcp", "203.0.113.53");
        let alive = dns_answer(2, "mcp.shop.example", &[], &["198.51.100.66"]);
        assert!(
            bench.dns(Direction::ToClient, &alive).is_empty(),
            "another resolver's view"
        );
    }
}
