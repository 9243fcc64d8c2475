//! PV-02 header-body-mismatch: `Mcp-Method`, `Mcp-Name` or `Mcp-Param-*` differ from the body.

use super::prelude::*;
use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    baseline::{KnownLists, ToolList},
    mcp::{MessageKind, context::ServerKey, json},
    types::Direction as Way,
};

const META: Meta = Meta {
    id: "PV-02",
    slug: "header-body-mismatch",
    category: "protocol",
    trigger: "`Mcp-Method`, `Mcp-Name` or `Mcp-Param-*` differ from the body",
    silent_on: "the base64 form",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &["MCP05"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "The headers of a request say another method, tool or parameter than its body. Gateways route and allow by the headers, servers act on the body.",
        attacker: "Gets a forbidden call past a gateway that looks at headers only: `Mcp-Name: get_quote` over a body that calls `transfer`. Or rewrites one of the two on the path.",
        wire: "`Mcp-Method: tools/list` (or `Mcp-Name`, or `Mcp-Param-Region`) on a POST whose body says `\"method\":\"tools/call\"`. A server of 2026-07-28 must refuse it with 400 and error -32020.",
        act: "Look at the answer: anything but 400 means that the server took it, and that its checks can be passed. Then find out whether the agent sent it so, or a proxy between rewrote it.",
        quiet: "Values in the `=?base64?…?=` form are decoded first. Numbers are compared as they are written in the body.",
    },
};

/// Header suffixes (lower case) and the parameters they copy.
type Copied = Arc<[(String, String)]>;
/// Tools of a list that copy parameters.
type Copying = Arc<[(Arc<str>, Copied)]>;

/// Which parameters the tools of each server copy into headers.
#[derive(Default)]
pub(super) struct HeaderBodyMismatch {
    copied: Bounded<(ServerKey, Arc<str>), Copied>,
    lists: KnownLists<Copying>,
}

/// Most headers of one kind compared.
const MAX_HEADERS: usize = 32;

impl Rule for HeaderBodyMismatch {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if let Some(list) = world.tools {
            for (tool, copied) in self.lists.get(list, || copying(list)).iter() {
                let key = (list.server.clone(), Arc::clone(tool));
                self.copied.insert(key, Arc::clone(copied));
            }
        }
        let asks = matches!(message.kind, MessageKind::Request | MessageKind::Notification);
        let (Some(head), Some(method), true) = (context.request, &message.method, asks) else {
            return;
        };
        if message.direction != Way::ToServer || message.batch {
            return;
        }
        let index = context.target.endpoint;
        let mut say = |header: &str, expected: String, observed: String| {
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sent {} a request whose {header} header is not what its body says; see whether the server refused it (400), and who rewrote it",
                        agent(seen),
                        label(world, index, &context.target.origin.host)
                    ),
                )
                .at(index)
                .expected([expected])
                .observed(observed),
            );
        };
        for (header, said) in [("Mcp-Method", Some(method)), ("Mcp-Name", message.name.as_ref())] {
            let Some(said) = said else { continue };
            let lower = header.to_ascii_lowercase();
            for value in head.headers.get_all(&lower).take(MAX_HEADERS) {
                let value = decoded(value);
                if value != **said {
                    say(
                        header,
                        format!("{header}: {}", shown(said)),
                        format!("{header}: {}", shown(&value)),
                    );
                    break;
                }
            }
        }
        let Some(tool) = message.name.as_ref().filter(|_| message.is("tools/call")) else {
            return;
        };
        let key = (context.session.server.clone(), Arc::clone(tool));
        let Some(copied) = self.copied.peek(&key) else {
            return;
        };
        let arguments = message
            .params()
            .and_then(|p| json::path(p, &["arguments"]))
            .and_then(|a| serde_json::from_slice::<Value>(a).ok())
            .unwrap_or_default();
        for (suffix, parameter) in copied.iter().take(MAX_HEADERS) {
            let header = format!("mcp-param-{suffix}");
            let Some(value) = head.headers.get(&header) else {
                continue;
            };
            if arguments.get(parameter).map(plain).as_deref() != Some(&*decoded(value)) {
                // The values may be anything, secrets included.
                say(
                    &format!("Mcp-Param-{suffix}"),
                    format!("the value of arguments.{}", shown(parameter)),
                    format!("another value in Mcp-Param-{}", shown(suffix)),
                );
            }
        }
    }
}

/// The tools of a list that copy parameters.
fn copying(list: &ToolList) -> Copying {
    list.tools
        .iter()
        .map(|tool| (Arc::clone(&tool.name), copied(&tool.definition)))
        .filter(|(_, copied)| !copied.is_empty())
        .collect()
}

/// `x-mcp-header` of the input schema's properties.
fn copied(definition: &Value) -> Copied {
    definition
        .pointer("/inputSchema/properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, schema)| {
            let header = schema.get("x-mcp-header")?.as_str()?;
            Some((header.to_ascii_lowercase(), name.clone()))
        })
        .take(MAX_HEADERS)
        .collect()
}

/// A primitive as a header has it.
fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A header's value, the base64 form resolved.
fn decoded(value: &[u8]) -> Cow<'_, str> {
    let inner = value
        .strip_prefix(b"=?base64?")
        .and_then(|v| v.strip_suffix(b"?="))
        .and_then(|v| STANDARD.decode(v).ok())
        .and_then(|v| String::from_utf8(v).ok());
    inner.map_or_else(|| String::from_utf8_lossy(value), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"größe","arguments":{"region":"eu-1","count":3}}}"#;

    fn says(headers: &[(&str, &str)]) -> Vec<String> {
        let mut bench = Bench::new(HeaderBodyMismatch::default(), "");
        bench.lists_tools(r#"[{"name":"größe","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"count":{"type":"integer","x-mcp-header":"Count"}}}}]"#);
        bench.head = request("POST", "/mcp", headers);
        let found = bench.says(CALL);
        found.into_iter().filter_map(|f| f.observed).collect()
    }

    #[test]
    fn fires_on_each_header_that_differs() {
        assert_eq!(says(&[("Mcp-Method", "tools/list")]), ["Mcp-Method: tools/list"]);
        assert_eq!(says(&[("mcp-name", "other")]), ["Mcp-Name: other"]);
        assert_eq!(
            says(&[("Mcp-Param-Region", "us-1"), ("Mcp-Param-Count", "3")]),
            ["another value in Mcp-Param-region"]
        );
        let twice = [("Mcp-Method", "tools/call"), ("Mcp-Method", "ping")];
        assert_eq!(says(&twice), ["Mcp-Method: ping"]);
    }

    #[test]
    fn stays_silent_on_equal_values_and_on_the_base64_form() {
        let name = format!("=?base64?{}?=", STANDARD.encode("größe"));
        let equal = [
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", &name),
            ("Mcp-Param-Region", "eu-1"),
            ("Mcp-Param-Count", "3"),
            ("Mcp-Param-Unknown", "x"),
        ];
        assert!(says(&equal).is_empty());
        assert!(says(&[]).is_empty());
    }
}
