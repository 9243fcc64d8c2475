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
    planned(
        "PV-01",
        "ambiguous-json",
        "protocol",
        Severity::High,
        Sight::Plaintext,
        "-",
        "duplicate keys, keys equal but for case or Unicode folding",
    ),
    planned(
        "PV-02",
        "header-body-mismatch",
        "protocol",
        Severity::High,
        Sight::Plaintext,
        "-",
        "`Mcp-Method`, `Mcp-Name` or `Mcp-Param-*` differ from the body",
    ),
    planned(
        "PV-03",
        "unsolicited-response",
        "protocol",
        Severity::High,
        Sight::Plaintext,
        "-",
        "response to an id never asked, asked twice, or another client's",
    ),
    planned(
        "PV-04",
        "era-violation",
        "protocol",
        Severity::Medium,
        Sight::Plaintext,
        "-",
        "server request on a modern stream; batch where not allowed; method of another revision",
    ),
    planned(
        "PV-05",
        "foreign-origin-accepted",
        "protocol",
        Severity::High,
        Sight::Plaintext,
        "-",
        "foreign Origin or Host answered other than 403",
    ),
    planned(
        "PV-06",
        "exposed-listener",
        "protocol",
        Severity::High,
        Sight::Handshake,
        "-",
        "MCP listener bound to all addresses (live only)",
    ),
    planned(
        "PV-07",
        "parser-attack",
        "protocol",
        Severity::Medium,
        Sight::Plaintext,
        "-",
        "CL/TE ambiguity, obs-fold, depth bomb, oversize, inflate bomb, invalid UTF-8",
    ),
    planned(
        "DP-01",
        "schema-violation",
        "poisoning",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "structuredContent violates the tool's outputSchema",
    ),
    planned(
        "DP-02",
        "injected-result",
        "poisoning",
        Severity::High,
        Sight::Plaintext,
        "-",
        "hidden Unicode or commanding phrasing in results",
    ),
    planned(
        "DP-03",
        "divergent-results",
        "poisoning",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "same arguments, results that differ between servers or replicas",
    ),
    planned(
        "DP-04",
        "stale-data",
        "poisoning",
        Severity::Medium,
        Sight::Plaintext,
        "policy",
        "timestamps in results stale or repeated beyond policy",
    ),
    planned(
        "DP-05",
        "verdict-shift",
        "poisoning",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "a tool's categorical verdicts became constant, or a number's distribution shifted (sequential test, stated false-alarm rate)",
    ),
    planned(
        "DP-06",
        "new-contact",
        "poisoning",
        Severity::Medium,
        Sight::Plaintext,
        "base",
        "new URL, mail address or copy recipient in arguments of a known tool",
    ),
    planned(
        "OP-01",
        "concentration",
        "operations",
        Severity::Low,
        Sight::Handshake,
        "policy",
        "one server carries more than a set share of the fleet's calls",
    ),
    planned(
        "OP-02",
        "availability-shift",
        "operations",
        Severity::Low,
        Sight::Handshake,
        "base",
        "latency, error rate or availability left its baseline",
    ),
    planned(
        "OP-03",
        "threat-feed",
        "operations",
        Severity::High,
        Sight::Handshake,
        "policy",
        "address, name, JA4 or certificate in a loaded feed (file, STIX or plain list)",
    ),
    planned(
        "OP-04",
        "proxy-bypass",
        "operations",
        Severity::High,
        Sight::Handshake,
        "pin",
        "MCP that does not go through the mandated gateway",
    ),
    planned(
        "OP-05",
        "vulnerable-version",
        "operations",
        Severity::Medium,
        Sight::Plaintext,
        "policy",
        "serverInfo or User-Agent matches a loaded advisory",
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
