//! DG-09 version-header: `MCP-Protocol-Version` missing where required, or differs from what was negotiated.

use super::mcp::version_header;
use super::prelude::*;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::mcp::{MessageKind, Revision, TransportKind, json};

const META: Meta = Meta {
    id: "DG-09",
    slug: "version-header",
    category: "downgrade",
    trigger: "`MCP-Protocol-Version` missing where required, or differs from what was negotiated",
    silent_on: "`initialize` itself",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["protocol-manipulation"],
        owasp_mcp: &[],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A request lacks the `MCP-Protocol-Version` header that its revision requires, or names another revision than was negotiated. The server may then treat it by the rules of an older one.",
        attacker: "Removes or rewrites the header on the path, or runs a client that steers the server to older behaviour.",
        wire: "From 2025-06-18 on, a POST after `initialize` without the header or with another value; from 2026-07-28 on, any POST whose header differs from `_meta`.",
        act: "Check whether the client sends it (its SDK version) or something on the path removes it: compare both ends.",
        quiet: "`initialize` itself needs none, nor does the HTTP+SSE transport, whose SDKs do not all send it. Update clients that forget it.",
    },
};

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
static VERSION: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(META_VERSION));

/// Nothing to remember.
#[derive(Default)]
pub(super) struct VersionHeader;

impl Rule for VersionHeader {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let from_client =
            context.response.is_none() && message.direction == crate::types::Direction::ToServer;
        if !from_client || context.request.is_none() || message.is("initialize") {
            return;
        }
        if context.session.transport != Some(TransportKind::StreamableHttp) {
            return;
        }
        if context.request.is_some_and(|request| request.partial) {
            return;
        }
        let header = version_header(context);
        let stated = match message.kind {
            // Looking into the body costs; only a modern request has it there.
            MessageKind::Request | MessageKind::Notification if VERSION.find(&message.body).is_some() => {
                message
                    .params()
                    .and_then(|p| Some(json::path_str(p, &["_meta", META_VERSION])?.into_owned()))
            }
            _ => None,
        };
        let required = match (&stated, &context.session.negotiated) {
            (Some(stated), _) => stated.clone(),
            (None, Some(negotiated)) => negotiated.as_str().to_owned(),
            (None, None) => return,
        };
        match header {
            Some(header) if header == required => return,
            None if required.as_str() < Revision::V2025_06_18 => return,
            _ => {}
        }
        let index = context.target.endpoint;
        let observed = header.map_or_else(|| "no MCP-Protocol-Version header".to_owned(), shown);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} sent {} a request with {observed} where {} is in force; check the client's SDK, then what on the path changes headers",
                    agent(seen),
                    label(world, index, &context.target.origin.host),
                    shown(&required)
                ),
            )
            .at(index)
            .expected([shown(&required)])
            .observed(observed),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
    const MODERN: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    fn sends(
        version: Option<&str>,
        negotiated: Option<&str>,
        json: &str,
        transport: TransportKind,
    ) -> Vec<Finding> {
        let mut bench = Bench::new(VersionHeader, "");
        bench.session.negotiated = negotiated.and_then(Revision::parse);
        bench.session.transport = Some(transport);
        let list: Vec<_> = version.map(|v| ("mcp-protocol-version", v)).into_iter().collect();
        bench.head = request("POST", "/mcp", &list);
        bench.says(json)
    }

    const HTTP: TransportKind = TransportKind::StreamableHttp;

    #[test]
    fn fires_where_it_is_missing_or_differs() {
        assert_eq!(sends(None, Some("2025-06-18"), LIST, HTTP).len(), 1);
        let found = sends(Some("2024-11-05"), Some("2025-11-25"), LIST, HTTP);
        assert_eq!(
            (found[0].expected[0].as_str(), found[0].observed.as_deref()),
            ("2025-11-25", Some("2024-11-05"))
        );
        assert_eq!(sends(None, None, MODERN, HTTP).len(), 1);
        assert_eq!(sends(Some("2025-11-25"), None, MODERN, HTTP).len(), 1);
    }

    #[test]
    fn stays_silent_on_initialize_on_older_revisions_and_on_http_sse() {
        let init = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
        assert!(sends(None, Some("2025-11-25"), init, HTTP).is_empty());
        assert!(sends(None, Some("2025-03-26"), LIST, HTTP).is_empty());
        assert!(sends(None, None, LIST, HTTP).is_empty());
        assert!(sends(Some("2025-11-25"), Some("2025-11-25"), LIST, HTTP).is_empty());
        assert!(sends(Some("2026-07-28"), None, MODERN, HTTP).is_empty());
        assert!(sends(None, Some("2025-11-25"), LIST, TransportKind::HttpSse).is_empty());
    }
}
