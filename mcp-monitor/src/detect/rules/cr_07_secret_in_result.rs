//! CR-07 secret-in-result: secret in a result, error or log notification.

use super::prelude::*;
use super::{
    mcp::{answers, is_mcp_method},
    secrets::found_in,
};

const META: Meta = Meta {
    id: "CR-07",
    slug: "secret-in-result",
    category: "credential",
    trigger: "secret in a result, error or log notification",
    silent_on: "documentation samples",
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
        means: "A server sent a secret: in a result, an error or a log notification. It now stands in the model's context, from where any other tool can receive it.",
        attacker: "Either none (a careless server that prints its environment), or one who collects: the secret of one server is fed to the model so that the next tool call carries it away.",
        wire: "A known token format in the result of a tool, resource or prompt, in an error, or in `notifications/message`.",
        act: "Revoke the secret at its issuer and have the server's owner find where it comes from. Look for CR-06 after it: it may have travelled on.",
        quiet: "Samples from documentation are ignored. For a secret manager suppress the rule on that endpoint with a reason.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct SecretInResult;

impl Rule for SecretInResult {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.direction != crate::types::Direction::ToClient {
            return;
        }
        // What a server declares of itself is looked at by the rules of definitions.
        let declares = [
            "initialize",
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
        ]
        .iter()
        .any(|m| answers(context, m));
        if declares {
            return;
        }
        let text = match (
            message.result(),
            message.error(),
            message.params(),
            &message.method,
        ) {
            (Some(text), ..) | (_, Some(text), ..) => text,
            (_, _, Some(text), Some(method)) if is_mcp_method(method) => text,
            _ => return,
        };
        let found = found_in(text, world);
        if found.is_empty() {
            return;
        }
        let index = context.target.endpoint;
        let name = label(world, index, &context.target.origin.host);
        let method = message
            .method
            .as_deref()
            .or(context.answers.map(|a| &*a.method))
            .map_or_else(|| "a response".to_owned(), shown);
        let tool = context.answers.and_then(|a| a.name.as_deref()).map(shown);
        let place = tool.map_or(method.clone(), |tool| format!("{method} {tool}"));
        for observed in found {
            out.push(
                Finding::new(
                    META.id,
                    format!("{name} sent {} a secret in {place} ({observed}); revoke it and have the owner find where it comes from", agent(seen)),
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

    fn secret() -> String {
        super::super::super::testing::token()
    }

    #[test]
    fn fires_on_results_errors_and_log_notifications() {
        let mut bench = Bench::new(SecretInResult, "");
        let t = secret();
        for json in [
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{t}"}}]}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"bad key {t}"}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{t}"}}}}"#),
        ] {
            let found = bench.answers(&json, Some("tools/call"));
            assert_eq!(found.len(), 1, "{json}");
            assert!(!format!("{found:?}").contains(&t));
        }
    }

    #[test]
    fn stays_silent_on_samples_on_definitions_and_on_the_client() {
        let mut bench = Bench::new(SecretInResult, "");
        let sample = r#"{"jsonrpc":"2.0","id":1,"result":{"t":"AKIAIOSFODNN7EXAMPLE"}}"#;
        assert!(bench.answers(sample, Some("tools/call")).is_empty());
        let listed = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"t","description":"{}"}}]}}}}"#,
            token()
        );
        assert!(bench.answers(&listed, Some("tools/list")).is_empty());
        assert!(
            bench
                .says(&format!(
                    r#"{{"jsonrpc":"2.0","id":1,"result":{{"t":"{}"}}}}"#,
                    token()
                ))
                .is_empty()
        );
    }
}
