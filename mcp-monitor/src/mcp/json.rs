//! A skimming JSON reader: finds where values lie without building them (RFC 8259).
//!
//! Messages can be megabytes of which a monitor needs a few short fields, so values are skipped: short
//! strings in words of eight bytes, long ones with one pass of `memchr`. Numbers, literals, strings' escapes and the bracket
//! structure are checked; control characters inside strings are let through.

use std::{borrow::Cow, ops::Range};

/// Deeper nesting is not followed.
pub const MAX_DEPTH: u32 = 128;

/// Why a text was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JsonError {
    /// Not JSON at this byte.
    Malformed(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

type Result<T> = std::result::Result<T, JsonError>;

/// Index of the first byte at or after `at` that is not white space.
#[inline]
pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at = at.saturating_add(1);
    }
    at
}

/// Words looked at before `memchr` is asked: most strings end in them, and a call costs more.
const WORDS: usize = 4;

/// The high bit of each byte of `word` that is `byte`; wrong at most above the first that is.
#[inline]
fn bytes_like(word: u64, byte: u8) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let differ = word ^ ONES.wrapping_mul(u64::from(byte));
    differ.wrapping_sub(ONES) & !differ & HIGH
}

/// Place of the first byte that has a bit in `hits`.
#[inline]
fn first_of(hits: u64) -> usize {
    usize::try_from(hits.trailing_zeros() / 8).unwrap_or(0)
}

/// Where the first quote or backslash is.
#[inline]
fn quote_or_escape(text: &[u8]) -> Option<usize> {
    let mut seen = 0_usize;
    for word in text.as_chunks::<8>().0.iter().take(WORDS) {
        let word = u64::from_le_bytes(*word);
        let hits = bytes_like(word, b'"') | bytes_like(word, b'\\');
        if hits != 0 {
            return seen.checked_add(first_of(hits));
        }
        seen = seen.saturating_add(8);
    }
    let hit = memchr::memchr2(b'"', b'\\', text.get(seen..)?)?;
    seen.checked_add(hit)
}

/// How a string is spelt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// Escapes only of what must be escaped, and as letters where there are letters for it: strings that say the
    /// same are the same bytes.
    Usual,
    /// There are others: `\/` or `\u`.
    Other,
}

/// `at` is after an opening quote; the index after the closing one.
#[inline]
fn skip_string(text: &[u8], at: usize) -> Result<usize> {
    string_end(text, at).map(|(end, _)| end)
}

/// `at` is after an opening quote; the index after the closing one, and how the string is spelt.
///
/// # Errors
///
/// If the string does not end, or has an escape that is none.
#[inline]
pub fn string_end(text: &[u8], mut at: usize) -> Result<(usize, Spelling)> {
    let mut spelling = Spelling::Usual;
    loop {
        let rest = text.get(at..).ok_or(JsonError::Malformed(at))?;
        let hit = quote_or_escape(rest).ok_or(JsonError::Malformed(text.len()))?;
        let found = at.saturating_add(hit);
        if rest.get(hit) == Some(&b'"') {
            return Ok((found.saturating_add(1), spelling));
        }
        let escaped = found.saturating_add(1);
        at = match text.get(escaped) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => escaped.saturating_add(1),
            Some(b'/') => {
                spelling = Spelling::Other;
                escaped.saturating_add(1)
            }
            Some(b'u') => {
                spelling = Spelling::Other;
                let end = escaped.saturating_add(5);
                let digits = text
                    .get(escaped.saturating_add(1)..end)
                    .ok_or(JsonError::Malformed(escaped))?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(JsonError::Malformed(escaped));
                }
                end
            }
            _ => return Err(JsonError::Malformed(escaped)),
        };
    }
}

/// A number, `true`, `false` or `null` at `at`; the index after it.
///
/// # Errors
///
/// If there is none.
pub fn scalar_end(text: &[u8], at: usize) -> Result<usize> {
    let word: &[u8] = match text.get(at) {
        Some(b't') => b"true",
        Some(b'f') => b"false",
        Some(b'n') => b"null",
        _ => b"",
    };
    if !word.is_empty() {
        let there = text.get(at..).is_some_and(|rest| rest.starts_with(word));
        return there
            .then(|| at.saturating_add(word.len()))
            .ok_or(JsonError::Malformed(at));
    }
    let mut end = at;
    let digits = |mut i: usize| {
        while text.get(i).is_some_and(u8::is_ascii_digit) {
            i = i.saturating_add(1);
        }
        i
    };
    if text.get(end) == Some(&b'-') {
        end = end.saturating_add(1);
    }
    let whole = digits(end);
    let leading_zero = text.get(end) == Some(&b'0') && whole > end.saturating_add(1);
    if whole == end || leading_zero {
        return Err(JsonError::Malformed(at));
    }
    end = whole;
    if text.get(end) == Some(&b'.') {
        let fraction = digits(end.saturating_add(1));
        if fraction == end.saturating_add(1) {
            return Err(JsonError::Malformed(end));
        }
        end = fraction;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        end = end.saturating_add(1);
        if matches!(text.get(end), Some(b'+' | b'-')) {
            end = end.saturating_add(1);
        }
        let exponent = digits(end);
        if exponent == end {
            return Err(JsonError::Malformed(end));
        }
        end = exponent;
    }
    Ok(end)
}

