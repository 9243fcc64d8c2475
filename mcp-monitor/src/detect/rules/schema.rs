//! JSON Schema (2020-12, and what older drafts write otherwise) with a bound on the work.
//!
//! A schema comes from the server that is under suspicion, and validation runs as root: a schema whose
//! references lead in circles or whose branches multiply must cost no more than [`MAX_STEPS`] and must
//! not exhaust the stack. Validators in the ecosystem have no such budget. What is not understood
//! (remote references, `format`, `unevaluated…`) is taken as satisfied.

use hashbrown::HashMap;
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// Schemas looked at in one validation; beyond it nothing is said.
const MAX_STEPS: u32 = 20_000;
/// Nesting followed; beyond it nothing is said.
const MAX_DEPTH: u32 = 96;
/// Arrays compared for `uniqueItems`.
const MAX_UNIQUE: usize = 128;
/// Compiled patterns kept, and the size of one.
const MAX_PATTERNS: usize = 256;
const MAX_PATTERN_BYTES: usize = 1 << 16;

/// Why a validation did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Invalid {
    /// What is wrong, and where. Holds no values.
    Violation(String),
    /// It cost too much, or a part of the schema cannot be known: nothing is said.
    Unknown,
}

type Outcome = Result<(), Invalid>;

/// Validates; keeps compiled patterns.
#[derive(Debug, Default)]
pub(super) struct Validator {
    patterns: HashMap<String, Option<Regex>>,
}

impl Validator {
    /// Whether `instance` satisfies `schema`.
    pub(super) fn check(&mut self, schema: &Value, instance: &Value) -> Outcome {
        let mut walk = Walk {
            root: schema,
            steps: 0,
            place: String::new(),
            patterns: &mut self.patterns,
        };
        walk.check(schema, instance, 0)
    }
}

struct Walk<'a> {
    root: &'a Value,
    steps: u32,
    place: String,
    patterns: &'a mut HashMap<String, Option<Regex>>,
}

impl<'a> Walk<'a> {
    fn wrong(&self, what: &str) -> Outcome {
        let place = if self.place.is_empty() {
            "the result"
        } else {
            self.place.trim_start_matches('.')
        };
        Err(Invalid::Violation(format!("{place}: {what}")))
    }

    /// At a member or element of the instance.
    fn inside(&mut self, name: &str, schema: &'a Value, instance: &Value, depth: u32) -> Outcome {
        let end = self.place.len();
        self.place.push('.');
        self.place.extend(name.chars().take(60));
        let outcome = self.check(schema, instance, depth);
        self.place.truncate(end);
        outcome
    }

