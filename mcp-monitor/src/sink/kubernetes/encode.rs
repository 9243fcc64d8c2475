//! An alert as an Event.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{sink::encoding::View, types::Severity};

/// Bytes of a `note`, which the API bounds.
const MAX_NOTE: usize = 1024;
/// Bytes of `reportingInstance` and of a `reason`, which the API bounds.
const MAX_WORD: usize = 128;

/// What an alert is about, and what makes two alerts one Event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct About {
    pub(super) namespace: String,
    /// Name of the Event: always the same for one pod, rule and endpoint in one `turn`.
    pub(super) name: String,
    regarding: Value,
}

/// `None`: neither a pod nor a node is known. `turn` tells an Event from the one before it, which has expired.
pub(super) fn about(view: &View, node: Option<&str>, turn: u64) -> Option<About> {
    let of = |key: &str| view.text(&format!("/kubernetes/{key}"));
    let (namespace, regarding) = match (of("namespace"), of("pod")) {
        (Some(namespace), Some(pod)) => {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": of("pod_uid"),
            });
            (namespace.to_owned(), pod)
        }
        _ => {
            let node = of("node").or(node)?;
            // A node's Events are in `default`, and its name stands for its uid: so does a kubelet.
            let node = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": node});
            ("default".to_owned(), node)
        }
    };
    let mut hash = Sha256::new();
    for part in [
        regarding.to_string().as_str(),
        // A notice is told from others by what it says.
        view.text("/rule").or(view.text("/summary")).unwrap_or_default(),
        view.text("/endpoint").unwrap_or_default(),
        &turn.to_string(),
    ] {
        hash.update(part);
        hash.update([0]);
    }
    let tail = hash
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    let object = regarding.get("name").and_then(Value::as_str).unwrap_or_default();
    Some(About {
        namespace,
        name: format!("{}.{tail}", cut(object, 200).trim_end_matches(['.', '-'])),
        regarding,
    })
}

/// The Event; `now` as the API writes it, with microseconds.
pub(super) fn event(view: &View, about: &About, instance: &str, now: &str) -> Value {
    let severe = view.severity() >= Severity::Medium;
    let summary = view.text("/summary").unwrap_or_default();
    let note = match view.text("/rule") {
        Some(rule) => format!("{rule} {}: {summary}", view.severity().as_str()),
        None => summary.to_owned(),
    };
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": about.name, "namespace": about.namespace},
        "eventTime": now,
        "reportingController": "mcp-monitor/mcp-monitor",
        "reportingInstance": cut(instance, MAX_WORD),
        "action": if view.text("/rule").is_some() { "Alert" } else { "Notice" },
        "reason": cut(&reason(view.text("/name").unwrap_or("unknown")), MAX_WORD),
        "type": if severe { "Warning" } else { "Normal" },
        "regarding": about.regarding,
        "note": cut(&note, MAX_NOTE),
    })
}

/// What is changed of an Event that is there already.
pub(super) fn series(count: u64, now: &str) -> Value {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    json!({"series": {"count": count, "lastObservedTime": now}})
}

/// `dns-answer-drift` as `DnsAnswerDrift`.
fn reason(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    name.split('-').map(word).collect()
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}
