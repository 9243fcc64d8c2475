//! TLS-01 spki-mismatch: no certificate of the chain matches the pinned SPKI hashes.

use super::prelude::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};

const META: Meta = Meta {
    id: "TLS-01",
    slug: "spki-mismatch",
    category: "tls",
    trigger: "no certificate of the chain matches the pinned SPKI hashes",
    silent_on: "second pin of a rotation",
    severity: Severity::Critical,
    sight: Sight::BehindTls,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation", "dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Certificates],
    page: Page {
        means: "The server showed a certificate chain in which no key is one of those pinned for it.",
        attacker: "Sits in the path (a proxy, a hijacked route, a poisoned name) and shows a certificate of their own, from a CA that the agent trusts, or has taken over the server's name and hosting.",
        wire: "A Certificate message of a pinned server in which the SHA-256 of no SubjectPublicKeyInfo is among `tls.spki_sha256`. Readable up to TLS 1.2; in TLS 1.3 with plaintext or logged keys.",
        act: "Stop the agent's sessions with this server. Compare the certificate with what the owner says, and with one fetched over another network. If a corporate proxy opens TLS here on purpose, pin its key.",
        quiet: "Pin a second key before a rotation: one match in the chain is enough, so the key of the issuing CA serves as well.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct SpkiMismatch;

impl Rule for SpkiMismatch {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Certificates {
            direction: Direction::ToClient,
            chain,
        } = &seen.kind
        else {
            return;
        };
        let index = seen.connection.and_then(|c| c.endpoint);
        let Some(endpoint) = world.pins.endpoint(index) else {
            return;
        };
        let pins = &endpoint.tls.spki_sha256;
        let (Some(leaf), false) = (chain.certificates.first(), pins.is_empty()) else {
            return;
        };
        // Of a certificate that could not be read nobody knows the key.
        if chain.unreadable > 0 || chain.certificates.iter().any(|c| pins.contains(&c.spki_sha256)) {
            return;
        }
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} showed {} a certificate of {} with none of its pinned keys; stop the sessions with it and compare the certificate with its owner's",
                    endpoint.name,
                    agent(seen),
                    shown(&leaf.issuer)
                ),
            )
            .at(index)
            .expected(pins.iter().map(|pin| STANDARD.encode(pin)))
            .observed(STANDARD.encode(leaf.spki_sha256)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(keys: &[[u8; 32]]) -> String {
        let keys: Vec<String> = keys.iter().map(|k| format!("'{}'", STANDARD.encode(k))).collect();
        format!(
            "endpoints: [{{name: a, url: 'https://mcp.example/mcp', tls: {{spki_sha256: [{}]}}}}]\n",
            keys.join(", ")
        )
    }

    fn shows(pins: &str, direction: Direction) -> Vec<Finding> {
        let leaf = certificate("mcp.example", "CN=R1");
        let issuer = certificate("R1", "CN=Root");
        Bench::new(SpkiMismatch, pins).certificates(direction, &chain(vec![leaf, issuer]))
    }

    #[test]
    fn fires_when_no_key_of_the_chain_is_pinned() {
        let found = shows(&pins(&[[7; 32]]), Direction::ToClient);
        assert_eq!(found[0].expected, [STANDARD.encode([7; 32])]);
        let leaf = certificate("mcp.example", "CN=R1").spki_sha256;
        assert_eq!(found[0].observed, Some(STANDARD.encode(leaf)));
    }

    #[test]
    fn stays_silent_on_any_pinned_key_and_on_clients() {
        let leaf = certificate("mcp.example", "CN=R1").spki_sha256;
        let issuer = certificate("R1", "CN=Root").spki_sha256;
        assert!(
            shows(&pins(&[[7; 32], leaf]), Direction::ToClient).is_empty(),
            "second pin of a rotation"
        );
        assert!(shows(&pins(&[issuer]), Direction::ToClient).is_empty());
        assert!(shows(&pins(&[[7; 32]]), Direction::ToServer).is_empty());
        assert!(shows(&pins(&[]), Direction::ToClient).is_empty());
        let mut cut = chain(vec![certificate("mcp.example", "CN=R1")]);
        cut.unreadable = 1;
        let mut bench = Bench::new(SpkiMismatch, &pins(&[[7; 32]]));
        assert!(bench.certificates(Direction::ToClient, &cut).is_empty());
    }
}
