//! One form for equal JSON: RFC 8785, and the hash of a tool's definition.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Members of a definition that may differ between two listings of the same tool: how long it may
/// be cached and by whom, and where the listing goes on.
const VOLATILE: [&str; 4] = ["ttlMs", "cacheScope", "cursor", "nextCursor"];

/// SHA-256 of the RFC 8785 form of a JSON text. `None` if it is no JSON, is nested deeper than 128
/// levels, or names one member of an object twice (RFC 8785 section 3.1 asks for I-JSON, which
/// forbids that: two readers could see two definitions under one hash).
pub fn canonical_sha256(json: &[u8]) -> Option<[u8; 32]> {
    sha256(&parse(json)?)
}

/// `sha256:` and the lower-case hex of a tool's definition in RFC 8785 form, without `ttlMs`,
/// `cacheScope` and cursors. `None` as for [`canonical_sha256`], or if it is no object.
pub fn tool_hash(tool_json: &[u8]) -> Option<String> {
    tool_sha256(parse(tool_json)?).map(|hash| hex(&hash))
}

/// As [`tool_hash`], of a definition that was read already.
pub fn tool_sha256(definition: Value) -> Option<[u8; 32]> {
    let Value::Object(mut tool) = definition else {
        return None;
    };
    for name in VOLATILE {
        // `remove` would swap the last member in; the order is set anew anyway.
        tool.swap_remove(name);
    }
    sha256(&Value::Object(tool))
}

/// `sha256:` and lower-case hex, as pins have it.
pub fn hex(hash: &[u8; 32]) -> String {
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn sha256(value: &Value) -> Option<[u8; 32]> {
    let text = serde_json_canonicalizer::to_vec(value).ok()?;
    Some(Sha256::digest(&text).into())
}

/// serde_json's own limit of 128 levels bounds the depth.
fn parse(json: &[u8]) -> Option<Value> {
    let Strict(value) = serde_json::from_slice(json).ok()?;
    Some(value)
}

/// A value whose objects name each member once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(json: &str) -> String {
        String::from_utf8(serde_json_canonicalizer::to_vec(&parse(json.as_bytes()).unwrap()).unwrap())
            .unwrap()
    }

    /// RFC 8785 sections 3.2.2, 3.2.3 and appendix B.
    #[test]
    fn vectors_of_rfc_8785() {
        assert_eq!(
            form(
                r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#
            ),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        assert_eq!(
            form(
                r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#
            ),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
        for (text, canonical) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("9007199254740992.0", "9007199254740992"),
            ("295147905179352830000", "295147905179352830000"),
            ("1e21", "1e+21"),
            ("999999999999999900000", "999999999999999900000"),
            ("1e-7", "1e-7"),
            ("0.000001", "0.000001"),
        ] {
            assert_eq!(form(text), canonical, "{text}");
        }
    }

    #[test]
    fn order_and_spacing_do_not_count() {
        let a = canonical_sha256(br#"{"a":1,"b":[true,null,"x"]}"#);
        assert!(a.is_some());
        assert_eq!(
            a,
            canonical_sha256(b" { \"b\" : [ true , null , \"\\u0078\" ] , \"a\" : 1.0 } ")
        );
        assert_ne!(a, canonical_sha256(br#"{"a":1,"b":[true,"x",null]}"#));
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        assert_eq!(canonical_sha256(br#"{"a":1,"a":2}"#), None);
        assert_eq!(canonical_sha256(br#"[{"a":{"b":1,"\u0062":1}}]"#), None);
        assert_eq!(canonical_sha256(b"{"), None);
        assert_eq!(canonical_sha256("[".repeat(100_000).as_bytes()), None);
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(canonical_sha256(deep.as_bytes()), None);
    }

    #[test]
    fn tool_hash_leaves_out_what_varies() {
        let plain = tool_hash(br#"{"name":"t","inputSchema":{"type":"object","cursor":1}}"#);
        let cached = tool_hash(br#"{"ttlMs":5,"inputSchema":{"cursor":1,"type":"object"},"cacheScope":"x","name":"t","nextCursor":"q"}"#);
        assert_eq!(plain, cached);
        let text = plain.unwrap();
        assert!(text.starts_with("sha256:") && text.len() == 71);
        // Inside the definition the same names are part of it.
        assert_ne!(
            Some(text),
            tool_hash(br#"{"name":"t","inputSchema":{"type":"object"}}"#)
        );
        assert_eq!(tool_hash(b"[]"), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            canonical_sha256(&bytes);
            tool_hash(&bytes);
        }
    }
}
