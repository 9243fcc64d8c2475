//! OP-02 availability-shift: latency, error rate or availability left its baseline.

use super::prelude::*;
use std::{sync::Arc, time::Duration};

use super::statistics::{EDetector, upper_rate};
use crate::{
    flow::EndReason,
    mcp::{
        MessageKind,
        context::{EndpointIndex, ServerKey},
    },
    types::{Direction as Way, Timestamp, Transport},
};

const META: Meta = Meta {
    id: "OP-02",
    slug: "availability-shift",
    category: "operations",
    trigger: "latency, error rate or availability left its baseline",
    silent_on: "load peaks",
    severity: Severity::Low,
    sight: Sight::Handshake,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["limited-monitoring"],
        owasp_mcp: &[],
        atlas: &["AML.T0029"],
    },
    listens: &[Kind::Message, Kind::Response, Kind::Close],
    page: Page {
        means: "A server fails or is slow far more often than it used to. Its first 200 outcomes teach how often it fails (server errors, internal errors, connections refused or cut unanswered) and, per tool, the latency that one in ten answers exceeds. From then on a Shiryaev-Roberts e-detector tests each outcome against the upper end of the 99.9 % Wilson interval of what was learned; the average number of outcomes between false alarms is at least 100 000.",
        attacker: "Floods the server, or took its place: a relay adds latency, a replaced backend fails where the real one did not. Often it is only an outage, which the fleet's owner wants to know as well.",
        wire: "Responses with status 5xx, JSON-RPC error -32603, resets before the first byte; or answers to the same tool several times slower.",
        act: "Look at the server's own health page and at alerts on the same endpoint: with DNS or certificate alerts beside it, think of a relay. Without, tell the owner.",
        quiet: "A shift counts only after it went on for a minute, and slow answers only while the server is asked at most twice as often as in its busiest learned minute: load peaks are silent. Errors of tools (`isError`) and refusals (4xx) are no failures.",
    },
};

/// Outcomes that teach.
pub(super) const LEARN: u32 = 200;
/// Answers of one tool that teach its latency, and the one of them that is its limit.
const LEARN_LATENCY: usize = 100;
const LIMIT: usize = 90;
/// Rates that a shift reaches.
pub(super) const FAILING: f64 = 0.5;
pub(super) const SLOW: f64 = 0.6;
/// Shortest shift.
const MINUTE: Duration = Duration::from_secs(60);
/// Servers, and tools of all servers.
const MAX_SERVERS: usize = 2048;
const MAX_TOOLS: usize = 8192;

/// Detector of one rate.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Rate {
    learned: u32,
    hits: u32,
    detector: EDetector,
    /// Since when hits came close together.
    #[serde(skip)]
    since: Option<Timestamp>,
}

impl Rate {
    /// Takes an outcome; true if the rate has left its baseline for a minute or more.
    pub(super) fn take(&mut self, hit: bool, learn: u32, to: f64, now: Timestamp) -> bool {
        if self.learned < learn {
            self.learned = self.learned.saturating_add(1);
            self.hits = self.hits.saturating_add(u32::from(hit));
            return false;
        }
        let from = upper_rate(self.hits, self.learned);
        if from >= to {
            // Bad from the start: no shift.
            return false;
        }
        let since = match (hit, self.since) {
            (true, None) => *self.since.insert(now),
            (_, Some(since)) => since,
            (false, None) => now,
        };
        let sure = self.detector.observe(hit, from, to);
        if hit && sure && now.since(since) >= MINUTE {
            self.detector.reset();
            self.since = None;
            return true;
        }
        // A good outcome that outweighs what came before: a later shift begins later.
        if !hit && self.detector.is_calm() {
            self.since = None;
        }
        false
    }
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Health {
    failures: Rate,
    /// Answers in the current minute and in the one before, and the most of any minute while learning.
    #[serde(skip)]
    minute: (Timestamp, u32),
    #[serde(skip)]
    before: u32,
    peak: u32,
}

/// One tool of a server, or one method.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Speed {
    /// Seconds; empty once the limit is known.
    learned: Vec<f64>,
    limit: Option<f64>,
    slow: Rate,
}

