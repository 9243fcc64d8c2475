use std::time::{Duration, Instant};

use super::{
    encode,
    series::{Bucket, Series},
};
use crate::sink::{
    delivery::{Entry, Kind},
    encoding::View,
};

fn view(json: &str) -> View {
    View::of(&Entry::new(Kind::Alert, json.as_bytes(), ""))
}

const ALERT: &str = r#"{"id":"abc","rule":"DNS-01","name":"dns-answer-drift","severity":"high","summary":"moved","endpoint":"market-data","kubernetes":{"node":"n1","namespace":"shop","pod":"agent-0","pod_uid":"6c5e"}}"#;

#[test]
fn an_alert_is_an_event_on_its_pod() {
    let view = view(ALERT);
    let about = encode::about(&view, None, 0).unwrap();
    let event = encode::event(&view, &about, "n1", "2026-11-22T07:12:03.000000Z");
    assert_eq!(event["metadata"]["namespace"], "shop");
    assert!(about.name.starts_with("agent-0."), "{}", about.name);
    assert_eq!(event["regarding"]["uid"], "6c5e");
    assert_eq!(
        (&event["reason"], &event["type"]),
        (&"DnsAnswerDrift".into(), &"Warning".into())
    );
    assert_eq!(event["note"], "DNS-01 high: moved");
    let event: k8s_openapi::api::events::v1::Event = serde_json::from_value(event).unwrap();
    assert!(event.event_time.is_some());
}

#[test]
fn one_pod_rule_and_endpoint_are_one_event() {
    let name = |json: &str, turn| encode::about(&view(json), None, turn).unwrap().name;
    let first = name(ALERT, 0);
    assert_eq!(first, name(&ALERT.replace("moved", "moved again"), 0));
    for (from, to) in [("DNS-01", "DST-02"), ("market-data", "other"), ("6c5e", "7d6f")] {
        assert_ne!(first, name(&ALERT.replace(from, to), 0));
    }
    assert_ne!(first, name(ALERT, 1));
}

#[test]
fn an_alert_without_pod_is_an_event_on_the_node() {
    let view = view(r#"{"rule":"DNS-01","kubernetes":{"node":"n1","namespace":null,"pod":null}}"#);
    let about = encode::about(&view, None, 0).unwrap();
    let event = encode::event(&view, &about, "n1", "2026-11-22T07:12:03.000000Z");
    assert_eq!(
        (about.namespace.as_str(), &event["regarding"]["kind"]),
        ("default", &"Node".into())
    );
    assert_eq!(encode::about(&self::view("{}"), None, 0), None);
    assert!(encode::about(&self::view("no json"), Some("n2"), 0).is_some());
}

#[test]
fn a_notice_is_an_event_on_the_node_for_each_reason() {
    let notice = |why: &str| {
        view(&format!(
            r#"{{"name":"pins-refused","severity":"high","summary":"{why}","kubernetes":{{"node":"n1"}}}}"#
        ))
    };
    let (first, other) = (notice("pins.yaml:3:5: a"), notice("pins.yaml:4:5: b"));
    let about = encode::about(&first, None, 0).unwrap();
    let event = encode::event(&first, &about, "n1", "2026-11-22T07:12:03.000000Z");
    assert_eq!(
        (&event["regarding"]["kind"], &event["reason"], &event["type"]),
        (&"Node".into(), &"PinsRefused".into(), &"Warning".into())
    );
    assert_eq!(event["note"], "pins.yaml:3:5: a");
    assert_eq!(about.name, encode::about(&first, None, 0).unwrap().name);
    assert_ne!(about.name, encode::about(&other, None, 0).unwrap().name);
}

#[test]
fn notes_are_bounded() {
    let long = ALERT.replace("moved", &"é".repeat(2000));
    let view = view(&long);
    let about = encode::about(&view, None, 0).unwrap();
    let event = encode::event(&view, &about, &"n".repeat(300), "2026-11-22T07:12:03.000000Z");
    assert!(event["note"].as_str().unwrap().len() <= 1024);
    assert_eq!(event["reportingInstance"].as_str().unwrap().len(), 128);
}

#[test]
fn a_series_counts_what_is_new() {
    let first = Series::default().with("a", 1).unwrap();
    assert_eq!(first.count, 1);
    assert_eq!(first.with("a", 1), None, "a repetition");
    let more = first.with("a", 5).unwrap();
    assert_eq!(more.count, 5);
    assert_eq!(more.with("b", 1).unwrap().count, 6);
}

#[test]
fn requests_are_bounded() {
    let start = Instant::now();
    let mut bucket = Bucket::new(2, start);
    assert!(bucket.take(start).is_ok() && bucket.take(start).is_ok());
    let wait = bucket.take(start).unwrap_err();
    assert!((29.0..31.0).contains(&wait), "{wait}");
    assert!(
        bucket
            .take(start.checked_add(Duration::from_secs(31)).unwrap())
            .is_ok()
    );
}
