//! TD-10 instructions-changed: instructions, prompts or resource templates changed.

use super::prelude::*;
use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    listing::Listings,
    mcp::{answers, audience, result},
};
use crate::{
    baseline::{
        Audience,
        canonical::{hex, tool_sha256},
    },
    mcp::context::MessageContext,
};

const META: Meta = Meta {
    id: "TD-10",
    slug: "instructions-changed",
    category: "definition",
    trigger: "instructions, prompts or resource templates changed",
    silent_on: "",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["update-poisoning", "logic-backdoor"],
        owasp_mcp: &["MCP06"],
        atlas: &["AML.T0051"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "What a server tells the model about itself is no longer what it was: the `instructions` that clients put into the system prompt, a prompt that users pick, or a template of resources.",
        attacker: "Leaves the tools alone, which people watch, and changes the instructions, which reach the model just as well.",
        wire: "`instructions` in the result of `initialize` or `server/discover`, or an item of `prompts/list` or `resources/templates/list`, with another SHA-256 (RFC 8785 form) than before for the same server, revision, capabilities and principal; or an item added or removed.",
        act: "Read the new text before agents go on. Ask the owner for the change; an update of the server shows in `serverInfo.version` (TD-09).",
        quiet: "Compared only among clients of the same capabilities and credentials. Order of keys makes no difference. Instructions that changed three times are taken to be made anew each time (a date, a user's name) and are not said again.",
    },
};

const LISTS: &[(&str, &str)] = &[
    ("prompts/list", "prompts"),
    ("resources/templates/list", "resourceTemplates"),
];
/// Changes after which instructions are taken to be made anew each time.
const MAX_CHANGES: u8 = 3;
/// Most findings of one list.
const MAX_FINDINGS: usize = 16;

type Hashes = BTreeMap<Box<str>, [u8; 32]>;
type Instructions = Remembered<Audience, ([u8; 32], u8)>;
type Items = Remembered<(Audience, Box<str>), Hashes>;

/// What each audience was told last.
pub(super) struct InstructionsChanged {
    /// Instructions with how often they changed, and the items of lists.
    told: Together<Instructions, Items>,
    lists: Listings,
}

impl Default for InstructionsChanged {
    fn default() -> Self {
        Self {
            told: Together::default(),
            lists: Listings::new(LISTS),
        }
    }
}

impl Rule for InstructionsChanged {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.told)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if let Some((member, items)) = self.lists.observe(message, context) {
            self.list(member, items, context, world, out);
            return;
        }
        if !answers(context, "initialize") && !answers(context, "server/discover") {
            return;
        }
        let Some(result) = result(message) else { return };
        let text = result
            .get("instructions")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let now: [u8; 32] = Sha256::digest(text).into();
        let key = audience(context);
        let known = self.told.0.get(&key).copied();
        let (was, changes) = known.unwrap_or((now, 0));
        let news = was != now && changes < MAX_CHANGES;
        let changes = changes.saturating_add(u8::from(news));
        self.told.0.insert(key, (now, changes));
        if !news {
            return;
        }
        say("the instructions", was.into(), now.into(), context, world, out);
    }
}

impl InstructionsChanged {
    fn list(
        &mut self,
        member: &'static str,
        items: Vec<Value>,
        context: &MessageContext<'_>,
        world: &World<'_>,
        out: &mut Vec<Finding>,
    ) {
        let now: Hashes = items
            .into_iter()
            .filter_map(|item| {
                let name = item.get("name").or(item.get("uriTemplate"))?.as_str()?.into();
                Some((name, tool_sha256(item)?))
            })
            .collect();
        let Some(before) = self
            .told
            .1
            .insert((audience(context), member.into()), now.clone())
        else {
            return;
        };
        let what = |name: &str| {
            let kind = if member == "prompts" {
                "prompt"
            } else {
                "resource template"
            };
            format!("the {kind} {}", shown(name))
        };
        let changed = now
            .iter()
            .filter(|(name, hash)| before.get(*name) != Some(hash))
            .map(|(name, hash)| (name, before.get(name).copied(), Some(*hash)));
        let removed = before
            .iter()
            .filter(|(name, _)| !now.contains_key(*name))
            .map(|(name, hash)| (name, Some(*hash), None));
        for (name, was, is) in changed.chain(removed).take(MAX_FINDINGS) {
            say(&what(name), was, is, context, world, out);
        }
    }
}

