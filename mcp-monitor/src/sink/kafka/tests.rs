use super::encode::{KeyBy, message, place};
use crate::{
    sink::{
        delivery::{Entry, Kind},
        encoding::Encoding,
        settings::testing::settings,
    },
    types::Timestamp,
};

#[test]
fn keys_and_headers_tell_records_apart() {
    let json = br#"{"schema":"mcp-monitor.alert/1","id":"abc","endpoint":"market-data","time":"1970-01-01T00:00:02.000000000Z"}"#;
    let entry = Entry::new(Kind::Alert, json, "line");
    let by_endpoint = message(&entry, KeyBy::Endpoint, Encoding::Json, Timestamp(0));
    assert_eq!(by_endpoint.key.as_deref(), Some(&b"market-data"[..]));
    assert_eq!(by_endpoint.value.as_deref(), Some(&json[..]));
    assert_eq!(by_endpoint.headers["id"], b"abc");
    assert_eq!(by_endpoint.timestamp.timestamp(), 2);
    let by_id = message(&entry, KeyBy::Id, Encoding::Text, Timestamp(0));
    assert_eq!(by_id.key.as_deref(), Some(&b"abc"[..]));
    assert_eq!(by_id.value.as_deref(), Some(&b"line"[..]));
    let nothing = message(
        &Entry::new(Kind::Flow, b"no json", ""),
        KeyBy::Id,
        Encoding::Json,
        Timestamp(7),
    );
    assert_eq!((nothing.key, nothing.headers.len()), (None, 0));
    let flow = Entry::new(Kind::Flow, br#"{"endpoint":3}"#, "");
    assert_eq!(
        message(&flow, KeyBy::Endpoint, Encoding::Json, Timestamp(7))
            .key
            .as_deref(),
        Some(&b"3"[..])
    );
}

/// Values of `UtilsTest.testMurmur2` of Kafka's own client, as places of a topic of 2^31 partitions.
#[test]
fn partitions_are_those_of_kafkas_clients() {
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ] {
        let place = place(key.as_bytes(), 1 << 31);
        assert_eq!(place, usize::try_from(hash & i32::MAX).unwrap(), "{key}");
    }
    assert_eq!(place(b"x", 0), 0);
}

#[test]
fn a_password_in_the_clear_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p"), "s3cr3t").unwrap();
    let read = |rest: &str| {
        let text = format!("sinks: [{{type: kafka, topic: a, brokers: ['k:1'], {rest}}}]\n");
        settings(&text, dir.path()).map(drop)
    };
    let error = read("sasl: {mechanism: plain, user: u, password: {file: p}}").unwrap_err();
    assert!(
        error.contains("a password in the clear; expected protocol: tls"),
        "{error}"
    );
    assert!(!error.contains("s3cr3t"), "{error}");
    assert!(read("protocol: tls, sasl: {mechanism: plain, user: u, password: {file: p}}").is_ok());
    assert!(read("sasl: {user: u, password: {file: p}}").is_ok());
    let error = read("tls: {ca: p}").unwrap_err();
    assert!(error.contains("tls with another protocol"), "{error}");
}
