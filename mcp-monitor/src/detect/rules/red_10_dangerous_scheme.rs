//! RED-10 dangerous-scheme: `javascript:`, `file:`, `data:` or shell metacharacters in a URL that a client will open.

use super::prelude::*;
use serde_json::Value;

use super::red_05_foreign_resource_metadata::parameter;
use crate::{mcp::context::Target, types::Direction as Way};

const META: Meta = Meta {
    id: "RED-10",
    slug: "dangerous-scheme",
    category: "redirection",
    trigger: "`javascript:`, `file:`, `data:` or shell metacharacters in a URL that a client will open",
    silent_on: "",
    severity: Severity::Critical,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP05"],
        atlas: &[],
    },
    listens: &[Kind::Document, Kind::Message, Kind::Response],
    page: Page {
        means: "A server gave a URL that a client will open, and that runs code or reads files when it does.",
        attacker: "Uses clients that hand URLs to the shell or the browser unchecked (CVE-2025-6514: an `authorization_endpoint` ran commands on the user's machine).",
        wire: "In OAuth metadata, a challenge's `resource_metadata` or a URL elicitation: `javascript:`, `file:`, `data:`, `vbscript:`, or characters that a shell acts on.",
        act: "Keep agents off the server; check on machines that connected whether a process was started. Update the client.",
        quiet: "None known: URLs in these places are http or https, and percent-encoded.",
    },
};

/// Nothing to remember.
#[derive(Default)]
pub(super) struct DangerousScheme;

impl Rule for DangerousScheme {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        match &seen.kind {
            SeenKind::Document { document, target, .. } if document.direction == Way::ToClient => {
                let Ok(Value::Object(body)) = serde_json::from_slice(&document.body) else {
                    return;
                };
                for (key, value) in &body {
                    if !(key.ends_with("_endpoint")
                        || key.ends_with("_uri")
                        || key == "issuer"
                        || key == "authorization_servers")
                    {
                        continue;
                    }
                    let urls: Vec<&str> = match value {
                        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
                        other => other.as_str().into_iter().collect(),
                    };
                    for url in urls {
                        say(url, key, target, seen, world, out);
                    }
                }
            }
            SeenKind::Message { message, context } => {
                for asked in world.facts.elicitations(message, context) {
                    if let Some(url) = asked.get("url").and_then(Value::as_str) {
                        say(url, "elicitation url", context.target, seen, world, out);
                    }
                }
            }
            SeenKind::Response { head, target, .. } if head.status == 401 => {
                let url = head.headers.get_all("www-authenticate").find_map(parameter);
                if let Some(url) = url.and_then(|u| std::str::from_utf8(u).ok()) {
                    say(url, "resource_metadata", target, seen, world, out);
                }
            }
            _ => {}
        }
    }
}

fn say(url: &str, place: &str, target: &Target, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
    let Some(what) = danger(url) else { return };
    let place = shown(place);
    out.push(
        Finding::new(
            META.id,
            format!(
                "{} gave {} a URL with {what} in {place}; keep agents off it and check whether a process was started",
                label(world, target.endpoint, &target.origin.host),
                agent(seen)
            ),
        )
        .at(target.endpoint)
        .expected(["an http or https URL"])
        .observed(format!("{what} in {place}")),
    );
}

/// What is dangerous about a URL.
fn danger(url: &str) -> Option<&'static str> {
    // Clients strip white space and control characters before they look at the scheme.
    let scheme: String = url
        .chars()
        .filter(|c| !c.is_control() && !c.is_whitespace())
        .take_while(|c| *c != ':')
        .take(16)
        .collect();
    match scheme.to_ascii_lowercase().as_str() {
        "javascript" => return Some("a javascript: scheme"),
        "vbscript" => return Some("a vbscript: scheme"),
        "file" => return Some("a file: scheme"),
        "data" => return Some("a data: scheme"),
        _ => {}
    }
    let shell = url.contains("$(")
        || url.contains("${")
        || url
            .chars()
            .any(|c| matches!(c, '`' | '|' | '"' | '<' | '>' | '\\' | '^') || c.is_control());
    shell.then_some("shell metacharacters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(url: &str) -> usize {
        let body =
            serde_json::json!({ "issuer": "https://a.example", "authorization_endpoint": url }).to_string();
        Bench::new(DangerousScheme, "")
            .document(Direction::ToClient, "application/json", &body)
            .len()
    }

    #[test]
    fn fires_on_schemes_and_shell_characters() {
        for url in [
            "javascript:alert(1)",
            " JAVA\tscript:x",
            "file:///etc/passwd",
            "data:text/html,x",
            "https://a.example/$(calc)",
            "https://a/`id`",
            "http://a|calc.exe",
        ] {
            assert_eq!(metadata(url), 1, "{url}");
        }
        let elicit = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"url","url":"file:///x"}}"#;
        assert_eq!(Bench::new(DangerousScheme, "").answers(elicit, None).len(), 1);
    }

    #[test]
    fn stays_silent_on_ordinary_urls() {
        for url in [
            "https://a.example/authorize?x=1&y=2;z",
            "http://127.0.0.1:9000/cb",
            "https://a.example/%7Cx",
        ] {
            assert_eq!(metadata(url), 0, "{url}");
        }
    }
}
