//! How the watch of the API stands.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Serialize;

use crate::attribution::PodCounts;

/// Whether what is known of pods holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The API has told nothing yet.
    Starting,
    /// It is being followed.
    Current,
    /// It does not answer; what it said last stays in use.
    Stale,
}

/// How the watch of the API stands.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityStatus {
    /// Whether what is known holds now.
    pub state: State,
    /// The node whose pods are watched.
    pub node: String,
    /// Since the API last said anything; since the start if it never did.
    pub age_seconds: f64,
    /// Pods that the API knows.
    pub pods: u64,
    /// Pods that are gone, and kept for their flows or for the grace period.
    pub pods_gone: u64,
    /// Pods that were seen and that the API has not told of.
    pub pods_untold: u64,
    /// Pods that found no room in the table.
    pub pods_refused: u64,
    /// Complete lists taken.
    pub lists: u64,
    /// Watches begun.
    pub watches: u64,
    /// Changes taken.
    pub events: u64,
    /// Lists and watches that failed.
    pub errors: u64,
    /// What the last of them said; `null` since it works again.
    pub error: Option<String>,
}

/// Written by the watch, read by whoever asks.
#[derive(Debug)]
pub(super) struct Board {
    node: String,
    facts: Mutex<Facts>,
}

#[derive(Debug)]
struct Facts {
    heard: Instant,
    lists: u64,
    watches: u64,
    events: u64,
    errors: u64,
    error: Option<String>,
}

impl Board {
    pub(super) fn new(node: String) -> Self {
        let facts = Facts {
            heard: Instant::now(),
            lists: 0,
            watches: 0,
            events: 0,
            errors: 0,
            error: None,
        };
        Self {
            node,
            facts: Mutex::new(facts),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The API answered. Whether it was in a row of failures.
    fn heard(&self, count: impl FnOnce(&mut Facts) -> &mut u64) -> bool {
        let mut facts = self.facts();
        facts.heard = Instant::now();
        let count = count(&mut facts);
        *count = count.saturating_add(1);
        facts.error.take().is_some()
    }

    pub(super) fn list(&self) -> bool {
        self.heard(|facts| &mut facts.lists)
    }

    pub(super) fn watch(&self) -> bool {
        self.heard(|facts| &mut facts.watches)
    }

    pub(super) fn event(&self) {
        self.heard(|facts| &mut facts.events);
    }

    /// A bookmark: nothing changed, and the API is there.
    pub(super) fn bookmark(&self) {
        self.facts().heard = Instant::now();
    }

    /// A list or watch failed. Whether it is the first of a row.
    pub(super) fn failed(&self, error: &str) -> bool {
        let mut facts = self.facts();
        facts.errors = facts.errors.saturating_add(1);
        facts.error.replace(error.to_owned()).is_none()
    }

    pub(super) fn status(&self, pods: PodCounts) -> IdentityStatus {
        let facts = self.facts();
        let state = match (&facts.error, facts.lists) {
            (_, 0) => State::Starting,
            (Some(_), _) => State::Stale,
            (None, _) => State::Current,
        };
        IdentityStatus {
            state,
            node: self.node.clone(),
            age_seconds: facts.heard.elapsed().as_secs_f64(),
            pods: pods.known,
            pods_gone: pods.gone,
            pods_untold: pods.untold,
            pods_refused: pods.refused,
            lists: facts.lists,
            watches: facts.watches,
            events: facts.events,
            errors: facts.errors,
            error: facts.error.clone(),
        }
    }
}
