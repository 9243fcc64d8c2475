//! `NAME = value` in its many spellings: JSON, YAML, shell, source code.

use std::ops::Range;

/// Longest rest of a name after its telling word.
const TAIL: usize = 32;
/// How much of a name before its telling word is looked at.
const HEAD: usize = 40;
/// Longest password.
const LONGEST_PASSWORD: usize = 128;
/// Shortest password that is believed to be one.
const SHORTEST_PASSWORD: usize = 8;

/// Words in a name that say its value is secret.
const SECRET_WORDS: [&str; 8] = ["key", "token", "secret", "pass", "pwd", "auth", "cred", "pat"];

/// Words before `token`, `secret`… that say it is none.
const HARMLESS_HEADS: [&str; 14] = [
    "progress", "page", "next", "continu", "csrf", "xsrf", "cursor", "count", "max", "public", "sync",
    "resume", "stop", "etag",
];

/// Words after them that do.
const HARMLESS_TAILS: [&str; 22] = [
    "name", "id", "type", "uri", "url", "endpoint", "length", "policy", "hint", "field", "label", "file",
    "path", "count", "limit", "expir", "ref", "arn", "usage", "version", "format", "info",
];

/// Passwords of tutorials and of software as delivered.
const STOCK: [&str; 22] = [
    "password",
    "passwd",
    "pass",
    "pwd",
    "secret",
    "postgres",
    "root",
    "admin",
    "user",
    "test",
    "guest",
    "mysql",
    "redis",
    "mongo",
    "rabbitmq",
    "foobar",
    "username",
    "pa55word",
    "passw0rd",
    "p@ssw0rd",
    "password123",
    "password1",
];

/// A value assigned to a name.
#[derive(Debug)]
pub(super) struct Assigned<'a> {
    /// Where the value begins.
    pub(super) value: usize,
    quote: Option<u8>,
    head: &'a [u8],
    word: &'a [u8],
    tail: &'a [u8],
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

/// `word`, in lower case, stands in `text` in any case.
fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len())
        .any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

/// Reads on from a word inside a name to the value, if there is an assignment.
pub(super) fn after_name<'a>(text: &'a [u8], word: &Range<usize>) -> Option<Assigned<'a>> {
    let mut at = word.end;
    let skip = |at: usize, most: usize, class: fn(u8) -> bool| -> usize {
        let rest = text.get(at..).unwrap_or_default();
        at.saturating_add(rest.iter().take(most).take_while(|b| class(**b)).count())
    };
    let tail_end = skip(at, TAIL, is_name);
    let tail = text.get(at..tail_end)?;
    at = skip(tail_end, 6, |b| matches!(b, b'"' | b'\'' | b'`' | b'\\' | b']'));
    at = skip(at, 8, |b| matches!(b, b' ' | b'\t'));
    let equals = skip(at, 3, |b| matches!(b, b':' | b'=' | b'>'));
    if !matches!(text.get(at), Some(b':' | b'=')) || equals == at {
        return None;
    }
    at = skip(equals, 8, |b| matches!(b, b' ' | b'\t'));
    at = skip(at, 4, |b| b == b'\\');
    let quote = text.get(at).copied().filter(|b| matches!(b, b'"' | b'\'' | b'`'));
    if quote.is_some() {
        at = at.saturating_add(1);
    }
    let before = text.get(word.start.saturating_sub(HEAD)..word.start)?;
    let head_len = before.iter().rev().take_while(|b| is_name(**b)).count();
    Some(Assigned {
        value: at,
        quote,
        head: before.get(before.len().saturating_sub(head_len)..)?,
        word: text.get(word.clone())?,
        tail,
    })
}

impl Assigned<'_> {
    /// The name of a provider comes with a word for a secret.
    pub(super) fn name_says_secret(&self) -> bool {
        let says = |part: &[u8]| SECRET_WORDS.iter().any(|w| contains(part, w));
        says(self.head) || says(self.word) || says(self.tail)
    }

    /// The name has a word for a secret and means something else.
    pub(super) fn name_denies(&self) -> bool {
        HARMLESS_HEADS.iter().any(|w| contains(self.head, w))
            || HARMLESS_TAILS.iter().any(|w| contains(self.tail, w))
    }

    /// End of a password: the closing quote, or the first byte that no bare word has.
    pub(super) fn password_end(&self, text: &[u8]) -> Option<usize> {
        let rest = text.get(self.value..)?;
        let rest = rest.get(..rest.len().min(LONGEST_PASSWORD.saturating_add(1)))?;
        let ends = |b: &u8| match self.quote {
            Some(quote) => *b == quote || *b == b'\\' || b.is_ascii_control(),
            None => {
                b.is_ascii_whitespace()
                    || matches!(
                        b,
                        b'"' | b'\''
                            | b'`'
                            | b','
                            | b';'
                            | b'&'
                            | b'<'
                            | b'>'
                            | b'('
                            | b')'
                            | b'{'
                            | b'}'
                            | b'['
                            | b']'
                            | b'\\'
                    )
                    || b.is_ascii_control()
            }
        };
        let len = rest
            .iter()
            .position(ends)
            .or((rest.len() <= LONGEST_PASSWORD).then_some(rest.len()))?;
        Some(self.value.saturating_add(len))
    }
}

