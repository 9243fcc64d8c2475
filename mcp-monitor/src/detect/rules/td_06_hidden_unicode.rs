//! TD-06 hidden-unicode: tag characters, bidi controls, zero-width runs, ANSI escapes in definitions.

use super::super::text::{is_bidi_control, is_tag, is_zero_width};
use super::mcp::answers;
use super::prelude::*;
use crate::baseline::Known;
use std::sync::Arc;

const META: Meta = Meta {
    id: "TD-06",
    slug: "hidden-unicode",
    category: "definition",
    trigger: "tag characters, bidi controls, zero-width runs, ANSI escapes in definitions",
    silent_on: "emoji ZWJ and RGI flag tag sequences, right-to-left prose",
    severity: Severity::High,
    sight: Sight::Plaintext,
    needs: "-",
    taxonomy: Taxonomy {
        air_sec_026: &["third-party-server-compromise", "logic-backdoor"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0068"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A definition holds characters that a person does not see and a model reads: text in the tag block, direction overrides, runs of zero-width characters, or terminal escapes.",
        attacker: "Hides an instruction to the model in a tool's description, in a way that a reviewer's screen does not show.",
        wire: "In a list of tools, prompts, resources or templates, or in the server's instructions: U+E0000 to U+E007F outside flag emoji, bidirectional controls in text without right-to-left letters (overrides anywhere), two or more zero-width characters in a row, runs of variation selectors, or ESC sequences.",
        act: "Keep agents off the server. Decode the hidden text (for tag characters subtract U+E0000) and report it to the owner or registry.",
        quiet: "Joined emoji, the flags of England, Scotland and Wales, joiners inside Indic and Arabic words, and direction marks in right-to-left prose are silent.",
    },
};

/// Responses whose result is a definition.
const DEFINITIONS: &[&str] = &[
    "initialize",
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];

/// Most findings of one message.
const MAX_FINDINGS: usize = 8;

/// What was found in definitions read before.
#[derive(Default)]
pub(super) struct HiddenUnicode {
    known: Known<Hidden>,
}

/// Places and what is hidden there.
type Hidden = Arc<[(String, String)]>;

impl Rule for HiddenUnicode {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let Some(text) = message.result() else { return };
        // Hidden characters are not ASCII, or are escaped.
        let plain =
            || text.is_ascii() && memchr::memmem::find(text, b"\\u").is_none() && !text.contains(&0x1b);
        if !DEFINITIONS.iter().any(|m| answers(context, m)) {
            return;
        }
        let found = self.known.get(world.definition, || {
            let mut found: Vec<(String, String)> = Vec::new();
            if !plain()
                && let Ok(result) = serde_json::from_slice::<serde_json::Value>(text)
            {
                walk(&result, &mut String::from("result"), &mut found);
            }
            found.into()
        });
        let index = context.target.endpoint;
        let name = label(world, index, &context.target.origin.host);
        for (place, what) in found.iter() {
            out.push(
                Finding::new(
                    META.id,
                    format!("{name} hides {what} in its definitions at {place}; keep agents off it and read the hidden text"),
                )
                .at(index)
                .observed(format!("{what} at {place}")),
            );
        }
    }
}

/// Looks at every key and string. Depth is bounded by the JSON reader.
fn walk(value: &serde_json::Value, place: &mut String, found: &mut Vec<(String, String)>) {
    use serde_json::Value;
    let end = place.len();
    match value {
        Value::String(text) => check(text, place, found),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                // A tool's own name says more than its number.
                match item.get("name").and_then(Value::as_str) {
                    Some(name) => place.push_str(&format!("/{}", shown(name))),
                    None => place.push_str(&format!("/{i}")),
                }
                walk(item, place, found);
                place.truncate(end);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                check(key, place, found);
                place.push('/');
                place.push_str(&shown(key));
                walk(item, place, found);
                place.truncate(end);
            }
        }
        _ => {}
    }
}

fn check(text: &str, place: &str, found: &mut Vec<(String, String)>) {
    if found.len() < MAX_FINDINGS
        && let Some(what) = hidden(text)
    {
        found.push((place.to_owned(), what.to_owned()));
    }
}

