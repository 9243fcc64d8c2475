//! CR-06 secret-in-arguments: secret in tool arguments, prompts or resource URIs.

use super::prelude::*;
use super::{mcp::is_mcp, secrets::found_in};

const META: Meta = Meta {
    id: "CR-06",
    slug: "secret-in-arguments",
    category: "credential",
    trigger: "secret in tool arguments, prompts or resource URIs",
    silent_on: "documentation samples, secret-manager tools listed",
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
        means: "A secret went to an MCP server inside tool arguments, a prompt, a resource URI or an answer to the server's own request.",
        attacker: "Got the model to read a key file or the environment and to pass it on, by a poisoned tool description or result; or simply runs a tool that asks for keys.",
        wire: "A known token format in the parameters of a client's message, or in its answer to sampling or elicitation.",
        act: "Revoke the secret; the alert names kind, length and fingerprint. Find what made the model send it: the tool's description, and the results just before.",
        quiet: "Samples from documentation are ignored. For a secret manager, whose tools take secrets on purpose, suppress the rule on that endpoint with a reason.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct SecretInArguments;

impl Rule for SecretInArguments {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.direction != crate::types::Direction::ToServer {
            return;
        }
        let text = match (message.params(), message.result()) {
            (Some(params), _) if is_mcp(message, context) => params,
            (None, Some(result)) => result,
            _ => return,
        };
        let found = found_in(text, world);
        if found.is_empty() {
            return;
        }
        let index = context.target.endpoint;
        let place = match (&message.method, &message.name) {
            (Some(method), Some(name)) => format!("{} {}", shown(method), shown(name)),
            (Some(method), None) => shown(method),
            (None, _) => "an answer to the server".to_owned(),
        };
        for observed in found {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sent a secret to {} in {place} ({observed}); revoke it and find what made the model send it",
                        agent(seen),
                        label(world, index, &context.target.origin.host)
                    ),
                )
                .at(index)
                .observed(format!("{observed}, in {place}")),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_on_arguments_and_answers() {
        let token = token();
        let mut bench = Bench::new(SecretInArguments, "");
        let found = bench.says(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"note","arguments":{{"text":"key {token}"}}}}}}"#));
        let observed = found[0].observed.as_deref().unwrap();
        assert!(
            observed.starts_with("github-pat, 40 bytes, fingerprint ")
                && observed.ends_with("in tools/call note"),
            "{observed}"
        );
        assert!(!format!("{found:?}").contains(&token));
        assert_eq!(
            bench
                .says(&format!(
                    r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":"{token}"}}}}"#
                ))
                .len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_documentation_samples_and_on_results() {
        let mut bench = Bench::new(SecretInArguments, "");
        assert!(bench.says(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"k":"AKIAIOSFODNN7EXAMPLE"}}}"#).is_empty());
        let token = token();
        let result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"t":"{token}"}}}}"#);
        assert!(bench.answers(&result, Some("tools/call")).is_empty());
    }
}
