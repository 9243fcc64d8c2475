//! `namespaces` of the pins file: what holds for clients of one Kubernetes namespace.

use std::collections::BTreeMap;

use super::{RuleSetting, Unpinned, matches_entry};

/// What is set for clients of a namespace. Where it says nothing, the rest of the file holds.
#[derive(Clone, Debug, Default)]
pub struct NamespacePins {
    /// Instead of the file's.
    pub unpinned: Option<Unpinned>,
    /// Severity and whether it is on, by rule id: before those of the endpoint and of the file.
    pub rules: BTreeMap<String, RuleSetting>,
}

/// By name, or by a pattern with `*` at either end.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(pub(super) Vec<(String, NamespacePins)>);

impl Namespaces {
    /// What is set for this namespace: under its name, else under the first pattern that fits. `None` where
    /// the namespace is not known, as in replay.
    pub fn of(&self, namespace: Option<&str>) -> Option<&NamespacePins> {
        let name = namespace?;
        let exact = self.0.iter().find(|(entry, _)| entry == name);
        let found = exact.or_else(|| self.0.iter().find(|(entry, _)| matches_entry(entry, name)));
        found.map(|(_, pins)| pins)
    }
}

/// Whether a list of namespaces holds one. An empty list holds all, and one that is not known is held by any:
/// what is not known is no reason for an alert.
pub(super) fn holds(list: &[String], namespace: Option<&str>) -> bool {
    list.is_empty() || namespace.is_none_or(|name| list.iter().any(|entry| matches_entry(entry, name)))
}
