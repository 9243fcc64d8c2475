//! One group of rules over one batch: what a thread can do while others do the same with the other groups.

use std::sync::Arc;

use super::shown::Shown;
use crate::detect::{Common, Finding, Group};

/// A group of rules, what to show it, and what it found.
#[derive(Debug)]
pub(super) struct Judging {
    /// Place of the group among all.
    pub(super) index: usize,
    pub(super) group: Group,
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
            self.group
                .see(&seen, &shown.prepared, &self.common, &mut findings);
            self.found.extend(findings.drain(..).map(|finding| (n, finding)));
        }
    }
}
