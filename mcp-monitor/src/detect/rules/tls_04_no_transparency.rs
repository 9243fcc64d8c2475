//! TLS-04 no-transparency: certificate under a publicly trusted root (by subject of the chain, webpki-roots) without SCTs.

use super::prelude::*;
use std::{collections::HashSet, sync::LazyLock};

const META: Meta = Meta {
    id: "TLS-04",
    slug: "no-transparency",
    category: "tls",
    trigger: "certificate under a publicly trusted root (by subject of the chain, webpki-roots) without SCTs",
    silent_on: "private CA",
    severity: Severity::Medium,
    sight: Sight::BehindTls,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Handshake],
    page: Page {
        means: "A certificate under a publicly trusted root came without proof that it was logged. Public CAs log every certificate; one that is not in the logs was issued in the dark, or is kept out of its owner's sight.",
        attacker: "Got a CA, or somebody at one, to issue a certificate for the server's name without logging it, so that nobody who watches the logs is warned.",
        wire: "A chain with the subject of a root of Mozilla's programme, and no signed certificate timestamp: not in the certificate, not in a TLS extension, not in a stapled OCSP response.",
        act: "Look the certificate up by its hash in Certificate Transparency (crt.sh). If it is not there, treat it as forged and tell the CA and the owner of the name.",
        quiet: "Private CAs are silent: their subjects are not in the programme. A server that only recently got timestamps from its CA may need its certificate renewed.",
    },
};

/// Subjects of the roots of Mozilla's programme, as encoded.
static ROOTS: LazyLock<HashSet<&'static [u8]>> = LazyLock::new(|| {
    webpki_roots::TLS_SERVER_ROOTS
        .iter()
        .map(|root| root.subject.as_ref())
        .collect()
});

/// Nothing to remember.
#[derive(Default)]
pub(super) struct NoTransparency;

impl Rule for NoTransparency {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Handshake(handshake) = &seen.kind else {
            return;
        };
        let Some(chain) = &handshake.server else { return };
        let Some(leaf) = chain.leaf().filter(|leaf| leaf.scts == 0 && !handshake.scts) else {
            return;
        };
        let public = chain
            .certificates
            .iter()
            .find(|c| ROOTS.contains(c.issuer_der.as_ref()) || ROOTS.contains(c.subject_der.as_ref()));
        let Some(public) = public.filter(|_| !leaf.is_self_signed()) else {
            return;
        };
        let index = seen.connection.and_then(|c| c.endpoint);
        let name = tls_name(seen);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "the certificate of {} leads to a public root but has no proof of being logged; look it up in the transparency logs",
                    label(world, index, &name)
                ),
            )
            .at(index)
            .expected(["signed certificate timestamps"])
            .observed(format!("none, issued by {}", shown(&public.issuer))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::proto::tls::Certificate;

    /// A leaf, and the intermediate that a public root issued.
    fn public() -> (Certificate, Certificate) {
        let root = webpki_roots::TLS_SERVER_ROOTS[0].subject.as_ref();
        let mut leaf = certificate("mcp.example", "CN=R1");
        leaf.scts = 0;
        let mut intermediate = certificate("R1", "CN=Root");
        intermediate.issuer_der = Bytes::from_static(root);
        (leaf, intermediate)
    }

    #[test]
    fn subjects_are_kept_in_the_form_of_certificates() {
        // RelativeDistinguishedName, a SET: what is inside the SEQUENCE of a name.
        assert!(ROOTS.iter().all(|subject| subject.first() == Some(&0x31)));
    }

    #[test]
    fn fires_under_a_public_root_without_timestamps() {
        let (leaf, intermediate) = public();
        let found = Bench::new(NoTransparency, "").handshake(&handshake(vec![leaf, intermediate], None));
        assert_eq!(found[0].observed.as_deref(), Some("none, issued by CN=Root"));
    }

    #[test]
    fn stays_silent_on_private_cas_and_on_timestamps_wherever_they_are() {
        let (leaf, intermediate) = public();
        let mut bench = Bench::new(NoTransparency, "");
        let private = handshake(vec![leaf.clone(), certificate("R1", "CN=Own")], None);
        assert!(bench.handshake(&private).is_empty());
        let mut beside = handshake(vec![leaf.clone(), intermediate.clone()], None);
        beside.scts = true;
        assert!(bench.handshake(&beside).is_empty());
        let inside = Certificate { scts: 2, ..leaf };
        assert!(
            bench
                .handshake(&handshake(vec![inside, intermediate], None))
                .is_empty()
        );
    }
}
