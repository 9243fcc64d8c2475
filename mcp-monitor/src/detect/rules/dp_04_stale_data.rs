//! DP-04 stale-data: timestamps in results stale or repeated beyond policy.

use super::prelude::*;
use std::{sync::Arc, time::Duration};

use super::super::{MAX_RESULT, Record};
use super::calls::{flat, tool_of_result};
use crate::{
    mcp::{context::ServerKey, json},
    types::Timestamp,
};

const META: Meta = Meta {
    id: "DP-04",
    slug: "stale-data",
    category: "poisoning",
    trigger: "timestamps in results stale or repeated beyond policy",
    silent_on: "caches",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "policy",
    taxonomy: Taxonomy {
        air_sec_026: &["data-poisoning"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0099"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool whose results used to carry a fresh time of their data (`asOf`, `generatedAt`, `timestamp` and the like) now carries one that is older than policy allows, or does not move on. Agents decide on the state of another day.",
        attacker: "Replays old, once true answers: yesterday's limits, last week's balance, a certificate status from before a revocation.",
        wire: "`\"structuredContent\":{\"price\":7,\"asOf\":\"2026-11-01T00:00:00Z\"}` three weeks later, from a tool that was never more than minutes behind.",
        act: "Ask the source behind the tool directly and compare. If the source is fresh, the server or something before it replays; if not, the feed of the server is down, which its owner wants to know.",
        quiet: "Only times that mean \"as of now\" count, and only after the tool was seen fresh three times: archives, file dates and caches that answer within `policy.stale_after` (24 hours) are silent, and so is a result that says it is cached (`cached`, `fromCache`, `ttlMs`). Raise `policy.stale_after`, or list the tool under `rules: {DP-04: {allow: [tool_name]}}`.",
    },
};

/// Keys whose time says as of when the whole result holds. Lower case, without `_` and `-`.
const KEYS: &[&str] = &[
    "asof",
    "asofdate",
    "datatime",
    "dataasof",
    "fetchedat",
    "generatedat",
    "lastupdated",
    "lastupdate",
    "observedat",
    "quotetime",
    "retrievedat",
    "servertime",
    "timestamp",
    "updatedat",
    "validasof",
];

/// A result fresh so often is one that ought to be.
const FRESH: u32 = 3;
/// Tools remembered.
const MAX_TOOLS: usize = 4096;

/// What is known of one tool's freshness.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Results whose time was within policy and newer than the one before.
    fresh: u32,
    newest: Timestamp,
}

/// Freshness of tools.
pub(super) struct StaleData {
    tools: Bounded<(ServerKey, Arc<str>), Known>,
}

impl Default for StaleData {
    fn default() -> Self {
        Self {
            tools: Bounded::new(MAX_TOOLS),
        }
    }
}

impl Rule for StaleData {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let SeenKind::Message { message, context } = &seen.kind else {
            return;
        };
        let Some(tool) = tool_of_result(message, context) else {
            return;
        };
        if message.result().is_none_or(|r| r.len() > MAX_RESULT) {
            return;
        }
        let Some((key, time)) = world.facts.record(message).and_then(as_of) else {
            return;
        };
        let place = (context.session.server.clone(), Arc::clone(tool));
        let mut known = self.tools.peek(&place).copied().unwrap_or_default();
        let most = world.pins.policy.stale_after;
        let age = seen.at.time.since(time);
        if age <= most {
            // Each time once: a cache that repeats one does not prove that the tool is fresh.
            if time > known.newest {
                known.fresh = known.fresh.saturating_add(1);
                known.newest = time;
            }
            self.tools.insert(place, known);
            return;
        }
        let index = context.target.endpoint;
        if known.fresh < FRESH || world.pins.accepts(META.id, index, tool) {
            return;
        }
        let repeated = if time == known.newest {
            ", and it does not move on"
        } else {
            ""
        };
        let tool = shown(tool);
        out.push(
            Finding::new(
                META.id,
                format!(
                    "{} answered {} a result of {tool} as of {time}, {} old{repeated}; it used to be fresh. Ask the source behind it directly",
                    label(world, index, &context.target.origin.host),
                    agent(seen),
                    days(age)
                ),
            )
            .at(index)
            .expected([format!("{key} of {tool} at most {} old", days(most))])
            .observed(format!("{key} of {tool} older than that")),
        );
    }
}

/// Objects of the first level that are looked into.
const MAX_INNER: usize = 8;

