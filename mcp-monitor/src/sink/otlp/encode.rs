//! A record as a log record.

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::Value;

use crate::{
    sink::{
        delivery::{Entry, Kind},
        encoding::View,
    },
    types::{Severity, Timestamp},
};

/// Attributes and where their values are. Names without `mcp_monitor` are those of the semantic conventions.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("mcp_monitor.alert.id", "/id"),
    ("mcp_monitor.rule", "/rule"),
    ("mcp_monitor.rule.name", "/name"),
    ("mcp_monitor.category", "/category"),
    ("mcp_monitor.endpoint", "/endpoint"),
    ("mcp_monitor.expected", "/expected"),
    ("mcp_monitor.observed", "/observed"),
    ("mcp_monitor.count", "/count"),
    ("mcp_monitor.incident.id", "/incident/id"),
    ("mcp_monitor.flow.id", "/flow/id"),
    ("mcp.method.name", "/method"),
    ("mcp.protocol.version", "/protocol_version"),
    ("network.transport", "/flow/transport"),
    ("client.address", "/flow/client/ip"),
    ("client.port", "/flow/client/port"),
    ("server.address", "/flow/server/ip"),
    ("server.port", "/flow/server/port"),
    ("tls.client.server_name", "/flow/server_name"),
    ("process.pid", "/process/pid"),
    ("process.executable.name", "/process/comm"),
    ("process.executable.path", "/process/executable"),
    ("container.id", "/process/container_id"),
    ("k8s.node.name", "/kubernetes/node"),
    ("k8s.namespace.name", "/kubernetes/namespace"),
    ("k8s.pod.name", "/kubernetes/pod"),
    ("k8s.pod.uid", "/kubernetes/pod_uid"),
    ("k8s.container.name", "/kubernetes/container"),
];

/// Owners that the semantic conventions have a name for.
const WORKLOADS: &[(&str, &str)] = &[
    ("Deployment", "k8s.deployment.name"),
    ("ReplicaSet", "k8s.replicaset.name"),
    ("StatefulSet", "k8s.statefulset.name"),
    ("DaemonSet", "k8s.daemonset.name"),
    ("Job", "k8s.job.name"),
    ("CronJob", "k8s.cronjob.name"),
];

/// The request for these records.
pub(super) fn logs(resource: &Resource, entries: &[Entry], now: Timestamp) -> ExportLogsServiceRequest {
    let records = entries.iter().map(|entry| record(entry, now)).collect();
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "mcp-monitor".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn record(entry: &Entry, now: Timestamp) -> LogRecord {
    let view = View::of(entry);
    let mut attributes: Vec<KeyValue> = ATTRIBUTES
        .iter()
        .filter_map(|(name, path)| Some(pair(name, any(view.value(path)?)?)))
        .collect();
    let kind = view.text("/kubernetes/workload/kind");
    if let Some((_, name)) = WORKLOADS.iter().find(|(workload, _)| Some(*workload) == kind)
        && let Some(workload) = view.text("/kubernetes/workload/name")
    {
        attributes.push(text(name, workload));
    }
    attributes.push(text("mcp_monitor.record", &String::from_utf8_lossy(entry.json())));
    let severity = match entry.kind {
        Kind::Alert => view.severity(),
        _ => Severity::Info,
    };
    let line = match entry.text() {
        "" => view.text("/summary").unwrap_or_default(),
        line => line,
    };
    let at = view.time("/last_seen").or(view.time("/time")).unwrap_or(now);
    LogRecord {
        time_unix_nano: at.0,
        observed_time_unix_nano: now.0,
        severity_number: number(severity).into(),
        severity_text: severity.as_str().to_owned(),
        body: Some(string(line)),
        attributes,
        event_name: format!("mcp_monitor.{}", entry.kind.as_str().trim_end_matches('s')),
        ..LogRecord::default()
    }
}

fn number(severity: Severity) -> SeverityNumber {
    match severity {
        Severity::Info => SeverityNumber::Info,
        Severity::Low => SeverityNumber::Info2,
        Severity::Medium => SeverityNumber::Warn,
        Severity::High => SeverityNumber::Error,
        Severity::Critical => SeverityNumber::Fatal,
    }
}

/// Texts, numbers, flags and lists of them; an empty text or list is nothing.
fn any(value: &Value) -> Option<AnyValue> {
    let value = match value {
        Value::String(text) if text.is_empty() => return None,
        Value::String(text) => any_value::Value::StringValue(text.clone()),
        Value::Bool(flag) => any_value::Value::BoolValue(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => any_value::Value::IntValue(number),
            None => any_value::Value::DoubleValue(number.as_f64()?),
        },
        Value::Array(items) => {
            let values: Vec<AnyValue> = items
                .iter()
                .filter(|item| !item.is_array())
                .filter_map(any)
                .collect();
            if values.is_empty() {
                return None;
            }
            any_value::Value::ArrayValue(ArrayValue { values })
        }
        Value::Null | Value::Object(_) => return None,
    };
    Some(AnyValue { value: Some(value) })
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        value: Some(any_value::Value::StringValue(text.to_owned())),
    }
}

fn pair(name: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// An attribute.
pub(super) fn text(name: &str, value: &str) -> KeyValue {
    pair(name, string(value))
}
