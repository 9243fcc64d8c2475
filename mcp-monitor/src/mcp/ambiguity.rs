//! JSON that two readers could read differently: a key twice in one object, or keys that differ by
//! letter case alone (RFC 8259 section 4 leaves the first open; decoders that ignore case exist).
//!
//! The skimmer shows each key once, as it walks anyway: [`Keys`] keeps one number per key and is all
//! that an ordinary message costs. Only where it is suspicious does [`explain`] walk again, to say what
//! and where.

use std::{borrow::Cow, collections::BTreeMap};

use super::json::{self, KeySink};

/// Objects with more keys are sorted to find equal ones.
const FEW: usize = 16;

/// Suspects an ambiguity: may be wrong where keys differ (a collision), never where they are alike.
#[derive(Debug)]
pub struct Keys {
    /// Of all open objects, innermost last. Before the keys of each stands where those of the one around
    /// it begin.
    hashes: Vec<u64>,
    /// Where the keys of the innermost object begin.
    start: usize,
    suspicious: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            hashes: Vec::with_capacity(32),
            start: 0,
            suspicious: false,
        }
    }
}

impl Keys {
    /// Some object may be ambiguous.
    pub fn suspicious(&self) -> bool {
        self.suspicious
    }
}

impl KeySink for Keys {
    fn open(&mut self) {
        self.hashes.push(self.start as u64);
        self.start = self.hashes.len();
    }

    fn key(&mut self, raw: &[u8]) {
        let (hash, odd) = hash(raw);
        self.hashes.push(if odd {
            self::hash(fold(raw).as_bytes()).0
        } else {
            hash
        });
    }

    fn close(&mut self) {
        if !self.suspicious
            && let Some(own) = self.hashes.get_mut(self.start..)
        {
            self.suspicious = repeats(own);
        }
        self.hashes.truncate(self.start);
        let around = self.hashes.pop().unwrap_or_default();
        self.start = usize::try_from(around).unwrap_or_default();
    }
}

/// One of them stands twice. Their order is lost.
fn repeats(hashes: &mut [u64]) -> bool {
    // Where each sets a bit of its own, none does.
    let bits = hashes
        .iter()
        .fold(0_u64, |bits, hash| bits | 1_u64.rotate_left((hash >> 58) as u32));
    if bits.count_ones() as usize == hashes.len() {
        return false;
    }
    if hashes.len() <= FEW {
        let mut rest = &*hashes;
        while let [first, others @ ..] = rest {
            if others.contains(first) {
                return true;
            }
            rest = others;
        }
        return false;
    }
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair.first() == pair.last())
}

/// ASCII without escapes.
fn is_plain(raw: &[u8]) -> bool {
    raw.iter().all(|b| b.is_ascii() && *b != b'\\')
}

/// Of letters alike in all but case the same; and whether a byte may be no ASCII or a backslash. Words of
/// eight bytes, the last overlapping the one before.
fn hash(bytes: &[u8]) -> (u64, bool) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const CASE: u64 = 0x2020_2020_2020_2020;
    const SLASHES: u64 = 0x5c5c_5c5c_5c5c_5c5c;
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    let mut odd = 0;
    let mut mix = |word: u64| {
        let slash = word ^ SLASHES;
        odd |= (word & HIGH) | (slash.wrapping_sub(ONES) & !slash & HIGH);
        state = (state ^ (word | CASE)).wrapping_mul(FACTOR);
        state ^= state >> 32;
    };
    match (
        bytes.first_chunk::<4>(),
        bytes.last_chunk::<4>(),
        bytes.last_chunk::<8>(),
    ) {
        (_, _, Some(last)) => {
            for word in bytes.as_chunks::<8>().0 {
                mix(u64::from_le_bytes(*word));
            }
            mix(u64::from_le_bytes(*last));
        }
        (Some(first), Some(last), None) => {
            mix(u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32);
        }
        _ => {
            let word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            mix(word);
        }
    }
    // The highest bits are those of the last word mixed as well.
    (state.wrapping_mul(FACTOR), odd != 0)
}

/// Escapes resolved, case folded (the long s and the Kelvin sign too, as Go's decoder does).
fn fold(raw: &[u8]) -> String {
    text(raw)
        .chars()
        .map(|c| if c == '\u{17f}' { 's' } else { c })
        .flat_map(char::to_lowercase)
        .collect()
}

/// A key as it reads.
fn text(raw: &[u8]) -> Cow<'_, str> {
    if is_plain(raw) {
        return String::from_utf8_lossy(raw);
    }
    let mut quoted = Vec::with_capacity(raw.len().saturating_add(2));
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    let read = json::string_at(&quoted, 0).map(Cow::into_owned);
    Cow::Owned(read.unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned()))
}

/// What is ambiguous in the object `text`, and where, e.g. `"path" twice in params.arguments`. `None` if
/// nothing that matters is: keys of free data may well differ by case alone.
pub fn explain(text: &[u8]) -> Option<String> {
    let mut explain = Explain::default();
    // A text that breaks off is looked at up to there.
    let _ = json::members_with(text, &mut explain, |_, _| {});
    explain.found
}

#[derive(Default)]
struct Explain {
    levels: Vec<Level>,
    found: Option<String>,
}

#[derive(Default)]
struct Level {
    /// Folded key → as it reads.
    keys: BTreeMap<String, String>,
    last: String,
}

impl KeySink for Explain {
    fn open(&mut self) {
        self.levels.push(Level::default());
    }

