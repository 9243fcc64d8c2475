//! TLS-03 bad-certificate-accepted: expired, not yet valid, self-signed or wrong-name certificate and the client went on.

use super::prelude::*;
use crate::proto::tls::{Certificate, HandshakeEnd};

const META: Meta = Meta {
    id: "TLS-03",
    slug: "bad-certificate-accepted",
    category: "tls",
    trigger: "expired, not yet valid, self-signed or wrong-name certificate and the client went on",
    silent_on: "client that aborted",
    severity: Severity::Critical,
    sight: Sight::BehindTls,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["weak-communication-security"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Handshake],
    page: Page {
        means: "A client accepted a certificate that proves nothing: expired, not valid yet, self-signed, or for another name. Its verification is off or broken.",
        attacker: "Needs nothing more than a place in the path: this client would have accepted their certificate as well.",
        wire: "A Certificate message with such a leaf, and then application data from the client. Readable up to TLS 1.2; in TLS 1.3 with plaintext or logged keys.",
        act: "Find the client's setting (`verify=False`, `NODE_TLS_REJECT_UNAUTHORIZED=0`, `-k`) and remove it; give a private CA to the client's trust store instead. Renew what has expired.",
        quiet: "A client that broke the handshake off, or closed without sending anything, is silent. A self-signed certificate whose key is pinned under `tls.spki_sha256` is approved; so is the name it has.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct BadCertificateAccepted;

impl Rule for BadCertificateAccepted {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Handshake(handshake) = &seen.kind else {
            return;
        };
        let Some(leaf) = handshake.server.as_ref().and_then(|chain| chain.leaf()) else {
            return;
        };
        if handshake.end != HandshakeEnd::Established {
            return;
        }
        let index = seen.connection.and_then(|c| c.endpoint);
        let pinned = world
            .pins
            .endpoint(index)
            .is_some_and(|e| e.tls.spki_sha256.contains(&leaf.spki_sha256));
        let wrong = faults(seen, leaf, pinned);
        if wrong.is_empty() {
            return;
        }
        let name = tls_name(seen);
        let observed = wrong.join(", ");
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} went on with {} although its certificate is bad ({observed}); turn the client's verification on",
                    agent(seen),
                    label(world, index, &name)
                ),
            )
            .at(index)
            .expected([format!("a valid certificate for {}", shown(&name))])
            .observed(observed),
        );
    }
}

fn faults(seen: &Seen<'_>, leaf: &Certificate, pinned: bool) -> Vec<String> {
    let now = seen.at.time;
    let mut wrong = Vec::new();
    if now > leaf.not_after {
        wrong.push("expired".to_owned());
    }
    if now < leaf.not_before {
        wrong.push("not yet valid".to_owned());
    }
    if leaf.is_self_signed() && !pinned {
        wrong.push("self-signed".to_owned());
    }
    let asked = seen.connection.and_then(|c| c.sni.as_deref());
    if let Some(asked) = asked.filter(|asked| !pinned && !leaf.names(asked)) {
        wrong.push(format!("for {}, not {}", shown(&leaf.subject), shown(asked)));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto::tls::Handshake, types::Timestamp};

    fn bench(pins: &str) -> Bench {
        let mut bench = Bench::new(BadCertificateAccepted, pins);
        bench.connection.sni = Some("mcp.example".into());
        bench
    }

    fn judged(change: impl FnOnce(&mut Certificate)) -> Handshake {
        let mut leaf = certificate("mcp.example", "CN=R1");
        change(&mut leaf);
        handshake(vec![leaf], None)
    }

    fn self_sign(leaf: &mut Certificate) {
        leaf.issuer_der = leaf.subject_der.clone();
    }

    #[test]
    fn fires_on_each_fault() {
        let said = |h: &Handshake| bench("").handshake(h)[0].observed.clone().unwrap();
        assert_eq!(
            said(&judged(|c| c.not_after = Timestamp::from_secs(1_750_000_000))),
            "expired"
        );
        assert_eq!(
            said(&judged(|c| c.not_before = Timestamp::from_secs(1_850_000_000))),
            "not yet valid"
        );
        assert_eq!(said(&judged(self_sign)), "self-signed");
        assert_eq!(
            said(&judged(|c| c.dns_names = vec!["other.example".into()])),
            "for CN=mcp.example, not mcp.example"
        );
    }

    #[test]
    fn stays_silent_on_clients_that_aborted_on_good_ones_and_on_a_pinned_key() {
        assert!(bench("").handshake(&judged(|_| {})).is_empty());
        assert!(
            bench("")
                .handshake(&judged(|c| c.dns_names = vec!["*.example".into()]))
                .is_empty()
        );
        for end in [
            HandshakeEnd::Unknown,
            HandshakeEnd::Refused {
                by: Direction::ToServer,
                description: Some(45),
            },
        ] {
            let aborted = Handshake {
                end,
                ..judged(self_sign)
            };
            assert!(bench("").handshake(&aborted).is_empty());
        }
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let key = STANDARD.encode(certificate("mcp.example", "CN=R1").spki_sha256);
        let pins = format!(
            "endpoints: [{{name: a, url: 'https://mcp.example/mcp', tls: {{spki_sha256: ['{key}']}}}}]\n"
        );
        assert!(bench(&pins).handshake(&judged(self_sign)).is_empty());
        let resumed = Handshake {
            server: None,
            ..judged(|_| {})
        };
        assert!(bench("").handshake(&resumed).is_empty());
    }
}
