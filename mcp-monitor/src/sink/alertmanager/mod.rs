//! Prometheus Alertmanager, API v2.

mod config;
mod encode;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, http, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "alertmanager",
    about: "Posts to `URL/api/v2/alerts`. Labels are few and bounded: `alertname` (the rule's name), `rule`, `severity`, `category`, `endpoint`, `node`, `namespace`, `pod`, `container`, `workload`, `source`, and those of `labels`; what tells one alert from the next (id, sentence, expected, observed, incident, count) is in annotations. So Alertmanager groups and silences by what stays the same, and a record that is sent twice changes nothing. Alerts of one rule on one endpoint and pod are one alert there, with the latest sentence. An alert resolves by itself `resolve_after` its last sight.",
    keys: &[http::KEYS, config::KEYS],
    batch: 64,
    spool: true,
    records: &[Kind::Alert],
    read: config::read,
};
