//! OTLP: alerts and other records as log records, numbers as metrics.

mod answer;
mod config;
mod encode;
mod metrics;
mod send;
#[cfg(test)]
mod tests;

use super::{delivery::Kind, http, settings::SinkKind};

pub(super) const KIND: SinkKind = SinkKind {
    name: "otlp",
    about: "OTLP 1.x to an OpenTelemetry collector, or to whatever takes it. A record is a log record: `body` is its line for people, `mcp_monitor.record` the record as JSON, and the attributes are those of the semantic conventions where there are any (`server.address`, `process.pid`, `k8s.namespace.name`, `k8s.pod.name`, `k8s.deployment.name` …: whom the alert is about) and `mcp_monitor.rule`, `mcp_monitor.endpoint`, … where there are none. `severity_number` is 9 (info), 10 (low), 13 (medium), 17 (high), 21 (critical). The resource is the monitor: `service.name`, `service.version`, `service.instance.id`, `host.name`, and `k8s.*` of its own pod where `NODE_NAME`, `POD_NAME`, `POD_NAMESPACE` and `POD_UID` are set, as the chart does. With `records: [metrics]` (a sink of their own) the numbers of `/metrics` go out under the same names, without `_total`, as cumulative sums and gauges. Retries are those of the OTLP specification (`RetryInfo`, `Retry-After`), with one exception: what is a matter of configuration (a wrong token or path) is tried again, and the records wait for whoever sets it right. Records that a partial success rejects are counted as `rejected`. Nothing is compressed.",
    keys: &[http::KEYS, config::KEYS],
    batch: 256,
    spool: true,
    records: &[
        Kind::Alert,
        Kind::Message,
        Kind::Flow,
        Kind::Observation,
        Kind::Metrics,
    ],
    read: config::read,
};
