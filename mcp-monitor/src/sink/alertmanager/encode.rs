//! An alert as `postableAlert` of Alertmanager's API v2.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use crate::{sink::encoding::View, types::Timestamp};

/// Bytes of a label or annotation.
const MAX_VALUE: usize = 1024;

/// Labels and where their values are.
const LABELS: &[(&str, &str)] = &[
    ("alertname", "/name"),
    ("rule", "/rule"),
    ("severity", "/severity"),
    ("category", "/category"),
    ("endpoint", "/endpoint"),
    ("node", "/kubernetes/node"),
    ("namespace", "/kubernetes/namespace"),
    ("pod", "/kubernetes/pod"),
    ("container", "/kubernetes/container"),
    ("workload", "/kubernetes/workload/name"),
];

/// One alert. It is over `resolve_after` its last sight, or after now: one that waited in the spool is news still.
pub(super) fn alert(
    view: &View,
    line: &str,
    extra: &BTreeMap<String, String>,
    resolve_after: Duration,
    now: Timestamp,
) -> Value {
    let mut labels = Map::new();
    labels.insert("source".into(), "mcp-monitor".into());
    for (name, value) in extra {
        labels.insert(name.clone(), cut(value).into());
    }
    for (name, path) in LABELS {
        if let Some(text) = view.text(path) {
            labels.insert((*name).to_owned(), cut(text).into());
        }
    }
    let mut annotations = Map::new();
    let mut note = |name: &str, text: Option<String>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            annotations.insert(name.to_owned(), cut(&text).into());
        }
    };
    let text = |path| view.text(path).map(str::to_owned);
    note("summary", text("/summary"));
    note("description", Some(line.to_owned()));
    note("alert_id", text("/id"));
    note("incident", text("/incident/id"));
    note(
        "expected",
        Some(view.texts("/expected").collect::<Vec<_>>().join(", ")),
    );
    note("observed", text("/observed"));
    note("count", view.number("/count").map(|count| count.to_string()));
    note("server_ip", text("/flow/server/ip"));
    note("client_ip", text("/flow/client/ip"));
    note("process", text("/process/comm"));
    let starts = view.time("/first_seen").unwrap_or(now);
    let last = view.time("/last_seen").unwrap_or(starts).max(now);
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": starts,
        "endsAt": last.saturating_add(resolve_after),
    })
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE)).unwrap_or(text)
}
