//! DST-03 connect-without-dns: agent connects to a pinned server's port at an address no DNS answer gave.

use super::prelude::*;
use std::{net::IpAddr, time::Duration};

use crate::{
    flow::FlowId,
    proto::dns::{Message, RecordData},
    types::Timestamp,
};

const META: Meta = Meta {
    id: "DST-03",
    slug: "connect-without-dns",
    category: "destination",
    trigger: "agent connects to a pinned server's port at an address no DNS answer gave",
    silent_on: "/etc/hosts entry in the pin; clients of whom no DNS at all was seen",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Dns, Kind::ClientHello, Kind::Request],
    page: Page {
        means: "An agent that resolves names through DNS connected to a pinned server at an address that no DNS answer had given.",
        attacker: "Wrote the hosts file, poisoned a resolver's cache on the host, or changed the program, so that the name leads elsewhere without a query that anybody could see.",
        wire: "A ClientHello or a request with a pinned name, from a client of whom DNS answers were seen, to an address that was in none of them: neither in the client's nor in anybody's for this name.",
        act: "Look at `/etc/hosts`, the resolver's configuration and the program's settings on that host. Compare the address with what a trusted resolver gives.",
        quiet: "Clients of whom no DNS was ever seen are silent: they resolve where the monitor does not look. An address pinned by itself (`/32`, `/128`) may come from a hosts file. Inside other pinned prefixes the client must have been seen for an hour, since it may have resolved the name before.",
    },
};

/// Longest time that programs keep an answer.
const CACHED: Duration = Duration::from_secs(60 * 60);

/// Remembers who resolves, and what was answered.
#[derive(Default)]
pub(super) struct ConnectWithoutDns {
    /// First answer to a client.
    clients: Bounded<IpAddr, Timestamp>,
    /// Addresses that a client was given.
    given: Bounded<(IpAddr, IpAddr), ()>,
    /// Addresses that a pinned name was given, by whomever.
    names: Bounded<(Box<str>, IpAddr), ()>,
    said: Once<FlowId>,
}

impl Rule for ConnectWithoutDns {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let Some(flow) = seen.flow else { return };
        let client = flow.info.client.ip();
        let name: &str = match &seen.kind {
            SeenKind::Dns { message, .. } => {
                return self.learn(client, seen.at.time, message, world);
            }
            SeenKind::ClientHello(hello) => hello.server_name.as_deref().unwrap_or_default(),
            SeenKind::Request { target, .. } => &target.origin.host,
            _ => return,
        };
        let address = flow.info.server.ip();
        if name.parse::<IpAddr>().is_ok() || address.is_loopback() || world.pins.is_gateway(address) {
            return;
        }
        let index = endpoint_of_host(world, name);
        let (Some(endpoint), Some(since)) = (world.pins.endpoint(index), self.clients.peek(&client)) else {
            return;
        };
        let known = self.given.get_mut(&(client, address)).is_some()
            || self.names.get_mut(&(Box::from(name), address)).is_some();
        let mut prefixes = endpoint
            .addresses
            .iter()
            .filter(|net| net.contains(&address))
            .peekable();
        let inside = prefixes.peek().is_some();
        let alone = prefixes.any(|net| net.prefix_len() == net.max_prefix_len());
        let may_be_cached = inside && flow.info.start.time.since(*since) < CACHED;
        if known || alone || may_be_cached || !self.said.first(flow.info.id) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} connected to {} at {address}, which no DNS answer gave; look at the hosts file and settings there",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(index)
            .expected(["an address from a DNS answer"])
            .observed(address.to_string()),
        );
    }
}

impl ConnectWithoutDns {
    fn learn(&mut self, client: IpAddr, now: Timestamp, message: &Message, world: &World<'_>) {
        let Some(question) = message.questions.first().filter(|_| message.response) else {
            return;
        };
        if self.clients.get_mut(&client).is_none() {
            self.clients.insert(client, now);
        }
        let pinned = endpoint_of_host(world, &question.name).is_some();
        for record in message.answers.iter().chain(&message.additionals) {
            let addresses: &[IpAddr] = match &record.data {
                RecordData::Address(ip) => std::slice::from_ref(ip),
                RecordData::Svcb { hints, .. } => hints,
                _ => continue,
            };
            for ip in addresses {
                self.given.insert((client, *ip), ());
                if pinned {
                    self.names.insert((question.name.clone(), *ip), ());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::ClientHello;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn connects(bench: &mut Bench) -> Vec<Finding> {
        let hello = ClientHello {
            server_name: Some("mcp.example".into()),
            ..ClientHello::default()
        };
        bench.see(SeenKind::ClientHello(&hello))
    }

    /// A client that was given this address for this name, then connects to 203.0.113.5.
    fn after(pins: &str, name: &str, address: &str) -> Vec<Finding> {
        let mut bench = Bench::new(ConnectWithoutDns::default(), pins);
        bench.dns(Direction::ToClient, &dns_answer(1, name, &[], &[address]));
        connects(&mut bench)
    }

    #[test]
    fn fires_at_an_address_that_nobody_gave() {
        let found = after(PINS, "other.example", "192.0.2.1");
        assert_eq!(found[0].observed.as_deref(), Some("203.0.113.5"));
        assert_eq!(after(PINS, "mcp.example", "192.0.2.1").len(), 1);
        let mut bench = Bench::new(ConnectWithoutDns::default(), PINS);
        bench.dns(
            Direction::ToClient,
            &dns_answer(1, "other.example", &[], &["192.0.2.1"]),
        );
        assert_eq!(bench.request(&request("POST", "/mcp", &[]), true).len(), 1);
        assert!(
            bench.request(&request("POST", "/mcp", &[]), true).is_empty(),
            "once"
        );
    }

    #[test]
    fn stays_silent_on_answers_hosts_entries_in_the_pin_and_clients_without_dns() {
        assert!(after(PINS, "mcp.example", "203.0.113.5").is_empty());
        let pinned = |net: &str| PINS.replace("mcp'}", &format!("mcp', addresses: ['{net}']}}"));
        assert!(after(&pinned("203.0.113.5/32"), "other.example", "192.0.2.1").is_empty());
        assert!(
            after(&pinned("203.0.113.0/24"), "other.example", "192.0.2.1").is_empty(),
            "may be cached"
        );
        assert!(connects(&mut Bench::new(ConnectWithoutDns::default(), PINS)).is_empty());
        assert!(after("", "other.example", "192.0.2.1").is_empty());
    }

    #[test]
    fn after_an_hour_no_cache_explains_it() {
        let pins = PINS.replace("mcp'}", "mcp', addresses: [203.0.113.0/24]}");
        let mut bench = Bench::new(ConnectWithoutDns::default(), &pins);
        bench.dns(
            Direction::ToClient,
            &dns_answer(1, "other.example", &[], &["192.0.2.1"]),
        );
        bench.wait(CACHED);
        bench.server("https://mcp.example/mcp", "203.0.113.5");
        assert_eq!(connects(&mut bench).len(), 1);
    }
}