type Servers = Remembered<ServerKey, Health>;
type Tools = Remembered<(ServerKey, Arc<str>), Speed>;

/// Health of servers.
pub(super) struct AvailabilityShift {
    known: Together<Servers, Tools>,
}

impl Default for AvailabilityShift {
    fn default() -> Self {
        Self {
            known: Together(Remembered::new(MAX_SERVERS), Remembered::new(MAX_TOOLS)),
        }
    }
}

impl Rule for AvailabilityShift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.known)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let now = seen.at.time;
        let (server, endpoint, shift) = match &seen.kind {
            SeenKind::Message { message, context } => {
                let Some(answered) = context.answers.filter(|_| message.direction == Way::ToClient) else {
                    return;
                };
                let server = context.session.server.clone();
                let failed = message.kind == MessageKind::Error && message.error_code == Some(-32603);
                // A 5xx has been counted with its head.
                let counted = context.response.is_some_and(|r| r.status >= 500);
                let busy = self.count(&server, now);
                let mut shift = (!counted).then(|| self.outcome(&server, failed, now)).flatten();
                let what = answered.name.as_ref().unwrap_or(&answered.method);
                if busy {
                    self.peak(&server, what);
                } else if !failed && &*answered.method != "subscriptions/listen" {
                    shift = shift.or(self.answered(&server, what, answered.latency, now));
                }
                (server, context.target.endpoint, shift)
            }
            SeenKind::Response {
                head,
                target,
                mcp: true,
                ..
            } if head.status >= 500 => {
                let server = target.server_key();
                let shift = self.outcome(&server, true, now);
                (server, target.endpoint, shift)
            }
            SeenKind::Close(end) => {
                let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
                    return;
                };
                // What is not pinned may be anything.
                let refused = end.reason == EndReason::Reset && end.to_client.bytes == 0;
                if connection.endpoint.is_none() || !refused || flow.info.transport != Transport::Tcp {
                    return;
                }
                let address = flow.info.server.ip().to_string();
                let server = ServerKey(connection.server_name().unwrap_or(&address).into());
                let shift = self.outcome(&server, true, now);
                (server, connection.endpoint, shift)
            }
            _ => return,
        };
        if let Some((expected, observed)) = shift {
            say(seen, world, &server, endpoint, expected, observed, out);
        }
    }
}

fn say(
    seen: &Seen<'_>,
    world: &World<'_>,
    server: &ServerKey,
    endpoint: Option<EndpointIndex>,
    expected: String,
    observed: String,
    out: &mut Vec<Finding>,
) {
    out.push(
        Finding::new(
            META.id,
            format!(
                "{} left its baseline: {observed}, last met by {}; look at its health and at other alerts on it",
                label(world, endpoint, &server.0),
                agent(seen)
            ),
        )
        .at(endpoint)
        .expected([expected])
        .observed(observed),
    );
}

/// Expected and observed.
type Shift = (String, String);

impl AvailabilityShift {
    /// Counts an answer; true if the server is asked far more than it used to be.
    fn count(&mut self, server: &ServerKey, now: Timestamp) -> bool {
        let Some(health) = self.known.0.get_or_default(server) else {
            return false;
        };
        let (start, count) = health.minute;
        let passed = now.since(start);
        if passed >= MINUTE {
            let adjacent = passed < MINUTE.saturating_mul(2);
            health.before = if adjacent { count } else { 0 };
            health.minute = (now, 0);
        }
        health.minute.1 = health.minute.1.saturating_add(1);
        if health.failures.learned < LEARN {
            health.peak = health.peak.max(health.minute.1);
        }
        health.minute.1.max(health.before) > health.peak.saturating_mul(2)
    }

    fn outcome(&mut self, server: &ServerKey, failed: bool, now: Timestamp) -> Option<Shift> {
        let rate = &mut self.known.0.get_or_default(server)?.failures;
        rate.take(failed, LEARN, FAILING, now).then(|| {
            (
                format!("{} of {LEARN} outcomes were failures", rate.hits),
                "fails far more often".to_owned(),
            )
        })
    }

