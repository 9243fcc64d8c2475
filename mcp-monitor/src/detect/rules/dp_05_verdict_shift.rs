//! DP-05 verdict-shift: a tool's categorical verdicts became constant, or a number's distribution shifted
//! (sequential test, stated false-alarm rate).

use super::prelude::*;
use std::sync::Arc;

use super::super::{Facts, MAX_RESULT, Record};
use super::{
    calls::{Asked, flat, is_call, tool_of_result},
    statistics::{EDetector, differ, median, upper_rate},
};
use crate::mcp::{Message, context::ServerKey, json};

const META: Meta = Meta {
    id: "DP-05",
    slug: "verdict-shift",
    category: "poisoning",
    trigger: "a tool's categorical verdicts became constant, or a number's distribution shifted (sequential test, stated false-alarm rate)",
    silent_on: "small samples",
    severity: Severity::Medium,
    sight: Sight::Plaintext,
    needs: "base",
    taxonomy: Taxonomy {
        air_sec_026: &["logic-backdoor", "data-poisoning"],
        owasp_mcp: &["MCP03"],
        atlas: &["AML.T0099"],
    },
    listens: &[Kind::Message],
    page: Page {
        means: "A tool that judges (approve or reject, a risk score) judges otherwise than it used to: one verdict only, whatever it is asked, or scores of another distribution.\n\nVerdicts: the first 100 results with new arguments teach how often each verdict comes. From then on each verdict has a Shiryaev-Roberts e-detector for \"comes nearly always\" against the upper end of the 99.9 % Wilson interval of what was learned; the average number of results between false alarms is at least 100 000. An alarm also needs a run of 30 equal verdicts, twice as long as the longest run learned. Scores: 100 results are learned, then each 50 are compared with them by the two-sample Kolmogorov-Smirnov test at a false-alarm rate of one in a million comparisons.",
        attacker: "Put a backdoor into the logic of the server: everything is approved, every risk is low, or it always answers what serves them.",
        wire: "Results of one tool: `{\"verdict\":\"approve\"}` dozens of times in a row where a third used to be `reject`; `\"score\"` above 0.9 where it was spread over 0 to 1.",
        act: "Ask the tool about known bad cases (a test order that must be rejected). Compare server version and tool hash with the pin, and ask the owner about a release since the alert's first packet.",
        quiet: "Below 100 results nothing is said; repeated arguments do not count; tools with one verdict only, or with more than eight, are not judged. Judged are fields named as verdicts (verdict, decision, status, result, label, approved, …) and scores (score, confidence, probability, risk, …). For a campaign that honestly sends one kind of case, suppress the rule on the endpoint for its time, or list the tool under `rules: {DP-05: {allow: [tool_name]}}`.",
    },
};

/// Fields that hold a verdict. Lower case, without `_` and `-`.
const VERDICTS: &[&str] = &[
    "action",
    "allowed",
    "approved",
    "category",
    "classification",
    "classified",
    "compliant",
    "decision",
    "flagged",
    "label",
    "malicious",
    "outcome",
    "passed",
    "permitted",
    "rating",
    "recommendation",
    "result",
    "risklevel",
    "safe",
    "sentiment",
    "severity",
    "signal",
    "status",
    "valid",
    "verdict",
];
/// Fields that hold a score.
const SCORES: &[&str] = &[
    "confidence",
    "likelihood",
    "probability",
    "rating",
    "risk",
    "riskscore",
    "score",
    "severity",
    "trust",
    "trustscore",
];

/// Results that teach, and results of one comparison of scores.
const LEARN: u32 = 100;
const WINDOW: usize = 50;
/// Shortest run that can be an alarm.
const RUN: u32 = 30;
/// Rate at which a verdict comes that has become constant.
const CONSTANT: f64 = 0.99;
/// More different verdicts are no judgement.
const MAX_CATEGORIES: usize = 8;
/// Fields of one tool, and tools.
const MAX_FIELDS: usize = 8;
const MAX_TOOLS: usize = 2048;
/// Longest text that can be a verdict.
const MAX_VERDICT: usize = 32;

