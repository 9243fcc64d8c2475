//! Some of the rules over one batch: what a thread can do while others do the same with other rules.

use std::sync::Arc;

use super::shown::Shown;
use crate::detect::{Common, Finding, Group};

/// Groups of rules, what to show them, and what they found.
#[derive(Debug)]
pub(super) struct Judging {
    /// Place among all.
    pub(super) index: usize,
    /// Neighbours in the catalogue.
    pub(super) groups: Vec<Group>,
    pub(super) common: Common,
    pub(super) batch: Arc<Vec<Shown>>,
    /// With the place in the batch, in order.
    pub(super) found: Vec<(usize, Finding)>,
}

impl Judging {
    pub(super) fn run(&mut self) {
        let mut findings = Vec::new();
        for (n, shown) in self.batch.iter().enumerate() {
            let Some(seen) = shown.seen() else { continue };
            // All groups look at one event before the next: it is in the cache then.
            for group in &mut self.groups {
                group.see(&seen, &shown.prepared, &self.common, &mut findings);
            }
            self.found.extend(findings.drain(..).map(|finding| (n, finding)));
        }
    }
}
