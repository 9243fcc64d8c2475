//! Which alerts belong together: those on one server that follow each other closely.
//!
//! An attack on a server is seldom one finding: its name drifts, then its protocol is lowered, then a
//! credential leaks. Whoever is woken wants these as one incident, in their order.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::record::hex_prefix;
use crate::{baseline::Bounded, types::Timestamp};

/// Place of an alert in an incident.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Incident {
    /// Derived from the server and the first alert, so that a replay gives the same.
    pub id: String,
    /// 1 for the first alert, in the order of their first occurrences.
    pub order: u64,
}

/// Incidents remembered; the one that had no alert for longest is forgotten first.
const MAX_INCIDENTS: usize = 4096;

/// Rules that say how things run, not what somebody did.
const APART: &[&str] = &["OP-01", "OP-02", "OP-06"];

#[derive(Clone, Debug)]
struct Open {
    incident: Incident,
    last: Timestamp,
}

/// Open incidents by server.
#[derive(Debug)]
pub(super) struct Incidents {
    gap: Duration,
    open: Bounded<String, Open>,
}

impl Incidents {
    /// Alerts further apart than `gap` are two incidents.
    pub(super) fn new(gap: Duration) -> Self {
        Self {
            gap,
            open: Bounded::new(MAX_INCIDENTS),
        }
    }

    /// A new alert of `rule` on `server`; `None` where the rule stands apart.
    pub(super) fn join(&mut self, rule: &str, server: &str, alert: &str, now: Timestamp) -> Option<Incident> {
        if APART.contains(&rule) {
            return None;
        }
        if let Some(open) = self.open.get_mut(server)
            && now.since(open.last) <= self.gap
        {
            open.incident.order = open.incident.order.saturating_add(1);
            open.last = now;
            return Some(open.incident.clone());
        }
        let mut hash = Sha256::new();
        hash.update(server);
        hash.update([0]);
        hash.update(alert);
        let incident = Incident {
            id: hex_prefix(&hash.finalize(), 16),
            order: 1,
        };
        let open = Open {
            incident: incident.clone(),
            last: now,
        };
        self.open.insert(server.to_owned(), open);
        Some(incident)
    }

    /// An alert of the incident went on.
    pub(super) fn goes_on(&mut self, server: &str, now: Timestamp) {
        if let Some(open) = self.open.get_mut(server)
            && now.since(open.last) <= self.gap
        {
            open.last = open.last.max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_on_one_server_are_ordered_until_it_is_quiet() {
        let mut all = Incidents::new(Duration::from_secs(60));
        let at = Timestamp::from_secs;
        let first = all.join("DNS-01", "a", "x", at(0)).unwrap();
        let second = all.join("DG-06", "a", "y", at(50)).unwrap();
        assert_eq!((&first.id, first.order, second.order), (&second.id, 1, 2));
        assert_ne!(all.join("DNS-01", "b", "x", at(50)).unwrap().id, first.id);
        assert_eq!(all.join("OP-06", "a", "z", at(51)), None);
        all.goes_on("a", at(100));
        assert_eq!(all.join("CR-01", "a", "w", at(155)).unwrap().order, 3);
        let later = all.join("CR-01", "a", "v", at(300)).unwrap();
        assert_eq!(later.order, 1);
        assert_ne!(later.id, first.id);
    }
}