/// Verdicts of one field.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Verdicts {
    /// Verdict, how often while learning, its detector.
    known: Vec<(String, u32, EDetector)>,
    learned: u32,
    run: u32,
    longest: u32,
    last: Option<usize>,
    /// Too many different ones.
    open: bool,
}

/// Scores of one field.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Scores {
    learned: Vec<f64>,
    window: Vec<f64>,
}

/// What is known of one tool.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Judge {
    verdicts: Vec<(String, Verdicts)>,
    scores: Vec<(String, Scores)>,
    /// Arguments of the result before.
    #[serde(skip)]
    before: u64,
}

/// What tools used to say.
pub(super) struct VerdictShift {
    judges: Remembered<(ServerKey, Arc<str>), Judge>,
    asked: Asked,
}

impl Default for VerdictShift {
    fn default() -> Self {
        Self {
            judges: Remembered::new(MAX_TOOLS),
            asked: Asked::default(),
        }
    }
}

impl Rule for VerdictShift {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn memory(&mut self) -> Option<&mut dyn Memory> {
        Some(&mut self.judges)
    }

    fn on(&mut self, seen: &Seen<'_>, world: &World<'_>, out: &mut Vec<Finding>) {
        let (SeenKind::Message { message, context }, Some(flow)) = (&seen.kind, seen.flow) else {
            return;
        };
        if is_call(message) {
            // Arguments matter for tools that are known to judge.
            let place = message
                .name
                .as_ref()
                .map(|name| (context.session.server.clone(), Arc::clone(name)));
            if place.is_some_and(|place| self.judges.peek(&place).is_some()) {
                self.asked.note(flow.info.id, message);
            }
            return;
        }
        let Some(tool) = tool_of_result(message, context) else {
            return;
        };
        let arguments = self.asked.take(flow.info.id, message).unwrap_or_default();
        let Some((verdicts, scores)) = judgements(message, world.facts) else {
            return;
        };
        let place = (context.session.server.clone(), Arc::clone(tool));
        let Some(judge) = self.judges.get_or_default(&place) else {
            return;
        };
        let mut shifts = Vec::new();
        if judge.before != arguments || arguments == 0 {
            judge.before = arguments;
            for (field, verdict) in verdicts {
                if let Some(known) = entry(&mut judge.verdicts, &field)
                    && let Some(shift) = known.take(&verdict)
                {
                    shifts.push((field, shift));
                }
            }
            for (field, score) in scores {
                if let Some(known) = entry(&mut judge.scores, &field)
                    && let Some(shift) = known.take(score)
                {
                    shifts.push((field, shift));
                }
            }
        }
        let index = context.target.endpoint;
        if world.pins.accepts(META.id, index, tool) {
            return;
        }
        for (field, (expected, observed)) in shifts {
            let (tool, field) = (shown(tool), shown(&field));
            out.push(
                Finding::new(
                    META.id,
                    format!(
                        "{} judges otherwise than it used to: {field} of {tool} is {observed}, last asked by {}; try it with cases that are known, and ask the owner about a release",
                        label(world, index, &context.target.origin.host),
                        agent(seen)
                    ),
                )
                .at(index)
                .expected([format!("{field} of {tool}: {expected}")])
                .observed(format!("{field} of {tool}: {observed}")),
            );
        }
    }
}

/// The field's entry, made if there is room.
fn entry<'a, T: Default>(list: &'a mut Vec<(String, T)>, name: &str) -> Option<&'a mut T> {
    let at = match list.iter().position(|(known, _)| known == name) {
        Some(at) => at,
        None if list.len() < MAX_FIELDS => {
            list.push((name.to_owned(), T::default()));
            list.len().saturating_sub(1)
        }
        None => return None,
    };
    list.get_mut(at).map(|(_, value)| value)
}

