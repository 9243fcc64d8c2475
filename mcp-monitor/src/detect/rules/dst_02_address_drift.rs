//! DST-02 address-drift: pinned name (SNI, Host, or name the address was resolved from) at an address outside its prefixes.

use super::prelude::*;
use crate::{detect::Drift, flow::FlowId};

const META: Meta = Meta {
    id: "DST-02",
    slug: "address-drift",
    category: "destination",
    trigger: "pinned name (SNI, Host, or name the address was resolved from) at an address outside its prefixes",
    silent_on: "CDN rotation inside the pinned prefixes",
    severity: Severity::High,
    sight: Sight::Handshake,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure", "third-party-server-compromise"],
        owasp_mcp: &["MCP09"],
        atlas: &["AML.T0008.002"],
    },
    listens: &[Kind::Drift, Kind::Request],
    page: Page {
        means: "A pinned server was reached at an address outside the prefixes pinned for its name.",
        attacker: "Changed where the name leads (DNS, hosts file, a taken-over prefix) or put a machine of their own in the way, and the agent now talks to it.",
        wire: "A connection to an address that DNS gave for a pinned name, a ClientHello with a pinned SNI, or a request with a pinned `Host`, to an address that no pinned prefix holds.",
        act: "Stop the agent's sessions with this server. Compare the answer of a trusted resolver and the certificate at that address with the pin; ask the owner whether the server moved. Rotate what was sent to it if it did not.",
        quiet: "Pin prefixes as the owner announces them rather than single addresses: rotation inside them is silent. An announced move: add the new prefix before it. A gateway listed under `gateway` is not drift.",
    },
};

/// Says it once per connection.
#[derive(Default)]
pub(super) struct AddressDrift {
    said: Once<FlowId>,
}

impl Rule for AddressDrift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        if seen.is_unlinked() {
            return;
        }
        let (index, address, how) = match &seen.kind {
            SeenKind::Drift(drift) if meant_for_another(seen, drift, world) => return,
            SeenKind::Drift(drift) => match drift.kind {
                DriftKind::Connect if drift.refused => {
                    (drift.endpoint, drift.address, "was refused a connection to")
                }
                DriftKind::Connect => (drift.endpoint, drift.address, "connected to"),
                DriftKind::Sni => (drift.endpoint, drift.address, "opened TLS with"),
                DriftKind::DnsAnswer => return,
            },
            SeenKind::Request { target, .. } => match target.endpoint {
                Some(endpoint) => (endpoint, target.address.ip(), "sent an HTTP request to"),
                None => return,
            },
            _ => return,
        };
        let Some(endpoint) = world.pins.endpoint(Some(index)) else {
            return;
        };
        let pinned = world.pins.prefixes_of_host(&endpoint.url.host.to_string());
        let pinned = if pinned.is_empty() {
            &endpoint.addresses
        } else {
            &pinned
        };
        if pinned.is_empty() || pinned.iter().any(|n| n.contains(&address)) || world.pins.is_gateway(address)
        {
            return;
        }
        if seen.flow.is_some_and(|flow| !self.said.first(flow.info.id)) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} {how} {} at {address}, outside its pinned addresses; check who owns that address and whether the server moved",
                    agent(seen),
                    endpoint.name
                ),
            )
            .at(Some(index))
            .expected(pinned.iter().map(ToString::to_string))
            .observed(address.to_string()),
        );
    }
}

/// A connection to an address that several names lead to: this client asked for another, unpinned one last,
/// and goes to a port that no pin of the drifted name has. Whose connection it is cannot be told from the
/// address; the rules that see the request decide.
fn meant_for_another(seen: &Seen<'_>, drift: &Drift, world: &World<'_>) -> bool {
    let Some(endpoint) = world.pins.endpoint(Some(drift.endpoint)) else {
        return false;
    };
    let Some(name) = seen.connection.and_then(|c| c.resolved_as.as_deref()) else {
        return false;
    };
    let same_host = |index| {
        world
            .pins
            .endpoint(Some(index))
            .is_some_and(|e| e.url.host == endpoint.url.host)
    };
    let pinned_port = || {
        world
            .pins
            .endpoints
            .iter()
            .any(|e| e.url.host == endpoint.url.host && Some(e.url.port) == drift.port)
    };
    drift.kind == DriftKind::Connect && !world.pins.match_host(name).is_some_and(same_host) && !pinned_port()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str =
        "endpoints: [{name: a, url: 'https://mcp.example/mcp', addresses: [203.0.113.0/24]}]\n";

    #[test]
    fn fires_on_verdicts_of_the_kernel_and_on_the_host_header() {
        for kind in [DriftKind::Connect, DriftKind::Sni] {
            let found = Bench::new(AddressDrift::default(), PINS).drift(kind, "198.51.100.66");
            assert_eq!(found[0].expected, ["203.0.113.0/24"]);
            assert_eq!(found[0].observed.as_deref(), Some("198.51.100.66"));
        }
        let mut bench = Bench::new(AddressDrift::default(), PINS);
        bench.server("http://mcp.example/mcp", "198.51.100.66");
        let head = request("POST", "/mcp", &[]);
        assert_eq!(bench.request(&head, true).len(), 1);
        assert!(bench.request(&head, true).is_empty(), "once per connection");
    }

    #[test]
    fn stays_silent_where_the_address_is_not_known() {
        let mut bench = Bench::new(AddressDrift::default(), PINS);
        bench.server("http://mcp.example/mcp", "0.0.0.0");
        bench.unlink();
        assert!(bench.request(&request("POST", "/mcp", &[]), true).is_empty());
    }

    #[test]
    fn a_refused_connection_is_said_to_be_refused() {
        let mut bench = Bench::new(AddressDrift::default(), PINS);
        let drift = Drift {
            kind: DriftKind::Connect,
            endpoint: 0,
            address: "198.51.100.66".parse().unwrap(),
            port: Some(443),
            refused: true,
        };
        let found = bench.see(SeenKind::Drift(&drift));
        assert!(
            found[0]
                .summary
                .contains("was refused a connection to a at 198.51.100.66")
        );
    }

    #[test]
    fn stays_silent_inside_the_prefixes_and_at_the_gateway() {
        let head = request("POST", "/mcp", &[]);
        assert!(
            Bench::new(AddressDrift::default(), PINS)
                .request(&head, true)
                .is_empty()
        );
        assert!(
            Bench::new(AddressDrift::default(), PINS)
                .drift(DriftKind::DnsAnswer, "198.51.100.66")
                .is_empty()
        );
        let mut bench = Bench::new(AddressDrift::default(), PINS);
        bench.connection.resolved_as = Some("other.example".into());
        assert!(
            bench
                .drift_at(DriftKind::Connect, "198.51.100.66", 9090)
                .is_empty(),
            "another name, another port"
        );
        assert_eq!(
            bench.drift_at(DriftKind::Connect, "198.51.100.66", 443).len(),
            1,
            "the pinned port"
        );
        let mut bench = Bench::new(
            AddressDrift::default(),
            &format!("{PINS}gateway: {{addresses: [10.0.9.0/24]}}\n"),
        );
        bench.server("https://mcp.example/mcp", "10.0.9.7");
        assert!(bench.request(&head, true).is_empty());
    }
}
