//! CR-09 secret-parameter-header: `x-mcp-header` on a parameter named like a secret.

use super::cr_08_elicited_secret::means_secret;
use super::prelude::*;
use std::sync::Arc;

const META: Meta = Meta {
    id: "CR-09",
    slug: "secret-parameter-header",
    category: "credential",
    trigger: "`x-mcp-header` on a parameter named like a secret",
    silent_on: "",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &["MCP01"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool has one of its parameters copied into an HTTP header, and that parameter is a secret: it will stand in the logs of every proxy on the way.",
        attacker: "Declares `x-mcp-header` on a parameter that carries a key, in order to read it at a place that sees headers only.",
        wire: "In a `tools/list` result, a property of an `inputSchema` that has `x-mcp-header` and a name that means a secret.",
        act: "Do not use the tool with real secrets. Ask the owner to take the header off.",
        quiet: "Words such as `max_tokens` are silent.",
    },
};

/// What was found in each definition, by its hash: most were seen before.
#[derive(Default)]
pub(super) struct SecretParameterHeader {
    known: Bounded<[u8; 32], Arc<[String]>>,
}

impl Rule for SecretParameterHeader {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { context, .. }, Some(list)) = (&seen.kind, world.tools) else {
            return;
        };
        let index = context.target.endpoint;
        for tool in list.tools.iter() {
            let found = match self.known.peek(&tool.hash) {
                Some(found) => Arc::clone(found),
                None => {
                    let found = secret_parameters(&tool.definition);
                    self.known.insert(tool.hash, Arc::clone(&found));
                    found
                }
            };
            for name in found.iter() {
                let place = format!("{}.{}", shown(&tool.name), shown(name));
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{} has the secret parameter {place} copied into an HTTP header; do not use the tool with real secrets",
                            label(world, index, &context.target.origin.host)
                        ),
                    )
                    .at(index)
                    .observed(place),
                );
            }
        }
    }
}

/// Parameters that mean a secret and are copied into a header.
fn secret_parameters(definition: &serde_json::Value) -> Arc<[String]> {
    let properties = definition
        .get("inputSchema")
        .and_then(|s| s.get("properties"))
        .and_then(|p| p.as_object());
    properties
        .into_iter()
        .flatten()
        .filter(|(name, schema)| schema.get("x-mcp-header").is_some() && means_secret(name))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(name: &str, header: &str) -> usize {
        let tools = format!(
            r#"[{{"name":"t","inputSchema":{{"properties":{{"{name}":{{"type":"string"{header}}}}}}}}}]"#
        );
        Bench::new(SecretParameterHeader::default(), "")
            .lists_tools(&tools)
            .len()
    }

    #[test]
    fn fires_on_a_secret_parameter_with_a_header() {
        assert_eq!(lists("api_key", r#","x-mcp-header":"Key""#), 1);
    }

    #[test]
    fn stays_silent_without_the_header_and_on_ordinary_parameters() {
        assert_eq!(lists("api_key", ""), 0);
        assert_eq!(lists("region", r#","x-mcp-header":"Region""#), 0);
        assert_eq!(lists("max_tokens", r#","x-mcp-header":"Max""#), 0);
    }
}
