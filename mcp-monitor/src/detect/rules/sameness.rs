//! Whether two JSON texts say the same, however they are written.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Makes digests of what JSON texts say: white space, escapes, the order of members and the way of writing
/// numbers make no difference. Two keys that no server knows, so that none can make two answers look alike.
#[derive(Debug, Default)]
pub(super) struct Sameness(RandomState, RandomState);

impl Sameness {
    /// Digest of the text; of its bytes if it is no JSON.
    pub(super) fn digest(&self, text: &[u8]) -> u128 {
        let keys = Keys(&self.0, &self.1);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let read = Walk(keys).deserialize(&mut reader).ok();
        let Pair(one, other) = read
            .filter(|_| reader.end().is_ok())
            .unwrap_or_else(|| keys.hash((b'x', text)));
        (u128::from(one) << 64) | u128::from(other)
    }
}

#[derive(Clone, Copy)]
struct Keys<'k>(&'k RandomState, &'k RandomState);

impl Keys<'_> {
    fn hash(self, what: impl Hash) -> Pair {
        Pair(self.0.hash_one(&what), self.1.hash_one(&what))
    }
}

/// A hash with either key.
#[derive(Clone, Copy, Hash)]
struct Pair(u64, u64);

/// Digests the value that comes next, in one walk. Depth is bounded by the JSON reader.
#[derive(Clone, Copy)]
struct Walk<'k>(Keys<'k>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Pair;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Pair, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Pair;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Pair, E> {
        Ok(self.0.hash(b'n'))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Pair, E> {
        Ok(self.0.hash((b'b', value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Pair, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Pair, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Pair, E> {
        // Of the two zeros one.
        Ok(self.0.hash((b'f', (value + 0.0).to_bits())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Pair, E> {
        Ok(self.0.hash((b's', value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pair, A::Error> {
        let mut all = self.0.hash(b'a');
        while let Some(item) = seq.next_element_seed(self)? {
            all = self.0.hash((b'a', all, item));
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pair, A::Error> {
        // A sum does not depend on the order.
        let mut all = Pair(0, 0);
        while let Some(name) = map.next_key_seed(self)? {
            let value = map.next_value_seed(self)?;
            let member = self.0.hash((b'm', name, value));
            all = Pair(all.0.wrapping_add(member.0), all.1.wrapping_add(member.1));
        }
        Ok(self.0.hash((b'o', all)))
    }
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
        ] {
            assert_ne!(digest(a), digest(b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            Sameness::default().digest(&bytes);
        }
    }
}
