//! MCP conversations: every transport, as the SDKs of several revisions speak it.

use std::io::Write;

use super::Script;
use super::http::{self, EventStyle};
use super::random::Random;
use super::text::Text;
use super::truth::Unit;
use super::turn::{Side, Turn};

/// How a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// Streamable HTTP, `application/json` with a length.
    Json,
    /// Streamable HTTP, `application/json` in chunks.
    Chunked,
    /// Streamable HTTP, `text/event-stream`.
    Events,
    /// HTTP+SSE of 2024-11-05: requests on one connection, answers on the other.
    Legacy,
    /// 2026-07-28: no handshake and no session.
    Stateless,
}

impl Transport {
    /// All, and how many of a hundred flows use it.
    pub const SHARES: [(Self, u32); 5] = [
        (Self::Json, 24),
        (Self::Chunked, 12),
        (Self::Events, 34),
        (Self::Legacy, 12),
        (Self::Stateless, 18),
    ];
}

/// Connection of the POSTs.
pub const MAIN: usize = 0;
/// Connection of the stream from the server: HTTP+SSE, or the GET of Streamable HTTP.
pub const STREAM: usize = 1;

/// One client and one server.
#[derive(Debug)]
pub struct Mcp {
    transport: Transport,
    host: String,
    server: usize,
    session: String,
    /// The client listens on a GET stream as well.
    listens: bool,
    listening: bool,
    string_ids: bool,
    style: EventStyle,
    step: u64,
    id: u64,
    events: u64,
}

const OK: &str = "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 09:00:00 GMT\r\nserver: uvicorn\r\n";
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ndate: Mon, 23 Nov 2026 09:00:00 GMT\r\n";
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"elicitation":{}},"io.modelcontextprotocol/clientInfo":{"name":"bench-agent","version":"2.4.0"}}"#;

impl Mcp {
    /// `host` with its port, as in the header; `server` chooses the inventory.
    pub fn new(transport: Transport, host: String, server: usize, random: &mut Random) -> Self {
        let streamable = matches!(
            transport,
            Transport::Json | Transport::Chunked | Transport::Events
        );
        Self {
            transport,
            host,
            server,
            session: random.uuid(),
            listens: streamable && random.chance(0.2),
            listening: false,
            string_ids: random.chance(0.2),
            style: EventStyle {
                crlf: server.is_multiple_of(3),
                named: server % 4 != 1,
                ids: server.is_multiple_of(2),
            },
            step: 0,
            id: 0,
            events: 0,
        }
    }

    /// Connections it uses.
    pub fn connections(&self) -> usize {
        if self.listens || self.transport == Transport::Legacy {
            2
        } else {
            1
        }
    }

    fn stateless(&self) -> bool {
        self.transport == Transport::Stateless
    }