type Judgements = (Vec<(String, String)>, Vec<(String, f64)>);

/// Verdicts and scores of a result.
fn judgements(message: &Message, facts: &Facts) -> Option<Judgements> {
    let result = message.result().filter(|r| r.len() <= MAX_RESULT)?;
    let (mut verdicts, mut scores) = (Vec::new(), Vec::new());
    let mut judges = false;
    for (key, value) in facts.record(message).into_iter().flat_map(Record::members) {
        let Some(flat) = flat(key) else { continue };
        let (verdict, score) = (VERDICTS.contains(&&*flat), SCORES.contains(&&*flat));
        judges |= verdict || score;
        match value {
            b"true" | b"false" if verdict => {
                verdicts.push((key.to_owned(), String::from_utf8_lossy(value).into_owned()));
            }
            [b'"', ..] if verdict => {
                let text = json::string_at(value, 0).filter(|text| text.len() <= MAX_VERDICT);
                verdicts.extend(text.map(|text| (key.to_owned(), text.to_lowercase())));
            }
            [b'-' | b'0'..=b'9', ..] if score => {
                let number = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
                scores.extend(number.map(|n| (key.to_owned(), n)));
            }
            _ => {}
        }
    }
    if !judges
        && result.len() <= 256
        && let Some(text) = facts.only_text(message)
        && text.len() <= MAX_VERDICT
        && text.chars().any(char::is_alphabetic)
    {
        verdicts.push(("the text".to_owned(), text.trim().to_lowercase()));
    }
    (!verdicts.is_empty() || !scores.is_empty()).then_some((verdicts, scores))
}

impl Verdicts {
    /// Learns or tests one; expected and observed if it has become constant.
    pub(super) fn take(&mut self, verdict: &str) -> Option<(String, String)> {
        if self.open {
            return None;
        }
        let at = match self.known.iter().position(|(known, ..)| known == verdict) {
            Some(at) => at,
            None if self.known.len() < MAX_CATEGORIES => {
                self.known.push((verdict.to_owned(), 0, EDetector::default()));
                self.known.len().saturating_sub(1)
            }
            None => {
                *self = Self {
                    open: true,
                    ..Self::default()
                };
                return None;
            }
        };
        self.run = if self.last == Some(at) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(at);
        if self.learned < LEARN {
            self.learned = self.learned.saturating_add(1);
            self.longest = self.longest.max(self.run);
            if let Some((_, count, _)) = self.known.get_mut(at) {
                *count = count.saturating_add(1);
            }
            return None;
        }
        // What was constant from the start has not become so.
        if self.known.iter().filter(|(_, count, _)| *count > 0).count() < 2 {
            return None;
        }
        let mut alarm = false;
        for (n, (_, count, detector)) in self.known.iter_mut().enumerate() {
            let from = upper_rate(*count, LEARN);
            if from < CONSTANT {
                let sure = detector.observe(n == at, from, CONSTANT);
                alarm |= sure && n == at;
            }
        }
        if !alarm || self.run < RUN || self.run < self.longest.saturating_mul(2) {
            return None;
        }
        let learned: Vec<String> = self
            .known
            .iter()
            .filter(|(_, count, _)| *count > 0)
            .map(|(name, count, _)| format!("{} {count} %", shown(name)))
            .collect();
        if let Some((_, _, detector)) = self.known.get_mut(at) {
            detector.reset();
        }
        Some((
            format!("{} (of {LEARN} results)", learned.join(", ")),
            format!("{} at least {RUN} times in a row", shown(verdict)),
        ))
    }
}

