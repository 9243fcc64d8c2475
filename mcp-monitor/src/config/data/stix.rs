//! Indicators of a STIX 2.1 bundle (OASIS, sections 3.3 and 4.7; patterns: section 9).
//!
//! Patterns that compare one property with a constant are read, alone or joined by `OR`; those that
//! join by `AND`, follow events in time, or name what no packet shows are counted and left out: half a
//! pattern would match what its author did not mean.

use std::sync::Arc;

use serde_json::Value;

use super::feeds::{Thing, certificate, host, is_ja4, url};
use crate::types::Timestamp;

pub(super) struct Entry {
    pub(super) thing: Thing,
    pub(super) label: Option<Arc<str>>,
    pub(super) until: Option<Timestamp>,
}

/// Found and expected.
type Mistake = (String, String);

/// Entries of a bundle (or of one indicator alone), and how many indicators were left out.
pub(super) fn read(bundle: &Value) -> Result<(Vec<Entry>, usize), Mistake> {
    let kind = bundle.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != "bundle" {
        return Err((
            format!("a JSON object of type {kind:?}"),
            "a STIX 2.1 bundle".to_owned(),
        ));
    }
    let empty = Vec::new();
    let objects = match bundle.get("objects") {
        None => &empty,
        Some(Value::Array(objects)) => objects,
        Some(_) => {
            return Err((
                "objects that is no list".to_owned(),
                "a STIX 2.1 bundle".to_owned(),
            ));
        }
    };
    let mut entries = Vec::new();
    let mut unsupported = 0usize;
    for object in objects {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        if text("type") != Some("indicator") || object.get("revoked") == Some(&Value::Bool(true)) {
            continue;
        }
        let id = text("id").unwrap_or("an indicator without id");
        if text("pattern_type").is_some_and(|t| t != "stix") {
            unsupported = unsupported.saturating_add(1);
            continue;
        }
        let pattern =
            text("pattern").ok_or_else(|| (format!("{id} without pattern"), "a pattern".to_owned()))?;
        let until = match text("valid_until") {
            None => None,
            Some(date) => Some(Timestamp::parse_rfc3339(date).ok_or_else(|| {
                let found = format!("bad valid_until {date:?} of {id}");
                (found, "a time such as 2027-01-31T00:00:00Z".to_owned())
            })?),
        };
        let label: Option<Arc<str>> = text("name").or_else(|| text("id")).map(Into::into);
        match things(pattern) {
            Some(found) => entries.extend(found.into_iter().map(|thing| Entry {
                thing,
                label: label.clone(),
                until,
            })),
            None => unsupported = unsupported.saturating_add(1),
        }
    }
    Ok((entries, unsupported))
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    /// `[ ] ( ) , =`
    Mark(char),
    /// A path, an operator, a number.
    Word(String),
    /// A constant in quotes.
    Text(String),
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '[' | ']' | '(' | ')' | ',' | '=' => found.push(Token::Mark(c)),
            '\'' => found.push(Token::Text(quoted(&mut chars)?)),
            _ => {
                let mut word = String::from(c);
                while let Some(next) = chars.peek().copied() {
                    match next {
                        // hashes.'SHA-256'
                        '\'' if word.ends_with('.') => {
                            chars.next();
                            word.push_str(&quoted(&mut chars)?);
                        }
                        ' ' | '\t' | '\r' | '\n' | '[' | ']' | '(' | ')' | ',' | '=' | '\'' => break,
                        _ => {
                            word.push(next);
                            chars.next();
                        }
                    }
                }
                found.push(Token::Word(word));
            }
        }
    }
    Some(found)
}

/// After an opening quote.
fn quoted(chars: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\'' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// What a pattern names; `None` if it is of another kind.
fn things(pattern: &str) -> Option<Vec<Thing>> {
    let tokens = tokens(pattern)?;
    let mut at = tokens.iter().peekable();
    let mut found = Vec::new();
    let is_or = |token: &Token| matches!(token, Token::Word(w) if w == "OR");
    loop {
        (at.next()? == &Token::Mark('[')).then_some(())?;
        loop {
            comparison(&mut at, &mut found)?;
            match at.next()? {
                Token::Mark(']') => break,
                token if is_or(token) => {}
                _ => return None,
            }
        }
        match at.next() {
            None => return Some(found),
            Some(token) if is_or(token) => {}
            Some(_) => return None,
        }
    }
}

/// `path = 'x'`, `path ISSUBSET 'x'` or `path IN ('x', 'y')`.
fn comparison<'a>(at: &mut impl Iterator<Item = &'a Token>, found: &mut Vec<Thing>) -> Option<()> {
    let Token::Word(path) = at.next()? else {
        return None;
    };
    match at.next()? {
        Token::Mark('=') => {}
        Token::Word(word) if word == "ISSUBSET" => {}
        Token::Word(word) if word == "IN" => {
            (at.next()? == &Token::Mark('(')).then_some(())?;
            loop {
                let Token::Text(value) = at.next()? else {
                    return None;
                };
                found.push(thing(path, value)?);
                match at.next()? {
                    Token::Mark(')') => return Some(()),
                    Token::Mark(',') => {}
                    _ => return None,
                }
            }
        }
        _ => return None,
    }
    let Token::Text(value) = at.next()? else {
        return None;
    };
    found.push(thing(path, value)?);
    Some(())
}

