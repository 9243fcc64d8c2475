//! DST-05 pinned-remote-now-local: a pinned public server reached through a loopback or private address.

use super::addresses::local_kind;
use super::prelude::*;
use crate::flow::FlowId;

const META: Meta = Meta {
    id: "DST-05",
    slug: "pinned-remote-now-local",
    category: "destination",
    trigger: "a pinned public server reached through a loopback or private address",
    silent_on: "sanctioned gateway pinned as such",
    severity: Severity::Critical,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure", "credential-harvesting"],
        owasp_mcp: &[],
        atlas: &["AML.T0081"],
    },
    listens: &[Kind::Drift, Kind::Request],
    page: Page {
        means: "A server that is pinned to public addresses was reached through a loopback or private address: something on this host or in this network answers in its name.",
        attacker: "Runs a proxy next to the agent (a changed hosts file, a base URL in the environment, a poisoned answer with a local address) that reads and alters everything before it passes it on.",
        wire: "A pinned name in SNI, `Host` or the resolved name of a connection to 127.0.0.0/8, ::1, RFC 1918, RFC 4193 or link-local space, although all its pinned prefixes are public.",
        act: "Find the process that listens at that address, and what sent the agent there: /etc/hosts, proxy variables, the agent's configuration, the resolver.",
        quiet: "A sanctioned gateway belongs under `gateway`. A server that really has local addresses has them in its pin.",
    },
};

/// Says it once per connection.
#[derive(Default)]
pub(super) struct PinnedRemoteNowLocal {
    said: Once<FlowId>,
}

impl Rule for PinnedRemoteNowLocal {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let (index, address) = match &seen.kind {
            SeenKind::Drift(drift) if drift.kind != DriftKind::DnsAnswer => (drift.endpoint, drift.address),
            SeenKind::Request { target, .. } => match target.endpoint {
                Some(endpoint) => (endpoint, target.address.ip()),
                None => return,
            },
            _ => return,
        };
        let (Some(endpoint), Some(kind)) = (world.pins.endpoint(Some(index)), local_kind(address)) else {
            return;
        };
        let pinned = &endpoint.addresses;
        let public = !pinned.is_empty() && pinned.iter().all(|net| local_kind(net.network()).is_none());
        if !public || world.pins.is_gateway(address) {
            return;
        }
        if seen.flow.is_some_and(|flow| !self.said.first(flow.info.id)) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} reached {}, a public server, through the {kind} address {address}; find what listens there and what sent the agent to it",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(Some(index))
            .expected(endpoint.address_texts())
            .observed(address.to_string()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', addresses: [203.0.113.0/24]}]\n";

    #[test]
    fn fires_on_a_local_address_of_a_public_server() {
        let found = Bench::new(PinnedRemoteNowLocal::default(), PINS).drift(DriftKind::Sni, "127.0.0.1");
        assert!(found[0].summary.contains("loopback"));
        let mut bench = Bench::new(PinnedRemoteNowLocal::default(), PINS);
        bench.server("http://mcp.example/mcp", "10.0.0.8");
        assert_eq!(bench.request(&request("POST", "/mcp", &[]), true).len(), 1);
    }

    #[test]
    fn stays_silent_on_the_gateway_on_public_drift_and_on_local_pins() {
        let gateway = format!("{PINS}gateway: {{addresses: [10.0.9.0/24]}}\n");
        assert!(
            Bench::new(PinnedRemoteNowLocal::default(), &gateway)
                .drift(DriftKind::Connect, "10.0.9.7")
                .is_empty()
        );
        assert!(
            Bench::new(PinnedRemoteNowLocal::default(), PINS)
                .drift(DriftKind::Connect, "198.51.100.1")
                .is_empty()
        );
        let local = PINS.replace("203.0.113.0/24", "10.0.0.0/8");
        assert!(
            Bench::new(PinnedRemoteNowLocal::default(), &local)
                .drift(DriftKind::Connect, "192.168.0.1")
                .is_empty()
        );
    }
}
