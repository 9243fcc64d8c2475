//! Numbers as OTLP metrics.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
        number_data_point,
    },
    resource::v1::Resource,
};
use serde_json::Value;

use super::encode::{scope, text};
use crate::{
    sink::{delivery::Entry, encoding::View},
    types::Timestamp,
};

/// The request for these `mcp-monitor.metrics/1` records.
pub(super) fn metrics(resource: &Resource, entries: &[Entry], now: Timestamp) -> ExportMetricsServiceRequest {
    let resource_metrics = entries.iter().map(|entry| ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope()),
            metrics: one(&View::of(entry), now),
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    });
    ExportMetricsServiceRequest {
        resource_metrics: resource_metrics.collect(),
    }
}

fn one(view: &View, now: Timestamp) -> Vec<Metric> {
    let at = view.time("/time").unwrap_or(now);
    let start = view.time("/started").unwrap_or(at);
    let families = view.value("/metrics").and_then(Value::as_array);
    let family = |family: &Value| {
        let word = |key: &str| family.get(key).and_then(Value::as_str).unwrap_or_default();
        let counter = word("kind") == "counter";
        let samples = family.get("samples").and_then(Value::as_array)?;
        let data_points: Vec<NumberDataPoint> = samples
            .iter()
            .filter_map(|sample| point(sample, if counter { start.0 } else { 0 }, at.0))
            .collect();
        let data = if counter {
            metric::Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            })
        } else {
            metric::Data::Gauge(Gauge { data_points })
        };
        Some(Metric {
            name: word("name").to_owned(),
            description: word("help").to_owned(),
            unit: unit(word("name")).to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    };
    families.into_iter().flatten().filter_map(family).collect()
}

fn point(sample: &Value, start: u64, at: u64) -> Option<NumberDataPoint> {
    let labels = sample.get("labels").and_then(Value::as_object);
    let attributes = labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(text(name, value.as_str()?)));
    Some(NumberDataPoint {
        attributes: attributes.collect(),
        start_time_unix_nano: start,
        time_unix_nano: at,
        value: Some(number_data_point::Value::AsDouble(sample.get("value")?.as_f64()?)),
        ..NumberDataPoint::default()
    })
}

/// As UCUM writes it.
fn unit(name: &str) -> &'static str {
    if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("bytes") {
        "By"
    } else {
        "1"
    }
}
