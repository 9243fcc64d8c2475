//! Where the packet loop is, for others to see that it goes on.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What the packet loop is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// The programs are loaded and attached.
    Attach,
    /// It waits for packets: the only stage without a limit, as time passes in it every second.
    Wait,
    /// Packets go through the engine.
    Packets,
    /// Time passes for flows, rules and alerts.
    Tick,
    /// Pins are put in force.
    Reload,
    /// The state file is written.
    State,
    /// Records go out.
    Output,
}

impl Stage {
    const ALL: [Self; 7] = [
        Self::Attach,
        Self::Wait,
        Self::Packets,
        Self::Tick,
        Self::Reload,
        Self::State,
        Self::Output,
    ];

    /// As in logs and `/healthz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Wait => "wait",
            Self::Packets => "packets",
            Self::Tick => "tick",
            Self::Reload => "reload",
            Self::State => "state",
            Self::Output => "output",
        }
    }
}

/// Written by the packet loop, read by the watchdog. Cheap enough for every round.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    stage: AtomicU8,
    /// Milliseconds after `began` at which the stage began.
    since: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            stage: AtomicU8::new(Stage::Attach as u8),
            since: AtomicU64::new(0),
        }
    }
}

impl Progress {
    /// The loop begins a stage.
    pub fn enter(&self, stage: Stage) {
        self.since.store(self.elapsed(), Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The stage, and for how long it has been in it.
    pub fn stage(&self) -> (Stage, Duration) {
        let stage = self.stage.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let stage = Stage::ALL.into_iter().find(|s| *s as u8 == stage);
        (
            stage.unwrap_or(Stage::Wait),
            Duration::from_millis(self.elapsed().saturating_sub(since)),
        )
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