impl Scores {
    /// Learns or collects one; expected and observed if a full window is of another distribution.
    pub(super) fn take(&mut self, score: f64) -> Option<(String, String)> {
        if self.learned.len() < LEARN as usize {
            self.learned.push(score);
            return None;
        }
        self.window.push(score);
        if self.window.len() < WINDOW {
            return None;
        }
        let mut window = std::mem::take(&mut self.window);
        differ(&mut self.learned, &mut window).then(|| {
            (
                format!("around {:.3} (of {LEARN} results)", median(&self.learned)),
                format!("of another distribution, around {:.3}", median(&window)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many results, made of their number.
    #[allow(clippy::arithmetic_side_effects, reason = "small numbers")]
    fn run(bench: &mut Bench, from: u32, count: u32, result: impl Fn(u32) -> String) -> Vec<Finding> {
        (from..from + count)
            .flat_map(|n| bench.calls("judge", &format!(r#"{{"case":{n}}}"#), &result(n)))
            .collect()
    }

    fn verdict(word: &str) -> String {
        format!(r#"{{"structuredContent":{{"verdict":"{word}"}}}}"#)
    }

    /// No pattern that a run would show.
    fn mixed(n: u32) -> String {
        let word = if n.wrapping_mul(2_654_435_761) >> 16 & 3 == 0 {
            "reject"
        } else {
            "approve"
        };
        verdict(word)
    }

    #[test]
    fn fires_when_verdicts_become_constant() {
        let mut bench = Bench::new(VerdictShift::default(), "");
        assert!(run(&mut bench, 0, 400, mixed).is_empty());
        let found = run(&mut bench, 1000, 120, |_| verdict("approve"));
        assert!(!found.is_empty());
        assert!(
            found[0].expected[0].starts_with("verdict of judge: "),
            "{:?}",
            found[0].expected
        );
        assert_eq!(
            found[0].observed.as_deref(),
            Some("verdict of judge: approve at least 30 times in a row")
        );
    }

    #[test]
    fn fires_when_scores_shift() {
        let score = |x: f64| format!(r#"{{"content":[{{"type":"text","text":"{{\"score\":{x}}}"}}]}}"#);
        let mut bench = Bench::new(VerdictShift::default(), "");
        let spread = |n: u32| score(f64::from(n.wrapping_mul(2_654_435_761) >> 16 & 1023) / 1023.0);
        assert!(run(&mut bench, 0, 400, spread).is_empty());
        let high = |n: u32| score(0.8 + f64::from(n % 7) / 40.0);
        let found = run(&mut bench, 1000, 100, high);
        assert!(
            found[0]
                .observed
                .as_deref()
                .unwrap()
                .contains("another distribution")
        );
    }

    #[test]
    fn stays_silent_on_small_samples_repeats_and_what_is_no_judgement() {
        let mut bench = Bench::new(VerdictShift::default(), "");
        assert!(run(&mut bench, 0, 60, mixed).is_empty());
        assert!(
            run(&mut bench, 100, 39, |_| verdict("approve")).is_empty(),
            "still learning"
        );
        let mut bench = Bench::new(VerdictShift::default(), "");
        assert!(
            run(&mut bench, 0, 500, |_| verdict("ok")).is_empty(),
            "always was constant"
        );
        let mut bench = Bench::new(VerdictShift::default(), "");
        run(&mut bench, 0, 200, mixed);
        for _ in 0..200 {
            let same = bench.calls("judge", r#"{"case":1}"#, &verdict("approve"));
            assert!(same.is_empty(), "one case again and again");
        }
        let mut bench = Bench::new(VerdictShift::default(), "");
        run(&mut bench, 0, 200, |n| verdict(&format!("v{}", n % 20)));
        assert!(
            run(&mut bench, 1000, 200, |_| verdict("v1")).is_empty(),
            "free text"
        );
        let mut listed = Bench::new(VerdictShift::default(), "rules: {DP-05: {allow: [judge]}}\n");
        run(&mut listed, 0, 200, mixed);
        assert!(run(&mut listed, 1000, 200, |_| verdict("approve")).is_empty());
    }
}
