//! OP-01 concentration: one server carries more than a set share of the fleet's calls.

use super::prelude::*;
use std::{collections::BTreeMap, net::IpAddr};

use super::calls::is_call;
use crate::{
    mcp::context::{EndpointIndex, ServerKey},
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "OP-01",
    slug: "concentration",
    category: "operations",
    trigger: "one server carries more than a set share of the fleet's calls",
    silent_on: "small fleets",
    severity: Severity::Low,
    sight: Sight::Handshake,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["concentration"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message, Kind::Opaque],
    page: Page {
        means: "Of the last 1000 calls of all agents one server carried more than `policy.concentration_share` (80 %). If it fails or is taken over, most of what the agents do goes with it.",
        attacker: "None is needed. But a server on which everything depends is the one worth compromising.",
        wire: "Counted are `tools/call` requests; of a pinned server whose connections cannot be read, each connection counts as one.",
        act: "Decide whether that is meant. If not, spread the load, or have a second server ready and tested; either way treat this server's pins and alerts first.",
        quiet: "Silent below 1000 calls, three clients or three servers. Raise `policy.concentration_share` up to 1, which turns it off.",
    },
};

/// Calls of one count.
const CALLS: u64 = 1000;
const FEWEST_CLIENTS: usize = 3;
const FEWEST_SERVERS: usize = 3;
/// Servers and clients counted apart in one count: no more matter.
const MAX_COUNTED: usize = 1024;

/// The count that goes on.
#[derive(Default)]
pub(super) struct Concentration {
    total: u64,
    servers: BTreeMap<ServerKey, (u64, Option<EndpointIndex>)>,
    clients: BTreeMap<IpAddr, ()>,
}

impl Rule for Concentration {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let (server, endpoint) = match &seen.kind {
            SeenKind::Message { message, context }
                if message.direction == Way::ToServer && is_call(message) =>
            {
                (context.target.host_key(), context.target.endpoint)
            }
            SeenKind::Opaque { .. } => {
                let Some(connection) = seen.connection.filter(|c| c.endpoint.is_some()) else {
                    return;
                };
                let address = flow.info.server.ip().to_string();
                let name = connection.server_name().unwrap_or(&address);
                (ServerKey(name.into()), connection.endpoint)
            }
            _ => return,
        };
        self.total = self.total.saturating_add(1);
        if self.servers.len() < MAX_COUNTED || self.servers.contains_key(&server) {
            let entry = self.servers.entry(server).or_insert((0, endpoint));
            entry.0 = entry.0.saturating_add(1);
        }
        if self.clients.len() < MAX_COUNTED {
            self.clients.insert(flow.info.client.ip(), ());
        }
        if self.total < CALLS {
            return;
        }
        let done = std::mem::take(self);
        let share = world.pins.policy.concentration_share;
        let Some((server, (count, endpoint))) = done.servers.iter().max_by_key(|(_, (count, _))| *count)
        else {
            return;
        };
        let carried = *count as f64 / done.total as f64;
        if done.clients.len() < FEWEST_CLIENTS || done.servers.len() < FEWEST_SERVERS || carried <= share {
            return;
        }
        let most = (share * 100.0).round();
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} carried {:.0} % of the last {CALLS} calls of {} clients to {} servers; decide whether so much may depend on it",
                    label(world, *endpoint, &server.0),
                    carried * 100.0,
                    done.clients.len(),
                    done.servers.len()
                ),
            )
            .at(*endpoint)
            .expected([format!("at most {most} % of the calls")])
            .observed(format!("more than {most} % at {}", shown(&server.0))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;

    /// 1000 calls, so many to the first of the servers.
    #[allow(clippy::arithmetic_side_effects, reason = "small numbers")]
    fn fleet(servers: usize, clients: usize, first: usize) -> usize {
        let mut bench = Bench::new(Concentration::default(), "");
        let mut found = 0;
        for n in 0..1000 {
            let server = if n < first { 0 } else { 1 + n % (servers - 1) };
            bench.server(&format!("https://s{server}.example/mcp"), "203.0.113.5");
            let client = format!("10.1.0.{}:4000", 1 + n % clients).parse().unwrap();
            bench.reflow(client, "203.0.113.5:443".parse().unwrap(), Transport::Tcp);
            found += bench.calls("t", "{}", "{}").len();
        }
        found
    }

    #[test]
    fn fires_when_one_server_carries_most() {
        assert_eq!(fleet(4, 5, 850), 1);
    }

    #[test]
    fn stays_silent_on_spread_load_and_small_fleets() {
        assert_eq!(fleet(4, 5, 700), 0);
        assert_eq!(fleet(4, 2, 900), 0);
        assert_eq!(fleet(2, 5, 900), 0);
    }
}
