//! Advisories (OP-05) in the format of the Open Source Vulnerability database (OSV schema 1.x).

use std::{path::Path, sync::Arc};

use hashbrown::HashMap;
use semver::Version;
use serde_json::Value;

use super::{ConfigError, MAX_ENTRIES, files, json, read, wrong};

/// One advisory, as far as an alert shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advisory {
    /// `GHSA-…`, `CVE-…`, `PYSEC-…`.
    pub id: Arc<str>,
    /// `CVE-…` among its aliases, if the id is not one.
    pub cve: Option<Arc<str>>,
    /// One line.
    pub summary: Option<Arc<str>>,
    /// The first fixed version after the one asked for, if one is named.
    pub fixed: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Affected {
    advisory: Advisory,
    versions: Vec<Box<str>>,
    ranges: Vec<Vec<Event>>,
}

/// A point at which a range begins or ends.
#[derive(Clone, Debug)]
enum Event {
    Introduced(Version),
    Fixed(Version, Box<str>),
    LastAffected(Version),
}

/// All advisories, by the name of the package.
#[derive(Clone, Default, Debug)]
pub struct Advisories {
    packages: HashMap<Box<str>, Vec<Affected>>,
    count: usize,
}

impl Advisories {
    /// Reads every file that `sources` name, relative to `base`. Of folders: `.json`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no OSV advisory, with its place.
    pub fn load(sources: &[String], base: &Path) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for path in files(sources, base, &[".json"])? {
            let text = read(&path)?;
            all.add_file(&path, &json(&path, &text)?)?;
        }
        Ok(all)
    }

    /// A file holds one advisory or a list of them.
    fn add_file(&mut self, path: &Path, value: &Value) -> Result<(), ConfigError> {
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        for advisory in list {
            self.add(advisory)
                .map_err(|(found, expected)| wrong(path, 0, found, expected))?;
        }
        Ok(())
    }

    fn add(&mut self, osv: &Value) -> Result<(), (String, &'static str)> {
        const FORM: &str = "an OSV advisory: an object with id and affected";
        let text = |key: &str| osv.get(key).and_then(Value::as_str);
        let id = text("id").ok_or(("no id".to_owned(), FORM))?;
        if osv.get("withdrawn").is_some_and(|w| !w.is_null()) {
            return Ok(());
        }
        let affected = match osv.get("affected") {
            Some(Value::Array(list)) => list,
            _ => return Err((format!("{id} without a list affected"), FORM)),
        };
        let cve = osv
            .get("aliases")
            .and_then(Value::as_array)
            .and_then(|a| a.iter().filter_map(Value::as_str).find(|a| a.starts_with("CVE-")))
            .filter(|_| !id.starts_with("CVE-"))
            .map(Arc::from);
        let advisory = Advisory {
            id: id.into(),
            cve,
            summary: text("summary").map(Arc::from),
            fixed: None,
        };
        for entry in affected {
            let Some(name) = entry.pointer("/package/name").and_then(Value::as_str) else {
                continue;
            };
            if self.count >= MAX_ENTRIES {
                return Err((
                    format!("more than {MAX_ENTRIES} affected packages"),
                    "fewer advisories",
                ));
            }
            let versions = strings(entry.get("versions"));
            let ranges = entry
                .get("ranges")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter(|range| range.get("type").and_then(Value::as_str) != Some("GIT"))
                .filter_map(events)
                .collect();
            self.count = self.count.saturating_add(1);
            self.packages
                .entry(normal(name).into())
                .or_default()
                .push(Affected {
                    advisory: advisory.clone(),
                    versions,
                    ranges,
                });
        }
        Ok(())
    }

    /// How many affected packages there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every advisory that this version of this package is affected by. Case, `_` and `-` of the name do
    /// not count; a version that is not numbers with dots is compared with the listed ones only.
    pub fn matching(&self, package: &str, version: &str) -> Vec<Advisory> {
        let Some(list) = self.packages.get(&*normal(package)) else {
            return Vec::new();
        };
        let version = version.trim().trim_start_matches('v');
        let parsed = lenient(version);
        let mut found: Vec<Advisory> = Vec::new();
        for affected in list {
            let by_range = parsed
                .as_ref()
                .and_then(|v| affected.ranges.iter().find_map(|range| inside(range, v)));
            let listed = affected.versions.iter().any(|v| **v == *version);
            if !listed && by_range.is_none() {
                continue;
            }
            let advisory = Advisory {
                fixed: by_range.flatten(),
                ..affected.advisory.clone()
            };
            if !found.iter().any(|other| other.id == advisory.id) {
                found.push(advisory);
            }
        }
        found
    }
}