    fn check(&mut self, schema: &'a Value, instance: &Value, depth: u32) -> Outcome {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MAX_STEPS || depth > MAX_DEPTH {
            return Err(Invalid::Unknown);
        }
        let depth = depth.saturating_add(1);
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => return self.wrong("not allowed"),
            _ => return Ok(()),
        };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(&pointer.replace("%24", "$")))
                .ok_or(Invalid::Unknown)?;
            self.check(target, instance, depth)?;
        }
        if instance.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        self.kind(schema, instance)?;
        self.combined(schema, instance, depth)?;
        match instance {
            Value::Object(map) => self.object(schema, map, depth),
            Value::Array(items) => self.array(schema, items, depth),
            Value::String(text) => self.text(schema, text),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or_default()),
            _ => Ok(()),
        }
    }

    fn kind(&self, schema: &Map<String, Value>, instance: &Value) -> Outcome {
        let is = |kind: &str| match (kind, instance) {
            ("null", Value::Null)
            | ("boolean", Value::Bool(_))
            | ("number", Value::Number(_))
            | ("string", Value::String(_))
            | ("array", Value::Array(_))
            | ("object", Value::Object(_)) => true,
            ("integer", Value::Number(n)) => {
                n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            _ => false,
        };
        let allowed: Vec<&str> = match schema.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !allowed.is_empty() && !allowed.iter().any(|kind| is(kind)) {
            let found = match instance {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            return self.wrong(&format!("{found} instead of {}", allowed.join(" or ")));
        }
        if let Some(Value::Array(values)) = schema.get("enum")
            && !values.iter().any(|value| same(value, instance))
        {
            return self.wrong("none of the listed values");
        }
        if let Some(value) = schema.get("const")
            && !same(value, instance)
        {
            return self.wrong("not the one value");
        }
        Ok(())
    }

    fn combined(&mut self, schema: &'a Map<String, Value>, instance: &Value, depth: u32) -> Outcome {
        for part in list(schema.get("allOf")) {
            self.check(part, instance, depth)?;
        }
        for (word, exactly) in [("anyOf", false), ("oneOf", true)] {
            let Some(Value::Array(parts)) = schema.get(word) else {
                continue;
            };
            let mut fits = 0u32;
            for part in parts {
                if self.holds(part, instance, depth)? {
                    fits = fits.saturating_add(1);
                    if !exactly {
                        break;
                    }
                }
            }
            if fits == 0 || (exactly && fits > 1) {
                return self.wrong(&format!("{fits} alternatives of {word} fit"));
            }
        }
        if let Some(part) = schema.get("not")
            && self.holds(part, instance, depth)?
        {
            return self.wrong("what must not be");
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.holds(condition, instance, depth)? {
                "then"
            } else {
                "else"
            };
            if let Some(part) = schema.get(branch) {
                self.check(part, instance, depth)?;
            }
        }
        Ok(())
    }

    fn holds(&mut self, schema: &'a Value, instance: &Value, depth: u32) -> Result<bool, Invalid> {
        match self.check(schema, instance, depth) {
            Ok(()) => Ok(true),
            Err(Invalid::Violation(_)) => Ok(false),
            Err(Invalid::Unknown) => Err(Invalid::Unknown),
        }
    }

    fn object(&mut self, schema: &'a Map<String, Value>, map: &Map<String, Value>, depth: u32) -> Outcome {
        for name in list(schema.get("required")).iter().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                return self.wrong(&format!("no {}", name.chars().take(60).collect::<String>()));
            }
        }
        let count = map.len() as u64;
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        if number("minProperties").is_some_and(|n| count < n)
            || number("maxProperties").is_some_and(|n| count > n)
        {
            return self.wrong("a number of members that is not allowed");
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties");
        let names = schema.get("propertyNames");
        for (name, value) in map {
            let mut known = false;
            if let Some(part) = properties.and_then(|p| p.get(name)) {
                known = true;
                self.inside(name, part, value, depth)?;
            }
            for (pattern, part) in patterns.into_iter().flatten() {
                if self.matches(pattern, name).ok_or(Invalid::Unknown)? {
                    known = true;
                    self.inside(name, part, value, depth)?;
                }
            }
            if let (false, Some(part)) = (known, additional) {
                self.inside(name, part, value, depth)?;
            }
            if let Some(part) = names {
                self.inside(name, part, &Value::String(name.clone()), depth)?;
            }
        }
        Ok(())
    }

    fn array(&mut self, schema: &'a Map<String, Value>, items: &[Value], depth: u32) -> Outcome {
        let count = items.len() as u64;
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        if number("minItems").is_some_and(|n| count < n) || number("maxItems").is_some_and(|n| count > n) {
            return self.wrong("a number of items that is not allowed");
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) && items.len() <= MAX_UNIQUE {
            let twice = items
                .iter()
                .enumerate()
                .any(|(n, item)| items.iter().take(n).any(|other| same(other, item)));
            if twice {
                return self.wrong("an item twice");
            }
        }
        // Before 2020-12 a list under `items` was what `prefixItems` is now.
        let (prefix, rest) = match schema.get("items") {
            Some(Value::Array(prefix)) => (prefix.as_slice(), schema.get("additionalItems")),
            other => (list(schema.get("prefixItems")), other),
        };
        for (n, item) in items.iter().enumerate() {
            if let Some(part) = prefix.get(n).or(rest) {
                self.inside(&n.to_string(), part, item, depth)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, schema: &Map<String, Value>, text: &str) -> Outcome {
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        let (least, most) = (number("minLength"), number("maxLength"));
        if least.is_some() || most.is_some() {
            let length = text.chars().count() as u64;
            if least.is_some_and(|n| length < n) || most.is_some_and(|n| length > n) {
                return self.wrong("a length that is not allowed");
            }
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self.matches(pattern, text) == Some(false)
        {
            return self.wrong("text that does not match the pattern");
        }
        Ok(())
    }

    fn number(&self, schema: &Map<String, Value>, value: f64) -> Outcome {
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        // Draft 4 wrote `exclusiveMinimum: true` beside `minimum`.
        let strict = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let (low, high) = (limit("minimum"), limit("maximum"));
        let below = low.is_some_and(|n| value < n || (strict("exclusiveMinimum") && value <= n))
            || limit("exclusiveMinimum").is_some_and(|n| value <= n);
        let above = high.is_some_and(|n| value > n || (strict("exclusiveMaximum") && value >= n))
            || limit("exclusiveMaximum").is_some_and(|n| value >= n);
        if below || above {
            return self.wrong("a number outside its range");
        }
        Ok(())
    }

    /// `None` where the pattern cannot be compiled. Linear in the text.
    fn matches(&mut self, pattern: &str, text: &str) -> Option<bool> {
        if let Some(known) = self.patterns.get(pattern) {
            return known.as_ref().map(|regex| regex.is_match(text));
        }
        if self.patterns.len() >= MAX_PATTERNS {
            self.patterns.clear();
        }
        let regex = (pattern.len() <= 1024)
            .then(|| {
                RegexBuilder::new(pattern)
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES)
                    .build()
                    .ok()
            })
            .flatten();
        let found = regex.as_ref().map(|regex| regex.is_match(text));
        self.patterns.insert(pattern.to_owned(), regex);
        found
    }
}

/// Equal as JSON Schema has it: 1 and 1.0 are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(schema: Value, instance: Value) -> Outcome {
        Validator::default().check(&schema, &instance)
    }

    #[test]
    fn finds_violations_and_says_where() {
        let violation = |schema, instance| match check(schema, instance) {
            Err(Invalid::Violation(text)) => text,
            other => panic!("{other:?}"),
        };
        let object = json!({"type": "object", "properties": {"price": {"type": "number", "exclusiveMinimum": 0}, "tags": {"type": "array", "items": {"enum": ["a", "b"]}}}, "required": ["price"], "additionalProperties": false});
        assert_eq!(
            violation(object.clone(), json!({"price": "7"})),
            "price: string instead of number"
        );
        assert_eq!(
            violation(object.clone(), json!({"price": 0})),
            "price: a number outside its range"
        );
        assert_eq!(violation(object.clone(), json!({})), "the result: no price");
        assert_eq!(
            violation(object.clone(), json!({"price": 1, "x": 1})),
            "x: not allowed"
        );
        assert_eq!(
            violation(object, json!({"price": 1, "tags": ["a", "c"]})),
            "tags.1: none of the listed values"
        );
        for (schema, instance) in [
            (
                json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}),
                json!(1.5),
            ),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(1)),
            (json!({"oneOf": [{"type": "number"}, {"minimum": 0}]}), json!(1)),
            (json!({"not": {"type": "string"}}), json!("x")),
            (
                json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}}),
                json!({"a": 1}),
            ),
            (json!({"pattern": "^[a-z]+$", "maxLength": 3}), json!("abcd")),
            (json!({"pattern": "^[a-z]+$"}), json!("A1")),
            (
                json!({"prefixItems": [{"type": "string"}], "items": false}),
                json!(["a", "b"]),
            ),
            (json!({"items": [{"type": "string"}]}), json!([1])),
            (json!({"uniqueItems": true}), json!([1, 1.0])),
            (
                json!({"patternProperties": {"^x": {"type": "string"}}}),
                json!({"xa": 1}),
            ),
            (json!({"const": 3}), json!(4)),
        ] {
            assert!(
                matches!(check(schema.clone(), instance), Err(Invalid::Violation(_))),
                "{schema}"
            );
        }
    }

    #[test]
    fn what_fits_fits() {
        for (schema, instance) in [
            (json!({"type": ["string", "null"]}), json!(null)),
            (json!({"type": "string", "nullable": true}), json!(null)),
            (json!({"type": "integer"}), json!(2.0)),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
                json!(null),
            ),
            (json!({"properties": {"a": {"type": "string"}}}), json!({"b": 1})),
            (json!({"type": "string", "format": "email"}), json!("x")),
            (json!({"pattern": "(?<=a)b"}), json!("zzz")),
            (json!(true), json!(1)),
            (json!({"enum": [1]}), json!(1.0)),
        ] {
            assert_eq!(check(schema.clone(), instance), Ok(()), "{schema}");
        }
    }

    #[test]
    fn hostile_schemas_cost_little_and_say_nothing() {
        assert_eq!(check(json!({"$ref": "#"}), json!(1)), Err(Invalid::Unknown));
        assert_eq!(
            check(json!({"$ref": "https://evil.example/s"}), json!(1)),
            Err(Invalid::Unknown)
        );
        let mut defs = serde_json::Map::new();
        for n in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            defs.insert(format!("d{n}"), json!({"allOf": [next, next]}));
        }
        defs.insert("d40".into(), json!(true));
        let bomb = json!({"$ref": "#/$defs/d0", "$defs": defs});
        assert_eq!(check(bomb, json!(1)), Err(Invalid::Unknown));
        assert_eq!(
            check(json!({"pattern": "(a{500}){500}{500}"}), json!("a")),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn any_schema(word in "(type|enum|items|properties|allOf|not|required|pattern|if|\\$ref|minimum)", inner in "[a-z#/\\[(*]{0,6}", n in -3i64..3) {
            for value in [json!(inner), json!(n), json!([inner]), json!({&*inner: n}), json!([{&*word: inner}])] {
                let schema = json!({&*word: value});
                for instance in [json!(inner), json!(n), json!([n, inner]), json!({&*inner: inner})] {
                    let _ = check(schema.clone(), instance);
                }
            }
        }
    }
}
