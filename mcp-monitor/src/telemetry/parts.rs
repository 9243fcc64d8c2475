//! Numbers of the parts that a run may have or not: names of pods, sinks.

use super::exposition::{Family, Kind};
use crate::pipeline::summary::Summary;

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The watch of the Kubernetes API.
pub(super) fn identity(summary: &Summary) -> Vec<Family> {
    let Some(status) = &summary.identity else {
        return Vec::new();
    };
    let gauge = |name: &'static str, help: &'static str, value: f64| {
        Family::new(name, Kind::Gauge, help).with(Vec::new(), value)
    };
    vec![
        gauge(
            "mcp_monitor_identity_age_seconds",
            "Since the Kubernetes API last said anything.",
            status.age_seconds,
        ),
        gauge(
            "mcp_monitor_identity_pods",
            "Pods of this node that the API knows.",
            number(status.pods),
        ),
        Family::new(
            "mcp_monitor_identity_errors",
            Kind::Counter,
            "Lists and watches of the Kubernetes API that failed.",
        )
        .with(Vec::new(), number(status.errors)),
    ]
}

/// Every sink, by the name that the configuration gives it.
pub(super) fn sinks(summary: &Summary) -> Vec<Family> {
    let Some(sinks) = &summary.sinks else {
        return Vec::new();
    };
    let counter = |name: &'static str, help: &'static str| Family::new(name, Kind::Counter, help);
    let mut sent = counter("mcp_monitor_sink_sent", "Records that the receiver took.");
    let mut retried = counter(
        "mcp_monitor_sink_retried",
        "Attempts that failed and are repeated.",
    );
    let mut dropped = counter(
        "mcp_monitor_sink_dropped",
        "Records that the sink lost, by reason.",
    );
    let mut waiting = Family::new(
        "mcp_monitor_sink_waiting",
        Kind::Gauge,
        "Records that wait to be sent, on disk and in memory.",
    );
    let mut renewals = counter(
        "mcp_monitor_sink_renewals_failed",
        "Changed secrets or certificates that could not be used; those before are. The log says why.",
    );
    for (name, sink) in sinks {
        renewals = renewals.with(vec![("sink", name.clone())], number(sink.renewals_failed));
        let label = || vec![("sink", name.clone())];
        sent = sent.with(label(), number(sink.sent));
        retried = retried.with(label(), number(sink.retried));
        waiting = waiting.with(label(), number(sink.spooled));
        for (reason, count) in [
            ("queue", sink.dropped.queue),
            ("spool", sink.dropped.spool),
            ("rejected", sink.dropped.rejected),
            ("shutdown", sink.dropped.shutdown),
            ("damaged", sink.dropped.damaged),
        ] {
            let labels = vec![("sink", name.clone()), ("reason", reason.to_owned())];
            dropped = dropped.with(labels, number(count));
        }
    }
    vec![sent, retried, dropped, waiting, renewals]
}
