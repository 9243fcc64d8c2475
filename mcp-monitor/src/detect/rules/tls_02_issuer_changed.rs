//! TLS-02 issuer-changed: issuer not among pinned or learned issuers.

use super::prelude::*;
use crate::{
    config::pins::{Endpoint, rdns},
    proto::tls::Certificate,
};

const META: Meta = Meta {
    id: "TLS-02",
    slug: "issuer-changed",
    category: "tls",
    trigger: "issuer not among pinned or learned issuers",
    silent_on: "renewal by the same issuer",
    severity: Severity::High,
    sight: Sight::BehindTls,
    needs: "pin/base",
    taxonomy: Taxonomy {
        air_sec_026: &["dns-infrastructure"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Certificates],
    page: Page {
        means: "The certificate of a pinned server comes from an issuer that is not pinned, or, where none is pinned, from another organisation than before.",
        attacker: "Got a certificate for the server's name from another CA, by a hijacked route or name during validation, or by control of a CA that the agent trusts.",
        wire: "A Certificate message whose leaf names an issuer that no entry of `tls.issuers` fits; or whose issuer's organisation (its whole name if it states none) is new for this server.",
        act: "Ask the owner whether they changed CA. Look the certificate up in Certificate Transparency logs. If it is not theirs, stop the sessions and have it revoked.",
        quiet: "A renewal by the same issuer is silent, and so is another intermediate of the same organisation. Pin `issuers` to be told at the first certificate instead of at the first change.",
    },
};

/// Certificates of one organisation in a row after which another one stands out.
const SETTLE: u32 = 1;

/// Remembers the organisations that issued for each server.
#[derive(Default)]
pub(super) struct IssuerChanged {
    issuers: Remembered<Box<str>, Habit<Box<str>>>,
}

impl Rule for IssuerChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.issuers)
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
        let (Some(endpoint), Some(leaf)) = (world.pins.endpoint(index), chain.leaf()) else {
            return;
        };
        let expected = if endpoint.tls.issuers.is_empty() {
            let name = tls_name(seen);
            let habit = self.issuers.get_or_default(&name);
            match habit.and_then(|h| h.breaks(organisation(leaf), SETTLE)) {
                Some(before) => before.iter().map(|o| shown(o)).collect(),
                None => return,
            }
        } else if is_pinned(endpoint, leaf) {
            return;
        } else {
            endpoint.tls.issuers.clone()
        };
        out.push(
            Finding::new(
                META.id,
                format!(
                    "the certificate of {} now comes from {}; ask its owner whether they changed CA before the agent goes on",
                    endpoint.name,
                    shown(&leaf.issuer)
                ),
            )
            .at(index)
            .expected(expected)
            .observed(shown(&leaf.issuer)),
        );
    }
}

/// The organisation of the issuer: CAs rotate their intermediates. Its whole name where it states none.
fn organisation(leaf: &Certificate) -> Box<str> {
    let stated = leaf.issuer_rdns.iter().find(|rdn| rdn.starts_with("O="));
    stated.unwrap_or(&leaf.issuer).clone()
}

/// Every RDN of an entry is in the issuer.
fn is_pinned(endpoint: &Endpoint, leaf: &Certificate) -> bool {
    let has = |wanted: &str| leaf.issuer_rdns.iter().any(|rdn| normal(rdn) == normal(wanted));
    endpoint
        .tls
        .issuers
        .iter()
        .any(|entry| rdns(entry).into_iter().all(has))
}

/// Case and the space around `=` and at the ends make no difference (RFC 5280 section 7.1).
fn normal(rdn: &str) -> String {
    let (kind, value) = rdn.split_once('=').unwrap_or((rdn, ""));
    format!("{}={}", kind.trim(), value.trim()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp', tls: {issuers: ['CN=Example CA', 'O=Two\\, Inc, c=DE']}}]\n";
    const LEARNED: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn shows(bench: &mut Bench, issuer: &str) -> Vec<Finding> {
        let mut leaf = certificate("mcp.example", issuer);
        leaf.issuer_rdns = rdns(issuer).into_iter().map(Into::into).collect();
        bench.certificates(Direction::ToClient, &chain(vec![leaf]))
    }

    #[test]
    fn fires_off_the_pin_and_on_another_organisation() {
        let mut bench = Bench::new(IssuerChanged::default(), PINNED);
        let found = shows(&mut bench, "CN=Other CA,O=Example");
        assert_eq!(found[0].observed.as_deref(), Some("CN=Other CA,O=Example"));
        assert_eq!(found[0].expected.len(), 2);
        assert_eq!(shows(&mut bench, "O=Two\\, Inc").len(), 1, "one RDN is missing");
        let mut bench = Bench::new(IssuerChanged::default(), LEARNED);
        assert!(shows(&mut bench, "CN=R1,O=Honest").is_empty());
        let found = shows(&mut bench, "CN=R1,O=Else");
        assert_eq!(found[0].expected, ["O=Honest"]);
        assert!(shows(&mut bench, "CN=R1,O=Else").is_empty(), "once");
    }

    #[test]
    fn stays_silent_on_renewal_by_the_same_issuer() {
        let mut bench = Bench::new(IssuerChanged::default(), PINNED);
        assert!(shows(&mut bench, "CN=Example CA,O=Example,C=DE").is_empty());
        assert!(shows(&mut bench, "cn=example ca").is_empty());
        assert!(shows(&mut bench, "C=DE,O=Two\\, Inc").is_empty());
        let mut bench = Bench::new(IssuerChanged::default(), LEARNED);
        assert!(shows(&mut bench, "CN=R10,O=Honest").is_empty());
        assert!(
            shows(&mut bench, "CN=R11,O=Honest").is_empty(),
            "another intermediate"
        );
        bench.connection.endpoint = None;
        assert!(shows(&mut bench, "CN=R11,O=Else").is_empty(), "no pinned server");
    }
}
