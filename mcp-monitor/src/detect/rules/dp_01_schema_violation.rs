//! DP-01 schema-violation: structuredContent violates the tool's outputSchema.

use super::prelude::*;
use std::sync::Arc;

use serde_json::Value;

use super::{
    calls::tool_of_result,
    schema::{Invalid, Validator},
};
use crate::mcp::context::ServerKey;

const META: Meta = Meta {
    id: "DP-01",
    slug: "schema-violation",
    category: "poisoning",
    trigger: "structuredContent violates the tool's outputSchema",
    silent_on: "nullable fields",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["data-poisoning"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0099"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool's result is not what the tool's own definition promises: a field is missing, of another type, outside its range, or one that the schema does not allow. Agents that trust the schema act on data that was never checked.",
        attacker: "Changes results on the path or in the server's backend without knowing its contract, or slips an extra field (a text for the model) into data that a program reads.",
        wire: "`\"structuredContent\":{\"price\":\"7\"}` in the result of a tool whose `outputSchema` says `\"price\":{\"type\":\"number\"}`.",
        act: "Compare the same call on another replica or from another network. If only one path shows it, somebody changes results there; if all do, ask the owner about a release that changed the tool without its schema.",
        quiet: "Fields that may be null, numbers such as `2.0` for an integer, errors of the tool and results without structured content are silent. Remote references and formats are not checked. A server whose schema is wrong: suppress the rule on the endpoint until it is repaired.",
    },
};

/// Largest structured content that is validated, bytes.
const MAX_CONTENT: usize = 1 << 20;
/// Schemas remembered.
const MAX_SCHEMAS: usize = 4096;

/// Output schemas of the tools that were listed.
pub(super) struct SchemaViolation {
    schemas: Bounded<(ServerKey, Arc<str>), Arc<Value>>,
    validator: Validator,
}

impl Default for SchemaViolation {
    fn default() -> Self {
        Self {
            schemas: Bounded::new(MAX_SCHEMAS),
            validator: Validator::default(),
        }
    }
}

impl Rule for SchemaViolation {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if let Some(list) = world.tools {
            for tool in list.tools.iter() {
                if !tool.output_schema && self.schemas.is_empty() {
                    continue;
                }
                let key = (list.server.clone(), Arc::clone(&tool.name));
                if tool.output_schema {
                    self.schemas.insert(key, Arc::clone(&tool.definition));
                } else {
                    self.schemas.remove(&key);
                }
            }
            return;
        }
        let Some(tool) = tool_of_result(message, context) else {
            return;
        };
        let key = (context.session.server.clone(), Arc::clone(tool));
        let Some(definition) = self.schemas.get_mut(&key) else {
            return;
        };
        let Some(schema) = definition.get("outputSchema") else {
            return;
        };
        let Some(content) = world.facts.structured(message).filter(|c| c.len() <= MAX_CONTENT) else {
            return;
        };
        if world.facts.failed(message) {
            return;
        }
        let Ok(instance) = serde_json::from_slice::<Value>(content) else {
            return;
        };
        if let Err(Invalid::Violation(what)) = self.validator.check(schema, &instance) {
            let index = context.target.endpoint;
            let (tool, what) = (shown(tool), shown(&what));
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} answered {} a result of {tool} that breaks its own schema ({what}); compare the call on another path, then ask the owner",
                        label(world, index, &context.target.origin.host),
                        agent(seen)
                    ),
                )
                .at(index)
                .expected([format!("the outputSchema of {tool}")])
                .observed(what),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOLS: &str = r#"[{"name":"quote","outputSchema":{"type":"object","properties":{"price":{"type":"number"},"note":{"type":["string","null"]}},"required":["price"]}},{"name":"free"}]"#;

    fn answers(result: &str) -> Vec<Finding> {
        let mut bench = Bench::new(SchemaViolation::default(), "");
        bench.lists_tools(TOOLS);
        bench.calls("quote", "{}", result)
    }

    #[test]
    fn fires_on_what_the_schema_forbids() {
        let found = answers(r#"{"content":[],"structuredContent":{"price":"7"}}"#);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("price: string instead of number")
        );
        assert_eq!(found[0].expected, ["the outputSchema of quote"]);
        assert_eq!(answers(r#"{"structuredContent":{}}"#).len(), 1);
    }

    #[test]
    fn stays_silent_on_nullable_fields_errors_and_tools_without_a_schema() {
        assert!(answers(r#"{"structuredContent":{"price":7,"note":null}}"#).is_empty());
        assert!(answers(r#"{"structuredContent":{"price":7,"more":1}}"#).is_empty());
        assert!(answers(r#"{"isError":true,"structuredContent":{}}"#).is_empty());
        assert!(answers(r#"{"content":[]}"#).is_empty());
        let mut bench = Bench::new(SchemaViolation::default(), "");
        bench.lists_tools(TOOLS);
        assert!(
            bench
                .calls("free", "{}", r#"{"structuredContent":{"price":"7"}}"#)
                .is_empty()
        );
        assert!(
            bench
                .calls("never-listed", "{}", r#"{"structuredContent":1}"#)
                .is_empty()
        );
    }
}
