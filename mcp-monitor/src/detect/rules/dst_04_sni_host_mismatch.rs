//! DST-04 sni-host-mismatch: SNI and Host / :authority name different hosts.

use super::prelude::*;
use std::net::IpAddr;

use crate::{
    flow::FlowId,
    proto::{http::Version, tls::Certificate},
    types::Plaintext,
};

const META: Meta = Meta {
    id: "DST-04",
    slug: "sni-host-mismatch",
    category: "destination",
    trigger: "SNI and Host / :authority name different hosts",
    silent_on: "HTTP/2 coalescing under one certificate",
    severity: Severity::High,
    sight: Sight::BehindTls,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Certificates, Kind::Request, Kind::Close],
    page: Page {
        means: "Inside TLS a request names another host than the TLS handshake did: what the network sees and what the server serves are two things.",
        attacker: "Fronts: connects under an innocent name to a machine that serves many, and asks for the one that is blocked or watched. Or confuses a gateway that checks only one of the two.",
        wire: "A decrypted request whose `Host` or `:authority` is another name than the SNI of its connection.",
        act: "Find the program and why it does so. Have the gateway refuse requests whose host is not the SNI (status 421).",
        quiet: "With HTTP/2 a client may send requests for several names over one connection whose certificate covers them; that is silent, and where the certificate was not seen, so are requests after an honest one. Addresses instead of names are silent.",
    },
};

/// What is known of a connection.
#[derive(Default)]
struct Front {
    leaf: Option<Certificate>,
    /// A request for the name of the handshake was seen.
    honest: bool,
    said: bool,
}

/// Remembers connections that were opened.
#[derive(Default)]
pub(super) struct SniHostMismatch {
    fronts: Bounded<FlowId, Front>,
}

impl Rule for SniHostMismatch {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let id = flow.info.id;
        let (head, target) = match &seen.kind {
            SeenKind::Certificates {
                direction: Direction::ToClient,
                chain,
            } => {
                let front = Front {
                    leaf: chain.leaf().cloned(),
                    ..Front::default()
                };
                self.fronts.insert(id, front);
                return;
            }
            SeenKind::Close(_) => {
                self.fronts.remove(&id);
                return;
            }
            SeenKind::Request { head, target, .. } => (head, target),
            _ => return,
        };
        let Some(sni) = connection
            .sni
            .as_deref()
            .filter(|_| flow.plaintext != Plaintext::Packet)
        else {
            return;
        };
        if self.fronts.get_mut(&id).is_none() {
            self.fronts.insert(id, Front::default());
        }
        let Some(front) = self.fronts.get_mut(&id) else {
            return;
        };
        let sni = sni.strip_suffix('.').unwrap_or(sni);
        let host = target.origin.host.as_ref();
        if host == sni {
            front.honest = true;
            return;
        }
        let coalesced = head.version == Version::Http2
            && front.leaf.as_ref().map_or(front.honest, |leaf| leaf.names(host));
        if coalesced || front.said || host.parse::<IpAddr>().is_ok() || head.authority.is_none() {
            return;
        }
        front.said = true;
        let index = target.endpoint.or_else(|| endpoint_of_host(world, sni));
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} connected as if to {} and then asked for {}; find the program and why it does so",
                    agent(seen),
                    shown(sni),
                    shown(host)
                ),
            )
            .at(index)
            .expected([shown(sni)])
            .observed(shown(host)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(sni: &str, plaintext: Plaintext) -> Bench {
        let mut bench = Bench::new(SniHostMismatch::default(), "");
        bench.connection.sni = Some(sni.into());
        bench.flow.plaintext = plaintext;
        bench
    }

    /// A request for mcp.example.
    fn asks(bench: &mut Bench, version: Version) -> Vec<Finding> {
        let mut head = request("POST", "/mcp", &[("Host", "mcp.example")]);
        head.version = version;
        bench.request(&head, true)
    }

    #[test]
    fn fires_on_another_name_inside() {
        let mut front = bench("front.example", Plaintext::Keylog);
        let found = asks(&mut front, Version::Http11);
        assert_eq!(found[0].expected, ["front.example"]);
        assert_eq!(found[0].observed.as_deref(), Some("mcp.example"));
        assert!(asks(&mut front, Version::Http11).is_empty(), "once");
        let mut other = bench("front.example", Plaintext::Keylog);
        other.certificates(
            Direction::ToClient,
            &chain(vec![certificate("front.example", "CN=R1")]),
        );
        assert_eq!(asks(&mut other, Version::Http2).len(), 1);
    }

    #[test]
    fn stays_silent_on_the_same_name_coalescing_and_cleartext() {
        assert!(asks(&mut bench("mcp.example", Plaintext::Keylog), Version::Http11).is_empty());
        assert!(asks(&mut bench("front.example", Plaintext::Packet), Version::Http11).is_empty());
        let mut covered = bench("front.example", Plaintext::Keylog);
        let mut leaf = certificate("front.example", "CN=R1");
        leaf.dns_names.push("*.example".into());
        covered.certificates(Direction::ToClient, &chain(vec![leaf]));
        assert!(asks(&mut covered, Version::Http2).is_empty());
        let mut unseen = bench("mcp.example", Plaintext::Keylog);
        assert!(asks(&mut unseen, Version::Http2).is_empty());
        unseen.target.origin.host = "other.example".into();
        assert!(
            asks(&mut unseen, Version::Http2).is_empty(),
            "an honest request came before"
        );
    }
}