    fn revision(&self) -> &'static str {
        match self.transport {
            Transport::Stateless => "2026-07-28",
            Transport::Legacy => "2024-11-05",
            _ => ["2025-03-26", "2025-06-18", "2025-11-25"][self.server % 3],
        }
    }

    fn id(&self) -> String {
        if self.string_ids {
            format!("\"req-{}\"", self.id)
        } else {
            self.id.to_string()
        }
    }

    /// Head of a request, up to what frames its body.
    fn head(&self, verb: &str, method: &str, name: Option<&str>) -> String {
        let path = match self.transport {
            Transport::Legacy if verb == "GET" => "/sse".to_owned(),
            Transport::Legacy => format!("/messages/?session_id={}", self.session),
            _ => "/mcp".to_owned(),
        };
        let mut head = format!(
            "{verb} {path} HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive\r\n",
            self.host
        );
        head += match (verb, self.transport) {
            ("GET", _) => "accept: text/event-stream\r\ncache-control: no-store\r\n",
            (_, Transport::Legacy) => "accept: */*\r\ncontent-type: application/json\r\n",
            _ => "accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n",
        };
        if self.stateless() {
            head += &format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n");
            if let Some(name) = name {
                head += &format!("mcp-name: {name}\r\n");
            }
        } else if self.transport != Transport::Legacy && self.step > 0 {
            head += &format!(
                "mcp-session-id: {}\r\nmcp-protocol-version: {}\r\n",
                self.session,
                self.revision()
            );
        }
        head + "accept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: identity\r\n"
    }

    /// Sends a JSON-RPC message of the client's.
    fn post(&self, turn: &mut Turn, random: &mut Random, unit: Unit, head: &str, body: &[u8]) {
        let after = random.range(50, 2_000);
        let message = turn.message(&[Unit::HttpRequest, unit]);
        if random.chance(0.5) {
            turn.write(MAIN, Side::Client, after, message, |out| {
                http::with_length(out, head, body)
            });
        } else {
            // Node sends head and body apart.
            turn.write(MAIN, Side::Client, after, message, |out| {
                let _ = write!(out, "{head}content-length: {}\r\n\r\n", body.len());
            });
            turn.write(MAIN, Side::Client, 15, message, |out| out.extend_from_slice(body));
        }
    }

    fn accepted(&self, turn: &mut Turn, random: &mut Random) {
        let message = turn.message(&[Unit::HttpResponse]);
        let after = random.range(300, 3_000);
        let legacy = self.transport == Transport::Legacy;
        turn.write(MAIN, Side::Server, after, message, |out| {
            http::with_length(out, ACCEPTED, if legacy { b"Accepted" } else { b"" });
        });
    }

    fn notify(&self, turn: &mut Turn, random: &mut Random, method: &'static str) {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        let head = self.head("POST", method, None);
        self.post(turn, random, Unit::Notification(method), &head, body.as_bytes());
        self.accepted(turn, random);
    }

    /// A request and its answer. `params` and `result` are insides of JSON objects; `None` is an
    /// error for an answer.
    #[allow(clippy::too_many_arguments)]
    fn call(
        &mut self,
        turn: &mut Turn,
        random: &mut Random,
        text: &Text,
        method: &'static str,
        name: Option<&str>,
        params: &str,
        result: Option<&[u8]>,
    ) {
        let id = self.id();
        let mut params = params.to_owned();
        let progress = method == "tools/call" && random.chance(0.3);
        if self.stateless() {
            params = if params.is_empty() {
                META.to_owned()
            } else {
                format!("{params},{META}")
            };
        } else if progress {
            params += &format!(r#","_meta":{{"progressToken":{}}}"#, self.id);
        }
        let body = if self.server.is_multiple_of(2) {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
        } else {
            format!(r#"{{"method":"{method}","params":{{{params}}},"jsonrpc":"2.0","id":{id}}}"#)
        };
        let head = self.head("POST", method, name);
        self.post(turn, random, Unit::Request(method), &head, body.as_bytes());
        let (unit, answer) = self.answer(&id, result);
        self.respond(turn, random, text, progress, unit, &answer);
        self.id += 1;
    }

    fn answer(&self, id: &str, result: Option<&[u8]>) -> (Unit, Vec<u8>) {
        let mut out = Vec::with_capacity(result.map_or(0, <[u8]>::len) + 128);
        let Some(result) = result else {
            let _ = write!(
                out,
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"Unknown tool: invalid arguments"}}}}"#
            );
            return (Unit::Error, out);
        };
        let kind = if self.stateless() {
            r#""resultType":"complete","#
        } else {
            ""
        };
        if self.server % 3 == 1 {
            let _ = write!(out, r#"{{"result":{{{kind}"#);
            out.extend_from_slice(result);
            let _ = write!(out, r#"}},"jsonrpc":"2.0","id":{id}}}"#);
        } else {
            let _ = write!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"#);
            out.extend_from_slice(result);
            out.extend_from_slice(b"}}");
        }
        (Unit::Response, out)
    }

    fn respond(
        &mut self,
        turn: &mut Turn,
        random: &mut Random,
        text: &Text,
        progress: bool,
        unit: Unit,
        answer: &[u8],
    ) {
        let after = random.log_range(400, 30_000);
        let session = match self.transport {
            Transport::Json | Transport::Chunked | Transport::Events => {
                format!("mcp-session-id: {}\r\n", self.session)
            }
            _ => String::new(),
        };
        let head = format!("{OK}{session}");
        let message = match self.transport {
            Transport::Legacy => {
                self.accepted(turn, random);
                let event = self.event("message", answer);
                let message = turn.endless(&[Unit::SseEvent, unit]);
                turn.write(STREAM, Side::Server, after, message, |out| {
                    http::chunk(out, &event)
                });
                return;
            }
            _ => turn.message(&[Unit::HttpResponse]),
        };
        let streams = match self.transport {
            Transport::Events => true,
            Transport::Stateless => progress || random.chance(0.4),
            _ => false,
        };
        if streams {
            self.stream(
                turn,
                random,
                text,
                progress,
                message,
                &head,
                after,
                (unit, answer),
            );
            return;
        }
        turn.messages[message].units.push(unit);
        let head = head + "content-type: application/json\r\n";
        let size = random.range(1_000, 9_000) as usize;
        turn.write(MAIN, Side::Server, after, message, |out| {
            if self.transport == Transport::Chunked {
                http::chunked_head(out, &head);
                http::chunks(out, answer, size);
            } else {
                http::with_length(out, &head, answer);
            }
        });
    }

    /// Answers with a stream: notifications of progress, then the response.
    #[allow(clippy::too_many_arguments)]
    fn stream(
        &mut self,
        turn: &mut Turn,
        random: &mut Random,
        text: &Text,
        progress: bool,
        message: usize,
        head: &str,
        after: u64,
        (unit, answer): (Unit, &[u8]),
    ) {
        let head =
            format!("{head}content-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n");
        turn.messages[message].units.push(Unit::SseStream);
        turn.write(MAIN, Side::Server, after, message, |out| {
            http::chunked_head(out, &head)
        });
        if self.style.ids && !self.stateless() {
            // Primes the client with an id to resume from; its data is empty.
            let event = self.event("message", b"");
            turn.messages[message].units.push(Unit::SseEvent);
            turn.write(MAIN, Side::Server, 30, message, |out| http::chunk(out, &event));
        }
        if progress {
            let steps = random.range(1, 6);
            for step in 1..=steps {
                let (method, data) = if random.chance(0.3) {
                    let said = String::from_utf8_lossy(text.prose(random, 80)).into_owned();
                    let data = format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{said}"}}}}"#
                    );
                    ("notifications/message", data)
                } else {
                    let data = format!(
                        r#"{{"method":"notifications/progress","params":{{"progressToken":{},"progress":{step},"total":{steps}}},"jsonrpc":"2.0"}}"#,
                        self.id
                    );
                    ("notifications/progress", data)
                };
                let event = self.event("message", data.as_bytes());
                turn.messages[message]
                    .units
                    .extend([Unit::SseEvent, Unit::Notification(method)]);
                let after = random.range(1_000, 60_000);
                turn.write(MAIN, Side::Server, after, message, |out| http::chunk(out, &event));
            }
        }
        let event = self.event("message", answer);
        turn.messages[message].units.extend([Unit::SseEvent, unit]);
        turn.write(MAIN, Side::Server, random.range(20, 5_000), message, |out| {
            http::chunk(out, &event);
            http::chunk(out, b"");
        });
    }

    fn event(&mut self, name: &str, data: &[u8]) -> Vec<u8> {
        self.events += 1;
        http::event(self.style, name, self.events, data)
    }

    /// GET of a stream that stays open.
    fn open_stream(&mut self, turn: &mut Turn, random: &mut Random) {
        turn.open(STREAM);
        let request = turn.message(&[Unit::HttpRequest]);
        let head = self.head("GET", "", None);
        turn.write(STREAM, Side::Client, 40, request, |out| {
            let _ = write!(out, "{head}\r\n");
        });
        let mut units = vec![Unit::HttpResponse, Unit::SseStream];
        let first = (self.transport == Transport::Legacy).then(|| {
            units.push(Unit::SseEvent);
            self.event(
                "endpoint",
                format!("/messages/?session_id={}", self.session).as_bytes(),
            )
        });
        let message = turn.endless(&units);
        let after = random.range(500, 4_000);
        turn.write(STREAM, Side::Server, after, message, |out| {
            http::chunked_head(
                out,
                &format!("{OK}content-type: text/event-stream\r\ncache-control: no-store\r\n"),
            );
            if let Some(event) = first {
                http::chunk(out, &event);
            }
        });
        self.listening = true;
    }

    /// What a server says without being asked.
    fn unasked(&mut self, turn: &mut Turn, random: &mut Random) {
        let after = random.range(100, 5_000);
        match random.range(0, 4) {
            0 => {
                let comment = if self.style.crlf {
                    ": ping\r\n\r\n"
                } else {
                    ": ping\n\n"
                };
                let message = turn.endless(&[]);
                turn.write(STREAM, Side::Server, after, message, |out| {
                    http::chunk(out, comment.as_bytes())
                });
            }
            1 => {
                let id = self.events;
                let event = self.event(
                    "message",
                    format!(r#"{{"method":"roots/list","jsonrpc":"2.0","id":{id}}}"#).as_bytes(),
                );
                let message = turn.endless(&[Unit::SseEvent, Unit::Request("roots/list")]);
                turn.write(STREAM, Side::Server, after, message, |out| {
                    http::chunk(out, &event)
                });
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[{{"uri":"file:///srv/data","name":"data"}}]}}}}"#
                );
                let head = self.head("POST", "", None);
                self.post(turn, random, Unit::Response, &head, body.as_bytes());
                self.accepted(turn, random);
            }
            _ => {
                let event = self.event(
                    "message",
                    br#"{"method":"notifications/resources/updated","params":{"uri":"file:///srv/data/table.csv"},"jsonrpc":"2.0"}"#,
                );
                let message = turn.endless(&[
                    Unit::SseEvent,
                    Unit::Notification("notifications/resources/updated"),
                ]);
                turn.write(STREAM, Side::Server, after, message, |out| {
                    http::chunk(out, &event)
                });
            }
        }
    }

    fn start(&mut self, turn: &mut Turn, random: &mut Random, text: &Text) {
        if self.transport == Transport::Legacy {
            self.open_stream(turn, random);
        }
        turn.open(MAIN);
        let server = self.server;
        let info = format!(r#"{{"name":"server-{server}","version":"1.{}.0"}}"#, server % 7);
        let capabilities = r#"{"tools":{"listChanged":true},"resources":{"subscribe":true},"prompts":{}}"#;
        if self.stateless() {
            let result = format!(
                r#""supportedVersions":["2026-07-28"],"capabilities":{capabilities},"serverInfo":{info},"ttlMs":60000,"cacheScope":"public""#
            );
            self.call(
                turn,
                random,
                text,
                "server/discover",
                None,
                "",
                Some(result.as_bytes()),
            );
        } else {
            let revision = self.revision();
            let params = format!(
                r#""protocolVersion":"{revision}","capabilities":{{"roots":{{"listChanged":true}},"sampling":{{}}}},"clientInfo":{{"name":"bench-agent","version":"1.28.1"}}"#
            );
            let result = format!(
                r#""protocolVersion":"{revision}","capabilities":{capabilities},"serverInfo":{info}"#
            );
            self.call(
                turn,
                random,
                text,
                "initialize",
                None,
                &params,
                Some(result.as_bytes()),
            );
            self.step = 1;
            self.notify(turn, random, "notifications/initialized");
        }
    }

    fn list_tools(&mut self, turn: &mut Turn, random: &mut Random, text: &Text) {
        let mut result = br#""tools":["#.to_vec();
        text.tools(self.server * 7, 10 + self.server % 31, &mut result);
        result.push(b']');
        if self.stateless() {
            result.extend_from_slice(br#","ttlMs":300000,"cacheScope":"public""#);
        }
        self.call(turn, random, text, "tools/list", None, "", Some(&result));
    }

    fn call_tool(&mut self, turn: &mut Turn, random: &mut Random, text: &Text) {
        let tool = text
            .tool(self.server * 7 + random.index(10 + self.server % 31))
            .to_owned();
        let length = random.log_range(10, 400) as usize;
        let query = String::from_utf8_lossy(text.prose(random, length)).into_owned();
        let params = format!(
            r#""name":"{tool}","arguments":{{"query":"{query}","limit":{},"since":"2026-11-01T00:00:00Z"}}"#,
            random.range(1, 500)
        );
        if random.chance(0.03) {
            return self.call(turn, random, text, "tools/call", Some(&tool), &params, None);
        }
        let length = [
            random.log_range(200, 4_000),
            random.log_range(4_000, 32_000),
            random.log_range(32_000, 200_000),
        ][random.weighted(&[80, 15, 5])];
        let length = length.min(turn.room.max(200)) as usize;
        let mut result = Vec::with_capacity(length + 2048);
        if random.chance(0.75) {
            result.extend_from_slice(br#""content":[{"type":"text","text":""#);
            result.extend_from_slice(text.string(random, length));
            result.extend_from_slice(br#""}],"isError":false"#);
        } else {
            result.extend_from_slice(br#""content":[{"type":"text","text":""#);
            result.extend_from_slice(text.string(random, length / 2));
            result.extend_from_slice(br#""}],"structuredContent":{"rows":["#);
            text.rows(random, length / 2, &mut result);
            result.extend_from_slice(br#"],"next":null}"#);
        }
        self.call(
            turn,
            random,
            text,
            "tools/call",
            Some(&tool),
            &params,
            Some(&result),
        );
    }

    fn read_resource(&mut self, turn: &mut Turn, random: &mut Random, text: &Text) {
        let uri = format!("file:///srv/data/report-{}.md", random.range(0, 50));
        let length = random.log_range(500, 20_000).min(turn.room.max(200)) as usize;
        let mut result =
            format!(r#""contents":[{{"uri":"{uri}","mimeType":"text/markdown","text":""#).into_bytes();
        result.extend_from_slice(text.prose(random, length));
        result.extend_from_slice(br#""}]"#);
        let params = format!(r#""uri":"{uri}""#);
        self.call(
            turn,
            random,
            text,
            "resources/read",
            Some(&uri),
            &params,
            Some(&result),
        );
    }
}

impl Script for Mcp {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool) {
        let step = self.step;
        if last {
            if self.transport != Transport::Legacy && !self.stateless() && random.chance(0.6) {
                let request = turn.message(&[Unit::HttpRequest]);
                let head = self.head("DELETE", "", None);
                turn.write(MAIN, Side::Client, 100, request, |out| {
                    let _ = write!(out, "{head}\r\n");
                });
                let response = turn.message(&[Unit::HttpResponse]);
                turn.write(MAIN, Side::Server, 900, response, |out| {
                    http::with_length(out, OK, b"")
                });
            }
            if self.listening {
                let message = turn.endless(&[]);
                turn.write(STREAM, Side::Server, 500, message, |out| http::chunk(out, b""));
                turn.close(STREAM);
            }
            turn.close(MAIN);
            return;
        }
        match step {
            0 => {
                self.start(turn, random, text);
                self.step = 1;
                return;
            }
            1 => self.list_tools(turn, random, text),
            2 if self.listens => self.open_stream(turn, random),
            _ => match random.weighted(&[74, 4, 10, 3, 3, 6]) {
                0 => self.call_tool(turn, random, text),
                1 => self.list_tools(turn, random, text),
                2 => self.read_resource(turn, random, text),
                3 => {
                    let result = br#""resources":[{"uri":"file:///srv/data/table.csv","name":"table","mimeType":"text/csv"}]"#;
                    self.call(turn, random, text, "resources/list", None, "", Some(result));
                }
                4 => {
                    let mut result = br#""description":"a prompt","messages":[{"role":"user","content":{"type":"text","text":""#.to_vec();
                    result.extend_from_slice(text.prose(random, 600));
                    result.extend_from_slice(br#""}}]"#);
                    let params = r#""name":"review","arguments":{"path":"src"}"#;
                    self.call(
                        turn,
                        random,
                        text,
                        "prompts/get",
                        Some("review"),
                        params,
                        Some(&result),
                    );
                }
                _ if self.listening && self.transport != Transport::Legacy => self.unasked(turn, random),
                _ if self.stateless() => self.call_tool(turn, random, text),
                _ => self.call(turn, random, text, "ping", None, "", Some(b"")),
            },
        }
        self.step += 1;
    }
}
