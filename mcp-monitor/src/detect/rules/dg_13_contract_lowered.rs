//! DG-13 contract-lowered: supportedVersions or an outputSchema lost.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::mcp::{answers, result};
use crate::{
    baseline::Audience,
    mcp::{Revision, context::ServerKey},
};

const META: Meta = Meta {
    id: "DG-13",
    slug: "contract-lowered",
    category: "downgrade",
    trigger: "supportedVersions or an outputSchema lost",
    silent_on: "era difference of one server",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning", "protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server promises less than it did: it no longer offers a newer protocol revision, or a tool no longer says what its results look like, so that nothing can be checked against it.",
        attacker: "Takes the schema away before changing what a tool returns (clients validate `structuredContent` only where there is an `outputSchema`), or the newer revision, so that clients fall back to one with fewer checks.",
        wire: "`supportedVersions` of `server/discover` without a revision that was there before and is newer than one that is left; or a tool whose definition had an `outputSchema` in an earlier list for the same kind of client.",
        act: "Ask the owner for the change. Look at the tool's next results (DP-01 has nothing to check any more) and at DG-06.",
        quiet: "Compared per server and revision, and lists also per capabilities and principal. Dropping the oldest revisions is silent.",
    },
};

type Versions = Remembered<(ServerKey, Option<Arc<str>>), BTreeSet<Revision>>;
type Schemas = Remembered<Audience, BTreeSet<Arc<str>>>;

/// Revisions of each server and era, and the tools that had an output schema.
#[derive(Default)]
pub(super) struct ContractLowered {
    /// Revisions by server and era; tools with a schema by audience.
    promised: Together<Versions, Schemas>,
}

/// Revisions that are looked at.
const MAX_VERSIONS: usize = 32;

impl Rule for ContractLowered {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.promised)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let index = context.target.endpoint;
        let discovers = answers(context, "server/discover");
        if !discovers && world.tools.is_none_or(|list| list.again) {
            return;
        }
        let name = label(world, index, &context.target.origin.host);
        if discovers {
            let Some(result) = result(message) else { return };
            let Some(list) = result.get("supportedVersions").and_then(Value::as_array) else {
                return;
            };
            let now: BTreeSet<Revision> = list
                .iter()
                .filter_map(|v| Revision::parse(v.as_str()?))
                .take(MAX_VERSIONS)
                .collect();
            let era = context.session.negotiated.as_ref().map(|r| Arc::clone(&r.0));
            let key = (context.session.server.clone(), era);
            let before = self.promised.0.insert(key, now.clone());
            let lost: Vec<&str> = before
                .iter()
                .flatten()
                .filter(|v| !now.contains(*v) && now.first().is_none_or(|oldest| *v > oldest))
                .map(Revision::as_str)
                .collect();
            if lost.is_empty() {
                return;
            }
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{name} no longer offers MCP {}; ask the owner, and look whether its clients fall back",
                        lost.join(", ")
                    ),
                )
                .at(index)
                .expected(before.iter().flatten().map(|v| v.as_str().to_owned()))
                .observed(now.iter().map(Revision::as_str).collect::<Vec<_>>().join(" ")),
            );
            return;
        }
        let Some(list) = world.tools else { return };
        let with = |has: bool| {
            list.tools
                .iter()
                .filter(move |t| t.definition.get("outputSchema").is_some_and(Value::is_object) == has)
                .map(|t| Arc::clone(&t.name))
        };
        let schemas = &mut self.promised.1;
        let Some(mut before) = schemas.get(&list.audience()).cloned() else {
            schemas.insert(list.audience(), with(true).collect());
            return;
        };
        for tool in with(false) {
            if !before.remove(&tool) {
                continue;
            }
            let tool = shown(&tool);
            out.push(
                Finding::new(
                    META.id,
                    format!("{name}'s tool {tool} no longer has an outputSchema; ask the owner and look at what it returns now"),
                )
                .at(index)
                .expected([format!("{tool} with outputSchema")])
                .observed(format!("{tool} without outputSchema")),
            );
        }
        before.extend(with(true));
        schemas.insert(list.audience(), before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(bench: &mut Bench, versions: &str) -> usize {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"supportedVersions":{versions}}}}}"#);
        bench.answers(&json, Some("server/discover")).len()
    }

    const WITH: &str = r#"[{"name":"t","outputSchema":{"type":"object"}}]"#;

    #[test]
    fn fires_on_a_lost_revision_and_a_lost_schema() {
        let mut bench = Bench::new(ContractLowered::default(), "");
        assert_eq!(offers(&mut bench, r#"["2026-07-28","2025-11-25"]"#), 0);
        assert_eq!(offers(&mut bench, r#"["2025-11-25"]"#), 1);
        assert!(bench.lists_tools(WITH).is_empty());
        assert_eq!(
            bench.lists_tools(r#"[{"name":"t"}]"#)[0].expected,
            ["t with outputSchema"]
        );
        assert!(bench.lists_tools(r#"[{"name":"t"}]"#).is_empty(), "said once");
    }

    #[test]
    fn stays_silent_on_another_era_and_on_dropping_the_oldest() {
        let mut bench = Bench::new(ContractLowered::default(), "");
        offers(&mut bench, r#"["2026-07-28","2025-11-25","2024-11-05"]"#);
        assert_eq!(offers(&mut bench, r#"["2026-07-28","2025-11-25"]"#), 0);
        bench.lists_tools(WITH);
        bench.session.negotiated = Revision::parse("2025-03-26");
        assert_eq!(offers(&mut bench, r#"["2025-03-26"]"#), 0);
        assert!(bench.lists_tools(r#"[{"name":"t"}]"#).is_empty());
    }
}
