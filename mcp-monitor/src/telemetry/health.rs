//! Is it alive, is it ready, and if not, what is missing.

use std::time::Duration;

use serde::Serialize;

use super::board::Board;
use crate::pipeline::progress::Stage;

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
    conditions.extend(board.conditions());
    Readiness {
        ready: conditions.iter().all(|c| c.ok || !c.required),
        conditions,
    }
}

/// A stage that takes longer than it may, if one does.
pub(super) fn stuck(board: &Board) -> Option<(&'static str, Duration)> {
    let (stage, time) = board.progress.stage();
    (time >= board.stuck_after).then_some((stage.as_str(), time))
}
