//! CP-01 new-capability: server capability or extension not in the baseline of its era.

use super::prelude::*;
use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::mcp::{answers, result};
use crate::mcp::context::ServerKey;

const META: Meta = Meta {
    id: "CP-01",
    slug: "new-capability",
    category: "capability",
    trigger: "server capability or extension not in the baseline of its era",
    silent_on: "era difference",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["privilege-escalation", "update-poisoning"],
        owasp_mcp: &["MCP02"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server announces something that it could not do before: a capability such as `tasks` or `completions`, an experimental feature, or an extension. Agents that support it start to use it without being asked.",
        attacker: "Takes over a server that was approved for its tools, and adds a channel that nobody looked at then.",
        wire: "`capabilities` in the result of `initialize` or `server/discover` with a top-level name, or a name under `extensions` or `experimental`, that this server did not announce before in the same revision to clients of the same capabilities.",
        act: "Ask the owner for the change. Turn the capability off in the client if there is no use for it; look at what came through it since.",
        quiet: "Servers announce different capabilities in different revisions, so each revision has its own baseline. Flags inside a capability (`listChanged`, `subscribe`) and capabilities that disappear are silent. Said once per name.",
    },
};

/// Names of one announcement that are looked at.
const MAX_NAMES: usize = 256;

type Era = (ServerKey, Option<Arc<str>>, Option<Arc<str>>);

/// What each server ever announced, by revision and the client's capabilities.
#[derive(Default)]
pub(super) struct NewCapability {
    known: Remembered<Era, BTreeSet<Box<str>>>,
}

impl Rule for NewCapability {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if !answers(context, "initialize") && !answers(context, "server/discover") {
            return;
        }
        let Some(result) = result(message) else { return };
        let Some(capabilities) = result.get("capabilities") else {
            return;
        };
        let now = names(capabilities);
        let session = context.session;
        let era = session.negotiated.as_ref().map(|r| Arc::clone(&r.0));
        let key = (
            session.server.clone(),
            era.clone(),
            session.client_capabilities.clone(),
        );
        let Some(mut known) = self.known.get(&key).cloned() else {
            self.known.insert(key, now);
            return;
        };
        let index = context.target.endpoint;
        let before: Vec<String> = known.iter().map(|n| shown(n)).collect();
        for new in now {
            if known.len() >= MAX_NAMES || !known.insert(new.clone()) {
                continue;
            }
            let new = shown(&new);
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} now announces {new}, which it did not in MCP {}; ask its owner, and turn it off in the client if there is no use for it",
                        label(world, index, &context.target.origin.host),
                        era.as_deref().map_or_else(|| "before".to_owned(), shown)
                    ),
                )
                .at(index)
                .expected(before.iter().cloned())
                .observed(new),
            );
        }
        self.known.insert(key, known);
    }
}

/// Capabilities, and one level below `extensions` and `experimental`.
fn names(capabilities: &Value) -> BTreeSet<Box<str>> {
    let mut names = BTreeSet::new();
    for (name, value) in capabilities.as_object().into_iter().flatten().take(MAX_NAMES) {
        // How some libraries write that it is not there.
        if value.is_null() || *value == Value::Bool(false) {
            continue;
        }
        if matches!(name.as_str(), "extensions" | "experimental") {
            let inner = value.as_object().into_iter().flatten().take(MAX_NAMES);
            names.extend(inner.map(|(inner, _)| format!("{name}.{inner}").into()));
        } else {
            names.insert(name.as_str().into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Revision;

    fn announces(bench: &mut Bench, capabilities: &str) -> Vec<String> {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"capabilities":{capabilities}}}}}"#);
        let found = bench.answers(&json, Some("initialize"));
        found.into_iter().filter_map(|f| f.observed).collect()
    }

    #[test]
    fn fires_on_a_capability_and_on_an_extension() {
        let mut bench = Bench::new(NewCapability::default(), "");
        assert!(announces(&mut bench, r#"{"tools":{}}"#).is_empty());
        let more =
            r#"{"tools":{"listChanged":true},"tasks":{},"extensions":{"example/ui":{}},"logging":null}"#;
        assert_eq!(announces(&mut bench, more), ["extensions.example/ui", "tasks"]);
        assert!(announces(&mut bench, more).is_empty(), "said once");
    }

    #[test]
    fn stays_silent_on_another_era_and_on_fewer() {
        let mut bench = Bench::new(NewCapability::default(), "");
        announces(&mut bench, r#"{"tools":{},"prompts":{}}"#);
        assert!(announces(&mut bench, r#"{"tools":{}}"#).is_empty());
        bench.session.negotiated = Revision::parse("2026-07-28");
        assert!(announces(&mut bench, r#"{"tools":{},"tasks":{}}"#).is_empty());
    }
}