fn say(
    what: &str,
    was: Option<[u8; 32]>,
    is: Option<[u8; 32]>,
    context: &MessageContext<'_>,
    world: &World<'_>,
    out: &mut Vec<Finding>,
) {
    let index = context.target.endpoint;
    let name = label(world, index, &context.target.origin.host);
    let how = match (was, is) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let text = |hash: Option<[u8; 32]>| hash.map_or_else(|| "absent".to_owned(), |h| hex(&h));
    out.push(
        Finding::new(
            META.id,
            format!("{name} {how} {what}; read the new text before agents go on, and ask its owner"),
        )
        .at(index)
        .expected([format!("{what}: {}", text(was))])
        .observed(format!("{what}: {}", text(is))),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(bench: &mut Bench, instructions: &str) -> usize {
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"instructions":"{instructions}"}}}}"#);
        bench.answers(&json, Some("initialize")).len()
    }

    fn prompts(bench: &mut Bench, prompts: &str) -> Vec<Finding> {
        bench.says(r#"{"jsonrpc":"2.0","id":4,"method":"prompts/list"}"#);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":4,"result":{{"prompts":{prompts}}}}}"#);
        bench.answers(&answer, Some("prompts/list"))
    }

    #[test]
    fn fires_on_instructions_prompts_and_templates() {
        let mut bench = Bench::new(InstructionsChanged::default(), "");
        assert_eq!(
            (starts(&mut bench, "be kind"), starts(&mut bench, "be cruel")),
            (0, 1)
        );
        assert!(prompts(&mut bench, r#"[{"name":"p","description":"a"},{"name":"q"}]"#).is_empty());
        let found = prompts(&mut bench, r#"[{"name":"p","description":"b"},{"name":"r"}]"#);
        let said: Vec<&str> = found
            .iter()
            .map(|f| f.summary.split(';').next().unwrap())
            .collect();
        assert_eq!(
            said,
            [
                "mcp.example changed the prompt p",
                "mcp.example added the prompt r",
                "mcp.example removed the prompt q"
            ]
        );
        let mut templates = |template: &str| {
            bench.says(r#"{"jsonrpc":"2.0","id":5,"method":"resources/templates/list"}"#);
            let answer = format!(
                r#"{{"jsonrpc":"2.0","id":5,"result":{{"resourceTemplates":[{{"name":"n","uriTemplate":"{template}"}}]}}}}"#
            );
            bench.answers(&answer, Some("resources/templates/list")).len()
        };
        assert_eq!((templates("a://{x}"), templates("b://{x}")), (0, 1));
    }

    #[test]
    fn stays_silent_on_the_same_on_pages_on_other_clients_and_on_texts_made_anew() {
        let mut bench = Bench::new(InstructionsChanged::default(), "");
        prompts(&mut bench, r#"[{"name":"p","description":"a"},{"name":"q"}]"#);
        assert!(prompts(&mut bench, r#"[{"name":"q"},{"description":"a","name":"p"}]"#).is_empty());
        let mut found = bench.says(r#"{"jsonrpc":"2.0","id":8,"method":"prompts/list"}"#);
        found.extend(bench.answers(
            r#"{"jsonrpc":"2.0","id":8,"result":{"prompts":[{"name":"q"}],"nextCursor":"2"}}"#,
            Some("prompts/list"),
        ));
        found.extend(
            bench.says(r#"{"jsonrpc":"2.0","id":9,"method":"prompts/list","params":{"cursor":"2"}}"#),
        );
        found.extend(bench.answers(
            r#"{"jsonrpc":"2.0","id":9,"result":{"prompts":[{"name":"p","description":"a"}]}}"#,
            Some("prompts/list"),
        ));
        assert!(found.is_empty(), "{found:?}");
        bench.session.client_capabilities = Some(r#"{"roots":{}}"#.into());
        assert!(prompts(&mut bench, "[]").is_empty());
        let said: usize = (0..9)
            .map(|day| starts(&mut bench, &format!("today is {day}")))
            .sum();
        assert_eq!(said, 3);
    }
}
