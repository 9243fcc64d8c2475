//! Is it alive, is it ready, and if not, what is missing.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::board::Board;
use crate::{
    attribution::kubernetes::{IdentityStatus, State},
    pipeline::progress::Stage,
    sink::delivery::SinkCounters,
};

/// One thing that must hold for the monitor to be ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Condition {
    /// `attached`, `pins`, `ring` …
    pub name: &'static str,
    /// It holds.
    pub ok: bool,
    /// The monitor is not ready without it. Else it is only said.
    pub required: bool,
    /// What was found; where it does not hold, what to do.
    pub detail: String,
}

impl Condition {
    /// A condition that readiness needs.
    pub fn required(name: &'static str, ok: bool, detail: impl Into<String>) -> Self {
        Self {
            name,
            ok,
            required: true,
            detail: detail.into(),
        }
    }

    /// Something to know, which readiness does not need.
    pub fn said(name: &'static str, ok: bool, detail: impl Into<String>) -> Self {
        Self {
            required: false,
            ..Self::required(name, ok, detail)
        }
    }
}

/// `/healthz`.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// The packet loop goes on.
    pub alive: bool,
    /// What it is doing.
    pub stage: &'static str,
    /// For how long.
    pub stage_seconds: f64,
}

/// `/readyz`.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Every required condition holds.
    pub ready: bool,
    /// All conditions.
    pub conditions: Vec<Condition>,
}

/// Whether the packet loop goes on.
pub fn health(board: &Board) -> Health {
    let (stage, time) = board.progress.stage();
    Health {
        alive: time < board.stuck_after,
        stage: stage.as_str(),
        stage_seconds: time.as_secs_f64(),
    }
}

/// Whether it does what it is there for.
pub fn readiness(board: &Board) -> Readiness {
    let status = board.status();
    let alive = health(board);
    let mut conditions = vec![
        Condition::required(
            "loop",
            alive.alive && !board.stopping(),
            if board.stopping() {
                "it is ending".to_owned()
            } else {
                format!("in stage {} for {:.0} s", alive.stage, alive.stage_seconds)
            },
        ),
        match &status {
            Some(_) => Condition::required("attached", true, "the programs are attached"),
            None if board.progress.stage().0 == Stage::Attach => {
                Condition::required("attached", false, "the programs are being loaded")
            }
            None => Condition::required("attached", false, "no second has passed since attaching"),
        },
    ];
    conditions.push(match &status {
        Some(status) if status.pinned > 0 => Condition::required(
            "pins",
            true,
            format!(
                "{} endpoints, in force since {}",
                status.pinned,
                status.pins_since.to_seconds()
            ),
        ),
        Some(_) if !board.has_pins() => Condition::required(
            "pins",
            true,
            "no pins file was named: only rules that need no pin can fire",
        ),
        Some(_) => Condition::required("pins", true, "the pins file has no endpoint"),
        None => Condition::required("pins", false, "not in the kernel yet"),
    });
    if let Some(reloads) = status.as_ref().and_then(|status| status.summary.reloads)
        && reloads.refused > 0
    {
        conditions.push(Condition::said(
            "reload",
            false,
            format!(
                "pins were refused {} times; those before stayed in force, the log says what is wrong",
                reloads.refused
            ),
        ));
    }
    conditions.push(match board.overflowing() {
        Some(lost) => Condition::required(
            "ring",
            false,
            format!("records were lost in the last minute ({lost} so far): raise source.ring_bytes or the CPU limit"),
        ),
        None => Condition::required("ring", true, "nothing lost in the last minute"),
    });
    if let Some(status) = &status {
        conditions.extend(status.summary.identity.as_ref().map(identity));
        conditions.extend(status.summary.sinks.as_ref().map(sinks));
    }
    conditions.extend(board.conditions());
    Readiness {
        ready: conditions.iter().all(|c| c.ok || !c.required),
        conditions,
    }
}

/// The watch of the Kubernetes API. Watching goes on without names, so readiness does not need it: a rollout that
/// stops, or a restart, because the API is away would cost sight as well.
fn identity(status: &IdentityStatus) -> Condition {
    let age = status.age_seconds;
    match status.state {
        State::Current => {
            let detail = format!("names of {} pods of {}", status.pods, status.node);
            Condition::said("identity", true, detail)
        }
        State::Starting => Condition::said(
            "identity",
            false,
            "the Kubernetes API has not told the pods yet: alerts name a pod by its uid; the log says why",
        ),
        State::Stale => Condition::said(
            "identity",
            false,
            format!(
                "the Kubernetes API has been silent for {age:.0} s: names known so far stay in use, newer pods are named by their uid; the log says why"
            ),
        ),
    }
}

/// Sinks whose last attempt failed. Records wait in their spools, so readiness does not need them. What a receiver
/// said is in the log and not here, where whoever reaches the probes would read it.
fn sinks(sinks: &BTreeMap<String, SinkCounters>) -> Condition {
    let fails = |(_, sink): &(&String, &SinkCounters)| sink.last_error.is_some();
    let failing: Vec<&str> = sinks
        .iter()
        .filter(fails)
        .map(|(name, _)| name.as_str())
        .collect();
    if failing.is_empty() {
        Condition::said("sinks", true, format!("{} sinks", sinks.len()))
    } else {
        Condition::said(
            "sinks",
            false,
            format!(
                "not delivered to {}: records wait; the log and `mcp-monitor check --config FILE` say why",
                failing.join(", ")
            ),
        )
    }
}

/// A stage that takes longer than it may, if one does.
pub(super) fn stuck(board: &Board) -> Option<(&'static str, Duration)> {
    let (stage, time) = board.progress.stage();
    (time >= board.stuck_after).then_some((stage.as_str(), time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_away_is_said_and_no_reason_to_stop() {
        let mut status = IdentityStatus {
            state: State::Stale,
            node: "n1".into(),
            age_seconds: 61.0,
            pods: 3,
            pods_gone: 0,
            pods_untold: 0,
            pods_refused: 0,
            lists: 1,
            watches: 1,
            events: 0,
            errors: 2,
            error: Some("status 503".into()),
        };
        let stale = identity(&status);
        assert!(!stale.ok && !stale.required, "{stale:?}");
        assert!(stale.detail.contains("silent for 61 s:"), "{}", stale.detail);
        status.state = State::Current;
        assert!(identity(&status).ok);
    }

    #[test]
    fn a_sink_that_fails_is_named_without_what_its_receiver_said() {
        let failing = SinkCounters {
            last_error: Some("status 401: who are you".into()),
            ..SinkCounters::default()
        };
        let mut all = BTreeMap::from([
            ("oncall".to_owned(), failing),
            ("file".to_owned(), SinkCounters::default()),
        ]);
        let said = sinks(&all);
        assert!(
            !said.ok && !said.required && said.detail.starts_with("not delivered to oncall: "),
            "{said:?}"
        );
        all.remove("oncall");
        assert!(sinks(&all).ok);
    }
}
