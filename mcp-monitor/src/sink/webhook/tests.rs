use serde_json::Value;

use super::encode::Template;
use crate::sink::{
    delivery::{Entry, Kind},
    encoding::Encoding,
    settings::{Secret, testing::settings},
};

fn alert(id: &str) -> Entry {
    let json = format!(
        r#"{{"id":"{id}","time":"2026-11-22T07:12:03.0Z","rule":"RED-02","name":"redirect-replays-secret","severity":"critical","summary":"a <b> & c","endpoint":"market-data","incident":{{"id":"inc","order":1}},"kubernetes":{{"namespace":"shop","pod":"agent-0"}}}}"#
    );
    Entry::new(Kind::Alert, json.as_bytes(), "CRITICAL RED-02: a <b> & c")
}

fn body(template: &Template, batch: &[Entry]) -> Value {
    serde_json::from_slice(&template.body(batch)).unwrap()
}

#[test]
fn generic_is_the_record_or_an_array_of_them() {
    let template = Template::Generic(Encoding::Json);
    assert_eq!(body(&template, &[alert("a")])["id"], "a");
    let both = body(&template, &[alert("a"), alert("b")]);
    assert_eq!(
        (both[0]["id"].as_str(), both[1]["id"].as_str()),
        (Some("a"), Some("b"))
    );
    let ocsf = body(&Template::Generic(Encoding::Ocsf), &[alert("a")]);
    assert_eq!(ocsf["class_uid"], 2004);
}

#[test]
fn slack_is_escaped_and_bounded() {
    let message = body(&Template::Slack, &[alert("a")]);
    let text = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(
        text.contains("*CRITICAL RED-02 redirect-replays-secret* market-data"),
        "{text}"
    );
    assert!(
        text.contains("a &lt;b&gt; &amp; c") && text.contains("shop/agent-0"),
        "{text}"
    );
    let long = Entry::new(
        Kind::Alert,
        format!(r#"{{"summary":"{}"}}"#, "é".repeat(9000)).as_bytes(),
        &"x".repeat(9000),
    );
    let message = body(&Template::Slack, &[long]);
    assert!(
        message["blocks"][0]["text"]["text"]
            .as_str()
            .unwrap()
            .chars()
            .count()
            <= 2800
    );
    assert!(message["text"].as_str().unwrap().chars().count() <= 2800);
}

#[test]
fn pagerduty_dedups_by_alert_or_incident() {
    let template = |by_incident| Template::PagerDuty {
        routing_key: Secret::new("R"),
        by_incident,
    };
    let event = body(&template(false), &[alert("a")]);
    assert_eq!(event["dedup_key"], "a");
    assert_eq!(event["routing_key"], "R");
    assert_eq!(event["event_action"], "trigger");
    assert_eq!(event["payload"]["severity"], "critical");
    assert_eq!(event["payload"]["source"], "agent-0");
    assert_eq!(body(&template(true), &[alert("a")])["dedup_key"], "inc");
}

#[test]
fn keys_that_do_not_fit_the_template_are_refused() {
    let read = |rest: &str| {
        let text = format!("sinks: [{{type: webhook, url: 'https://a.example', {rest}}}]");
        settings(&text, std::path::Path::new("."))
            .err()
            .unwrap_or_default()
    };
    assert!(read("template: pagerduty").contains("no routing_key"));
    assert!(read("group_by: incident").contains("expected template: pagerduty"));
    assert!(read("template: slack, batch: 5").contains("batch above 1"));
    assert!(read("encoding: text").contains("expected json or ocsf"));
    assert_eq!(read("template: slack"), "");
}