/// Is shown every key while values are skipped.
pub trait KeySink {
    /// An object that is not empty begins.
    fn open(&mut self);
    /// A key of the innermost object, without its quotes, escapes as they are.
    fn key(&mut self, raw: &[u8]);
    /// The innermost object ends.
    fn close(&mut self);
    /// Where the value at `at` ends, a member of the outermost object, if it needs not be walked.
    fn passes(&mut self, _key: &str, _text: &[u8], _at: usize) -> Option<usize> {
        None
    }
}

/// Keys are of no interest.
impl KeySink for () {
    fn open(&mut self) {}
    fn key(&mut self, _: &[u8]) {}
    fn close(&mut self) {}
}

/// Skips the value that begins at `at` (white space before it allowed); the index after it.
pub fn skip_value(text: &[u8], at: usize) -> Result<usize> {
    skip_value_with(text, at, 0, &mut ())
}

/// As [`skip_value`], `around` levels deep, keys shown to `keys`.
fn skip_value_with<K: KeySink>(text: &[u8], at: usize, around: u32, keys: &mut K) -> Result<usize> {
    // One bit a level: 1 in an object, 0 in an array.
    let mut levels: u128 = 0;
    let mut depth: u32 = around;
    let mut at = skip_space(text, at);
    loop {
        // Here a value begins.
        match text.get(at) {
            Some(open @ (b'{' | b'[')) => {
                let object = *open == b'{';
                let inner = skip_space(text, at.saturating_add(1));
                let close = if object { b'}' } else { b']' };
                if text.get(inner) == Some(&close) {
                    at = inner.saturating_add(1);
                } else {
                    depth = depth.saturating_add(1);
                    if depth > MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    levels = (levels << 1) | u128::from(object);
                    at = if object {
                        keys.open();
                        skip_key(text, inner, keys)?
                    } else {
                        inner
                    };
                    continue;
                }
            }
            Some(b'"') => at = skip_string(text, at.saturating_add(1))?,
            Some(_) => at = scalar_end(text, at)?,
            None => return Err(JsonError::Malformed(at)),
        }
        // Here a value has ended: close levels until one goes on.
        loop {
            if depth == around {
                return Ok(at);
            }
            let object = levels & 1 == 1;
            at = skip_space(text, at);
            match text.get(at) {
                Some(b',') => {
                    at = skip_space(text, at.saturating_add(1));
                    if object {
                        at = skip_key(text, at, keys)?;
                    }
                    break;
                }
                Some(b'}') if object => keys.close(),
                Some(b']') if !object => {}
                _ => return Err(JsonError::Malformed(at)),
            }
            at = at.saturating_add(1);
            depth = depth.saturating_sub(1);
            levels >>= 1;
        }
    }
}

/// A key and its colon at `at`; where the value begins.
#[inline]
fn skip_key<K: KeySink>(text: &[u8], at: usize, keys: &mut K) -> Result<usize> {
    read_key(text, at, keys).map(|(_, value)| value)
}

/// A key and its colon at `at`: the key without its quotes, and where the value begins.
#[inline]
fn read_key<'a, K: KeySink>(text: &'a [u8], at: usize, keys: &mut K) -> Result<(&'a [u8], usize)> {
    if text.get(at) != Some(&b'"') {
        return Err(JsonError::Malformed(at));
    }
    let start = at.saturating_add(1);
    let end = skip_string(text, start)?;
    let raw = text.get(start..end.saturating_sub(1)).unwrap_or_default();
    keys.key(raw);
    let after = skip_space(text, end);
    if text.get(after) != Some(&b':') {
        return Err(JsonError::Malformed(after));
    }
    Ok((raw, skip_space(text, after.saturating_add(1))))
}

/// Walks the members of the object at the start of `text` (white space allowed), in wire order,
/// and returns the index after the object. `each` gets the key, escapes resolved, and the range
/// of the value. Duplicate keys come twice.
pub fn members<'a>(text: &'a [u8], each: impl FnMut(Cow<'a, str>, Range<usize>)) -> Result<usize> {
    members_with(text, &mut (), each)
}

