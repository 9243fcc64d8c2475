//! Shows each event to the rules that asked for its kind.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Facts, Finding, Seen, SeenKind, World,
    credentials::Fingerprinter,
    rule::{Kind, Meta, Rule},
    rules,
};
use crate::{
    baseline::{Fingerprint, Memory, MemoryRow, ToolList, ToolLists},
    config::{origin::OriginTables, pins::Pins},
};

/// Most findings of one rule on one event.
pub const MAX_FINDINGS: usize = 64;

/// How the rules fared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DetectorCounters {
    /// Rules that panicked and are off since.
    pub disabled: u64,
    /// Findings let go because one event had more than [`MAX_FINDINGS`] of one rule.
    pub findings_over_limit: u64,
}

struct Slot {
    meta: &'static Meta,
    /// `None` once it has panicked.
    rule: Option<Box<dyn Rule>>,
}

impl Slot {
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        self.rule.as_mut()?.memory()
    }
}

/// Rules of one group; groups are independent of each other.
const GROUP: usize = 14;

/// What all rules are given beside the event. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Common {
    pins: Arc<Pins>,
    fingerprints: Arc<Fingerprinter>,
    origins: Arc<OriginTables>,
}

/// What all rules are told of one event, worked out once.
#[derive(Debug, Default)]
pub struct Prepared {
    definition: Option<Fingerprint>,
    facts: Facts,
    /// The list of tools that the event completed.
    pub tools: Option<ToolList>,
}

/// Some of the rules, in the order of the catalogue. Every group is shown every event, each by any thread.
pub struct Group {
    rules: Vec<Slot>,
    by_kind: [Vec<usize>; Kind::COUNT],
    isolate: bool,
    counters: DetectorCounters,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Group {
    fn new(rules: Vec<Slot>) -> Self {
        let mut by_kind: [Vec<usize>; Kind::COUNT] = Default::default();
        for (i, slot) in rules.iter().enumerate() {
            for kind in slot.meta.listens {
                if let Some(list) = by_kind.get_mut(*kind as usize) {
                    list.push(i);
                }
            }
        }
        Self {
            rules,
            by_kind,
            isolate: !cfg!(any(test, fuzzing)),
            counters: DetectorCounters::default(),
        }
    }

    /// Shows one event to the rules; what they find is appended in the order of the catalogue.
    pub fn see(&mut self, seen: &Seen<'_>, prepared: &Prepared, common: &Common, out: &mut Vec<Finding>) {
        let Some(list) = self.by_kind.get(Kind::of(&seen.kind) as usize) else {
            return;
        };
        let world = World {
            pins: &common.pins,
            facts: &prepared.facts,
            tools: prepared.tools.as_ref(),
            definition: prepared.definition,
            fingerprints: &common.fingerprints,
            origins: &common.origins,
        };
        for i in list {
            let Some(slot) = self.rules.get_mut(*i) else {
                continue;
            };
            let Some(rule) = &mut slot.rule else { continue };
            let before = out.len();
            if !self.isolate {
                rule.on(seen, &world, out);
            } else if catch_unwind(AssertUnwindSafe(|| rule.on(seen, &world, out))).is_err() {
                self.counters.disabled = self.counters.disabled.saturating_add(1);
                // Whatever state it left is let go, which may panic as well.
                let broken = slot.rule.take();
                let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
                out.push(disabled(slot.meta));
            }
            let over = out.len().saturating_sub(before).saturating_sub(MAX_FINDINGS);
            if over > 0 {
                out.truncate(before.saturating_add(MAX_FINDINGS));
                let n = &mut self.counters.findings_over_limit;
                *n = n.saturating_add(over as u64);
            }
        }
    }

    fn settle(&mut self, kind: Kind, trusted: bool) {
        for i in self.by_kind.get(kind as usize).into_iter().flatten() {
            if let Some(memory) = self.rules.get_mut(*i).and_then(Slot::memory) {
                memory.settle(trusted);
            }
        }
    }
}

/// All rules and what they share.
///
/// Show it every event in order of capture time: first [`Detector::prepare`], then [`Group::see`] of each
/// group, or [`Detector::see`], which does both.
///
/// One rule cannot break another. A rule that panics is off from then on, which is counted and said by
/// OP-06; what else it found in that event is kept. In tests and under a fuzzer the panic goes on. Of one
/// event a rule may find [`MAX_FINDINGS`] things; those above it are counted.
pub struct Detector {
    groups: Vec<Group>,
    lists: ToolLists,
    common: Common,
    /// What rules remember is kept, and changes to it are settled after each event.
    keeping: bool,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("groups", &self.groups)
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
        let mut groups = Vec::new();
        let mut slots = rules.into_iter().map(|rule| Slot {
            meta: rule.meta(),
            rule: Some(rule),
        });
        loop {
            let group: Vec<Slot> = slots.by_ref().take(GROUP).collect();
            if group.is_empty() {
                break;
            }
            groups.push(Group::new(group));
        }
        Self {
            groups,
            lists: ToolLists::default(),
            common: Common {
                pins,
                fingerprints: Arc::new(Fingerprinter::new(&[0; 32])),
                origins: Arc::default(),
            },
            keeping: false,
        }
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.groups.iter_mut().flat_map(|group| &mut group.rules)
    }