fn thing(path: &str, value: &str) -> Option<Thing> {
    match path {
        "ipv4-addr:value" | "ipv6-addr:value" => value
            .parse::<ipnet::IpNet>()
            .ok()
            .or_else(|| value.parse::<std::net::IpAddr>().ok().map(Into::into))
            .map(Thing::Net),
        "domain-name:value" => host(value).map(Thing::Name),
        "url:value" => url(value),
        "x509-certificate:hashes.SHA-256" => certificate(value),
        // No property of STIX holds a JA4; those that feeds invent end so.
        _ if path.to_ascii_lowercase().ends_with("ja4") || path.starts_with("x-ja4") => {
            is_ja4(value).then(|| Thing::Ja4(value.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_patterns_of_the_kinds_that_packets_show() {
        for (pattern, count) in [
            ("[ipv4-addr:value = '198.51.100.66']", 1),
            (
                "[ipv4-addr:value ISSUBSET '198.51.100.0/24'] OR [ipv6-addr:value='2001:db8::1']",
                2,
            ),
            (
                "[domain-name:value IN ('a.example', 'b.example') OR url:value = 'https://c.example/x']",
                3,
            ),
            (
                "[x509-certificate:hashes.'SHA-256' = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']",
                1,
            ),
            ("[x-ja4:value = 't13d1516h2_8daaf6152771_e5627efa2ab1']", 1),
        ] {
            assert_eq!(things(pattern).map(|t| t.len()), Some(count), "{pattern}");
        }
        for pattern in [
            "[file:hashes.MD5 = 'abc']",
            "[domain-name:value = 'a.example' AND ipv4-addr:value = '10.0.0.1']",
            "[domain-name:value = 'a.example'] FOLLOWEDBY [domain-name:value = 'b.example']",
            "[domain-name:value LIKE '%.example']",
            "[domain-name:value NOT = 'a.example']",
            "[domain-name:value = 'a.example'] WITHIN 5 SECONDS",
            "[domain-name:value = 'a.example'",
            "",
        ] {
            assert_eq!(things(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn revoked_ones_are_left_out_and_expiry_is_read() {
        let bundle = serde_json::json!({"type": "bundle", "id": "bundle--1", "objects": [
            {"type": "indicator", "id": "indicator--1", "name": "c2", "pattern_type": "stix", "pattern": "[domain-name:value = 'a.example']", "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-06-01T00:00:00Z"},
            {"type": "indicator", "id": "indicator--2", "pattern_type": "stix", "pattern": "[domain-name:value = 'b.example']", "revoked": true},
            {"type": "indicator", "id": "indicator--3", "pattern_type": "yara", "pattern": "rule x {}"},
            {"type": "malware", "id": "malware--1"}
        ]});
        let (entries, unsupported) = read(&bundle).ok().unwrap();
        assert_eq!((entries.len(), unsupported), (1, 1));
        assert_eq!(entries[0].label.as_deref(), Some("c2"));
        assert_eq!(entries[0].until, Timestamp::parse_rfc3339("2026-06-01T00:00:00Z"));
        assert!(read(&serde_json::json!({"type": "indicator"})).is_err());
        let bad = serde_json::json!({"type": "bundle", "objects": [{"type": "indicator", "id": "indicator--9", "pattern": "[a:b = 'c']", "valid_until": "soon"}]});
        assert!(read(&bad).err().unwrap().0.contains("indicator--9"));
    }

    proptest! {
        #[test]
        fn any_pattern_is_read_or_left_out(pattern in "[\\[\\]()'= ,a-zOR:.]{0,40}") {
            let _ = things(&pattern);
        }
    }
}
