//! Messages of one session over several connections, and of connections of which the start was not captured.

use serde_json::Value;

use super::{
    capture::{of, pcap, run},
    wire::{Client, Connection, Server, event, http, one_by_one, post, timed, ws_frame},
};

const OK: &str = "HTTP/1.1 200 OK";
const SSE: &str = "Content-Type: text/event-stream\r\n";
const SESSION: &str = "Mcp-Session-Id: s1\r\n";
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow"}}"#;
const PROGRESS: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#;
const CALLED: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;

fn get(fields: &str) -> Vec<u8> {
    format!("GET /mcp HTTP/1.1\r\nHost: mcp.example\r\nAccept: text/event-stream\r\n{SESSION}{fields}\r\n")
        .into_bytes()
}

/// A response that ends with the connection.
fn stream(events: &[String]) -> Vec<u8> {
    format!("{OK}\r\n{SSE}\r\n{}", events.concat()).into_bytes()
}

fn brief(records: &[Value]) -> Vec<String> {
    of(records, "message")
        .map(|r| format!("{} {} {} {}", r["direction"], r["kind"], r["id"], r["method"]).replace('"', ""))
        .collect()
}

#[test]
fn a_response_on_a_resumed_stream_finds_its_request_and_what_is_sent_again_counts_once() {
    let cut = Connection::new(
        41_000,
        false,
        vec![
            (Client, post(SESSION, CALL)),
            (
                Server,
                stream(&[event(Some("a1"), PROGRESS), event(Some("a2"), PROGRESS)]),
            ),
        ],
    );
    let resumed = Connection::new(
        41_001,
        true,
        vec![
            (Client, get("Last-Event-ID: a1\r\n")),
            (
                Server,
                stream(&[event(Some("a2"), PROGRESS), event(Some("a3"), CALLED)]),
            ),
        ],
    );
    let (records, summary) = run(pcap(&one_by_one(&[cut, resumed])));
    assert_eq!(
        brief(&records),
        [
            "to-server request 7 tools/call",
            "to-client notification null notifications/progress",
            "to-client notification null notifications/progress",
            "to-client response 7 tools/call",
        ]
    );
    assert_eq!(summary["mcp"]["unmatched"], 0);
    assert_eq!(
        summary["mcp"]["sessions"], 1,
        "a server known by name is one over IPv4 and IPv6"
    );
}

#[test]
fn a_session_spans_connections() {
    let ask = Connection::new(
        41_000,
        false,
        vec![
            (Client, post(SESSION, CALL)),
            (Server, http("HTTP/1.1 202 Accepted", "", b"")),
        ],
    );
    let answer = Connection::new(
        41_001,
        false,
        vec![(Client, get("")), (Server, stream(&[event(None, CALLED)]))],
    );
    let (records, summary) = run(pcap(&one_by_one(&[ask, answer])));
    assert_eq!(
        brief(&records),
        [
            "to-server request 7 tools/call",
            "to-client response 7 tools/call"
        ]
    );
    assert_eq!(
        (&summary["mcp"]["unmatched"], &summary["mcp"]["sessions"]),
        (&0.into(), &1.into())
    );
}

#[test]
fn ids_used_twice_and_ids_nobody_used() {
    let unknown = r#"{"jsonrpc":"2.0","id":8,"result":{}}"#;
    let text = CALL.replace("7,", "\"7\",");
    let connection = Connection::new(
        41_000,
        false,
        vec![
            (
                Client,
                [post(SESSION, CALL), post(SESSION, CALL), post(SESSION, &text)].concat(),
            ),
            (
                Server,
                http(OK, "Content-Type: application/json\r\n", CALLED.as_bytes()),
            ),
            (
                Server,
                http(OK, "Content-Type: application/json\r\n", CALLED.as_bytes()),
            ),
            (
                Server,
                http(OK, "Content-Type: application/json\r\n", unknown.as_bytes()),
            ),
        ],
    );
    let (records, summary) = run(pcap(&one_by_one(&[connection])));
    assert_eq!(
        brief(&records)[3..],
        [
            "to-client response 7 tools/call",
            "to-client response 7 tools/call",
            "to-client response 8 null"
        ]
    );
    assert_eq!(summary["mcp"]["unmatched"], 1);
}

#[test]
fn a_websocket_of_which_the_upgrade_was_not_captured() {
    let connection = Connection::new(
        41_000,
        false,
        vec![
            (Client, ws_frame(Client, 0x81, CALL.as_bytes())),
            (Server, ws_frame(Server, 0x81, PROGRESS.as_bytes())),
            (Server, ws_frame(Server, 0x81, CALLED.as_bytes())),
        ],
    );
    let [_, data, _] = connection.frames(|| 1400);
    let (records, _) = run(pcap(&timed(data)));
    assert_eq!(
        brief(&records),
        [
            "to-server request 7 tools/call",
            "to-client notification null notifications/progress",
            "to-client response 7 tools/call",
        ]
    );
}

#[test]
fn a_message_without_its_head_joins_the_one_session_of_its_connection() {
    let list = r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#;
    let listed = r#"{"jsonrpc":"2.0","id":8,"result":{"tools":[]}}"#;
    let json = "Content-Type: application/json\r\n";
    let connection = Connection::new(
        41_000,
        false,
        vec![
            (Client, post(SESSION, CALL)),
            (Server, http(OK, json, CALLED.as_bytes())),
            (Client, post(SESSION, list)),
            (Server, http(OK, json, listed.as_bytes())),
        ],
    );
    let whole = connection.frames(|| 1400).concat();
    let lost = connection.frames({
        // The second request's head fills a segment of its own, which is left out.
        let head = post(SESSION, list).len() - list.len();
        let mut sizes = [1400, 1400, head].into_iter();
        move || sizes.next().unwrap_or(1400)
    });
    let [open, mut data, close] = lost;
    assert_eq!(data.len(), whole.len() - 4 + 1);
    data.remove(2);
    let (records, summary) = run(pcap(&timed([open, data, close].concat())));
    let mut found = brief(&records);
    found.sort();
    assert_eq!(
        found,
        [
            "to-client response 7 tools/call",
            "to-client response 8 null",
            "to-server request 7 tools/call",
            "to-server request 8 tools/list",
        ]
    );
    assert_eq!(summary["mcp"]["sessions"], 1);
}
