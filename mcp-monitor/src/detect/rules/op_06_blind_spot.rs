//! OP-06 blind-spot: packets lost, no plaintext, ECH or QUIC on a pinned flow: the monitor says what it could not see.

use super::prelude::*;
use std::sync::Arc;

use crate::{flow::FlowId, types::Transport};

const META: Meta = Meta {
    id: "OP-06",
    slug: "blind-spot",
    category: "operations",
    trigger: "packets lost, no plaintext, ECH or QUIC on a pinned flow: the monitor says what it could not see",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Handshake,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["limited-monitoring"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Close, Kind::Opaque, Kind::ClientHello],
    page: Page {
        means: "The monitor could not see all of a connection with an approved server, or of an MCP session. Rules that need what is missing say nothing about it: this alert says so instead.",
        attacker: "Usually none. But encryption that nothing opens, hidden names and floods that make a capture lose packets are also what an attacker wants.",
        wire: "Bytes missing from the stream, TLS that neither a uprobe nor a keylog opens, Encrypted ClientHello to a pinned address, or QUIC with a pinned server. It also says so when a rule failed on an event and was turned off (`expected: \"PV-03 running\"`).",
        act: "For loss: give the monitor more CPU or ring space, or capture with larger snap length. For TLS: use the uprobe of the agent's library or a keylog; handshake rules work all the same. For ECH and QUIC: decide whether agents should use them. For a rule that is off: keep the capture, report it, and restart the monitor.",
        quiet: "Where plaintext cannot be had and the handshake is enough, lower the severity or suppress it for the endpoint with that reason.",
    },
};

#[derive(Clone, Default)]
struct Hidden {
    opaque: bool,
    /// What keeps the TLS of the process closed.
    why: Option<Arc<str>>,
    ech: bool,
}

/// What is hidden on open connections.
#[derive(Default)]
pub(super) struct BlindSpot {
    hidden: Bounded<FlowId, Hidden>,
}

impl Rule for BlindSpot {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let id = flow.info.id;
        match &seen.kind {
            SeenKind::Opaque { why } => self.note(id, |h| {
                h.opaque = true;
                h.why = why.cloned();
            }),
            // The outer name of real ECH is not the pinned one; with GREASE the pinned name stands there.
            SeenKind::ClientHello(hello) if hello.ech.is_some() => {
                let named = hello
                    .server_name
                    .as_deref()
                    .and_then(|name| world.pins.match_host(name));
                if named.is_none() {
                    self.note(id, |h| h.ech = true);
                }
            }
            SeenKind::Close(_) => {
                let hidden = self.hidden.remove(&id).unwrap_or_default();
                let endpoint = world.pins.endpoint(connection.endpoint);
                if endpoint.is_none() && !connection.mcp {
                    return;
                }
                let quic = flow.info.transport == Transport::Udp && flow.info.server.port() == 443;
                let reasons = [
                    (flow.lost_bytes > 0, "bytes lost"),
                    (hidden.opaque, "no plaintext"),
                    (hidden.ech, "encrypted ClientHello"),
                    (quic, "QUIC"),
                ];
                let reasons: Vec<&str> = reasons.iter().filter(|(yes, _)| *yes).map(|(_, r)| *r).collect();
                if reasons.is_empty() {
                    return;
                }
                let observed = reasons.join(", ");
                let lost = match flow.lost_bytes {
                    0 => String::new(),
                    n => format!(" ({n} bytes missing)"),
                };
                let why = hidden.why.map_or_else(String::new, |why| format!(" ({why})"));
                let server = connection
                    .server_name()
                    .map_or_else(|| flow.info.server.ip().to_string(), str::to_owned);
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "could not see all of a connection of {} with {}: {observed}{why}{lost}; rules that need it were blind there",
                            agent(seen),
                            label(world, connection.endpoint, &server)
                        ),
                    )
                    .at(connection.endpoint)
                    .observed(observed),
                );
            }
            _ => {}
        }
    }
}

impl BlindSpot {
    fn note(&mut self, id: FlowId, set: impl FnOnce(&mut Hidden)) {
        let mut hidden = self.hidden.peek(&id).cloned().unwrap_or_default();
        set(&mut hidden);
        self.hidden.insert(id, hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::ClientHello;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn bench() -> Bench {
        Bench::new(BlindSpot::default(), PINS)
    }

    #[test]
    fn fires_at_the_end_of_a_connection_it_could_not_see() {
        let mut b = bench();
        assert!(b.see(SeenKind::Opaque { why: None }).is_empty());
        assert_eq!(b.close()[0].observed.as_deref(), Some("no plaintext"));
        assert!(b.close().is_empty(), "once");
        let why: Arc<str> = "/opt/agent: rustls is inside".into();
        b.see(SeenKind::Opaque { why: Some(&why) });
        let finding = b.close().remove(0);
        assert!(
            finding
                .summary
                .contains("no plaintext (/opt/agent: rustls is inside)")
        );
        let mut b = bench();
        b.flow.lost_bytes = 9;
        assert!(b.close()[0].summary.contains("9 bytes missing"));
        let mut b = bench();
        b.reflow(
            "10.1.0.5:5000".parse().unwrap(),
            "203.0.113.5:443".parse().unwrap(),
            Transport::Udp,
        );
        assert_eq!(b.close()[0].observed.as_deref(), Some("QUIC"));
        let mut b = bench();
        let hello = ClientHello {
            ech: Some(crate::proto::tls::Ech::Unknown),
            server_name: Some("front.example".into()),
            ..ClientHello::default()
        };
        b.see(SeenKind::ClientHello(&hello));
        assert_eq!(b.close()[0].observed.as_deref(), Some("encrypted ClientHello"));
    }

    #[test]
    fn stays_silent_on_what_was_seen_whole_and_on_other_traffic() {
        assert!(bench().close().is_empty());
        let mut b = bench();
        b.server("https://other.example/", "198.51.100.1");
        b.connection.mcp = false;
        b.flow.lost_bytes = 9;
        b.see(SeenKind::Opaque { why: None });
        assert!(b.close().is_empty());
        let mut b = bench();
        let grease = ClientHello {
            ech: Some(crate::proto::tls::Ech::Unknown),
            server_name: Some("mcp.example".into()),
            ..ClientHello::default()
        };
        b.see(SeenKind::ClientHello(&grease));
        assert!(b.close().is_empty());
    }
}
