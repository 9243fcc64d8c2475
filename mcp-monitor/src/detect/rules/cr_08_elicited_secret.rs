//! CR-08 elicited-secret: form elicitation asks for a password, key or token.

use super::prelude::*;
use super::words::{contains, words};

const META: Meta = Meta {
    id: "CR-08",
    slug: "elicited-secret",
    category: "credential",
    trigger: "form elicitation asks for a password, key or token",
    silent_on: "\"token count\"",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A server asks the user, through a form in the agent, for a password, key or token. The MCP specification forbids that: such forms give the secret to the server and to the model.",
        attacker: "Phishes from inside the agent, where users trust what they see.",
        wire: "`elicitation/create` in form mode (or an entry of `inputRequests`) with a property whose name or title means a secret.",
        act: "Check whether the user answered; if so revoke what they gave. Report the server.",
        quiet: "Words such as `max_tokens`, `token_count` or `primary_key` are silent.",
    },
};

/// Words that mean a secret, compared with the words of a name.
const SECRETS: &[&[&str]] = &[
    &["password"],
    &["passwd"],
    &["passphrase"],
    &["passcode"],
    &["secret"],
    &["api", "key"],
    &["apikey"],
    &["access", "key"],
    &["private", "key"],
    &["access", "token"],
    &["auth", "token"],
    &["bearer", "token"],
    &["refresh", "token"],
    &["api", "token"],
    &["token"],
    &["pin", "code"],
    &["cvv"],
    &["otp"],
    &["mnemonic"],
    &["seed", "phrase"],
    &["credentials"],
];

/// Words that make a token or key something else.
const HARMLESS: &[&str] = &[
    "count", "max", "limit", "number", "num", "budget", "per", "usage", "length", "tokens",
];

/// Nothing to remember.
#[derive(Default)]
pub(super) struct ElicitedSecret;

impl Rule for ElicitedSecret {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let forms = world.facts.elicitations(message, context);
        let index = context.target.endpoint;
        for form in forms {
            let properties = form.get("requestedSchema").and_then(|s| s.get("properties"));
            let Some(properties) = properties.and_then(|p| p.as_object()) else {
                continue;
            };
            for (name, schema) in properties {
                let title = schema.get("title").and_then(|t| t.as_str()).unwrap_or_default();
                let password = schema.get("format").and_then(|f| f.as_str()) == Some("password");
                if !password && !means_secret(name) && !means_secret(title) {
                    continue;
                }
                let name = shown(name);
                out.push(
                    Finding::new(
                        META.id,
                        format!(
                            "{} asks the user of {} for a secret ({name}) in a form; revoke what was given and report the server",
                            label(world, index, &context.target.origin.host),
                            agent(seen)
                        ),
                    )
                    .at(index)
                    .observed(format!("form field {name}")),
                );
            }
        }
    }
}

/// The words of a name (`apiKey`, `api_key`, `API key`) mean a secret.
pub(super) fn means_secret(name: &str) -> bool {
    let words = words(name);
    if words.iter().any(|w| HARMLESS.contains(&w.as_str())) {
        return false;
    }
    SECRETS.iter().any(|secret| contains(&words, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(field: &str, schema: &str) -> usize {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"elicitation/create","params":{{"message":"m","requestedSchema":{{"type":"object","properties":{{"{field}":{schema}}}}}}}}}"#
        );
        Bench::new(ElicitedSecret, "").answers(&json, None).len()
    }

    #[test]
    fn fires_on_fields_that_mean_a_secret() {
        for field in [
            "password",
            "apiKey",
            "github_token",
            "API key",
            "accessToken",
            "client-secret",
        ] {
            assert_eq!(asks(field, r#"{"type":"string"}"#), 1, "{field}");
        }
        assert_eq!(asks("x", r#"{"type":"string","title":"Your Passphrase"}"#), 1);
    }

    #[test]
    fn stays_silent_on_counts_and_ordinary_fields() {
        for field in [
            "token_count",
            "maxTokens",
            "primary_key",
            "name",
            "email",
            "secretary",
            "tokens",
        ] {
            assert_eq!(asks(field, r#"{"type":"string"}"#), 0, "{field}");
        }
    }
}
