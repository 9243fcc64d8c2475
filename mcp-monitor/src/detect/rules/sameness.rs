//! Whether two JSON texts say the same, however they are written.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use crate::mcp::json;

/// Makes digests of what JSON texts say: white space, escapes, the order of members and the way of writing
/// numbers make no difference. Under a key that no server knows, so that none can make two answers look alike.
#[derive(Debug, Default)]
pub(super) struct Sameness(RandomState);

impl Sameness {
    /// Digest of the text; of its bytes if it is no JSON.
    pub(super) fn digest(&self, text: &[u8]) -> u64 {
        let walk = Walk { key: &self.0, text };
        let mut hasher = self.0.build_hasher();
        let end = walk.value(json::skip_space(text, 0), json::MAX_DEPTH, &mut hasher);
        match end.map(|end| json::skip_space(text, end)) {
            Some(end) if end == text.len() => hasher.finish(),
            _ => self.0.hash_one((b'x', text)),
        }
    }
}

/// One way through a text: nothing is built, and a string is copied only where its spelling is not the usual one.
struct Walk<'t> {
    key: &'t RandomState,
    text: &'t [u8],
}

impl Walk<'_> {
    /// Digests the value that begins at `at` into `hasher`; the index after it, `None` if it is none or has more
    /// than `depth` levels.
    fn value(&self, at: usize, depth: u32, hasher: &mut DefaultHasher) -> Option<usize> {
        match self.text.get(at)? {
            b'{' => self.object(at, depth.checked_sub(1)?, hasher),
            b'[' => self.array(at, depth.checked_sub(1)?, hasher),
            b'"' => self.string(at, hasher),
            letter @ (b't' | b'f' | b'n') => {
                mark(*letter, 0, hasher);
                json::scalar_end(self.text, at).ok()
            }
            _ => {
                let end = json::scalar_end(self.text, at).ok()?;
                let number: f64 = std::str::from_utf8(self.text.get(at..end)?).ok()?.parse().ok()?;
                mark(b'0', 0, hasher);
                // Of the two zeros one.
                hasher.write_u64((number + 0.0).to_bits());
                Some(end)
            }
        }
    }

    fn object(&self, at: usize, depth: u32, hasher: &mut DefaultHasher) -> Option<usize> {
        // A sum does not depend on the order.
        let (mut sum, mut members) = (0_u64, 0_usize);
        let end = self.items(at, b'}', |at| {
            let mut member = self.key.build_hasher();
            let colon = json::skip_space(self.text, self.string(at, &mut member)?);
            (self.text.get(colon) == Some(&b':')).then_some(())?;
            let value = json::skip_space(self.text, colon.checked_add(1)?);
            let end = self.value(value, depth, &mut member)?;
            sum = sum.wrapping_add(member.finish());
            members = members.saturating_add(1);
            Some(end)
        })?;
        mark(b'{', members, hasher);
        hasher.write_u64(sum);
        Some(end)
    }

    fn array(&self, at: usize, depth: u32, hasher: &mut DefaultHasher) -> Option<usize> {
        mark(b'[', 0, hasher);
        let end = self.items(at, b']', |at| self.value(at, depth, hasher))?;
        mark(b']', 0, hasher);
        Some(end)
    }

    /// What is between the bracket at `at` and `close`, one after the other.
    fn items(&self, at: usize, close: u8, mut item: impl FnMut(usize) -> Option<usize>) -> Option<usize> {
        let mut at = json::skip_space(self.text, at.checked_add(1)?);
        if self.text.get(at) == Some(&close) {
            return at.checked_add(1);
        }
        loop {
            at = json::skip_space(self.text, item(at)?);
            let next = at.checked_add(1)?;
            match self.text.get(at)? {
                b',' => at = json::skip_space(self.text, next),
                other => return (*other == close).then_some(next),
            }
        }
    }

    fn string(&self, at: usize, hasher: &mut DefaultHasher) -> Option<usize> {
        (self.text.get(at) == Some(&b'"')).then_some(())?;
        let start = at.checked_add(1)?;
        let (end, spelling) = json::string_end(self.text, start).ok()?;
        let raw = self.text.get(start..end.checked_sub(1)?)?;
        let usual = match spelling {
            json::Spelling::Usual => None,
            json::Spelling::Other => {
                let plain = json::string_at(self.text, at)?;
                serde_json::to_string(plain.as_ref()).ok()
            }
        };
        let said = match &usual {
            Some(spelt) => spelt.as_bytes().get(1..spelt.len().checked_sub(1)?)?,
            None => raw,
        };
        mark(b'"', said.len(), hasher);
        hasher.write(said);
        Some(end)
    }
}

/// What follows is of this kind, and so long: one write, since short ones cost most.
fn mark(kind: u8, len: usize, hasher: &mut DefaultHasher) {
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    hasher.write_u64((u64::from(kind) << 56) ^ len);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spelling_makes_no_difference_and_content_does() {
        let same = Sameness::default();
        let digest = |text: &str| same.digest(text.as_bytes());
        for (a, b) in [
            (
                r#"{"a":1,"b":[true,null]}"#,
                "{ \"b\": [true, null], \"\\u0061\": 1.0 }",
            ),
            ("[0]", "[-0.0]"),
            ("1e3", "1000"),
            (r#"["a\/b\u00fc\u000a\u0022"]"#, "[\"a/b\u{fc}\\n\\\"\"]"),
        ] {
            assert_eq!(digest(a), digest(b), "{a} {b}");
        }
        for (a, b) in [
            ("[1,2]", "[2,1]"),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":1,"b":1}"#),
            ("[[1],2]", "[1,[2]]"),
            ("{}", "[]"),
            ("no json", "no  json"),
            ("1", "1 1"),
            (r#"["a","b"]"#, r#"["a\",\"b"]"#),
            (r#"{"a":[1],"b":2}"#, r#"{"a":[1,2]}"#),
            (r#"[true,null]"#, r#"[null,true]"#),
        ] {
            assert_ne!(digest(a), digest(b), "{a} {b}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            ".{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            Sameness::default().digest(&bytes);
        }

        #[test]
        fn equal_values_are_the_same_and_others_are_not(a in value(), b in value()) {
            let same = Sameness::default();
            let text = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
            let pretty = serde_json::to_vec_pretty(&a).unwrap();
            prop_assert_eq!(same.digest(&pretty), same.digest(&text(&a)));
            prop_assert_eq!(a == b, same.digest(&text(&a)) == same.digest(&text(&b)));
        }
    }
}