    /// How the rules fared so far.
    pub fn counters(&self) -> DetectorCounters {
        let mut sum = DetectorCounters::default();
        for one in self.groups.iter().map(|group| group.counters) {
            sum.disabled = sum.disabled.saturating_add(one.disabled);
            sum.findings_over_limit = sum.findings_over_limit.saturating_add(one.findings_over_limit);
        }
        sum
    }

    /// Whether a rule's panic is caught.
    pub fn set_isolation(&mut self, on: bool) {
        self.groups.iter_mut().for_each(|group| group.isolate = on);
    }

    /// Changes the pins. What rules have learned stays.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        self.common.pins = pins;
    }

    /// The key of fingerprints in alerts. Until then it is all zeros, so that replays agree.
    pub fn set_fingerprint_key(&mut self, key: &[u8; 32]) {
        self.common.fingerprints = Arc::new(Fingerprinter::new(key));
    }

    /// Loads what rules remembered in an earlier run and notes from here on what changes. How many rows
    /// no rule took: they are of another version of this program.
    pub fn keep_memory(&mut self, rows: &[MemoryRow]) -> usize {
        self.keeping = true;
        let mut foreign = rows.len();
        for slot in self.slots() {
            let id = slot.meta.id;
            let Some(memory) = slot.memory() else { continue };
            memory.track();
            for row in rows.iter().filter(|row| row.rule == id) {
                foreign = foreign.saturating_sub(usize::from(memory.load(&row.key, &row.value)));
            }
        }
        foreign
    }

    /// Ids of the rules that keep what they learned, in the order of the catalogue.
    pub fn rules_with_memory(&mut self) -> Vec<&'static str> {
        self.slots()
            .filter_map(|slot| slot.memory().is_some().then_some(slot.meta.id))
            .collect()
    }

    /// The event that was shown last is over: what rules learned from it can be trusted, or not.
    pub fn settle(&mut self, kind: Kind, trusted: bool) {
        if self.keeping {
            self.groups
                .iter_mut()
                .for_each(|group| group.settle(kind, trusted));
        }
    }

    /// What rules learned since the last call and may keep.
    pub fn take_memory(&mut self) -> Vec<MemoryRow> {
        let mut rows = Vec::new();
        for slot in self.slots() {
            let id = slot.meta.id;
            let Some(memory) = slot.memory() else { continue };
            rows.extend(memory.take_changes().into_iter().map(|(key, value)| MemoryRow {
                rule: id.to_owned(),
                key,
                value,
            }));
        }
        rows
    }

    /// Where addresses are announced from. Until then nothing is known of that.
    pub fn set_origins(&mut self, origins: Arc<OriginTables>) {
        self.common.origins = origins;
    }

    /// What the rules share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The groups, to be shown events elsewhere; to be put back with [`Detector::put_groups`].
    pub fn take_groups(&mut self) -> Vec<Group> {
        std::mem::take(&mut self.groups)
    }

    /// Puts the groups back, in the order in which they were taken.
    pub fn put_groups(&mut self, groups: Vec<Group>) {
        self.groups = groups;
    }

    /// What the groups are told of the next event.
    pub fn prepare(&mut self, seen: &Seen<'_>) -> Prepared {
        match &seen.kind {
            SeenKind::Message { message, context } => {
                let definition = Fingerprint::of(message, context);
                let mut tools = self.lists.observe(message, context, definition);
                if let Some(list) = tools.as_mut().filter(|_| self.keeping) {
                    // What was withheld under an alert is confirmed by being seen again.
                    list.again = false;
                }
                Prepared {
                    definition,
                    tools,
                    facts: Facts::default(),
                }
            }
            _ => Prepared::default(),
        }
    }

    /// Shows one event to all rules; what they find is appended in the order of the catalogue.
    pub fn see_prepared(&mut self, seen: &Seen<'_>, prepared: &Prepared, out: &mut Vec<Finding>) {
        for group in &mut self.groups {
            group.see(seen, prepared, &self.common, out);
        }
    }

    /// As [`Detector::see_prepared`], preparing it first.
    pub fn see(&mut self, seen: &Seen<'_>, out: &mut Vec<Finding>) {
        let prepared = self.prepare(seen);
        self.see_prepared(seen, &prepared, out);
    }
}