/// It is a password of tutorials.
pub(super) fn is_stock_password(value: &[u8]) -> bool {
    STOCK.iter().any(|s| value.eq_ignore_ascii_case(s.as_bytes()))
}

/// A password as people and generators make them.
pub(super) fn is_password(value: &[u8]) -> bool {
    let any = |class: fn(&u8) -> bool| usize::from(value.iter().any(class));
    let digit = any(u8::is_ascii_digit);
    let symbol = any(u8::is_ascii_punctuation);
    let classes = any(u8::is_ascii_lowercase)
        .saturating_add(any(u8::is_ascii_uppercase))
        .saturating_add(digit)
        .saturating_add(symbol);
    let varied = classes >= 3 || (classes == 2 && digit == 1 && value.len() >= 12);
    let text = value.iter().all(|b| b.is_ascii_graphic() || *b >= 0x80);
    let place =
        value.starts_with(b"/") || value.starts_with(b"./") || memchr::memmem::find(value, b"://").is_some();
    value.len() >= SHORTEST_PASSWORD
        && varied
        && text
        && !place
        && !is_number(value)
        && !is_stock_password(value)
        && !is_wordy(value)
}

/// Letters and digits without words, paths or the form of an identifier of something.
pub(super) fn is_random(value: &[u8]) -> bool {
    let letters = value.iter().any(u8::is_ascii_alphabetic);
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count() >= 2;
    letters && digits && !is_number(value) && !is_wordy(value) && !is_uuid(value) && !value.starts_with(b"/")
}

/// Such text may stand in JSON without quotes, as a number.
fn is_number(value: &[u8]) -> bool {
    value
        .iter()
        .all(|b| b.is_ascii_digit() || matches!(b, b'e' | b'E' | b'+' | b'-' | b'.'))
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Pieces between separators are all words or short numbers: `my-session-token-2024`.
fn is_wordy(value: &[u8]) -> bool {
    let pieces = value.split(|b| matches!(b, b'-' | b'_' | b'.' | b'/' | b'='));
    let wordy = |piece: &[u8]| {
        let digits = piece.iter().filter(|b| b.is_ascii_digit()).count();
        let tail_digits = piece.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let rest = piece.get(1..).unwrap_or_default();
        let one_case =
            rest.iter().all(|b| !b.is_ascii_uppercase()) || rest.iter().all(|b| !b.is_ascii_lowercase());
        digits == tail_digits && digits <= 4 && one_case && piece.iter().all(u8::is_ascii_alphanumeric)
    };
    pieces.into_iter().all(wordy)
}

#[cfg(test)]
#[allow(clippy::string_slice, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn value(text: &str, word: &str) -> Option<String> {
        let at = text.find(word)?;
        let a = after_name(text.as_bytes(), &(at..at + word.len()))?;
        Some(text[a.value..].to_owned())
    }

    #[test]
    fn spellings() {
        for text in [
            r#"{"api_key":"V"}"#,
            r#"{"api_key" : "V"}"#,
            "API api_key=V",
            "api_key_prod: 'V'",
            r#"{\"api_key\": \"V\"}"#,
            "env[\"api_key\"] = `V`",
            "api_key := \"V\"",
            "api_key => \"V\"",
        ] {
            assert!(
                value(text, "api_key").is_some_and(|v| v.starts_with('V')),
                "{text}"
            );
        }
        assert_eq!(value("the api_key is V", "api_key"), None);
        assert_eq!(value("api_key", "api_key"), None);
    }

    #[test]
    fn words_are_no_secrets() {
        for text in [
            "my-session-token-2024",
            "getWeatherForToday",
            "correct-horse-battery",
            "some_identifier_12",
        ] {
            assert!(!is_random(text.as_bytes()), "{text}");
        }
        assert!(is_random(b"q7Zt9LmPw2Xc4VbN8sRd"));
        assert!(!is_random(b"123e4567-e89b-12d3-a456-426614174000"));
        assert!(!is_password(b"password"));
        assert!(!is_password(b"12345678e99"));
        assert!(is_password(b"Tr0ub4dor&3x"));
    }
}
