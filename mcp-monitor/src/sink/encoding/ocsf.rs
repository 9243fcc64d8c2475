//! OCSF 1.5: Detection Finding, class 2004 of category Findings.

use serde_json::{Map, Value, json};

use super::View;
use crate::types::{Severity, Timestamp};

const VERSION: &str = "1.5.0";
const CLASS: u64 = 2004;
const CATEGORY: u64 = 2;
/// `activity_id`: Create, and Update where an alert is written again with a higher count.
const CREATE: u64 = 1;
const UPDATE: u64 = 2;

/// An alert as a finding. The record itself is under `unmapped`.
pub(super) fn finding(view: &View) -> Value {
    let id = view.text("/id").unwrap_or("unknown");
    let rule = view.text("/rule").unwrap_or("unknown");
    let name = view.text("/name").unwrap_or("unknown");
    let activity = if view.number("/count").unwrap_or(1) > 1 {
        UPDATE
    } else {
        CREATE
    };
    let (severity_id, severity) = severity(view.severity());
    let first = millis(view.time("/first_seen").or(view.time("/time")));
    let last = millis(view.time("/last_seen").or(view.time("/time")));
    let info = json!({
        "uid": id,
        "title": format!("{rule} {name}"),
        "desc": view.text("/summary"),
        "types": view.text("/category").map(|category| vec![category]),
        "first_seen_time": first,
        "last_seen_time": last,
        "created_time": first,
        "data_sources": ["network traffic"],
        "analytic": {"uid": rule, "name": name, "type_id": 1, "type": "Rule"},
        "attacks": attacks(view),
        "related_events": view.text("/incident/id").map(|incident| vec![json!({"uid": incident, "type": "incident"})]),
    });
    let mut finding = json!({
        "activity_id": activity,
        "activity_name": if activity == CREATE { "Create" } else { "Update" },
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS.saturating_mul(100).saturating_add(activity),
        "type_name": if activity == CREATE { "Detection Finding: Create" } else { "Detection Finding: Update" },
        "time": last,
        "start_time": first,
        "end_time": last,
        "count": view.number("/count"),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1,
        "status": "New",
        "is_alert": true,
        "message": view.text("/summary"),
        "metadata": {
            "version": VERSION,
            "uid": id,
            "product": {"name": "mcp-monitor", "vendor_name": "mcp-monitor", "version": env!("CARGO_PKG_VERSION")},
            "log_name": view.text("/schema"),
            "original_time": view.text("/time"),
        },
        "finding_info": info,
        "evidences": evidences(view),
        "observables": observables(view),
        "resources": resources(view),
        "unmapped": view.whole(),
    });
    prune(&mut finding);
    finding
}