/// As [`members`], the keys of the object and of all below it shown to `keys`.
pub fn members_with<'a, K: KeySink>(
    text: &'a [u8],
    keys: &mut K,
    each: impl FnMut(Cow<'a, str>, Range<usize>),
) -> Result<usize> {
    members_in(text, 0, keys, each)
}

/// As [`members_with`], of an object that is `around` levels deep in another text.
pub fn members_in<'a, K: KeySink>(
    text: &'a [u8],
    around: u32,
    keys: &mut K,
    mut each: impl FnMut(Cow<'a, str>, Range<usize>),
) -> Result<usize> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'{') {
        return Err(JsonError::Malformed(at));
    }
    at = skip_space(text, at.saturating_add(1));
    if text.get(at) == Some(&b'}') {
        return Ok(at.saturating_add(1));
    }
    keys.open();
    loop {
        let key_start = at;
        let (raw, value_start) = read_key(text, at, keys)?;
        let key = resolve(raw).ok_or(JsonError::Malformed(key_start))?;
        let value_end = match keys.passes(&key, text, value_start) {
            Some(end) => end,
            None => skip_value_with(text, value_start, around, keys)?,
        };
        each(key, value_start..value_end);
        at = skip_space(text, value_end);
        match text.get(at) {
            Some(b',') => at = skip_space(text, at.saturating_add(1)),
            Some(b'}') => {
                keys.close();
                return Ok(at.saturating_add(1));
            }
            _ => return Err(JsonError::Malformed(at)),
        }
    }
}

/// Walks the elements of the array at the start of `text`; the index after it.
pub fn elements(text: &[u8], mut each: impl FnMut(Range<usize>)) -> Result<usize> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'[') {
        return Err(JsonError::Malformed(at));
    }
    at = skip_space(text, at.saturating_add(1));
    if text.get(at) == Some(&b']') {
        return Ok(at.saturating_add(1));
    }
    loop {
        let start = skip_space(text, at);
        let end = skip_value(text, start)?;
        each(start..end);
        at = skip_space(text, end);
        match text.get(at) {
            Some(b',') => at = at.saturating_add(1),
            Some(b']') => return Ok(at.saturating_add(1)),
            _ => return Err(JsonError::Malformed(at)),
        }
    }
}

/// The string that begins with the quote at `at`, escapes resolved; `None` if it is not one
/// or not UTF-8. Lone surrogates become U+FFFD.
pub fn string_at(text: &[u8], at: usize) -> Option<Cow<'_, str>> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let start = at.checked_add(1)?;
    let end = skip_string(text, start).ok()?.checked_sub(1)?;
    resolve(text.get(start..end)?)
}

/// The body of a checked string, escapes resolved; `None` if it is not UTF-8.
fn resolve(raw: &[u8]) -> Option<Cow<'_, str>> {
    let raw = std::str::from_utf8(raw).ok()?;
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    Some(Cow::Owned(unescape(raw)))
}

/// Bytes before the first `mark`. Escapes stand close together where there are any, so words go before `memchr`.
#[inline]
pub fn before(text: &[u8], mark: u8) -> usize {
    let mut plain = 0_usize;
    for word in text.as_chunks::<8>().0.iter().take(WORDS) {
        let hits = bytes_like(u64::from_le_bytes(*word), mark);
        if hits != 0 {
            return plain.saturating_add(first_of(hits));
        }
        plain = plain.saturating_add(8);
    }
    let rest = text.get(plain..).unwrap_or_default();
    plain.saturating_add(memchr::memchr(mark, rest).unwrap_or(rest.len()))
}

/// As [`before`], eight if the word has no `mark`.
#[inline]
pub fn before_in_word(word: [u8; 8], mark: u8) -> usize {
    first_of(bytes_like(u64::from_le_bytes(word), mark))
}

