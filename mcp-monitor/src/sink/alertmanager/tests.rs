use std::{collections::BTreeMap, time::Duration};

use super::encode;
use crate::{
    sink::{
        delivery::{Entry, Kind},
        encoding::View,
    },
    types::Timestamp,
};

fn encoded(json: &str, now: &str) -> serde_json::Value {
    let json = json.replace('\n', " ");
    let entry = Entry::new(Kind::Alert, json.as_bytes(), "line");
    let extra = BTreeMap::from([("cluster".to_owned(), "prod".to_owned())]);
    let now = Timestamp::parse_rfc3339(now).unwrap();
    encode::alert(&View::of(&entry), "line", &extra, Duration::from_secs(3600), now)
}

const ALERT: &str = r#"{"id":"abc","rule":"DNS-01","name":"dns-answer-drift","severity":"high","category":"dns",
"summary":"moved","endpoint":"market-data","expected":["203.0.113.0/24"],"observed":"198.51.100.66","count":3,
"kubernetes":{"node":"n1","namespace":"shop","pod":"agent-0","container":null,"labels":{"a":"b"},"workload":{"kind":"Deployment","name":"agent"}},
"first_seen":"2026-11-22T07:12:03.000000000Z","last_seen":"2026-11-22T07:15:03.000000000Z"}"#;

#[test]
fn labels_are_what_stays_the_same_and_annotations_the_rest() {
    let alert = encoded(ALERT, "2026-11-22T07:15:04Z");
    let expected = serde_json::json!({
        "source": "mcp-monitor", "cluster": "prod", "alertname": "dns-answer-drift", "rule": "DNS-01",
        "severity": "high", "category": "dns", "endpoint": "market-data", "node": "n1", "namespace": "shop",
        "pod": "agent-0", "workload": "agent",
    });
    assert_eq!(alert["labels"], expected);
    assert_eq!(alert["annotations"]["alert_id"], "abc");
    assert_eq!(alert["annotations"]["expected"], "203.0.113.0/24");
    assert_eq!(alert["startsAt"], "2026-11-22T07:12:03.000000000Z");
    assert_eq!(alert["endsAt"], "2026-11-22T08:15:04.000000000Z");
}

#[test]
fn an_alert_that_waited_in_the_spool_is_not_born_resolved() {
    let alert = encoded(ALERT, "2026-11-24T00:00:00Z");
    assert_eq!(alert["endsAt"], "2026-11-24T01:00:00.000000000Z");
}

#[test]
fn values_are_bounded_and_whatever_stands_in_a_spool_is_encoded() {
    let long = format!(r#"{{"name":"{}"}}"#, "é".repeat(4000));
    let alert = encoded(&long, "2026-11-24T00:00:00Z");
    assert_eq!(alert["labels"]["alertname"].as_str().unwrap().len(), 1024);
    assert_eq!(
        encoded("no json", "2026-11-24T00:00:00Z")["labels"]["source"],
        "mcp-monitor"
    );
}
