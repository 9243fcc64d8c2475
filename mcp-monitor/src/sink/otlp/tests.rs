use std::time::Duration;

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{metric::Data, number_data_point},
    resource::v1::Resource,
};
use tonic::{Code, Status};

use super::{answer, encode, metrics};
use crate::{
    sink::{
        delivery::{Entry, Kind},
        http::Endpoint,
        settings::testing,
    },
    types::Timestamp,
};

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Value> {
    let pair = attributes.iter().find(|pair| pair.key == name)?;
    pair.value.as_ref()?.value.as_ref()
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn an_alert_is_a_log_record_with_the_names_of_the_conventions() {
    let json = r#"{"id":"abc","rule":"DNS-01","name":"dns-answer-drift","severity":"high","category":"dns","summary":"moved","endpoint":"market-data","expected":["203.0.113.0/24"],"observed":null,"count":3,"flow":{"transport":"tcp","server":{"ip":"198.51.100.66","port":443}},"process":{"pid":7,"comm":"node"},"kubernetes":{"node":"n1","namespace":"shop","pod":"agent-0","container":null,"workload":{"kind":"StatefulSet","name":"agent"}},"time":"2026-11-22T07:12:03.000000000Z","last_seen":"2026-11-22T07:15:03.000000001Z"}"#;
    let entry = Entry::new(Kind::Alert, json.as_bytes(), "a line");
    let request = encode::logs(&Resource::default(), &[entry], Timestamp(5));
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.severity_number, 17);
    assert_eq!(record.severity_text, "high");
    assert_eq!(record.event_name, "mcp_monitor.alert");
    assert_eq!(record.observed_time_unix_nano, 5);
    let last = Timestamp::parse_rfc3339("2026-11-22T07:15:03.000000001Z").unwrap();
    assert_eq!(record.time_unix_nano, last.0);
    assert_eq!(record.body.as_ref().unwrap().value, Some(string("a line")));
    let of = |name| attribute(&record.attributes, name);
    assert_eq!(of("mcp_monitor.rule"), Some(&string("DNS-01")));
    assert_eq!(of("server.port"), Some(&Value::IntValue(443)));
    assert_eq!(of("process.pid"), Some(&Value::IntValue(7)));
    assert_eq!(of("k8s.namespace.name"), Some(&string("shop")));
    assert_eq!(of("k8s.statefulset.name"), Some(&string("agent")));
    assert_eq!(of("k8s.container.name"), None);
    assert_eq!(of("mcp_monitor.observed"), None);
    assert_eq!(of("mcp_monitor.record"), Some(&string(json)));
    assert!(matches!(of("mcp_monitor.expected"), Some(Value::ArrayValue(list)) if list.values.len() == 1));
}

#[test]
fn whatever_stands_in_a_spool_is_encoded() {
    for (kind, json) in [
        (Kind::Alert, "no json"),
        (Kind::Flow, "[]"),
        (Kind::Message, "{}"),
    ] {
        let entry = Entry::new(kind, json.as_bytes(), "");
        let request = encode::logs(&Resource::default(), &[entry], Timestamp(5));
        let record = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!((record.severity_number, record.time_unix_nano), (9, 5));
    }
    let entry = Entry::new(Kind::Metrics, b"{\"metrics\": [{}, 3, {\"samples\": [1]}]}", "");
    let request = metrics::metrics(&Resource::default(), &[entry], Timestamp(5));
    assert_eq!(request.resource_metrics[0].scope_metrics[0].metrics.len(), 1);
}

#[test]
fn counters_are_cumulative_sums_and_the_rest_gauges() {
    let json = r#"{"time":"1970-01-01T00:00:09.000000000Z","started":"1970-01-01T00:00:02.000000000Z","metrics":[
        {"name":"mcp_monitor_tcp_lost_bytes","kind":"counter","help":"h","samples":[{"labels":{"a":"b"},"value":7.0}]},
        {"name":"mcp_monitor_ready","kind":"gauge","help":"h","samples":[{"labels":{},"value":1.0}]}]}"#;
    let entry = Entry::new(Kind::Metrics, json.replace('\n', "").as_bytes(), "");
    let request = metrics::metrics(&Resource::default(), &[entry], Timestamp(5));
    let found = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert_eq!(
        (found[0].name.as_str(), found[0].unit.as_str()),
        ("mcp_monitor_tcp_lost_bytes", "By")
    );
    let Some(Data::Sum(sum)) = &found[0].data else {
        panic!("{:?}", found[0]);
    };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = &sum.data_points[0];
    assert_eq!(
        (point.start_time_unix_nano, point.time_unix_nano),
        (2_000_000_000, 9_000_000_000)
    );
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(7.0)));
    assert_eq!(attribute(&point.attributes, "a"), Some(&string("b")));
    assert!(matches!(&found[1].data, Some(Data::Gauge(gauge)) if gauge.data_points.len() == 1));
}

fn endpoint() -> Endpoint {
    Endpoint::testing("http://collector:4317", &[("authorization", "Bearer s3cr3t")])
}

#[test]
fn a_status_says_whether_to_try_again_and_when() {
    let judged = |code, details: Vec<u8>| {
        let status = Status::with_details(code, "told s3cr3t", details.into());
        let trouble = answer::refusal(&status, &endpoint());
        assert!(!trouble.what.contains("s3cr3t"), "{}", trouble.what);
        (trouble.refused, trouble.after)
    };
    let wait = answer::testing::wait;
    let half = Some(Duration::from_millis(2500));
    assert_eq!(judged(Code::Unavailable, wait(2, 500_000_000)), (false, half));
    assert_eq!(
        judged(Code::ResourceExhausted, wait(2, 500_000_000)),
        (false, half)
    );
    assert_eq!(judged(Code::ResourceExhausted, Vec::new()), (true, None));
    assert_eq!(judged(Code::InvalidArgument, Vec::new()), (true, None));
    assert_eq!(judged(Code::Unauthenticated, Vec::new()), (false, None));
    assert_eq!(judged(Code::Unavailable, wait(-1, 0)), (false, None));
    assert_eq!(judged(Code::Unavailable, wait(1, -5)), (false, None));
    assert_eq!(judged(Code::Unavailable, vec![0xff; 40]), (false, None));
}

#[test]
fn a_partial_success_is_counted_and_a_warning_is_none() {
    assert_eq!(answer::partial(0, "a warning", &endpoint()), None);
    assert_eq!(answer::partial(-3, "nonsense", &endpoint()), None);
    let (count, why) = answer::partial(3, "full, s3cr3t", &endpoint()).unwrap();
    assert_eq!(count, 3);
    assert!(why.contains("full") && !why.contains("s3cr3t"), "{why}");
}

#[test]
fn metrics_have_no_spool_unless_asked_for() {
    let text = "sinks: [{type: otlp, url: 'http://c:4317', records: [metrics], interval: 5s}]\n";
    let settings = testing::settings(text, std::path::Path::new("/etc/m")).unwrap();
    let plan = &settings[0].plan;
    assert_eq!(
        (plan.spool.is_none(), plan.filter.interval),
        (true, Duration::from_secs(5))
    );
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_details_of_a_status_are_too_much(details in proptest::collection::vec(any::<u8>(), 0..200)) {
            let status = Status::with_details(Code::Unavailable, "", details.into());
            let trouble = answer::refusal(&status, &endpoint());
            prop_assert!(!trouble.refused);
        }
    }
}
