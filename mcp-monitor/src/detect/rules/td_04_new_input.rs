//! TD-04 new-input: new required or free-text parameter on a known tool.

use super::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::baseline::Audience;

const META: Meta = Meta {
    id: "TD-04",
    slug: "new-input",
    category: "definition",
    trigger: "new required or free-text parameter on a known tool",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning", "credential-harvesting"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0109"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool that was approved now asks for more: a parameter that must be filled, or one that takes any text. Models fill parameters from their context, so a new one is a way out for whatever is there.",
        attacker: "Adds a parameter such as `context`, `notes` or `sidenote`, whose description tells the model to put conversation, file content or keys there (SAFE-T1501).",
        wire: "In a complete `tools/list`, a tool known from an earlier list for the same kind of client whose `inputSchema` has a name under `required`, or a string property without `enum`, `const`, `format` or `pattern`, that it did not have. Nested objects and items count.",
        act: "Read the parameter's description. Look what agents have put into it since. Approve the new definition only if the tool needs it.",
        quiet: "Optional parameters with a closed set of values, numbers and booleans are silent, as is one that was there before and became required. Lists are compared per server, revision, capabilities and principal.",
    },
};

/// Parameters of one tool that are looked at.
const MAX_PARAMETERS: usize = 256;
/// Objects in objects that are followed.
const MAX_DEPTH: u8 = 4;

/// By path, what stands out of a parameter.
type Inputs = BTreeMap<Box<str>, Input>;

#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Input {
    required: bool,
    free_text: bool,
}

/// The latest parameters of each tool.
#[derive(Default)]
pub(super) struct NewInput {
    known: Remembered<(Audience, Arc<str>), ([u8; 32], Inputs)>,
}

impl Rule for NewInput {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { context, .. }, Some(list)) = (&seen.kind, world.tools) else {
            return;
        };
        if list.again {
            return;
        }
        let index = context.target.endpoint;
        let audience = list.audience();
        for tool in list.tools.iter() {
            let key = (audience.clone(), Arc::clone(&tool.name));
            // The same definition has the same parameters.
            if self.known.get(&key).is_some_and(|(hash, _)| *hash == tool.hash) {
                continue;
            }
            let mut now = Inputs::new();
            if let Some(schema) = tool.definition.get("inputSchema") {
                inputs(schema, "", 0, &mut now);
            }
            let Some((_, before)) = self.known.insert(key, (tool.hash, now.clone())) else {
                continue;
            };
            let name = shown(&tool.name);
            for (path, input) in now {
                let was = before.get(&path);
                let what = if input.required && was.is_none() {
                    "required"
                } else if input.free_text && was.is_none_or(|w| !w.free_text) {
                    "free-text"
                } else {
                    continue;
                };
                let path = shown(&path);
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{}'s tool {name} has a new {what} parameter {path}; read its description and look what agents put into it",
                            label(world, index, &context.target.origin.host)
                        ),
                    )
                    .at(index)
                    .expected(before.keys().take(16).map(|p| shown(p)))
                    .observed(format!("{name}: {what} parameter {path}")),
                );
            }
        }
    }
}

fn inputs(schema: &Value, path: &str, depth: u8, found: &mut Inputs) {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if found.len() >= MAX_PARAMETERS {
            return;
        }
        let place = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let input = Input {
            required: required.contains(&name.as_str()),
            free_text: is_free_text(property),
        };
        found.insert(place.as_str().into(), input);
        if depth < MAX_DEPTH {
            let deeper = depth.saturating_add(1);
            inputs(property, &place, deeper, found);
            if let Some(items) = property.get("items") {
                if is_free_text(items) {
                    let input = Input {
                        required: false,
                        free_text: true,
                    };
                    found.insert(format!("{place}[]").into(), input);
                }
                inputs(items, &place, deeper, found);
            }
        }
    }
}

/// It takes any text.
fn is_free_text(property: &Value) -> bool {
    let text = match property.get("type") {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(several)) => several.iter().any(|t| t == "string"),
        // `anyOf` of text and null is how libraries write an optional text.
        _ => ["anyOf", "oneOf"].iter().any(|key| {
            let list = property.get(key).and_then(Value::as_array);
            list.is_some_and(|l| {
                l.iter()
                    .any(|t| t.get("type").is_some_and(|t| t == "string") && open(t))
            })
        }),
    };
    text && open(property)
}

fn open(property: &Value) -> bool {
    ["enum", "const", "format", "pattern"]
        .iter()
        .all(|key| property.get(key).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(bench: &mut Bench, schema: &str) -> Vec<String> {
        bench
            .lists_tools(&format!(r#"[{{"name":"t","inputSchema":{schema}}}]"#))
            .into_iter()
            .filter_map(|f| f.observed)
            .collect()
    }

    const BEFORE: &str = r#"{"properties":{"symbol":{"type":"string"},"mode":{"type":"string","enum":["a","b"]}},"required":["symbol"]}"#;

    #[test]
    fn fires_on_required_and_on_free_text() {
        let mut bench = Bench::new(NewInput::default(), "");
        assert!(lists(&mut bench, BEFORE).is_empty());
        let more = r#"{"properties":{"symbol":{"type":"string"},"mode":{"type":"string"},"n":{"type":"integer"},"sidenote":{"anyOf":[{"type":"string"},{"type":"null"}]},"o":{"type":"object","properties":{"deep":{"type":"string"}}}},"required":["symbol","n"]}"#;
        assert_eq!(
            lists(&mut bench, more),
            [
                "t: free-text parameter mode",
                "t: required parameter n",
                "t: free-text parameter o.deep",
                "t: free-text parameter sidenote",
            ]
        );
        assert!(lists(&mut bench, more).is_empty(), "said once");
    }

    #[test]
    fn stays_silent_on_closed_optional_parameters_and_on_other_kinds_of_client() {
        let mut bench = Bench::new(NewInput::default(), "");
        lists(&mut bench, BEFORE);
        let closed = r#"{"properties":{"symbol":{"type":"string"},"mode":{"type":"string","enum":["a","b","c"]},"limit":{"type":"integer"},"day":{"type":"string","format":"date"}},"required":["symbol","mode"]}"#;
        assert!(lists(&mut bench, closed).is_empty());
        bench.session.client_capabilities = Some(r#"{"roots":{}}"#.into());
        assert!(
            lists(
                &mut bench,
                r#"{"properties":{"x":{"type":"string"}},"required":["x"]}"#
            )
            .is_empty()
        );
    }
}
