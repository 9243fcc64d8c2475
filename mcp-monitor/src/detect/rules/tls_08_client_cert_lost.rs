//! TLS-08 client-cert-lost: client used to authenticate with a certificate and no longer does.

use super::prelude::*;
use crate::{
    flow::FlowId,
    proto::tls::{HandshakeEnd, ja4::stable_ja4},
};

const META: Meta = Meta {
    id: "TLS-08",
    slug: "client-cert-lost",
    category: "tls",
    trigger: "client used to authenticate with a certificate and no longer does",
    silent_on: "resumption",
    severity: Severity::High,
    sight: Sight::BehindTls,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["weak-communication-security"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::ClientHello, Kind::Handshake, Kind::Close],
    page: Page {
        means: "A client that used to prove who it is with a certificate is served without one now.",
        attacker: "Stands in the middle and cannot ask for what the server would check; or turned the server's check off to let themselves in.",
        wire: "A full handshake, up to TLS 1.2 or decrypted, in which the client shows no certificate, after handshakes of the same client with the same server in which it did.",
        act: "See whether the server still asks (the alert says so). If it does not, find out who changed its setting, and whether it is the server at all (TLS-01, TLS-02).",
        quiet: "Resumed sessions show no certificates and are silent. A client is the executable where it is known, else the address together with its TLS fingerprint.",
    },
};

/// Client and server.
type Pair = (String, Box<str>);

/// Remembers which clients showed which servers a certificate.
#[derive(Default)]
pub(super) struct ClientCertLost {
    hellos: Bounded<FlowId, String>,
    /// `None` once the loss was said.
    showed: Remembered<Pair, Option<Box<str>>>,
}

impl Rule for ClientCertLost {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.showed)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let Some(flow) = seen.flow else { return };
        let handshake = match &seen.kind {
            SeenKind::ClientHello(hello) => {
                self.hellos.insert(flow.info.id, stable_ja4(hello));
                return;
            }
            SeenKind::Close(_) => {
                self.hellos.remove(&flow.info.id);
                return;
            }
            SeenKind::Handshake(handshake) => handshake,
            _ => return,
        };
        let full = handshake.server.is_some() && handshake.resumption.is_none();
        if !full || handshake.end != HandshakeEnd::Established {
            return;
        }
        let process = seen.connection.and_then(|c| c.process.as_ref());
        let client = match process.and_then(|p| p.exe.as_deref()) {
            Some(exe) => exe.to_owned(),
            None => {
                let fingerprint = self.hellos.remove(&flow.info.id).unwrap_or_default();
                format!("{} {fingerprint}", flow.info.client.ip())
            }
        };
        let name = tls_name(seen);
        let pair = (client, name.clone());
        if let Some(shows) = handshake.client.as_ref().and_then(|chain| chain.leaf()) {
            self.showed.insert(pair, Some(shows.subject.clone()));
            return;
        }
        let Some(before) = self.showed.edit(&pair, Option::take).flatten() else {
            return;
        };
        let index = seen.connection.and_then(|c| c.endpoint);
        let asked = if handshake.certificate_requested {
            "although it was asked for one"
        } else {
            "and was not asked for one"
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} no longer shows {} a certificate, {asked}; check that it is the server, and who changed what",
                    agent(seen),
                    label(world, index, &name)
                ),
            )
            .at(index)
            .expected([shown(&before)])
            .observed(format!("no client certificate, {asked}")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tls::{Handshake, Resumption};

    fn shown_then(then: &Handshake) -> Vec<Finding> {
        let mut bench = Bench::new(ClientCertLost::default(), "");
        let leaf = certificate("mcp.example", "CN=R1");
        let with = handshake(vec![leaf], Some(certificate("agent", "CN=R1")));
        assert!(bench.handshake(&with).is_empty());
        assert!(bench.handshake(&with).is_empty());
        bench.handshake(then)
    }

    #[test]
    fn fires_when_the_certificate_is_gone() {
        let without = handshake(vec![certificate("mcp.example", "CN=R1")], None);
        let found = shown_then(&without);
        assert_eq!(found[0].expected, ["CN=agent"]);
        assert!(found[0].summary.contains("was not asked"));
    }

    #[test]
    fn stays_silent_on_resumption_refusal_and_clients_that_never_did() {
        let without = handshake(vec![certificate("mcp.example", "CN=R1")], None);
        let resumed = Handshake {
            server: None,
            resumption: Some(Resumption::Ticket),
            ..without.clone()
        };
        assert!(shown_then(&resumed).is_empty());
        let refused = Handshake {
            end: HandshakeEnd::Refused {
                by: Direction::ToClient,
                description: Some(116),
            },
            ..without.clone()
        };
        assert!(shown_then(&refused).is_empty());
        let mut never = Bench::new(ClientCertLost::default(), "");
        assert!(never.handshake(&without).is_empty());
    }
}
