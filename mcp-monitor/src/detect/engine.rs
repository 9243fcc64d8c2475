//! Shows each event to the rules that asked for its kind.

use std::sync::Arc;

use super::{
    Finding, Seen, SeenKind, World,
    credentials::Fingerprinter,
    rule::{Kind, Rule},
    rules,
};
use crate::{baseline::ToolLists, config::pins::Pins};

/// All rules and what they share.
///
/// Call [`Detector::see`] for every event in order of capture time.
pub struct Detector {
    pins: Arc<Pins>,
    rules: Vec<Box<dyn Rule>>,
    by_kind: [Vec<usize>; Kind::COUNT],
    lists: ToolLists,
    fingerprints: Fingerprinter,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Detector {
    /// With every implemented rule.
    pub fn new(pins: Arc<Pins>) -> Self {
        Self::with_rules(pins, rules::all())
    }

    /// With some rules.
    pub fn with_rules(pins: Arc<Pins>, rules: Vec<Box<dyn Rule>>) -> Self {
        let mut by_kind: [Vec<usize>; Kind::COUNT] = Default::default();
        for (i, rule) in rules.iter().enumerate() {
            for kind in rule.meta().listens {
                if let Some(list) = by_kind.get_mut(*kind as usize) {
                    list.push(i);
                }
            }
        }
        Self {
            pins,
            rules,
            by_kind,
            lists: ToolLists::default(),
            fingerprints: Fingerprinter::new(&[0; 32]),
        }
    }

    /// Changes the pins. What rules have learned stays.
    pub fn set_pins(&mut self, pins: Arc<Pins>) {
        self.pins = pins;
    }

    /// The key of fingerprints in alerts. Until then it is all zeros, so that replays agree.
    pub fn set_fingerprint_key(&mut self, key: &[u8; 32]) {
        self.fingerprints = Fingerprinter::new(key);
    }

    /// Shows one event to the rules; what they find is appended in the order of the catalogue.
    pub fn see(&mut self, seen: &Seen<'_>, out: &mut Vec<Finding>) {
        let tools = match &seen.kind {
            SeenKind::Message { message, context } => self.lists.observe(message, context),
            _ => None,
        };
        let world = World {
            pins: &self.pins,
            tools: tools.as_ref(),
            fingerprints: &self.fingerprints,
        };
        let Some(list) = self.by_kind.get(Kind::of(&seen.kind) as usize) else {
            return;
        };
        for i in list {
            if let Some(rule) = self.rules.get_mut(*i) {
                rule.on(seen, &world, out);
            }
        }
    }
}
