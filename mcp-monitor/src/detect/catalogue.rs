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
    planned(
        "RED-07",
        "issuer-mismatch",
        "redirection",
        Severity::High,
        Sight::Plaintext,
        "-",
        "metadata `issuer` differs from its URL, or endpoints leave the issuer",
    ),
    planned(
        "RED-08",
        "issuer-mix-up",
        "redirection",
        Severity::High,
        Sight::Plaintext,
        "base",
        "callback `iss` is not the recorded issuer",
    ),
    planned(
        "RED-09",
        "foreign-elicitation-url",
        "redirection",
        Severity::High,
        Sight::Plaintext,
        "pin",
        "URL elicitation to http, punycode, userinfo or unlisted host",
    ),
    planned(
        "RED-11",
        "new-resource-origin",
        "redirection",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "icon, resource link, `$ref` or UI policy names a new origin",
    ),
    planned(
        "DG-11",
        "pkce-lowered",
        "downgrade",
        Severity::High,
        Sight::Plaintext,
        "-/base",
        "PKCE absent or `plain`, implicit grant, metadata lost S256",
    ),
    planned(
        "DG-12",
        "resource-indicator-missing",
        "downgrade",
        Severity::Medium,
        Sight::Plaintext,
        "-",
        "token or authorisation request without `resource` (2025-06-18 on)",
    ),
    planned(
        "DG-13",
        "contract-lowered",
        "downgrade",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "supportedVersions or an outputSchema lost",
    ),
    planned(
        "CR-11",
        "oauth-secret-off-pin",
        "credential",
        Severity::Critical,
        Sight::Plaintext,
        "pin",
        "refresh token, client secret or code verifier to an unpinned host",
    ),
    planned(
        "CR-13",
        "personal-data",
        "credential",
        Severity::Medium,
        Sight::Plaintext,
        "pin",
        "PAN (Luhn), IBAN (mod 97) or configured class to a server not cleared for it",
    ),
    planned(
        "TD-02",
        "silent-change",
        "definition",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "changed without `list_changed`, or before its ttl",
    ),
    planned(
        "TD-04",
        "new-input",
        "definition",
        Severity::High,
        Sight::Plaintext,
        "base",
        "new required or free-text parameter on a known tool",
    ),
    planned(
        "TD-08",
        "tool-shadowing",
        "definition",
        Severity::High,
        Sight::Plaintext,
        "base",
        "same or confusable name on two servers; description names another server's tool",
    ),
    planned(
        "TD-10",
        "instructions-changed",
        "definition",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "instructions, prompts or resource templates changed",
    ),
    planned(
        "CP-01",
        "new-capability",
        "capability",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "server capability or extension not in the baseline of its era",
    ),
    planned(
        "CP-04",
        "scope-escalation",
        "capability",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "challenge asks for scopes beyond those granted before",
    ),
    planned(
        "CP-05",
        "first-destructive-call",
        "capability",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "first call, by this agent, of a tool annotated `destructiveHint: true` or named as executing (an absent annotation is not one)",
    ),
    planned(
        "CP-06",
        "toxic-flow",
        "capability",
        Severity::High,
        Sight::Plaintext,
        "-",
        "untrusted content read, private data read, then external write, in one session",
    ),
    planned(
        "CP-07",
        "argument-injection",
        "capability",
        Severity::High,
        Sight::Plaintext,
        "-",
        "`../`, shell metacharacters, metadata URL in arguments of tools that do not take code",
    ),
    planned(
        "SS-01",
        "weak-session-id",
        "session",
        Severity::High,
        Sight::Plaintext,
        "-",
        "session ids sequential, pointer-like or of low entropy",
    ),
    planned(
        "SS-05",
        "tracking-identifier",
        "session",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "cookies, or per-client unique ids or URLs in descriptions and icons",
    ),
    planned(
        "SS-06",
        "over-collection",
        "session",
        Severity::Medium,
        Sight::Plaintext,
        "pin",
        "environment, roots, host names, traceparent sent to a third party",
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
