//! All detections: those that are implemented, and those whose ids and slugs are taken.

use std::sync::LazyLock;

use super::{
    Severity,
    rule::{Meta, Sight},
    rules,
};
use crate::config::pins::all_rule_ids;

/// One line of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Id.
    pub id: &'static str,
    /// Slug.
    pub slug: &'static str,
    /// Category.
    pub category: &'static str,
    /// Default severity.
    pub severity: Severity,
    /// What it needs to see.
    pub sight: Sight,
    /// What it needs to know.
    pub needs: &'static str,
    /// When it fires.
    pub trigger: &'static str,
    /// This build has it.
    pub implemented: bool,
}

static METAS: LazyLock<Vec<&'static Meta>> =
    LazyLock::new(|| rules::all().iter().map(|rule| rule.meta()).collect());

/// The implemented rule of this id.
pub fn meta(id: &str) -> Option<&'static Meta> {
    METAS.iter().copied().find(|meta| meta.id == id)
}

/// The whole catalogue, in its order.
pub fn entries() -> Vec<Entry> {
    all_rule_ids()
        .filter_map(|id| match meta(&id) {
            Some(m) => Some(Entry {
                id: m.id,
                slug: m.slug,
                category: m.category,
                severity: m.severity,
                sight: m.sight,
                needs: m.needs,
                trigger: m.trigger,
                implemented: true,
            }),
            None => PLANNED.iter().copied().find(|e| e.id == id),
        })
        .collect()
}

const fn planned(
    id: &'static str,
    slug: &'static str,
    category: &'static str,
    severity: Severity,
    sight: Sight,
    needs: &'static str,
    trigger: &'static str,
) -> Entry {
    Entry {
        id,
        slug,
        category,
        severity,
        sight,
        needs,
        trigger,
        implemented: false,
    }
}

/// Ids that this build does not detect.
const PLANNED: &[Entry] = &[
    planned(
        "DST-03",
        "connect-without-dns",
        "destination",
        Severity::Medium,
        Sight::Handshake,
        "base",
        "agent connects to a pinned server's port at an address no DNS answer gave",
    ),
    planned(
        "DST-04",
        "sni-host-mismatch",
        "destination",
        Severity::High,
        Sight::BehindTls,
        "-",
        "SNI and Host / :authority name different hosts",
    ),
    planned(
        "DST-07",
        "server-egress",
        "destination",
        Severity::High,
        Sight::Handshake,
        "base",
        "a process that serves MCP (in replay: the host) opens a connection it is not known for",
    ),
    planned(
        "DST-08",
        "origin-network-changed",
        "destination",
        Severity::Medium,
        Sight::Handshake,
        "base",
        "ASN or country of the address changed (offline table)",
    ),
    planned(
        "DNS-05",
        "short-ttl-flip",
        "dns",
        Severity::Medium,
        Sight::Handshake,
        "base",
        "TTL far below baseline together with a changed answer",
    ),
    planned(
        "DNS-08",
        "delegation-changed",
        "dns",
        Severity::High,
        Sight::Handshake,
        "base",
        "NS/SOA of a pinned zone changed; NXDOMAIN, then alive again",
    ),
    planned(
        "DNS-09",
        "svcb-lost",
        "dns",
        Severity::Medium,
        Sight::Handshake,
        "base",
        "HTTPS/SVCB record lost alpn or ech it had",
    ),
    planned(
        "DNS-10",
        "look-alike-name",
        "dns",
        Severity::High,
        Sight::Handshake,
        "pin",
        "query for a confusable of a pinned name (edit distance, homoglyph, punycode)",
    ),
    planned(
        "DNS-11",
        "dns-tunnel",
        "dns",
        Severity::High,
        Sight::Handshake,
        "base",
        "bursts of high-entropy labels under one zone from an agent",
    ),
    planned(
        "RED-04",
        "alternative-service",
        "redirection",
        Severity::Medium,
        Sight::Either,
        "pin",
        "`Alt-Svc`, HTTP/2 ALTSVC or SVCB target off the pin",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_there_once() {
        let entries = entries();
        assert_eq!(entries.len(), 110);
        for entry in PLANNED {
            assert!(
                meta(entry.id).is_none(),
                "{} is planned and implemented",
                entry.id
            );
        }
        let mut slugs: Vec<_> = entries.iter().map(|e| e.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), 110);
    }
}