    fn key(&mut self, raw: &[u8]) {
        if self.found.is_some() {
            return;
        }
        let key = text(raw).into_owned();
        let folded = fold(raw);
        let (parents, here) = match self.levels.split_last_mut() {
            Some((here, parents)) => (parents, here),
            None => return,
        };
        if let Some(other) = here.keys.get(&folded) {
            let path: Vec<&str> = parents.iter().map(|l| l.last.as_str()).collect();
            let place = if path.is_empty() {
                "the JSON-RPC envelope".to_owned()
            } else {
                path.iter().map(|p| shown(p)).collect::<Vec<_>>().join(".")
            };
            if *other == key {
                self.found = Some(format!("\"{}\" twice in {place}", shown(&key)));
            } else if matters(&path, &folded) {
                self.found = Some(format!(
                    "\"{}\" beside \"{}\" in {place}",
                    shown(&key),
                    shown(other)
                ));
            }
        }
        here.last.clone_from(&key);
        here.keys.entry(folded).or_insert(key);
    }

    fn close(&mut self) {
        self.levels.pop();
    }
}

/// Keys that MCP itself reads. Lower case.
const FIELDS: &[&str] = &[
    "_meta",
    "annotations",
    "arguments",
    "blob",
    "capabilities",
    "clientinfo",
    "code",
    "content",
    "description",
    "inputschema",
    "iserror",
    "message",
    "method",
    "mimetype",
    "name",
    "outputschema",
    "params",
    "protocolversion",
    "result",
    "serverinfo",
    "structuredcontent",
    "text",
    "type",
    "uri",
    "version",
];

/// Below these, keys are whatever a tool makes them.
const FREE: &[&str] = &[
    "arguments",
    "structuredContent",
    "data",
    "properties",
    "_meta",
    "experimental",
];

/// Two spellings of one key at this path are read by MCP, or by a tool as its parameters.
fn matters(path: &[&str], folded: &str) -> bool {
    path.len() <= 1
        || path == ["params", "arguments"]
        || (FIELDS.contains(&folded) && !path.iter().any(|p| FREE.contains(p)))
}

/// Short, and without what a terminal would act on.
fn shown(key: &str) -> String {
    key.chars().take(40).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn suspicious(text: &str) -> bool {
        let mut keys = Keys::default();
        json::members_with(text.as_bytes(), &mut keys, |_, _| {}).unwrap();
        assert!(keys.hashes.is_empty());
        keys.suspicious()
    }

    #[test]
    fn says_what_is_twice_and_where() {
        for (text, found) in [
            (
                r#"{"id":1,"method":"ping","Method":"tools/call"}"#,
                "\"Method\" beside \"method\" in the JSON-RPC envelope",
            ),
            (
                r#"{"params":{"name":"a","arguments":{"path":"a","p\u0061th":"b"}}}"#,
                "\"path\" twice in params.arguments",
            ),
            (
                r#"{"params":{"arguments":{"x":[{"a":1},{"b":2,"b":3}]}}}"#,
                "\"b\" twice in params.arguments.x",
            ),
            (
                r#"{"params":{"arguments":{"token":1,"to\u212aen":2}}}"#,
                "\"to\\u{212a}en\" beside \"token\" in params.arguments",
            ),
            (
                r#"{"params":{"ſet":1,"set":2}}"#,
                "\"set\" beside \"\\u{17f}et\" in params",
            ),
            (
                r#"{"result":{"tools":[{"name":"a","Description":"x","description":"y"}]}}"#,
                "\"description\" beside \"Description\" in result.tools",
            ),
        ] {
            assert!(suspicious(text), "{text}");
            assert_eq!(explain(text.as_bytes()).as_deref(), Some(found), "{text}");
        }
        let many: String = (0..40).map(|n| format!("\"k{n}\":0,")).collect();
        assert!(suspicious(&format!("{{{many}\"K7\":1}}")));
        assert!(!suspicious(&format!("{{{many}\"other\":1}}")));
    }

    #[test]
    fn the_same_key_in_different_objects_is_ordinary() {
        let text =
            r#"{"id":1,"params":{"id":2,"items":[{"id":3},{"id":4,"sub":{"id":5}}]},"result":{"id":{}}}"#;
        assert!(!suspicious(text));
        // Free data may have keys that differ by case.
        let files = r#"{"result":{"structuredContent":{"README.md":1,"readme.md":2}}}"#;
        assert!(suspicious(files) && explain(files.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn what_is_twice_is_always_suspicious(key in "\\PC{1,20}", others in proptest::collection::vec("[a-z]{1,6}", 0..30), upper: bool) {
            let again = if upper { key.to_uppercase() } else { key.clone() };
            prop_assume!(fold(serde_json::to_string(&key).unwrap().trim_matches('"').as_bytes()) == fold(again.as_bytes()) || !upper);
            let mut text = String::from("{");
            let quoted = |k: &str| serde_json::to_string(k).unwrap();
            text.push_str(&format!("{}:1,", quoted(&key)));
            for other in &others {
                text.push_str(&format!("{}:[{{}}],", quoted(other)));
            }
            text.push_str(&format!("{}:2}}", quoted(&again)));
            prop_assert!(suspicious(&text), "{}", text);
            prop_assert!(explain(text.as_bytes()).is_some());
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let mut keys = Keys::default();
            let _ = json::members_with(&bytes, &mut keys, |_, _| {});
            let _ = explain(&bytes);
        }
    }
}
