//! Bodies of the templates.

use serde_json::{Value, json};

use crate::{
    sink::{
        delivery::{Entry, Kind},
        encoding::{Encoding, View},
        settings::Secret,
    },
    types::Severity,
};

/// Characters of a Slack section; it takes 3000.
const MAX_SECTION: usize = 2800;
/// Characters of a PagerDuty summary.
const MAX_SUMMARY: usize = 1024;

/// What the receiver expects.
#[derive(Clone, Debug)]
pub(super) enum Template {
    /// The records.
    Generic(Encoding),
    /// An incoming webhook.
    Slack,
    /// Events API v2.
    PagerDuty { routing_key: Secret, by_incident: bool },
}

impl Template {
    /// The body of one request.
    pub(super) fn body(&self, batch: &[Entry]) -> Vec<u8> {
        match self {
            Self::Generic(encoding) => generic(*encoding, batch),
            Self::Slack => batch
                .first()
                .map(slack)
                .unwrap_or_default()
                .to_string()
                .into_bytes(),
            Self::PagerDuty {
                routing_key,
                by_incident,
            } => {
                let event = batch
                    .first()
                    .map(|entry| pagerduty(entry, routing_key, *by_incident));
                event.unwrap_or_default().to_string().into_bytes()
            }
        }
    }
}

fn generic(encoding: Encoding, batch: &[Entry]) -> Vec<u8> {
    if let [entry] = batch {
        return encoding.line(entry);
    }
    let mut body = b"[".to_vec();
    for (n, entry) in batch.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend(encoding.line(entry));
    }
    body.push(b']');
    body
}

fn slack(entry: &Entry) -> Value {
    let line = escape(entry.text());
    if entry.kind != Kind::Alert {
        return json!({ "text": cut(&line, MAX_SECTION) });
    }
    let view = View::of(entry);
    let title = format!(
        "*{} {} {}* {}",
        view.severity().as_str().to_uppercase(),
        escape(view.text("/rule").unwrap_or_default()),
        escape(view.text("/name").unwrap_or_default()),
        escape(view.text("/endpoint").unwrap_or_default()),
    );
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.push(format!("*{name}* {}", escape(&value)));
        }
    };
    let text = |path| view.text(path).map(str::to_owned);
    field(
        "expected",
        Some(view.texts("/expected").collect::<Vec<_>>().join(", ")),
    );
    field("observed", text("/observed"));
    let pod = text("/kubernetes/pod")
        .map(|pod| format!("{}/{pod}", view.text("/kubernetes/namespace").unwrap_or("-")));
    field("pod", pod);
    field("process", text("/process/comm"));
    field(
        "count",
        view.number("/count").filter(|n| *n > 1).map(|n| n.to_string()),
    );
    field("id", text("/id"));
    let body = format!(
        "{title}\n{}\n{}",
        escape(view.text("/summary").unwrap_or_default()),
        fields.join("\n")
    );
    json!({
        // What a notification shows.
        "text": cut(&line, MAX_SECTION),
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": cut(&body, MAX_SECTION)}}],
    })
}

fn pagerduty(entry: &Entry, routing_key: &Secret, by_incident: bool) -> Value {
    let view = View::of(entry);
    let id = view.text("/id");
    let key = match by_incident {
        true => view.text("/incident/id").or(id),
        false => id,
    };
    let severity = match view.severity() {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium | Severity::Low => "warning",
        Severity::Info => "info",
    };
    let source = view
        .text("/kubernetes/pod")
        .or(view.text("/kubernetes/node"))
        .or(view.text("/flow/client/ip"))
        .unwrap_or("mcp-monitor");
    json!({
        "routing_key": routing_key.expose(),
        "event_action": "trigger",
        "dedup_key": key,
        "client": "mcp-monitor",
        "payload": {
            "summary": cut(entry.text(), MAX_SUMMARY),
            "source": source,
            "severity": severity,
            "timestamp": view.text("/time"),
            "component": view.text("/endpoint"),
            "group": view.text("/incident/id"),
            "class": view.text("/rule"),
            "custom_details": view.whole(),
        },
    })
}

/// As Slack wants it: these three and no others.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