    /// In a load peak slow answers prove nothing; nor do those just before it was seen to be one.
    fn peak(&mut self, server: &ServerKey, what: &Arc<str>) {
        let key = (server.clone(), Arc::clone(what));
        self.known.1.edit(&key, |speed| {
            speed.slow.detector.reset();
            speed.slow.since = None;
        });
    }

    fn answered(
        &mut self,
        server: &ServerKey,
        what: &Arc<str>,
        latency: Duration,
        now: Timestamp,
    ) -> Option<Shift> {
        let key = (server.clone(), Arc::clone(what));
        let speed = self.known.1.get_or_default(&key)?;
        let seconds = latency.as_secs_f64();
        let Some(limit) = speed.limit else {
            speed.learned.push(seconds);
            if speed.learned.len() >= LEARN_LATENCY {
                let mut sample = std::mem::take(&mut speed.learned);
                sample.sort_unstable_by(f64::total_cmp);
                // Twice the ninetieth of a hundred, and no less than a tenth of a second: who waits notices.
                let ninetieth = sample.get(LIMIT).copied().unwrap_or_default();
                speed.limit = Some((ninetieth * 2.0).max(0.1));
                speed.slow.learned = LEARN;
                speed.slow.hits = LEARN / 10;
            }
            return None;
        };
        speed.slow.take(seconds > limit, LEARN, SLOW, now).then(|| {
            (
                format!("{} within {limit:.3} s", shown(what)),
                format!("{} mostly slower than {limit:.3} s", shown(what)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> Bench {
        Bench::new(
            AvailabilityShift::default(),
            "endpoints: [{name: a, url: 'https://mcp.example/mcp'}]\n",
        )
    }

    /// So many calls, a second apart, of which those that `fails` picks fail.
    fn calls(bench: &mut Bench, count: u32, fails: impl Fn(u32) -> bool) -> Vec<Finding> {
        let mut found = Vec::new();
        for n in 0..count {
            bench.wait(Duration::from_secs(1));
            if fails(n) {
                bench.says(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
                found.extend(bench.answers(
                    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}"#,
                    Some("tools/call"),
                ));
            } else {
                found.extend(bench.calls("t", "{}", "{}"));
            }
        }
        found
    }

    #[test]
    fn fires_when_it_fails_for_longer_than_a_minute() {
        let mut b = bench();
        assert!(calls(&mut b, 400, |n| n % 50 == 0).is_empty());
        let found = calls(&mut b, 120, |n| n % 4 != 0);
        assert_eq!(found[0].observed.as_deref(), Some("fails far more often"));
    }

    #[test]
    fn stays_silent_on_a_short_outage_and_on_what_was_always_bad() {
        let mut b = bench();
        calls(&mut b, 300, |_| false);
        assert!(calls(&mut b, 40, |_| true).is_empty(), "forty seconds");
        assert!(calls(&mut b, 200, |_| false).is_empty());
        let mut bad = bench();
        assert!(calls(&mut bad, 500, |n| n % 2 == 0).is_empty());
        assert!(calls(&mut bench(), 199, |n| n > 100).is_empty(), "still learning");
    }

    #[test]
    fn slow_answers_count_unless_it_is_a_load_peak() {
        let mut rule = AvailabilityShift::default();
        let server = ServerKey("a".into());
        let tool: Arc<str> = "t".into();
        let mut now = Timestamp::from_secs(1_795_331_523);
        let mut step = |rule: &mut AvailabilityShift, millis: u64, gap: u64| {
            now = now.saturating_add(Duration::from_millis(gap));
            let busy = rule.count(&server, now);
            rule.outcome(&server, false, now);
            if busy {
                rule.peak(&server, &tool);
                return None;
            }
            rule.answered(&server, &tool, Duration::from_millis(millis), now)
        };
        for n in 0..300 {
            assert_eq!(step(&mut rule, 20 + n % 30, 1000), None);
        }
        for _ in 0..5000 {
            assert_eq!(step(&mut rule, 900, 20), None, "a load peak");
        }
        for _ in 0..300 {
            step(&mut rule, 30, 1000);
        }
        let shift = (0..200).find_map(|_| step(&mut rule, 900, 1000)).unwrap();
        assert_eq!(shift.0, "t within 0.100 s");
    }
}