fn severity(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

/// `timestamp_t`: milliseconds since the epoch.
fn millis(time: Option<Timestamp>) -> u64 {
    time.map_or(0, |time| time.0 / 1_000_000)
}

/// Techniques of MITRE ATLAS. Readers want a name; their titles change with each release, their ids do not.
fn attacks(view: &View) -> Vec<Value> {
    let technique = |uid: &str| json!({"technique": {"uid": uid, "name": uid}, "version": "ATLAS"});
    view.texts("/taxonomy/atlas").map(technique).collect()
}

fn evidences(view: &View) -> Value {
    let end = |side: &str| {
        let at = |key: &str| format!("/flow/{side}/{key}");
        json!({
            "ip": view.text(&at("ip")),
            "port": view.number(&at("port")),
            "hostname": if side == "server" { view.text("/flow/server_name") } else { None },
        })
    };
    json!([{
        "src_endpoint": end("client"),
        "dst_endpoint": end("server"),
        "connection_info": view.text("/flow/transport").map(|transport| {
            json!({"direction_id": 2, "direction": "Outbound", "protocol_name": transport, "uid": view.text("/flow/id")})
        }),
        "process": view.number("/process/pid").map(|pid| {
            json!({"pid": pid, "name": view.text("/process/comm"), "file": view.text("/process/exe").map(|path| {
                json!({"path": path, "name": path.rsplit('/').next(), "type_id": 1})
            })})
        }),
        "container": view.text("/process/container_id").map(|uid| {
            json!({"uid": uid, "name": view.text("/kubernetes/container"), "pod_uuid": view.text("/kubernetes/pod_uid")})
        }),
        "data": {
            "expected": view.value("/expected"),
            "observed": view.value("/observed"),
            "packets": view.value("/evidence/packets"),
            "capture": view.value("/evidence/capture"),
            "mcp": view.value("/mcp"),
        },
    }])
}

fn observables(view: &View) -> Vec<Value> {
    let at = [
        ("evidences[].dst_endpoint.ip", 2, "IP Address", "/flow/server/ip"),
        ("evidences[].src_endpoint.ip", 2, "IP Address", "/flow/client/ip"),
        (
            "evidences[].dst_endpoint.hostname",
            1,
            "Hostname",
            "/flow/server_name",
        ),
        ("evidences[].process.name", 9, "Process Name", "/process/comm"),
    ];
    at.into_iter()
        .filter_map(|(name, type_id, kind, path)| {
            Some(json!({"name": name, "type_id": type_id, "type": kind, "value": view.text(path)?}))
        })
        .collect()
}

/// The pod and the approved server that it concerns.
fn resources(view: &View) -> Vec<Value> {
    let pod = view.text("/kubernetes/pod").map(|pod| {
        json!({"type": "pod", "name": pod, "namespace": view.text("/kubernetes/namespace"), "uid": view.text("/kubernetes/pod_uid")})
    });
    let endpoint = view
        .text("/endpoint")
        .map(|name| json!({"type": "mcp-endpoint", "name": name}));
    pod.into_iter().chain(endpoint).collect()
}

/// Takes out what is not known: OCSF leaves it out. What is `unmapped` stays as it is.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if key != "unmapped" {
                    prune(inner);
                }
            }
            let kept: Map<_, _> = std::mem::take(map)
                .into_iter()
                .filter(|(_, inner)| !is_nothing(inner))
                .collect();
            *map = kept;
        }
        Value::Array(list) => {
            list.iter_mut().for_each(prune);
            list.retain(|inner| !is_nothing(inner));
        }
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::delivery::{Entry, Kind},
        *,
    };

    fn of(json: &str) -> Value {
        finding(&View::of(&Entry::new(Kind::Alert, json.as_bytes(), "")))
    }

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_required_is_there() {
        for finding in [
            of("{}"),
            of("broken"),
            of(r#"{"id":"a","rule":"DNS-01","name":"x","severity":"high","flow":null}"#),
        ] {
            for path in [
                "/activity_id",
                "/category_uid",
                "/class_uid",
                "/type_uid",
                "/time",
                "/severity_id",
                "/metadata/version",
                "/metadata/product",
                "/finding_info/uid",
            ] {
                assert!(
                    finding.pointer(path).is_some_and(|v| !v.is_null()),
                    "{path}: {finding}"
                );
            }
            assert_eq!(finding["class_uid"], 2004);
            assert_eq!(finding.pointer("/evidences/0/process"), None);
        }
    }

    #[test]
    fn severity_activity_and_techniques() {
        let finding = of(
            r#"{"id":"a","rule":"DNS-01","name":"dns-answer-drift","severity":"critical","count":3,"taxonomy":{"atlas":["AML.T0008.002"]},"first_seen":"2026-11-22T07:12:03.5Z","last_seen":"2026-11-22T07:12:04.0Z","flow":{"server":{"ip":"198.51.100.66","port":443}}}"#,
        );
        assert_eq!(
            (finding["severity_id"].as_u64(), finding["type_uid"].as_u64()),
            (Some(5), Some(200_402))
        );
        assert_eq!(
            finding["finding_info"]["attacks"][0]["technique"]["uid"],
            "AML.T0008.002"
        );
        assert_eq!(finding["time"].as_u64(), Some(1_795_331_524_000));
        assert_eq!(finding["evidences"][0]["dst_endpoint"]["ip"], "198.51.100.66");
        assert_eq!(finding["observables"][0]["value"], "198.51.100.66");
    }
}