/// Resolves the escapes of a checked string body.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    let mut high: Option<u32> = None;
    loop {
        if high.is_none() {
            // What stands between escapes goes over in one piece.
            let rest = chars.as_str();
            let plain = before(rest.as_bytes(), b'\\');
            let (piece, tail) = rest.split_at_checked(plain).unwrap_or((rest, ""));
            out.push_str(piece);
            chars = tail.chars();
        }
        let Some(c) = chars.next() else { break };
        let unit = if c == '\\' {
            match chars.next() {
                Some('b') => u32::from('\u{8}'),
                Some('f') => u32::from('\u{c}'),
                Some('n') => u32::from('\n'),
                Some('r') => u32::from('\r'),
                Some('t') => u32::from('\t'),
                Some('u') => (0..4)
                    .filter_map(|_| chars.next()?.to_digit(16))
                    .fold(0, |value, digit| (value << 4) | digit),
                Some(other) => u32::from(other),
                None => break,
            }
        } else {
            u32::from(c)
        };
        match (high.take(), unit) {
            (Some(h), 0xdc00..=0xdfff) => {
                let joined = ((h & 0x3ff) << 10 | (unit & 0x3ff)).saturating_add(0x1_0000);
                out.push(char::from_u32(joined).unwrap_or('\u{fffd}'));
                continue;
            }
            (Some(_), _) => out.push('\u{fffd}'),
            (None, _) => {}
        }
        if (0xd800..=0xdbff).contains(&unit) {
            high = Some(unit);
        } else {
            out.push(char::from_u32(unit).unwrap_or('\u{fffd}'));
        }
    }
    if high.is_some() {
        out.push('\u{fffd}');
    }
    out
}

/// The value of the first member `key` of the object `text`, as its range in `text`.
pub fn member(text: &[u8], key: &str) -> Option<Range<usize>> {
    let mut found = None;
    // A text that breaks off later still gives what came before.
    let _ = members(text, |k, value| {
        if found.is_none() && k == key {
            found = Some(value);
        }
    });
    found
}

/// The value at a path of keys, as text.
pub fn path<'a>(text: &'a [u8], keys: &[&str]) -> Option<&'a [u8]> {
    keys.iter().try_fold(text, |at, key| at.get(member(at, key)?))
}

/// The string at a path of keys.
pub fn path_str<'a>(text: &'a [u8], keys: &[&str]) -> Option<Cow<'a, str>> {
    string_at(path(text, keys)?, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_and_paths() {
        let text = br#" { "a" : [1,{"b":"}"}], "\u0062":"x\n\ud83d\ude00", "c":{"d":-1.5e3} } "#;
        let mut keys = Vec::new();
        members(text, |k, v| {
            keys.push((k.into_owned(), String::from_utf8(text[v].to_vec()).unwrap()))
        })
        .unwrap();
        assert_eq!(keys[0], ("a".into(), r#"[1,{"b":"}"}]"#.into()));
        assert_eq!(keys[1].0, "b");
        assert_eq!(path_str(text, &["b"]).unwrap(), "x\n😀");
        assert_eq!(path(text, &["c", "d"]).unwrap(), b"-1.5e3");
        assert_eq!(path(text, &["c", "x"]), None);
    }

    #[test]
    fn what_is_not_json() {
        for bad in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "[1,]",
            "01",
            "\"\\x\"",
            "tru",
            "{\"a\":1,}",
            "-",
            "1.",
            "1e",
        ] {
            assert!(skip_value(bad.as_bytes(), 0).is_err(), "{bad}");
        }
        assert_eq!(skip_value("[".repeat(200).as_bytes(), 0), Err(JsonError::TooDeep));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = skip_value(&bytes, 0);
            let _ = members(&bytes, |_, _| {});
            let _ = elements(&bytes, |_| {});
        }

        #[test]
        fn a_mark_is_found_where_it_is(text in "[ab\\\\\u{a2}\u{dc}]{0,80}", word: [u8; 8], mark: u8) {
            let plain = text.bytes().position(|b| b == b'\\');
            prop_assert_eq!(before(text.as_bytes(), b'\\'), plain.unwrap_or(text.len()));
            let plain = word.iter().position(|b| *b == mark);
            prop_assert_eq!(before_in_word(word, mark), plain.unwrap_or(8));
        }

        #[test]
        fn finds_the_first_quote_or_backslash(text in "[a\"\\\\\u{a2}\u{dc}!#\\]]{0,80}", from in 0_usize..40) {
            let bytes = text.as_bytes().get(from..).unwrap_or_default();
            let plain = bytes.iter().position(|b| matches!(b, b'"' | b'\\'));
            prop_assert_eq!(quote_or_escape(bytes), plain, "{:?}", bytes);
            let escape = bytes.iter().position(|b| *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(before(bytes, b'\\'), escape, "{:?}", bytes);
        }

        #[test]
        fn agrees_with_serde(bytes in "[\\[\\]{}:,\"a1 .e\\\\-]{0,24}") {
            let ours = skip_value(bytes.as_bytes(), 0)
                .is_ok_and(|end| skip_space(bytes.as_bytes(), end) == bytes.len());
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&bytes).is_ok();
            prop_assert_eq!(ours, theirs, "{}", bytes);
        }

        #[test]
        fn strings_agree_with_serde(s: String) {
            let text = serde_json::to_string(&s).unwrap();
            prop_assert_eq!(string_at(text.as_bytes(), 0).unwrap(), s);
        }
    }
}