/// What OP-06 says of a rule that broke.
fn disabled(meta: &Meta) -> Finding {
    let (id, slug) = (meta.id, meta.slug);
    Finding::new(
        "OP-06",
        format!(
            "rule {id} {slug} failed on this event and is off until restart: nothing of its kind is detected; keep the capture, report it, and restart the monitor"
        ),
    )
    .expected([format!("{id} running")])
    .observed(format!("{id} disabled after an internal error"))
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

    const BROKEN: Meta = Meta {
        id: "PV-08",
        slug: "stream-evasion",
        category: "protocol",
        trigger: "",
        silent_on: "",
        severity: crate::types::Severity::High,
        sight: crate::detect::rule::Sight::Handshake,
        needs: "-",
        taxonomy: crate::detect::rule::Taxonomy {
            air_sec_026: &[],
            owasp_mcp: &[],
            atlas: &[],
        },
        listens: &[Kind::Open],
        page: crate::detect::rule::Page {
            means: "",
            attacker: "",
            wire: "",
            act: "",
            quiet: "",
        },
    };

    /// Finds so many things, then panics if told so.
    struct Bad(usize, bool);

    impl Rule for Bad {
        fn meta(&self) -> &'static Meta {
            &BROKEN
        }

        fn on(&mut self, _: &Seen<'_>, _: &World<'_>, out: &mut Vec<Finding>) {
            out.extend((0..self.0).map(|n| Finding::new("PV-08", n.to_string())));
            assert!(!self.1, "broken on purpose");
        }
    }

    fn opens(detector: &mut Detector) -> Vec<&'static str> {
        let mut out = Vec::new();
        Bench::bare().with_seen(SeenKind::Open, |seen| detector.see(seen, &mut out));
        out.iter().map(|f| f.rule).collect()
    }

    #[test]
    fn a_rule_that_panics_is_off_and_the_others_go_on() {
        let rules: Vec<Box<dyn Rule>> = vec![Box::new(Bad(1, true)), Box::new(Bad(1, false))];
        let mut detector = Detector::with_rules(Arc::default(), rules);
        detector.set_isolation(true);
        assert_eq!(opens(&mut detector), ["PV-08", "OP-06", "PV-08"]);
        assert_eq!(opens(&mut detector), ["PV-08"]);
        assert_eq!(detector.counters().disabled, 1);
    }

    #[test]
    #[should_panic(expected = "broken on purpose")]
    fn in_tests_a_panic_goes_on() {
        opens(&mut Detector::with_rules(
            Arc::default(),
            vec![Box::new(Bad(0, true))],
        ));
    }

    #[test]
    fn findings_on_one_event_are_bounded() {
        let mut detector = Detector::with_rules(Arc::default(), vec![Box::new(Bad(100, false))]);
        assert_eq!(opens(&mut detector).len(), MAX_FINDINGS);
        assert_eq!(detector.counters().findings_over_limit, 36);
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
            bench.replies(&answer, None);
            let schema = serde_json::json!([{ "name": "t", "inputSchema": { "properties": { key.as_str(): { "x-mcp-header": key } } }, "outputSchema": { key.as_str(): text, "type": key, "properties": { text.as_str(): { "$ref": url } } } }]);
            bench.lists_tools(&schema.to_string());
            let result = serde_json::json!({ "content": [{ "type": "text", "text": text }], "structuredContent": { text.as_str(): url, key.as_str(): text, "verdict": text, "asOf": url, "score": status } }).to_string();
            let arguments = serde_json::json!({ key.as_str(): url, "to": text, "cc": [url, text] }).to_string();
            bench.calls("t", &arguments, &result);
            bench.calls("t", &arguments, &result);
            bench.sse_endpoint(&url, 1);
            bench.document(Direction::ToClient, "application/json", &answer);
            bench.dns(Direction::ToClient, &dns_answer(1, &key, &[&url], &["203.0.113.5", "::1"]));
            bench.close();
        }
    }
}
