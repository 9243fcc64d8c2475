//! CR-13 personal-data: PAN (Luhn), IBAN (mod 97) or configured class to a server not cleared for it.

use super::prelude::*;
use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use aho_corasick::AhoCorasick;

use super::super::{
    credentials::json_unescaped,
    personal::{Found, numbers},
};
use crate::types::Direction as Way;

const META: Meta = Meta {
    id: "CR-13",
    slug: "personal-data",
    category: "credential",
    trigger: "PAN (Luhn), IBAN (mod 97) or configured class to a server not cleared for it",
    silent_on: "test numbers",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "pin",
    taxonomy: Taxonomy {
        air_sec_026: &["credential-harvesting", "insufficient-vetting"],
        owasp_mcp: &["MCP10"],
        atlas: &[],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "An agent sent payment card numbers, bank account numbers, or data of a class you described, to a server that nobody cleared for it.",
        attacker: "Offers a tool whose parameters invite such data, or steers the model to put it into an argument of a harmless one.",
        wire: "In what a client sends: 13 to 19 digits with a card issuer's prefix and a right Luhn sum, written in groups or near a word such as `card`; a country's IBAN with right length and check digits (ISO 13616); or a match of a configured pattern.",
        act: "Find in the session which instruction made the agent send it, and treat it as disclosed to the server's operator. Clear the server if it is meant to have it.",
        quiet: "`cleared: [pan, iban]` on the endpoint clears it; published test numbers are silent. Further classes are described in the pins file, `rules: {CR-13: {classes: {employee-id: 'EMP-[0-9]{6}'}}}`, and cleared by their name. The values themselves are never shown.",
    },
};

/// Words near which digits in one piece are taken for a card number.
const CARD_WORDS: &[&str] = &[
    "card",
    "credit",
    "debit",
    "visa",
    "mastercard",
    "amex",
    "payment",
    "billing",
    "charge",
    "\"pan\"",
    "ccn",
    "cvv",
    "cvc",
    "expir",
];
static CARD: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(CARD_WORDS)
        .ok()
});
/// How far away such a word may be, bytes before and after.
const NEAR: (usize, usize) = (64, 32);
/// Text of one message that is looked at, bytes.
const MAX_TEXT: usize = 1 << 20;

/// Nothing to remember.
#[derive(Default)]
pub(super) struct PersonalData;

impl Rule for PersonalData {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        if message.direction != Way::ToServer {
            return;
        }
        let Some(text) = message.params().or(message.result()) else {
            return;
        };
        let text = text.get(..text.len().min(MAX_TEXT)).unwrap_or_default();
        let text = json_unescaped(text).map_or(Cow::Borrowed(text), Cow::Owned);
        let index = context.target.endpoint;
        let cleared = |class: &str| {
            world
                .pins
                .endpoint(index)
                .is_some_and(|e| e.cleared.iter().any(|c| c.eq_ignore_ascii_case(class)))
        };
        let (pan, iban) = (!cleared("pan"), !cleared("iban"));
        let mut found: BTreeMap<&str, u32> = BTreeMap::new();
        let mut count = |class| {
            let n = found.entry(class).or_insert(0u32);
            *n = n.saturating_add(1);
        };
        if pan || iban {
            let by_name = message.name.as_deref().is_some_and(|n| near(n.as_bytes()));
            numbers(&text, |number| match number {
                Found::Iban if iban => count("iban"),
                Found::Card { range, grouped } if pan => {
                    let from = range.start.saturating_sub(NEAR.0);
                    let to = range.end.saturating_add(NEAR.1).min(text.len());
                    if grouped || by_name || text.get(from..to).is_some_and(near) {
                        count("pan");
                    }
                }
                _ => {}
            });
        }
        let classes = world.pins.rules.get(META.id).map_or(&[][..], |s| &s.classes);
        for class in classes.iter().filter(|c| !cleared(&c.name)) {
            if class.pattern.is_match(&text) {
                count(&class.name);
            }
        }
        for (class, count) in found {
            let name = label(world, index, &context.target.origin.host);
            let class = shown(class);
            let place = message.name.as_deref().or(message.method.as_deref());
            let place = place.map_or_else(|| "an answer".to_owned(), shown);
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} sent data of class {class} to {name} in {place}; the server is not cleared for it: treat it as disclosed, or clear the server",
                        agent(seen)
                    ),
                )
                .at(index)
                .expected([format!("no {class} to a server not cleared for it")])
                .observed(format!("{count} of class {class} in {place}")),
            );
        }
    }
}

fn near(text: &[u8]) -> bool {
    CARD.as_ref().is_some_and(|words| words.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n";

    fn sends(pins: &str, tool: &str, arguments: &str) -> Vec<Finding> {
        let json = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        Bench::new(PersonalData, pins).says(&json)
    }

    #[test]
    fn fires_on_cards_accounts_and_configured_classes_without_showing_them() {
        for arguments in [
            r#"{"text":"pay with 4539 5787 6362 1486 please"}"#,
            r#"{"card_number":"4539578763621486"}"#,
            r#"{"card":4539578763621486}"#,
            r#"{"text":"the card:\n4539578763621486"}"#,
        ] {
            let found = sends(PINS, "note", arguments);
            assert_eq!(
                found[0].observed.as_deref(),
                Some("1 of class pan in note"),
                "{arguments}"
            );
            assert!(!format!("{found:?}").contains("1486"));
        }
        let found = sends(
            PINS,
            "note",
            r#"{"to":"DE44 5001 0517 5407 3249 31","or":"NL95ABNA5839201746"}"#,
        );
        assert_eq!(found[0].observed.as_deref(), Some("2 of class iban in note"));
        let pins = "rules: {CR-13: {classes: {employee-id: 'EMP-[0-9]{6}'}}}\n";
        assert_eq!(sends(pins, "note", r#"{"x":"EMP-123456"}"#).len(), 1);
    }

    #[test]
    fn stays_silent_on_test_numbers_other_digits_and_cleared_servers() {
        for arguments in [
            r#"{"card":"4242424242424242"}"#,
            r#"{"card":"4111 1111 1111 1111"}"#,
            r#"{"id":"4539578763621486"}"#,
            r#"{"card":"4539578763621487"}"#,
            r#"{"card":"a4539578763621486","b":1795331523000000000}"#,
            r#"{"iban":"GB82 WEST 1234 5698 7654 32"}"#,
            r#"{"iban":"DE44500105175407324932"}"#,
        ] {
            assert!(sends(PINS, "lookup", arguments).is_empty(), "{arguments}");
        }
        let pins = "endpoints: [{name: a, url: 'https://mcp.example/mcp', cleared: [pan, iban, employee-id]}]\nrules: {CR-13: {classes: {employee-id: 'EMP-[0-9]{6}'}}}\n";
        assert!(sends(pins, "pay", r#"{"card":"4539578763621486","x":"EMP-123456"}"#).is_empty());
    }
}
