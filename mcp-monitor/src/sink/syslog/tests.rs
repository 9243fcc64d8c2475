use proptest::prelude::*;

use super::{
    config::{Config, Protocol},
    encode,
};
use crate::sink::{
    delivery::{Entry, Kind},
    encoding::Encoding,
    settings::testing::settings,
};

fn config(encoding: Encoding, max_bytes: usize) -> Config {
    Config {
        host: "h".into(),
        port: 514,
        protocol: Protocol::Udp,
        facility: 10,
        hostname: Some("node-1".into()),
        encoding,
        max_bytes,
        tls: None,
    }
}

fn alert(endpoint: &str) -> Entry {
    let json = serde_json::json!({
        "id": "abc", "time": "2026-11-22T07:12:03.123456789Z", "rule": "DNS-01", "name": "dns-answer-drift",
        "severity": "high", "endpoint": endpoint, "count": 2,
    });
    Entry::new(Kind::Alert, json.to_string().as_bytes(), "HIGH DNS-01 moved")
}

#[test]
fn a_message_by_the_grammar() {
    let message = encode::message(&alert("market-data"), &config(Encoding::Text, 8192), "host");
    let pid = std::process::id();
    assert_eq!(
        String::from_utf8(message).unwrap(),
        format!(
            "<83>1 2026-11-22T07:12:03.123456Z node-1 mcp-monitor {pid} DNS-01 [mcp-monitor@32473 id=\"abc\" rule=\"DNS-01\" name=\"dns-answer-drift\" severity=\"high\" endpoint=\"market-data\" count=\"2\"] HIGH DNS-01 moved"
        )
    );
}

#[test]
fn what_is_too_long_goes_out_as_text_and_says_so() {
    let entry = Entry::new(
        Kind::Alert,
        format!(r#"{{"id":"a","summary":"{}"}}"#, "x".repeat(3000)).as_bytes(),
        "short",
    );
    let message = String::from_utf8(encode::message(&entry, &config(Encoding::Json, 1000), "h")).unwrap();
    assert!(message.ends_with("cut=\"true\"] short"), "{message}");
    let entry = Entry::new(Kind::Alert, b"{}", &"é".repeat(3000));
    let message = encode::message(&entry, &config(Encoding::Text, 1000), "h");
    assert!(message.len() <= 1000 && String::from_utf8(message).is_ok());
}

#[test]
fn addresses() {
    let read = |rest: &str| {
        settings(
            &format!("sinks: [{{type: syslog, {rest}}}]"),
            std::path::Path::new("."),
        )
        .err()
    };
    assert_eq!(read("address: 'logs.example:514'"), None);
    assert_eq!(read("address: '[::1]:514', protocol: tls"), None);
    for bad in [
        "address: logs.example",
        "address: ':514'",
        "address: 'a:0'",
        "address: 'a:1', tls: {}",
    ] {
        assert!(read(bad).is_some(), "{bad}");
    }
}

proptest! {
    #[test]
    fn structured_data_cannot_be_broken_out_of(endpoint in ".{0,300}") {
        let message = encode::message(&alert(&endpoint), &config(Encoding::Text, 65_000), "h");
        let message = String::from_utf8(message).unwrap();
        prop_assert!(!message.contains('\n'));
        // A reader that knows the escapes finds the end where the message begins.
        let data = message.split_once(" [").unwrap().1;
        let (mut quoted, mut escaped, mut end) = (false, false, None);
        for (at, c) in data.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ']' if !quoted => { end = Some(at); break; }
                _ => {}
            }
        }
        prop_assert_eq!(data.get(end.unwrap()..).unwrap(), "] HIGH DNS-01 moved");
    }
}
