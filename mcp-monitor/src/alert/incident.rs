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
    /// Connections and hosts without a pin that turned out to be part of what happens to a pinned server: a
    /// credential sent where its redirect led.
    drawn_in: Bounded<String, String>,
}

/// What an alert is about, as incidents are kept by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The pinned endpoint's name, else the host or address.
    pub(super) server: &'a str,
    /// It is pinned.
    pub(super) pinned: bool,
    /// Id of the connection, if it was on one.
    pub(super) flow: Option<&'a str>,
}

impl Incidents {
    /// Alerts further apart than `gap` are two incidents.
    pub(super) fn new(gap: Duration) -> Self {
        Self {
            gap,
            open: Bounded::new(MAX_INCIDENTS),
            drawn_in: Bounded::new(MAX_INCIDENTS),
        }
    }

    /// A new alert of `rule`: the incident, and the server under which it is kept. `None` where the rule
    /// stands apart.
    pub(super) fn join(
        &mut self,
        rule: &str,
        subject: Subject<'_>,
        alert: &str,
        now: Timestamp,
    ) -> Option<(Incident, String)> {
        if APART.contains(&rule) {
            return None;
        }
        let server = self.server(subject);
        let incident = self.place(&server, alert, now);
        Some((incident, server))
    }

    /// The server that the alert is really about.
    fn server(&mut self, subject: Subject<'_>) -> String {
        let known = |name: &str, drawn_in: &Bounded<String, String>| drawn_in.peek(name).cloned();
        let drawn = (!subject.pinned)
            .then(|| {
                subject
                    .flow
                    .and_then(|flow| known(flow, &self.drawn_in))
                    .or_else(|| known(subject.server, &self.drawn_in))
            })
            .flatten();
        let server = drawn.unwrap_or_else(|| subject.server.to_owned());
        if let Some(flow) = subject.flow
            && (subject.pinned || server != subject.server)
        {
            self.drawn_in.insert(flow.to_owned(), server.clone());
        }
        if server != subject.server {
            self.drawn_in.insert(subject.server.to_owned(), server.clone());
        }
        server
    }

    fn place(&mut self, server: &str, alert: &str, now: Timestamp) -> Incident {
        if let Some(open) = self.open.get_mut(server)
            && now.since(open.last) <= self.gap
        {
            open.incident.order = open.incident.order.saturating_add(1);
            open.last = now;
            return open.incident.clone();
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
        incident
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

    fn join(all: &mut Incidents, rule: &str, server: &str, flow: &str, secs: u64) -> Option<Incident> {
        let subject = Subject {
            server,
            pinned: server.len() == 1,
            flow: Some(flow),
        };
        let joined = all.join(rule, subject, flow, Timestamp::from_secs(secs));
        joined.map(|(incident, _)| incident)
    }

    #[test]
    fn alerts_on_one_server_are_ordered_until_it_is_quiet() {
        let mut all = Incidents::new(Duration::from_secs(60));
        let first = join(&mut all, "DNS-01", "a", "f1", 0).unwrap();
        let second = join(&mut all, "DG-06", "a", "f2", 50).unwrap();
        assert_eq!((&first.id, first.order, second.order), (&second.id, 1, 2));
        assert_ne!(join(&mut all, "DNS-01", "b", "f3", 50).unwrap().id, first.id);
        assert_eq!(join(&mut all, "OP-06", "a", "f2", 51), None);
        all.goes_on("a", Timestamp::from_secs(100));
        assert_eq!(join(&mut all, "CR-01", "a", "f4", 155).unwrap().order, 3);
        let later = join(&mut all, "CR-01", "a", "f4", 300).unwrap();
        assert_eq!(later.order, 1);
        assert_ne!(later.id, first.id);
    }

    #[test]
    fn where_a_redirect_leads_belongs_to_the_server_that_sent_it() {
        let mut all = Incidents::new(Duration::from_secs(60));
        let redirect = join(&mut all, "RED-02", "a", "f1", 0).unwrap();
        let leak = join(&mut all, "CR-01", "cdn.example", "f1", 1).unwrap();
        assert_eq!((&leak.id, leak.order), (&redirect.id, 2));
        let again = join(&mut all, "CR-01", "cdn.example", "f2", 2).unwrap();
        assert_eq!((&again.id, again.order), (&redirect.id, 3));
        let other = join(&mut all, "CR-01", "other.example", "f3", 3).unwrap();
        assert_eq!(other.order, 1);
    }
}
