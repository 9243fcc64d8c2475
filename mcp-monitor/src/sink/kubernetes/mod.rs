//! Events of Kubernetes, on the pod that an alert is about.

mod config;
mod encode;
mod send;
mod series;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "kubernetes",
    about: "An Event (`events.k8s.io/v1`) on the pod that the alert is about, which `kubectl describe pod` and `kubectl events` show; on the node where no pod is known. Notices are what the monitor says of itself, on its own pod, else on its node: pins that were refused (`PinsRefused`). `reason` is the rule's name (`DnsAnswerDrift`), `note` the sentence of the alert, `type` is `Warning` from medium on. What repeats (one rule, one endpoint, one pod) is one Event with a growing `series.count`. Events are kept by the API for an hour or so: this tells people at the pod, it is no archive. Needs identity, and the right to create and patch events, which the chart gives with `events.enabled`. An alert on a pod whose namespace is gone is refused by the API, dropped and counted.",
    keys: &[config::KEYS],
    batch: 100,
    spool: true,
    records: &[Kind::Alert, Kind::Notice],
    read: config::read,
};
