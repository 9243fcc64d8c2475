//! DST-08 origin-network-changed: ASN or country of the address changed (offline table).

use super::addresses::local_kind;
use super::prelude::*;
use crate::config::origin::Origin;

const META: Meta = Meta {
    id: "DST-08",
    slug: "origin-network-changed",
    category: "destination",
    trigger: "ASN or country of the address changed (offline table)",
    silent_on: "anycast, several ASNs in the baseline",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Open, Kind::ClientHello],
    page: Page {
        means: "A pinned server is reached in another network (autonomous system) or country than before.",
        attacker: "Moved the name to a machine of theirs, which stands at another provider than the real one.",
        wire: "A connection to a pinned name at a public address that the tables under `origins` in the configuration place in a network or country that is new for this server.",
        act: "Compare the address with what the owner publishes. See who runs that network (RDAP).",
        quiet: "Needs tables in MaxMind's format; `check` says whether they are loaded. Addresses inside the pinned prefixes are silent, and so is every network seen before: servers that are announced from several (anycast, several providers) fire once for each.",
    },
};

/// Connections to one network after which another stands out.
const SETTLE: u32 = 1;

/// Remembers the networks of each pinned server.
#[derive(Default)]
pub(super) struct OriginNetworkChanged {
    networks: Remembered<Box<str>, Habit<Origin>>,
}

impl Rule for OriginNetworkChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.networks)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let named = match &seen.kind {
            SeenKind::Open => connection.resolved_as.as_deref(),
            SeenKind::ClientHello(hello) => hello.server_name.as_deref(),
            _ => return,
        };
        let index = named.and_then(|name| endpoint_of_host(world, name));
        let address = flow.info.server.ip();
        let (Some(endpoint), Some(name), None) = (world.pins.endpoint(index), named, local_kind(address))
        else {
            return;
        };
        if !endpoint.addresses.is_empty() && endpoint.allows_address(address) {
            return;
        }
        let Some(origin) = world.origins.lookup(address) else {
            return;
        };
        let mut habit: Habit<Origin> = self.networks.get(name).cloned().unwrap_or_default();
        let before = habit.breaks(origin.clone(), SETTLE).map(<[_]>::to_vec);
        self.networks.insert(name.into(), habit);
        let Some(before) = before else { return };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} is now at {address} in {}; compare with what its owner publishes",
                    endpoint.name,
                    shown(&origin.to_string())
                ),
            )
            .at(index)
            .expected(before.iter().map(|o| shown(&o.to_string())))
            .observed(shown(&origin.to_string())),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::config::origin::testing::tables;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn opens(bench: &mut Bench, address: &str) -> Vec<Finding> {
        bench.server("https://mcp.example/mcp", address);
        bench.connection.resolved_as = Some("mcp.example".into());
        bench.see(SeenKind::Open)
    }

    fn bench(pins: &str) -> Bench {
        let mut bench = Bench::new(OriginNetworkChanged::default(), pins);
        bench.set_origins(Arc::new(tables()));
        bench
    }

    #[test]
    fn fires_in_another_network() {
        let mut bench = bench(PINS);
        assert!(opens(&mut bench, "203.0.113.5").is_empty());
        let found = opens(&mut bench, "198.51.100.66");
        assert_eq!(found[0].expected, ["AS64500 Honest Networks, DE"]);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("AS64666 Bulletproof Hosting, XX")
        );
        assert!(opens(&mut bench, "198.51.100.66").is_empty(), "once");
    }

    #[test]
    fn stays_silent_in_known_networks_pinned_prefixes_and_without_tables() {
        let mut known = bench(PINS);
        assert!(opens(&mut known, "203.0.113.5").is_empty());
        assert!(opens(&mut known, "203.0.113.99").is_empty());
        assert!(opens(&mut known, "10.0.0.1").is_empty());
        assert!(opens(&mut known, "192.0.2.1").is_empty(), "in no table");
        let mut pinned = bench(&PINS.replace("mcp'}", "mcp', addresses: [198.51.100.0/24]}"));
        opens(&mut pinned, "203.0.113.5");
        assert!(opens(&mut pinned, "198.51.100.66").is_empty());
        let mut without = Bench::new(OriginNetworkChanged::default(), PINS);
        opens(&mut without, "203.0.113.5");
        assert!(opens(&mut without, "198.51.100.66").is_empty());
    }
}
