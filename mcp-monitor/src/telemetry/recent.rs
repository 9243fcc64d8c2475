//! The last alerts and flows, and what they add up to.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    alert::Alert,
    config::program::Http,
    pipeline::record::{FlowRecord, Record},
    pipeline::status::MAX_ENDPOINTS,
    types::{Plaintext, Severity, Timestamp, Transport},
};

/// What is known of one endpoint from alerts.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Trust {
    /// Alerts, by severity in the order of [`Severity::ALL`].
    pub(super) alerts: [u64; 5],
    /// The worst one, and when it last occurred.
    pub(super) worst: Option<(Severity, Timestamp)>,
    /// The latest.
    pub(super) last: Option<Timestamp>,
}

/// Flows that ended, and how much of them could not be seen.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Seen {
    /// All.
    pub(super) flows: u64,
    /// TCP flows whose plaintext was not seen.
    pub(super) encrypted: u64,
    /// Flows with bytes missing.
    pub(super) lossy: u64,
}

#[derive(Default)]
struct Inner {
    alerts: VecDeque<Arc<Alert>>,
    flows: VecDeque<Arc<FlowRecord>>,
    counts: BTreeMap<(&'static str, &'static str, Severity), u64>,
    trust: BTreeMap<String, Trust>,
    seen: BTreeMap<Option<usize>, Seen>,
}

/// Written by the packet loop, read by requests. Both hold the lock for a copy of pointers at most.
pub(super) struct Recent {
    keep_alerts: usize,
    keep_flows: usize,
    inner: Mutex<Inner>,
}

impl Recent {
    pub(super) fn new(http: &Http) -> Self {
        let whole = |n| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            keep_alerts: whole(http.keep_alerts),
            keep_flows: whole(http.keep_flows),
            inner: Mutex::default(),
        }
    }

    pub(super) fn take(&self, records: &[Record]) {
        let mut inner = self.lock();
        for record in records {
            match record {
                Record::Alert(alert) => inner.alert(alert, self.keep_alerts),
                Record::Flow(flow) => inner.flow(flow, self.keep_flows),
                Record::Message(_) | Record::Observation(_) => {}
            }
        }
    }

    /// Pins changed: flows name endpoints by their place there.
    pub(super) fn forget_places(&self) {
        self.lock().seen.clear();
    }

    /// Newest first.
    pub(super) fn alerts(&self) -> Vec<Arc<Alert>> {
        self.lock().alerts.iter().rev().cloned().collect()
    }

    /// Newest first.
    pub(super) fn flows(&self) -> Vec<Arc<FlowRecord>> {
        self.lock().flows.iter().rev().cloned().collect()
    }

    /// Alerts by rule, its slug and severity.
    pub(super) fn counts(&self) -> BTreeMap<(&'static str, &'static str, Severity), u64> {
        self.lock().counts.clone()
    }

    pub(super) fn trust(&self) -> BTreeMap<String, Trust> {
        self.lock().trust.clone()
    }

    /// By place in the pins; `None` is everything that is not pinned.
    pub(super) fn seen(&self) -> BTreeMap<Option<usize>, Seen> {
        self.lock().seen.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn alert(&mut self, alert: &Alert, keep: usize) {
        // An alert that goes on is said again: it takes the place of its earlier self, and counts once.
        let again = alert.count > 1;
        if !again {
            let n = self
                .counts
                .entry((alert.rule, alert.name, alert.severity))
                .or_default();
            *n = n.saturating_add(1);
        }
        if let Some(endpoint) = &alert.endpoint
            && (self.trust.len() < MAX_ENDPOINTS || self.trust.contains_key(endpoint))
        {
            self.trust.entry(endpoint.clone()).or_default().add(alert, again);
        }
        if again && let Some(at) = self.alerts.iter().rposition(|kept| kept.id == alert.id) {
            self.alerts.remove(at);
        }
        self.alerts.push_back(Arc::new(alert.clone()));
        while self.alerts.len() > keep {
            self.alerts.pop_front();
        }
    }

    fn flow(&mut self, flow: &FlowRecord, keep: usize) {
        let place = flow.endpoint.filter(|place| *place < MAX_ENDPOINTS);
        let seen = self.seen.entry(place).or_default();
        seen.flows = seen.flows.saturating_add(1);
        let hidden = flow.flow.plaintext == Plaintext::None && flow.flow.transport == Transport::Tcp;
        seen.encrypted = seen.encrypted.saturating_add(u64::from(hidden));
        seen.lossy = seen.lossy.saturating_add(u64::from(flow.flow.lost_bytes > 0));
        self.flows.push_back(Arc::new(flow.clone()));
        while self.flows.len() > keep {
            self.flows.pop_front();
        }
    }
}

impl Trust {
    fn add(&mut self, alert: &Alert, again: bool) {
        if !again
            && let Some(place) = Severity::ALL.iter().position(|s| *s == alert.severity)
            && let Some(count) = self.alerts.get_mut(place)
        {
            *count = count.saturating_add(1);
        }
        self.last = self.last.max(Some(alert.last_seen));
        self.worst = self.worst.max(Some((alert.severity, alert.last_seen)));
    }
}
