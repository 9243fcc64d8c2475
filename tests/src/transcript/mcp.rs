//! MCP in short: sessions, calls, lists, notifications, over each transport.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::args::{Args, Field};
use super::http::{Body, Request, Response, overlay};
use super::player::{Player, Who, plain};
use super::scene::Transport;
use super::websocket;
use crate::generate::turn::Side;

/// First revision without a handshake.
const MODERN: &str = "2026-07-28";

/// What one client and one server have agreed on.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    next_id: u64,
    next_server_id: u64,
    version: Option<String>,
    session: Option<String>,
    /// The connection of the event stream.
    stream: Option<String>,
    /// Where HTTP+SSE wants its messages.
    post_path: Option<String>,
}

/// What a request is answered with.
enum Answer {
    Result(Value),
    Error(Value),
    Nothing,
}

impl Player<'_> {
    /// Plays a step of MCP.
    pub(super) fn speak(&mut self, verb: &str, args: &mut Args) -> Result<()> {
        let who = self.who(args)?;
        match verb {
            "initialize" => self.initialize(&who, args),
            "discover" => self.discover(&who, args),
            "list" => self.list(&who, args),
            "call" => self.call(&who, args),
            "ask" => {
                let method = args.needed("method")?;
                let params = args.value("params");
                let answer = match (args.value("result"), args.value("error")) {
                    (Some(result), _) => Answer::Result(result),
                    (_, Some(error)) => Answer::Error(error),
                    _ if who.reply.body.is_some() || who.reply.status.is_some() || who.reply.none => {
                        Answer::Nothing
                    }
                    _ => Answer::Result(json!({})),
                };
                self.ask(&who, &method, params, answer, args)
            }
            "notify" => {
                let method = args.needed("method")?;
                let params = args.value("params");
                let message = who.client.sdk.message(None, members(&method, params));
                self.post(&who, &message.to_string(), None, &[])
            }
            "post" => {
                // Bytes that no SDK would write.
                let body = args.value("body").unwrap_or_default();
                let answer = args.value("answer").map(|answer| plain(&answer));
                self.post(&who, &plain(&body), answer, &[])
            }
            "push" => self.push(&who, args),
            "listen" => self.listen(&who),
            "end" => self.end(&who),
            other => bail!("there is no step {other}"),
        }
    }

    fn talk(&mut self, who: &Who) -> &mut Talk {
        let pair = (who.client.name.clone(), who.server.name.clone());
        self.talks.entry(pair).or_default()
    }

    fn initialize(&mut self, who: &Who, args: &mut Args) -> Result<()> {
        // A new session; an event stream of HTTP+SSE or WebSocket goes on.
        let fresh = match who.server.transport {
            Transport::StreamableHttp => Talk {
                next_id: u64::from(who.client.sdk == super::sdk::Sdk::Python),
                ..Talk::default()
            },
            _ => self.talk(who).clone(),
        };
        *self.talk(who) = fresh;
        let wish = args
            .text("version")?
            .unwrap_or_else(|| who.client.protocol.clone());
        let agreed = args
            .text("agreed")?
            .or_else(|| who.server.protocol.clone())
            .unwrap_or_else(|| wish.clone());
        let params = json!({
            "protocolVersion": wish,
            "capabilities": args.value("client_capabilities").unwrap_or_else(|| who.client.capabilities.clone()),
            "clientInfo": args.value("client_info").unwrap_or_else(|| who.client.info.clone()),
        });
        let mut result = json!({
            "protocolVersion": agreed,
            "capabilities": args.value("capabilities").unwrap_or_else(|| who.server.capabilities.clone()),
            "serverInfo": args.value("info").unwrap_or_else(|| who.server.info.clone()),
        });
        if let Some(text) = args
            .text("instructions")?
            .or_else(|| who.server.instructions.clone())
        {
            result["instructions"] = json!(text);
        }
        let session = args.text("session")?.or_else(|| who.server.session.clone());
        let refused = who.reply.status.is_some_and(|status| status >= 300);
        let confirm = args.flag("confirm", !refused)?;
        if who.server.transport == Transport::StreamableHttp {
            self.talk(who).session = session.clone();
        }
        let answer = if refused {
            Answer::Nothing
        } else {
            Answer::Result(result)
        };
        self.ask(who, "initialize", Some(params), answer, args)?;
        if refused {
            return Ok(());
        }
        let talk = self.talk(who);
        talk.version = Some(agreed);
        if confirm {
            let quiet = ordinary(who);
            let message = who
                .client
                .sdk
                .message(None, members("notifications/initialized", None));
            self.post(&quiet, &message.to_string(), None, &[])?;
        }
        Ok(())
    }

    fn discover(&mut self, who: &Who, args: &mut Args) -> Result<()> {
        let mut result = json!({
            "supportedVersions": args.value("versions").unwrap_or_else(|| json!([MODERN])),
            "capabilities": args.value("capabilities").unwrap_or_else(|| who.server.capabilities.clone()),
        });
        if let Some(text) = args
            .text("instructions")?
            .or_else(|| who.server.instructions.clone())
        {
            result["instructions"] = json!(text);
        }
        self.talk(who).next_id = 1;
        let refused = who.reply.status.is_some_and(|status| status >= 300);
        self.talk(who).version = Some(MODERN.to_owned());
        let answer = if refused {
            Answer::Nothing
        } else {
            Answer::Result(result)
        };
        self.ask(who, "server/discover", None, answer, args)?;
        if refused {
            self.talk(who).version = None;
        }
        Ok(())
    }

    fn list(&mut self, who: &Who, args: &mut Args) -> Result<()> {
        let what = args.text("what")?.unwrap_or_else(|| "tools".to_owned());
        let (method, member) = match what.as_str() {
            "templates" => ("resources/templates/list".to_owned(), "resourceTemplates"),
            "tools" | "prompts" | "resources" => (format!("{what}/list"), what.as_str()),
            other => bail!("list: what is {other}?"),
        };
        let pages = match (args.value("items"), args.list("pages")) {
            (Some(items), _) => vec![items],
            (None, pages) if !pages.is_empty() => pages,
            _ => vec![Value::Array(who.server.tools.clone())],
        };
        let mut result_more = args.nested("result")?;
        let ttl = result_more.number("ttlMs")?;
        result_more.done()?;
        let count = pages.len();
        for (index, page) in pages.into_iter().enumerate() {
            let params = (index > 0).then(|| json!({"cursor": format!("page-{index}")}));
            let mut result = Map::new();
            if self.is_modern(who) {
                result.insert("cacheScope".to_owned(), json!("private"));
                result.insert("ttlMs".to_owned(), json!(ttl.unwrap_or(0)));
            }
            result.insert(member.to_owned(), page);
            if index + 1 < count {
                result.insert("nextCursor".to_owned(), json!(format!("page-{}", index + 1)));
            }
            self.ask(who, &method, params, Answer::Result(Value::Object(result)), args)?;
        }
        Ok(())
    }

    fn call(&mut self, who: &Who, args: &mut Args) -> Result<()> {
        let mut params = json!({
            "name": args.needed("tool")?,
            "arguments": args.value("arguments").unwrap_or_else(|| json!({})),
        });
        if let Some(meta) = args.value("meta") {
            params["_meta"] = meta;
        }
        if let Some(Value::Object(more)) = args.value("params") {
            for (name, value) in more {
                params[name] = value;
            }
        }
        let text = args.text("text")?;
        let structured = args.value("structured");
        let answer = match (args.value("result"), args.value("error")) {
            (Some(result), _) => Answer::Result(result),
            (_, Some(error)) => Answer::Error(error),
            _ if who.reply.body.is_some() || who.reply.status.is_some_and(|s| s >= 300) || who.reply.none => {
                Answer::Nothing
            }
            _ => {
                let text = text.unwrap_or_else(|| "done".to_owned());
                let mut result = json!({"content": [{"type": "text", "text": text}]});
                if let Some(structured) = structured {
                    result["structuredContent"] = structured;
                }
                result["isError"] = json!(false);
                Answer::Result(result)
            }
        };
        self.ask(who, "tools/call", Some(params), answer, args)
    }

    fn is_modern(&mut self, who: &Who) -> bool {
        self.talk(who)
            .version
            .as_deref()
            .is_some_and(|version| version >= MODERN)
    }

    /// A request and its answer. Takes `id` and `before`.
    fn ask(
        &mut self,
        who: &Who,
        method: &str,
        params: Option<Value>,
        answer: Answer,
        args: &mut Args,
    ) -> Result<()> {
        let id = match args.value("id") {
            Some(id) => id,
            None => {
                let talk = self.talk(who);
                talk.next_id += 1;
                json!(talk.next_id - 1)
            }
        };
        let answer_id = args.value("answer_id").unwrap_or_else(|| id.clone());
        let before = args.list("before");
        let (mut params, mut answer) = (params, answer);
        let mut modern: Vec<Field> = Vec::new();
        if self.is_modern(who) && method != "initialize" {
            let mut all = match params {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            modern.push(("mcp-method".to_owned(), Some(method.to_owned())));
            let name = all.get("name").or_else(|| all.get("uri")).and_then(Value::as_str);
            if let Some(name) = name {
                modern.push(("mcp-name".to_owned(), Some(name.to_owned())));
            }
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": who.client.info,
                "io.modelcontextprotocol/clientCapabilities": who.client.capabilities,
            });
            let entry = all.entry("_meta").or_insert_with(|| json!({}));
            if let (Value::Object(entry), Value::Object(meta)) = (entry, meta) {
                for (key, value) in meta {
                    entry.entry(key).or_insert(value);
                }
            }
            params = Some(Value::Object(all));
            if let Answer::Result(Value::Object(result)) = &mut answer {
                result.entry("resultType").or_insert_with(|| json!("complete"));
                result
                    .entry("_meta")
                    .or_insert_with(|| json!({"io.modelcontextprotocol/serverInfo": who.server.info}));
            }
        }
        let message = who.client.sdk.message(Some(&id), members(method, params));
        let answer = match answer {
            Answer::Result(result) => Some(("result", result)),
            Answer::Error(error) => Some(("error", error)),
            Answer::Nothing => None,
        };
        let answer = answer.map(|(name, value)| {
            let rest = Map::from_iter([(name.to_owned(), value)]);
            who.server.sdk.message(Some(&answer_id), rest).to_string()
        });
        let mut with = ordinary(who);
        with.reply = super::player::Reply {
            status: who.reply.status,
            headers: who.reply.headers.clone(),
            body: who.reply.body.clone(),
            events: Vec::new(),
            lost: who.reply.lost,
            none: who.reply.none,
        };
        with.headers = modern;
        with.headers.extend(who.headers.clone());
        self.post(&with, &message.to_string(), answer, &before)
    }

    /// Sends a client's message; what the server says before its answer comes on the same stream.
    fn post(&mut self, who: &Who, text: &str, answer: Option<String>, before: &[Value]) -> Result<()> {
        match who.server.transport {
            Transport::StreamableHttp => self.post_streamable(who, text, answer, before),
            Transport::HttpSse => {
                let stream = self.stream(who)?;
                let path = self.talk(who).post_path.clone();
                let sdk = who.server.sdk;
                let request = self.request(who, "POST", path, text);
                let mut headers = sdk.response("text/plain", &[]);
                overlay(&mut headers, &who.server.headers);
                overlay(&mut headers, &who.reply.headers);
                let response = Response {
                    status: who.reply.status.unwrap_or(202),
                    headers,
                    body: Body::Whole(b"Accepted".to_vec()),
                };
                let key = self.link(who, "")?;
                self.exchange(&key, &request, Some(&response))?;
                self.events_before(who, &stream, before)?;
                match answer {
                    Some(answer) => self.event(&stream, &sdk.event("message", &answer), who.reply.lost),
                    None => Ok(()),
                }
            }
            Transport::WebSocket => {
                let key = self.websocket(who)?;
                let (http, network) = self.at(&key)?;
                let connection = http.connection;
                network.send(connection, Side::Client, &websocket::text(Side::Client, text))?;
                for message in before {
                    self.server_message(who, message)?;
                }
                if let Some(answer) = answer {
                    self.network
                        .send(connection, Side::Server, &websocket::text(Side::Server, &answer))?;
                }
                Ok(())
            }
        }
    }

    fn post_streamable(
        &mut self,
        who: &Who,
        text: &str,
        answer: Option<String>,
        before: &[Value],
    ) -> Result<()> {
        let request = self.request(who, "POST", None, text);
        let written = who.reply.body.as_ref().map(plain);
        let unusual = who.reply.status.is_some_and(|status| status != 200)
            || who
                .reply
                .headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let answer = if unusual { None } else { written.clone().or(answer) };
        let events = answer.is_some() && (who.server.events || self.rendering.sse() || !before.is_empty());
        let media = if events {
            "text/event-stream"
        } else {
            "application/json"
        };
        let mut own = Vec::new();
        if let Some(session) = &self.talk(who).session {
            own.push(("mcp-session-id".to_owned(), session.clone()));
        }
        let mut headers = who.server.sdk.response(media, &own);
        overlay(&mut headers, &who.server.headers);
        overlay(&mut headers, &who.reply.headers);
        let status = match (who.reply.status, &answer) {
            (Some(status), _) => status,
            (None, Some(_)) => 200,
            (None, None) => 202,
        };
        let body = match (&answer, events) {
            (_, true) => Body::Open,
            (Some(answer), false) => Body::Whole(answer.clone().into_bytes()),
            (None, false) => Body::Whole(written.unwrap_or_default().into_bytes()),
        };
        let response = Response {
            status,
            headers,
            body,
        };
        let key = self.link(who, "")?;
        self.at(&key)?.0.lossy = who.reply.lost;
        self.exchange(&key, &request, (!who.reply.none).then_some(&response))?;
        if events && !who.reply.none {
            self.events_before(who, &key, before)?;
            let event = who.server.sdk.event("message", &answer.unwrap_or_default());
            let (http, network) = self.at(&key)?;
            http.more(network, &event)?;
            http.end(network)?;
        }
        self.at(&key)?.0.lossy = false;
        Ok(())
    }

    fn request(&mut self, who: &Who, method: &str, path: Option<String>, text: &str) -> Request {
        let talk = self.talk(who).clone();
        let mut own = Vec::new();
        let begins = talk.version.is_none();
        if who.server.transport == Transport::StreamableHttp
            && !begins
            && let Some(session) = &talk.session
        {
            own.push(("mcp-session-id".to_owned(), session.clone()));
        }
        if let Some(version) = talk.version.filter(|version| version.as_str() >= "2025-06-18") {
            own.push(("mcp-protocol-version".to_owned(), version));
        }
        let mut headers = who.client.sdk.request(method, &who.server.authority(), &own);
        overlay(&mut headers, &who.client.headers);
        overlay(&mut headers, &who.headers);
        Request {
            method: method.to_owned(),
            target: who
                .path
                .clone()
                .or(path)
                .unwrap_or_else(|| who.server.path.clone()),
            headers,
            body: text.as_bytes().to_vec(),
        }
    }

    /// The event stream of this pair, opened if there is none.
    fn stream(&mut self, who: &Who) -> Result<String> {
        if let Some(key) = &self.talk(who).stream {
            return Ok(key.clone());
        }
        let mut opening = ordinary(who);
        opening.path = None;
        let request = self.request(&opening, "GET", None, "");
        let sdk = who.server.sdk;
        let mut own = Vec::new();
        if let Some(session) = &self.talk(who).session {
            own.push(("mcp-session-id".to_owned(), session.clone()));
        }
        let mut headers = sdk.response("text/event-stream", &own);
        overlay(&mut headers, &who.server.headers);
        let response = Response {
            status: 200,
            headers,
            body: Body::Open,
        };
        let key = self.link(who, " stream")?;
        self.exchange(&key, &request, Some(&response))?;
        if who.server.transport == Transport::HttpSse {
            let session = who.server.session.clone();
            let session = session.unwrap_or_else(|| "a6314ae6144c4dcfb4479d174189f536".to_owned());
            let path = match sdk {
                super::sdk::Sdk::Python => format!("/messages/?session_id={session}"),
                super::sdk::Sdk::Typescript => format!("/message?sessionId={session}"),
            };
            self.event(&key, &sdk.event("endpoint", &path), false)?;
            self.talk(who).post_path = Some(path);
        }
        self.talk(who).stream = Some(key.clone());
        Ok(key)
    }

    /// The WebSocket of this pair, opened if there is none.
    fn websocket(&mut self, who: &Who) -> Result<String> {
        if let Some(key) = &self.talk(who).stream {
            return Ok(key.clone());
        }
        let mut request = self.request(&ordinary(who), "GET", None, "");
        for (name, value) in [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "mcp"),
        ] {
            overlay(&mut request.headers, &[(name.to_owned(), Some(value.to_owned()))]);
        }
        let headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("Sec-WebSocket-Protocol", "mcp"),
        ];
        let response = Response {
            status: 101,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            body: Body::Whole(Vec::new()),
        };
        let key = self.link(who, " websocket")?;
        self.exchange(&key, &request, Some(&response))?;
        self.talk(who).stream = Some(key.clone());
        Ok(key)
    }

    fn event(&mut self, key: &str, event: &[u8], lost: bool) -> Result<()> {
        let (http, network) = self.at(key)?;
        http.lossy = lost;
        http.more(network, event)?;
        http.lossy = false;
        Ok(())
    }

    /// Messages of the server ahead of an answer, each a step of [`Player::server_message`].
    fn events_before(&mut self, who: &Who, key: &str, before: &[Value]) -> Result<()> {
        for message in before {
            let (text, reply) = self.server_text(who, message)?;
            self.event(key, &who.server.sdk.event("message", &text), false)?;
            if let Some(reply) = reply {
                self.post(&ordinary(who), &reply, None, &[])?;
            }
        }
        Ok(())
    }

    /// `{method, params, id?, answer?}`: what the server says, and what the client answers.
    fn server_text(&mut self, who: &Who, message: &Value) -> Result<(String, Option<String>)> {
        let mut args = Args::new("before", message.clone())?;
        let said = self.server_said(who, &mut args)?;
        args.done()?;
        Ok(said)
    }

    fn server_said(&mut self, who: &Who, args: &mut Args) -> Result<(String, Option<String>)> {
        if let Some(raw) = args.value("raw") {
            return Ok((plain(&raw), None));
        }
        let method = args.needed("method")?;
        let params = args.value("params");
        let notification = method.starts_with("notifications/");
        let id = match args.value("id") {
            Some(id) => Some(id),
            None if notification => None,
            None => {
                let talk = self.talk(who);
                talk.next_server_id += 1;
                Some(json!(talk.next_server_id - 1))
            }
        };
        let text = who
            .server
            .sdk
            .message(id.as_ref(), members(&method, params))
            .to_string();
        let reply = match (args.value("answer"), args.value("refusal")) {
            (Some(answer), _) => Some(("result", answer)),
            (_, Some(error)) => Some(("error", error)),
            _ => None,
        };
        let reply = reply.map(|(name, value)| {
            let rest = Map::from_iter([(name.to_owned(), value)]);
            who.client.sdk.message(id.as_ref(), rest).to_string()
        });
        Ok((text, reply))
    }

    fn server_message(&mut self, who: &Who, message: &Value) -> Result<()> {
        let (text, reply) = self.server_text(who, message)?;
        self.deliver(who, &text, reply)
    }

    /// A message of the server on its own.
    fn push(&mut self, who: &Who, args: &mut Args) -> Result<()> {
        let (text, reply) = self.server_said(who, args)?;
        self.deliver(who, &text, reply)
    }

    fn deliver(&mut self, who: &Who, text: &str, reply: Option<String>) -> Result<()> {
        if who.server.transport == Transport::WebSocket {
            let key = self.websocket(who)?;
            let connection = self.at(&key)?.0.connection;
            self.network
                .send(connection, Side::Server, &websocket::text(Side::Server, text))?;
        } else {
            let key = self.stream(who)?;
            self.event(&key, &who.server.sdk.event("message", text), who.reply.lost)?;
        }
        match reply {
            Some(reply) => self.post(&ordinary(who), &reply, None, &[]),
            None => Ok(()),
        }
    }

    fn listen(&mut self, who: &Who) -> Result<()> {
        self.stream(who).map(|_| ())
    }

    fn end(&mut self, who: &Who) -> Result<()> {
        let request = self.request(who, "DELETE", None, "");
        let response = Response {
            status: who.reply.status.unwrap_or(200),
            headers: who.server.sdk.response("application/json", &[]),
            body: Body::Whole(Vec::new()),
        };
        let key = self.link(who, "")?;
        self.exchange(&key, &request, Some(&response))
    }
}

fn members(method: &str, params: Option<Value>) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("method".to_owned(), json!(method));
    if let Some(params) = params {
        map.insert("params".to_owned(), params);
    }
    map
}

/// The same two ends, and nothing unusual about the answer.
fn ordinary(who: &Who) -> Who {
    Who {
        client: who.client.clone(),
        server: who.server.clone(),
        at: who.at,
        on: who.on.clone(),
        path: who.path.clone(),
        headers: who.headers.clone(),
        reply: super::player::Reply {
            status: None,
            headers: Vec::new(),
            body: None,
            events: Vec::new(),
            lost: false,
            none: false,
        },
    }
}
