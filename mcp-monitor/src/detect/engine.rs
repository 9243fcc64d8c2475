//! Shows each event to the rules that asked for its kind.

use std::sync::Arc;

use super::{
    Finding, Seen, SeenKind, World,
    credentials::Fingerprinter,
    rule::{Kind, Rule},
    rules,
};
use crate::{
    baseline::{Fingerprint, ToolLists},
    config::{origin::OriginTables, pins::Pins},
};

/// All rules and what they share.
///
/// Call [`Detector::see`] for every event in order of capture time.
pub struct Detector {
    pins: Arc<Pins>,
    rules: Vec<Box<dyn Rule>>,
    by_kind: [Vec<usize>; Kind::COUNT],
    lists: ToolLists,
    fingerprints: Fingerprinter,
    origins: Arc<OriginTables>,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Detector {
    /// With every implemented rule.
    pub fn new(pins: Arc<Pins>) -> Self {
        Self::with_rules(pins, rules::all())
    }

    /// With some rules.
    pub fn with_rules(pins: Arc<Pins>, rules: Vec<Box<dyn Rule>>) -> Self {
        let mut by_kind: [Vec<usize>; Kind::COUNT] = Default::default();
        for (i, rule) in rules.iter().enumerate() {
            for kind in rule.meta().listens {
                if let Some(list) = by_kind.get_mut(*kind as usize) {
                    list.push(i);
                }
            }
        }
        Self {
            pins,
            rules,
            by_kind,
            lists: ToolLists::default(),
            fingerprints: Fingerprinter::new(&[0; 32]),
            origins: Arc::default(),
        }
    }

    /// Changes the pins. What rules have learned stays.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        self.pins = pins;
    }

    /// The key of fingerprints in alerts. Until then it is all zeros, so that replays agree.
    pub fn set_fingerprint_key(&mut self, key: &[u8; 32]) {
        self.fingerprints = Fingerprinter::new(key);
    }

    /// Where addresses are announced from. Until then nothing is known of that.
    pub fn set_origins(&mut self, origins: Arc<OriginTables>) {
        self.origins = origins;
    }

    /// Shows one event to the rules; what they find is appended in the order of the catalogue.
    pub fn see(&mut self, seen: &Seen<'_>, out: &mut Vec<Finding>) {
        let (definition, tools) = match &seen.kind {
            SeenKind::Message { message, context } => {
                let fingerprint = Fingerprint::of(message, context);
                (fingerprint, self.lists.observe(message, context, fingerprint))
            }
            _ => (None, None),
        };
        let world = World {
            pins: &self.pins,
            tools: tools.as_ref(),
            definition,
            fingerprints: &self.fingerprints,
            origins: &self.origins,
        };
        let Some(list) = self.by_kind.get(Kind::of(&seen.kind) as usize) else {
            return;
        };
        for i in list {
            if let Some(rule) = self.rules.get_mut(*i) {
                rule.on(seen, &world, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        detect::testing::{Bench, dns_answer, request, response},
        types::Direction,
    };

    const PINS: &str = include_str!("../config/pins/testdata/whole.yaml");

    fn bench() -> Bench {
        Bench::all(PINS.trim_start_matches("version: 1"))
    }

    const METHODS: &[&str] = &[
        "initialize",
        "tools/list",
        "tools/call",
        "elicitation/create",
        "sampling/createMessage",
    ];

    #[test]
    fn an_ordinary_session_with_its_pinned_server_raises_nothing() {
        let mut bench = Bench::all(
            "endpoints: [{name: a, url: 'https://mcp.example/mcp', addresses: [203.0.113.0/24], mcp: {min_protocol_version: '2025-11-25', transport: streamable-http}}]\n",
        );
        let mut found = bench.dns(
            Direction::ToClient,
            &dns_answer(1, "mcp.example", &[], &["203.0.113.5"]),
        );
        let version = [
            ("MCP-Protocol-Version", "2025-11-25"),
            ("Mcp-Session-Id", "abc"),
            ("Authorization", "Bearer abcdefgh"),
        ];
        let head = request("POST", "/mcp", &version);
        for (ask, answer, method) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"s","version":"1"}}}"#,
                "initialize",
            ),
            (
                r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
                r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"t","description":"Adds two numbers. 👍🏽"}]}}"#,
                "tools/list",
            ),
            (
                r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}"#,
                r#"{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"2"}]}}"#,
                "tools/call",
            ),
        ] {
            found.extend(bench.request(&head, true));
            found.extend(bench.says(ask));
            found.extend(bench.response(&response(200, &[]), true));
            found.extend(bench.answers(answer, Some(method)));
        }
        found.extend(bench.close());
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn rules_are_in_the_order_of_the_catalogue_and_named_once() {
        let ids: Vec<&str> = rules::all().iter().map(|r| r.meta().id).collect();
        let known: Vec<String> = crate::config::pins::all_rule_ids()
            .filter(|id| ids.contains(&id.as_str()))
            .collect();
        assert_eq!(ids, known);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_content_is_looked_at(
            key in "[a-zA-Z]{1,12}", text in "\\PC{0,40}", url in "[ -~]{0,40}", status in 200u16..600, method in 0usize..5,
        ) {
            let mut bench = bench();
            let inner = serde_json::json!({ "tools": [{ "name": text, "description": text, "inputSchema": { "properties": { key.as_str(): { "title": text } } } }],
                "name": text, "url": url, "nextCursor": text, "protocolVersion": text, "requestedSchema": { "properties": { text.as_str(): {} } } });
            let method = METHODS[method];
            let ask = serde_json::json!({ "id": 1, "method": method, "params": inner }).to_string();
            let answer = serde_json::json!({ "id": 1, "result": inner }).to_string();
            let head = request("POST", &format!("/{url}"), &[("Authorization", &url), ("Cookie", &text), ("mcp-session-id", &key), ("mcp-protocol-version", &key)]);
            bench.request(&head, true);
            bench.says(&ask);
            bench.response(&response(status, &[("Location", &url), ("WWW-Authenticate", &format!("Bearer resource_metadata=\"{url}\"")), ("mcp-session-id", &key)]), true);
            bench.answers(&answer, Some(method));
            bench.answers(&ask, None);
            bench.sse_endpoint(&url, 1);
            bench.document(Direction::ToClient, "application/json", &answer);
            bench.dns(Direction::ToClient, &dns_answer(1, &key, &[&url], &["203.0.113.5", "::1"]));
            bench.close();
        }
    }
}