/// The time of the whole result, on its first or second level; none where it says that it is cached.
fn as_of(data: &Record) -> Option<(String, Timestamp)> {
    const CACHED: &[&str] = &["cached", "fromcache", "cachehit", "ttlms", "maxage"];
    let dated = |key: &str, value: &[u8]| {
        let time = flat(key)
            .is_some_and(|key| KEYS.contains(&&*key))
            .then(|| time(value))??;
        Some((shown(key), time))
    };
    let cached = |(key, value): (&str, &[u8])| {
        value != b"false" && flat(key).is_some_and(|key| CACHED.contains(&&*key))
    };
    if data.members().any(cached) {
        return None;
    }
    let inner = data.members().filter(|(_, value)| value.first() == Some(&b'{'));
    data.members()
        .find_map(|(key, value)| dated(key, value))
        .or_else(|| {
            inner.take(MAX_INNER).find_map(|(_, object)| {
                let mut found = None;
                let _ = json::members(object, |key, range| {
                    if found.is_none() {
                        found = object.get(range).and_then(|value| dated(&key, value));
                    }
                });
                found
            })
        })
}

/// RFC 3339, or seconds or milliseconds since 1970 where that is between 2001 and 2100.
fn time(value: &[u8]) -> Option<Timestamp> {
    const FROM: f64 = 978_307_200.0;
    const TO: f64 = 4_102_444_800.0;
    match value.first()? {
        b'"' => {
            let text = json::string_at(value, 0).filter(|text| text.len() <= 40)?;
            Timestamp::parse_rfc3339(&text).or_else(|| Timestamp::parse_rfc3339(&format!("{text}Z")))
        }
        b'-' | b'0'..=b'9' => {
            let number: f64 = std::str::from_utf8(value).ok()?.parse().ok()?;
            let seconds = if number > TO { number / 1000.0 } else { number };
            (FROM..TO)
                .contains(&seconds)
                .then(|| Timestamp::default().saturating_add(Duration::from_secs_f64(seconds)))
        }
        _ => None,
    }
}

/// In the unit that reads best.
fn days(age: Duration) -> String {
    let hours = age.as_secs() / 3600;
    match hours {
        0 => format!("{} minutes", age.as_secs() / 60),
        1..72 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bench: &mut Bench, time: &str) -> Vec<Finding> {
        let result = format!(r#"{{"structuredContent":{{"price":7,"asOf":"{time}"}}}}"#);
        bench.calls("quote", "{}", &result)
    }

    /// Fresh three times, an hour apart.
    fn fresh(pins: &str) -> Bench {
        let mut bench = Bench::new(StaleData::default(), pins);
        for _ in 0..3 {
            let now = bench.at().time.to_string();
            assert!(call(&mut bench, &now).is_empty());
            bench.wait(Duration::from_secs(3600));
        }
        bench
    }

    #[test]
    fn fires_when_a_fresh_tool_goes_stale() {
        let mut bench = fresh("");
        let found = call(&mut bench, "2026-01-01T00:00:00Z");
        assert_eq!(found[0].expected, ["asOf of quote at most 24 hours old"]);
        let mut bench = fresh("");
        let last = bench.at().time.to_string();
        call(&mut bench, &last);
        bench.wait(Duration::from_secs(90_000));
        let found = call(&mut bench, &last);
        assert!(
            found[0].summary.contains("does not move on"),
            "{}",
            found[0].summary
        );
        assert_eq!(
            call(&mut fresh("policy: {stale_after: 30m}\n"), "2026-01-01T00:00:00").len(),
            1
        );
    }

    #[test]
    fn stays_silent_on_archives_caches_and_listed_tools() {
        let mut bench = Bench::new(StaleData::default(), "");
        for _ in 0..10 {
            assert!(call(&mut bench, "2020-01-01T00:00:00Z").is_empty(), "an archive");
        }
        let mut bench = fresh("");
        let cached = r#"{"structuredContent":{"cached":true,"asOf":"2026-01-01T00:00:00Z"}}"#;
        assert!(bench.calls("quote", "{}", cached).is_empty());
        let last = bench.at().time.to_string();
        for _ in 0..20 {
            assert!(call(&mut bench, &last).is_empty(), "a cache within policy");
            bench.wait(Duration::from_secs(3600));
        }
        let mut listed = fresh("rules: {DP-04: {allow: [quote]}}\n");
        assert!(call(&mut listed, "2026-01-01T00:00:00Z").is_empty());
    }

    #[test]
    fn reads_times() {
        let read = |json: &str| time(json.as_bytes()).map(|t| t.0 / 1_000_000_000);
        assert_eq!(read("1795331523"), Some(1_795_331_523));
        assert_eq!(read("1795331523000"), Some(1_795_331_523));
        assert_eq!(read("7"), None);
        assert_eq!(read("\"2026-11-22T07:12:03Z\""), Some(1_795_331_523));
        assert_eq!(read("1e300"), None);
    }
}
