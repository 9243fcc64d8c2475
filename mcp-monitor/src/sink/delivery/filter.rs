//! Which records a sink takes.

use std::time::Duration;

use super::Kind;
use crate::types::Severity;

/// A sink's choice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter {
    /// Kinds.
    pub(crate) records: Vec<Kind>,
    /// Alerts at least so severe.
    pub(crate) severity: Severity,
    /// Alerts of these rules: ids, or families such as `DNS`. Empty: all.
    pub(crate) rules: Vec<String>,
    /// Between two sets of metrics.
    pub(crate) interval: Duration,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            records: vec![Kind::Alert],
            severity: Severity::Info,
            rules: Vec::new(),
            interval: Duration::ZERO,
        }
    }
}

impl Filter {
    /// `alert` is rule and severity of an alert.
    pub(super) fn takes(&self, kind: Kind, alert: Option<(&str, Severity)>) -> bool {
        self.records.contains(&kind)
            && alert.is_none_or(|(rule, severity)| {
                severity >= self.severity
                    && (self.rules.is_empty() || self.rules.iter().any(|r| covers(r, rule)))
            })
    }
}

fn covers(wanted: &str, rule: &str) -> bool {
    wanted == rule || rule.split_once('-').is_some_and(|(family, _)| family == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_severities_and_rules() {
        let filter = Filter {
            severity: Severity::Medium,
            rules: vec!["DNS".into(), "CR-01".into()],
            ..Filter::default()
        };
        let takes = |rule, severity| filter.takes(Kind::Alert, Some((rule, severity)));
        assert!(takes("DNS-11", Severity::Critical));
        assert!(takes("CR-01", Severity::Medium));
        assert!(!takes("CR-02", Severity::Critical));
        assert!(!takes("DNS-01", Severity::Low));
        assert!(!filter.takes(Kind::Flow, None));
    }
}