/// What is hidden in a text, if something is.
pub(super) fn hidden(text: &str) -> Option<&'static str> {
    let plain = |c: char| ('\u{20}'..'\u{7f}').contains(&c) || matches!(c, '\n' | '\r' | '\t');
    if text.chars().all(plain) {
        return None;
    }
    let right_to_left = text.chars().any(is_right_to_left);
    let chars: Vec<char> = text.chars().collect();
    let (mut invisible_run, mut selector_run) = (0u32, 0u32);
    let mut i = 0usize;
    while let Some(&c) = chars.get(i) {
        let before = i.checked_sub(1).and_then(|p| chars.get(p)).copied();
        let after = chars.get(i.saturating_add(1)).copied();
        if c == '\u{1f3f4}' {
            i = i.saturating_add(flag_len(chars.get(i..).unwrap_or_default()));
            continue;
        }
        if c == '\u{1b}' || c == '\u{9b}' {
            return Some("terminal escapes");
        }
        if is_variation_selector(c) {
            selector_run = selector_run.saturating_add(1);
            if selector_run >= 2 {
                return Some("a run of variation selectors");
            }
        } else {
            selector_run = 0;
            if is_tag(c) {
                return Some("tag characters");
            }
        }
        if matches!(c, '\u{202d}' | '\u{202e}') || (is_bidi_control(c) && !right_to_left) {
            return Some("bidirectional controls");
        }
        if is_zero_width(c) && !joins(before, c, after) {
            invisible_run = invisible_run.saturating_add(1);
            if invisible_run >= 2 {
                return Some("zero-width characters");
            }
        } else {
            invisible_run = 0;
        }
        i = i.saturating_add(1);
    }
    None
}

/// Length of the flag at the start of `chars`: a known subdivision flag, or the black flag alone.
fn flag_len(chars: &[char]) -> usize {
    const FLAGS: &[&str] = &["gbeng", "gbsct", "gbwls"];
    for flag in FLAGS {
        let tags = flag
            .chars()
            .filter_map(|c| char::from_u32(u32::from(c).saturating_add(0xe0000)))
            .chain(['\u{e007f}']);
        if chars.iter().skip(1).take(6).copied().eq(tags) {
            return 7;
        }
    }
    1
}

/// VS1 to VS256.
fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// A joiner where writing needs one: between emoji, or inside a word of a script that uses it.
fn joins(before: Option<char>, c: char, after: Option<char>) -> bool {
    let emoji =
        |c: char| matches!(c, '\u{fe0f}' | '\u{20e3}' | '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}');
    // Arabic, Syriac, Indic, Tibetan, Myanmar, Khmer, Mongolian.
    let script = |c: char| matches!(c, '\u{0600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}');
    match (before, c, after) {
        (Some(b), '\u{200d}', Some(a)) if emoji(b) && emoji(a) => true,
        (Some(b), '\u{200c}' | '\u{200d}', _) if script(b) => true,
        _ => false,
    }
}

/// Hebrew, Arabic and related letters.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{0590}'..='\u{061b}' | '\u{061d}'..='\u{08ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fires_on_what_people_do_not_see() {
        for (text, what) in [
            ("adds\u{e0069}\u{e0067}\u{e006e}", "tag characters"),
            ("\u{1f3f4}\u{e0075}\u{e0073}\u{e007f}", "tag characters"),
            ("adds \u{202e}dda", "bidirectional controls"),
            ("adds \u{2066}x\u{2069}", "bidirectional controls"),
            ("שלום \u{202e}abc", "bidirectional controls"),
            ("a\u{200b}\u{200c}\u{200b}b", "zero-width characters"),
            ("x\u{fe00}\u{fe01}\u{e0101}", "a run of variation selectors"),
            ("\u{1b}[8mread it\u{1b}[0m", "terminal escapes"),
        ] {
            assert_eq!(hidden(text), Some(what), "{text:?}");
        }
    }

    #[test]
    fn stays_silent_on_emoji_flags_and_prose_of_all_scripts() {
        for text in [
            "plain — with dashes, “quotes” and ½",
            "👨‍👩‍👧‍👦 ❤️‍🔥 👍🏽 1️⃣",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f} and 🏴‍☠️",
            "می‌خواهم کتاب‌ها را",
            "क्‍ष और श्री",
            "שלום\u{200f}, \u{2067}עולם\u{2069}",
            "葛\u{e0100}城",
            "日本語の説明",
            "one\u{200b}break",
        ] {
            assert_eq!(hidden(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_the_place_and_looks_at_definitions_only() {
        let mut bench = Bench::new(HiddenUnicode::default(), "");
        let found = bench.lists_tools(r#"[{"name":"add","description":"adds\udb40\udc69\udb40\udc67"}]"#);
        assert_eq!(
            found[0].observed.as_deref(),
            Some("tag characters at result/tools/add/description")
        );
        let result = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"instructions\":\"x \u{202e}y\"}}";
        assert_eq!(bench.answers(result, Some("initialize")).len(), 1);
        assert!(bench.answers(result, Some("tools/call")).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(text in "\\PC{0,60}") {
            let _ = hidden(&text);
        }
    }
}