fn strings(value: Option<&Value>) -> Vec<Box<str>> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(Into::into))
        .collect()
}

/// PEP 503 and npm names alike: lower case, `_` and `.` as `-`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// A range's events in order of their versions; `None` if one cannot be compared.
fn events(range: &Value) -> Option<Vec<Event>> {
    let mut found: Vec<(Version, Event)> = Vec::new();
    for event in range.get("events")?.as_array()? {
        let text = |key: &str| event.get(key).and_then(Value::as_str);
        if let Some(text) = text("introduced") {
            let version = lenient(text)?;
            found.push((version.clone(), Event::Introduced(version)));
        } else if let Some(text) = text("fixed") {
            let version = lenient(text)?;
            found.push((version.clone(), Event::Fixed(version, text.into())));
        } else if let Some(text) = text("last_affected") {
            let version = lenient(text)?;
            found.push((version.clone(), Event::LastAffected(version)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp_precedence(b));
    Some(found.into_iter().map(|(_, event)| event).collect())
}

/// Whether the range holds the version, and then where it is fixed.
fn inside(range: &[Event], version: &Version) -> Option<Option<Arc<str>>> {
    let mut affected = false;
    let mut fixed = None;
    for event in range {
        match event {
            Event::Introduced(v) if version.cmp_precedence(v).is_ge() => affected = true,
            Event::Fixed(v, _) if version.cmp_precedence(v).is_ge() => affected = false,
            Event::LastAffected(v) if version.cmp_precedence(v).is_gt() => affected = false,
            Event::Fixed(_, text) if fixed.is_none() => fixed = Some(Arc::from(&**text)),
            _ => {}
        }
    }
    affected.then_some(fixed)
}

/// `1`, `1.2`, `1.2.3-rc.1`: what is missing is zero. OSV writes `0` for "from the start".
fn lenient(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches('v');
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at_checked(end)?;
    let parts = numbers.split('.').count();
    let missing = match parts {
        1 => ".0.0",
        2 => ".0",
        3 => "",
        _ => return None,
    };
    Version::parse(&format!("{numbers}{missing}{rest}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(value: &Value) -> Result<Advisories, String> {
        let mut all = Advisories::default();
        all.add_file(Path::new("a.json"), value)
            .map(|()| all)
            .map_err(|e| e.to_string())
    }

    fn osv() -> Value {
        serde_json::json!({"id": "GHSA-aaaa-bbbb-cccc", "aliases": ["CVE-2025-0001"], "summary": "command injection",
            "affected": [{"package": {"ecosystem": "npm", "name": "Weather_MCP"},
                "ranges": [{"type": "SEMVER", "events": [{"fixed": "1.4.2"}, {"introduced": "1.2"}, {"introduced": "2.0.0"}, {"last_affected": "2.1.0"}]}],
                "versions": ["0.9-beta_x"]}]})
    }

    #[test]
    fn ranges_hold_from_introduced_to_fixed() {
        let all = load(&osv()).unwrap();
        let hit = |version: &str| all.matching("weather-mcp", version);
        for version in ["1.2.0", "v1.4.1", "1.4.2-rc.1", "2.0.0", "2.1.0", "0.9-beta_x"] {
            assert_eq!(hit(version).len(), 1, "{version}");
        }
        for version in ["1.1.9", "1.4.2", "1.9", "2.1.1", "2.0.0-rc.1", "nightly", ""] {
            assert!(hit(version).is_empty(), "{version}");
        }
        let found = &hit("1.3")[0];
        assert_eq!(found.cve.as_deref(), Some("CVE-2025-0001"));
        assert_eq!(found.fixed.as_deref(), Some("1.4.2"));
        assert!(all.matching("other", "1.3.0").is_empty());
    }

    #[test]
    fn withdrawn_ones_are_left_out_and_mistakes_named() {
        let mut withdrawn = osv();
        withdrawn["withdrawn"] = "2026-01-01T00:00:00Z".into();
        assert!(load(&withdrawn).unwrap().is_empty());
        assert!(
            load(&serde_json::json!([{"id": "X-1"}]))
                .unwrap_err()
                .contains("a.json: X-1 without")
        );
        assert!(
            load(&serde_json::json!({"affected": []}))
                .unwrap_err()
                .contains("a.json: no id")
        );
    }

    proptest! {
        #[test]
        fn any_version_is_compared(version in "[0-9a-z.+-]{0,20}", introduced in "[0-9.]{0,9}") {
            let value = serde_json::json!({"id": "X", "affected": [{"package": {"name": "p"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": introduced}]}]}]});
            load(&value).unwrap().matching("p", &version);
        }
    }
}
