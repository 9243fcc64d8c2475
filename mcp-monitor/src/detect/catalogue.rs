//! All detections, in their order.

use std::sync::LazyLock;

use super::{
    Severity,
    rule::{Meta, Sight},
    rules,
};
use crate::config::pins::all_rule_ids;

/// One line of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Id.
    pub id: &'static str,
    /// Slug.
    pub slug: &'static str,
    /// Category.
    pub category: &'static str,
    /// Default severity.
    pub severity: Severity,
    /// What it needs to see.
    pub sight: Sight,
    /// What it needs to know.
    pub needs: &'static str,
    /// When it fires.
    pub trigger: &'static str,
}

static METAS: LazyLock<Vec<&'static Meta>> =
    LazyLock::new(|| rules::all().iter().map(|rule| rule.meta()).collect());

/// The rule of this id.
pub fn meta(id: &str) -> Option<&'static Meta> {
    METAS.iter().copied().find(|meta| meta.id == id)
}

/// The whole catalogue, in its order.
pub fn entries() -> Vec<Entry> {
    all_rule_ids()
        .filter_map(|id| meta(&id))
        .map(|m| Entry {
            id: m.id,
            slug: m.slug,
            category: m.category,
            severity: m.severity,
            sight: m.sight,
            needs: m.needs,
            trigger: m.trigger,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_there_once() {
        let entries = entries();
        assert_eq!(entries.len(), 110);
        let mut slugs: Vec<_> = entries.iter().map(|e| e.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), 110);
    }
}
