//! Events for the tests of rules, made by hand.

#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows should fail")]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Detector, Drift, DriftKind, Finding, Seen, SeenKind, rule::Rule};
use crate::{
    config::pins::Pins,
    flow::{DirectionStats, EndReason, FlowEnd, FlowId, FlowInfo, FlowRef},
    mcp::{
        Carrier, Document, Message, MessageKind, RequestId, Revision, TransportKind,
        context::{
            Answered, ClientKey, Connection, Implementation, MessageContext, Origin, Scheme, Session, Target,
        },
    },
    proto::{
        dns,
        http::{ExchangeId, Headers, RequestHead, ResponseHead, Version},
        sse::SseEvent,
        tls::{self, ClientHello, ServerHello},
    },
    types::{Anomaly, AnomalyKind, At, Direction, PacketId, Plaintext, Scope, Timestamp, Transport},
};

/// One client and one server at a time, one rule, a clock that moves a millisecond per event.
pub(crate) struct Bench {
    pub(crate) pins: Arc<Pins>,
    detector: Detector,
    pub(crate) flow: FlowRef,
    pub(crate) connection: Connection,
    pub(crate) target: Target,
    pub(crate) session: Session,
    pub(crate) head: RequestHead,
    pub(crate) reply: ResponseHead,
    /// Tool or URI of the request that the next messages of the server answer.
    pub(crate) tool: Option<Arc<str>>,
    /// Messages are elements of batches.
    pub(crate) batch: bool,
    calls: u64,
    time: Timestamp,
    packet: u64,
    flows: u64,
}

impl Bench {
    /// With one rule and a pins file (`version: 1` is put in front).
    pub(crate) fn new(rule: impl Rule + 'static, pins: &str) -> Self {
        let mut bench = Self::bare();
        bench.pins = Arc::new(Pins::parse(&format!("version: 1\n{pins}"), "pins.yaml").unwrap());
        bench.detector = Detector::with_rules(Arc::clone(&bench.pins), vec![Box::new(rule)]);
        bench.server("https://mcp.example/mcp", "203.0.113.5");
        bench
    }

    /// With every rule.
    pub(crate) fn all(pins: &str) -> Self {
        let mut bench = Self::bare();
        bench.pins = Arc::new(Pins::parse(&format!("version: 1\n{pins}"), "pins.yaml").unwrap());
        bench.detector = Detector::new(Arc::clone(&bench.pins));
        bench.server("https://mcp.example/mcp", "203.0.113.5");
        bench
    }

    /// Other pins from here on.
    pub(crate) fn set_pins(&mut self, pins: Pins) {
        self.pins = Arc::new(pins);
        self.detector.set_pins(Arc::clone(&self.pins));
    }

    /// With no rules at all.
    pub(crate) fn bare() -> Self {
        let server: SocketAddr = "203.0.113.5:443".parse().unwrap();
        let client: SocketAddr = "10.1.0.5:41022".parse().unwrap();
        let time = Timestamp::from_secs(1_795_331_523);
        let origin = Origin {
            scheme: Scheme::Https,
            host: "mcp.example".into(),
            port: 443,
        };
        let target = Target {
            origin,
            path: "/mcp".into(),
            endpoint: None,
            address: server,
            moved_from: None,
        };
        let pins = Arc::new(Pins::default());
        Self {
            detector: Detector::with_rules(Arc::clone(&pins), Vec::new()),
            pins,
            flow: FlowRef {
                info: Arc::new(FlowInfo {
                    id: FlowId(1),
                    transport: Transport::Tcp,
                    scope: Scope(0),
                    client,
                    server,
                    start: At::default(),
                    from_start: true,
                    cookie: None,
                    linked: true,
                }),
                lost_bytes: 0,
                plaintext: Plaintext::Packet,
            },
            connection: Connection::default(),
            session: Session {
                id: Some("0123456789abcdef-session".into()),
                server: target.server_key(),
                client: ClientKey {
                    ip: client.ip(),
                    exe: None,
                    info: Some(("agent".into(), "1.0".into())),
                },
                transport: Some(TransportKind::StreamableHttp),
                requested: Some(Revision(Revision::V2025_11_25.into())),
                negotiated: Some(Revision(Revision::V2025_11_25.into())),
                server_info: Some(Arc::new(Implementation {
                    name: "srv".into(),
                    version: "1.0.0".into(),
                })),
                client_capabilities: Some("{}".into()),
                lossy: false,
                start: time,
            },
            target,
            head: request("POST", "/mcp", &[("Host", "mcp.example")]),
            reply: response(200, &[]),
            tool: None,
            batch: false,
            calls: 100,
            time,
            packet: 0,
            flows: 1,
        }
    }

    pub(crate) fn set_origins(&mut self, origins: Arc<crate::config::origin::OriginTables>) {
        self.detector.set_origins(origins);
    }

    /// A new connection to another server. The address decides the flow, the URL what the client believes.
    pub(crate) fn server(&mut self, url: &str, ip: &str) -> &mut Self {
        let url = url::Url::parse(url).unwrap();
        let scheme = if url.scheme() == "https" {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let port = url.port_or_known_default().unwrap();
        let ip: IpAddr = ip.parse().unwrap();
        let host: Arc<str> = url.host_str().unwrap().trim_matches(['[', ']']).into();
        let address = SocketAddr::new(ip, port);
        self.target = Target {
            endpoint: self.pins.match_target(&host, port, url.path()),
            origin: Origin {
                scheme,
                host: host.clone(),
                port,
            },
            path: url.path().into(),
            address,
            moved_from: None,
        };
        self.session.server = self.target.server_key();
        self.connection = Connection {
            authority: Some(host),
            endpoint: self.target.endpoint,
            mcp: true,
            ..Connection::default()
        };
        let client = SocketAddr::new(
            if ip.is_loopback() {
                ip
            } else {
                "10.1.0.5".parse().unwrap()
            },
            41022,
        );
        self.reflow(client, address, Transport::Tcp)
    }

    /// A new flow between two ends; what is known of the server stays.
    pub(crate) fn reflow(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        transport: Transport,
    ) -> &mut Self {
        self.flows += 1;
        let info = FlowInfo {
            id: FlowId(self.flows),
            transport,
            scope: Scope(0),
            client,
            server,
            start: self.at(),
            from_start: true,
            cookie: None,
            linked: true,
        };
        self.flow.info = Arc::new(info);
        self.session.client.ip = client.ip();
        self
    }

    /// The ends of the flow are not known.
    pub(crate) fn unlink(&mut self) -> &mut Self {
        Arc::make_mut(&mut self.flow.info).linked = false;
        self
    }

    pub(crate) fn wait(&mut self, by: Duration) -> &mut Self {
        self.time = self.time.saturating_add(by);
        self
    }

    pub(crate) fn at(&self) -> At {
        At {
            time: self.time,
            packet: PacketId {
                order: self.packet,
                number: self.packet,
                file: 0,
            },
        }
    }

    fn step(&mut self) {
        self.packet += 1;
        self.wait(Duration::from_millis(1));
    }

    pub(crate) fn with_seen(&mut self, kind: SeenKind<'_>, then: impl FnOnce(&Seen<'_>)) {
        self.step();
        then(&Seen {
            at: self.at(),
            flow: Some(&self.flow),
            connection: Some(&self.connection),
            kind,
        });
    }

    pub(crate) fn see(&mut self, kind: SeenKind<'_>) -> Vec<Finding> {
        self.step();
        let seen = Seen {
            at: self.at(),
            flow: Some(&self.flow),
            connection: Some(&self.connection),
            kind,
        };
        let mut out = Vec::new();
        self.detector.see(&seen, &mut out);
        out
    }

    /// A drift verdict on the first endpoint.
    pub(crate) fn drift(&mut self, kind: DriftKind, address: &str) -> Vec<Finding> {
        self.drift_at(kind, address, 443)
    }

    pub(crate) fn drift_at(&mut self, kind: DriftKind, address: &str, port: u16) -> Vec<Finding> {
        let drift = Drift {
            kind,
            endpoint: 0,
            address: address.parse().unwrap(),
            port: Some(port),
            refused: false,
        };
        self.see(SeenKind::Drift(&drift))
    }

    pub(crate) fn dns(&mut self, direction: Direction, message: &dns::Message) -> Vec<Finding> {
        self.see(SeenKind::Dns { direction, message })
    }

    /// A request head to the current target.
    pub(crate) fn request(&mut self, head: &RequestHead, mcp: bool) -> Vec<Finding> {
        self.head = head.clone();
        let target = self.target.clone();
        self.see(SeenKind::Request {
            exchange: ExchangeId(1),
            head,
            target: &target,
            mcp,
        })
    }

    /// A response to the latest request.
    pub(crate) fn response(&mut self, head: &ResponseHead, mcp: bool) -> Vec<Finding> {
        let (target, request) = (self.target.clone(), self.head.clone());
        self.see(SeenKind::Response {
            exchange: ExchangeId(1),
            request: Some(&request),
            head,
            target: &target,
            mcp,
        })
    }

    pub(crate) fn document(&mut self, direction: Direction, media: &str, body: &str) -> Vec<Finding> {
        let document = Document {
            exchange: ExchangeId(1),
            direction,
            media_type: media.into(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let (target, request) = (self.target.clone(), self.head.clone());
        self.see(SeenKind::Document {
            document: &document,
            request: Some(&request),
            response: None,
            target: &target,
        })
    }

    pub(crate) fn sse_endpoint(&mut self, data: &str, ordinal: u32) -> Vec<Finding> {
        let event = SseEvent {
            event: Bytes::from_static(b"endpoint"),
            data: Bytes::copy_from_slice(data.as_bytes()),
            id: None,
        };
        let target = self.target.clone();
        self.see(SeenKind::SseEndpoint {
            event: &event,
            ordinal,
            target: &target,
        })
    }

    /// A message of the client.
    pub(crate) fn says(&mut self, json: &str) -> Vec<Finding> {
        self.message(json, Direction::ToServer, None, None)
    }

    /// A message of the server, answering `method` (and `tool`) if given.
    pub(crate) fn answers(&mut self, json: &str, method: Option<&str>) -> Vec<Finding> {
        self.message(json, Direction::ToClient, method, None)
    }

    /// The client calls a tool with these arguments and gets this result; what is found in the answer.
    pub(crate) fn calls(&mut self, tool: &str, arguments: &str, result: &str) -> Vec<Finding> {
        self.calls += 1;
        let id = self.calls;
        let mut found = self.says(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        ));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        found.extend(self.message(&answer, Direction::ToClient, Some("tools/call"), Some(tool)));
        found
    }

    /// A message that answers a request of the server, or one nobody asked for.
    pub(crate) fn replies(&mut self, json: &str, method: Option<&str>) -> Vec<Finding> {
        self.message(json, Direction::ToServer, method, None)
    }

    fn message(
        &mut self,
        json: &str,
        direction: Direction,
        method: Option<&str>,
        name: Option<&str>,
    ) -> Vec<Finding> {
        let mut message = message(json, direction, self.at());
        message.batch = self.batch;
        let answered = method.map(|m| Answered {
            method: m.into(),
            name: name.map(Into::into).or_else(|| self.tool.clone()),
            at: self.at(),
            first: self.at().packet,
            latency: Duration::from_millis(1),
        });
        let (target, session, request) = (self.target.clone(), self.session.clone(), self.head.clone());
        let response = self.reply.clone();
        self.see(SeenKind::Message {
            message: &message,
            context: MessageContext {
                target: &target,
                session: &session,
                answers: answered.as_ref(),
                request: Some(&request),
                response: (direction == Direction::ToClient).then_some(&response),
            },
        })
    }

    /// The client asks for the list of tools and gets this result.
    pub(crate) fn lists_tools(&mut self, tools: &str) -> Vec<Finding> {
        let mut found = self.says(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
        let answer = format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"tools":{tools}}}}}"#);
        found.extend(self.answers(&answer, Some("tools/list")));
        found
    }

    pub(crate) fn hello(&mut self, client: &ClientHello, server: &ServerHello) -> Vec<Finding> {
        let mut found = self.see(SeenKind::ClientHello(client));
        found.extend(self.see(SeenKind::ServerHello {
            hello: server,
            client: Some(client),
        }));
        found
    }

    pub(crate) fn certificates(&mut self, direction: Direction, chain: &tls::Chain) -> Vec<Finding> {
        self.see(SeenKind::Certificates { direction, chain })
    }

    pub(crate) fn handshake(&mut self, handshake: &tls::Handshake) -> Vec<Finding> {
        self.see(SeenKind::Handshake(handshake))
    }

    pub(crate) fn anomaly(&mut self, kind: AnomalyKind) -> Vec<Finding> {
        self.anomaly_with(kind, "")
    }

    pub(crate) fn anomaly_with(&mut self, kind: AnomalyKind, detail: &str) -> Vec<Finding> {
        let anomaly = Anomaly::new(kind, detail);
        self.see(SeenKind::Anomaly(&anomaly))
    }

    pub(crate) fn close(&mut self) -> Vec<Finding> {
        let end = FlowEnd {
            reason: EndReason::Finished,
            last: self.time,
            to_server: DirectionStats::default(),
            to_client: DirectionStats::default(),
        };
        self.see(SeenKind::Close(&end))
    }
}

pub(crate) fn headers(list: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in list {
        headers.push(name.as_bytes(), value.as_bytes());
    }
    headers
}

pub(crate) fn request(method: &str, target: &str, list: &[(&str, &str)]) -> RequestHead {
    let headers = headers(list);
    RequestHead {
        method: Bytes::copy_from_slice(method.as_bytes()),
        target: Bytes::copy_from_slice(target.as_bytes()),
        version: Version::Http11,
        scheme: None,
        authority: headers.get("host").map(Bytes::copy_from_slice),
        headers,
        partial: false,
        first: PacketId::default(),
        at: At::default(),
    }
}

pub(crate) fn response(status: u16, list: &[(&str, &str)]) -> ResponseHead {
    ResponseHead {
        status,
        version: Version::Http11,
        headers: headers(list),
        partial: false,
        first: PacketId::default(),
        at: At::default(),
    }
}

/// An invented token that a scanner knows.
pub(crate) fn token() -> String {
    super::credentials::example("github-pat").unwrap()
}

/// A JSON Web Token whose signature is of no interest.
pub(crate) fn jwt(header: &str, claims: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(header), part(claims))
}

pub(crate) fn message(json: &str, direction: Direction, at: At) -> Message {
    #[derive(Deserialize)]
    struct Raw<'a> {
        id: Option<serde_json::Value>,
        method: Option<String>,
        #[serde(borrow)]
        params: Option<&'a RawValue>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let raw: Raw<'_> = serde_json::from_str(json).unwrap();
    let range = |part: Option<&RawValue>| {
        part.map(|p| {
            let start = p.get().as_ptr() as usize - json.as_ptr() as usize;
            start..start + p.get().len()
        })
    };
    let value =
        |part: Option<&RawValue>| part.and_then(|p| serde_json::from_str::<serde_json::Value>(p.get()).ok());
    let named = value(raw.params).and_then(|p| {
        let name = p.get("name").or_else(|| p.get("uri"))?;
        Some(Arc::from(name.as_str()?))
    });
    Message {
        kind: match (&raw.method, raw.id.is_some(), raw.error.is_some()) {
            (Some(_), true, _) => MessageKind::Request,
            (Some(_), false, _) => MessageKind::Notification,
            (None, _, true) => MessageKind::Error,
            (None, _, false) => MessageKind::Response,
        },
        direction,
        id: raw.id.as_ref().map(|id| match id {
            serde_json::Value::String(s) => RequestId::Text(s.as_str().into()),
            other => RequestId::Number(other.to_string().into()),
        }),
        method: raw.method.map(Into::into),
        name: named,
        error_code: value(raw.error).and_then(|e| e.get("code")?.as_i64()),
        body: Bytes::copy_from_slice(json.as_bytes()),
        params: range(raw.params),
        result: range(raw.result),
        error: range(raw.error),
        batch: false,
        repeated: None,
        parts: None,
        carrier: Carrier::Body,
        event_id: None,
        exchange: ExchangeId(1),
        first: at.packet,
        at,
    }
}

/// An answer with addresses, after CNAMEs that lead from `name`.
pub(crate) fn dns_answer(id: u16, name: &str, cnames: &[&str], addresses: &[&str]) -> dns::Message {
    let mut owner = name;
    let mut answers = Vec::new();
    for target in cnames {
        answers.push(dns::Record {
            name: owner.into(),
            rtype: 5,
            class: 1,
            ttl: 60,
            data: dns::RecordData::Cname((*target).into()),
        });
        owner = target;
    }
    for address in addresses {
        let ip: IpAddr = address.parse().unwrap();
        answers.push(dns::Record {
            name: owner.into(),
            rtype: if ip.is_ipv4() { 1 } else { 28 },
            class: 1,
            ttl: 60,
            data: dns::RecordData::Address(ip),
        });
    }
    let qtype = addresses
        .first()
        .map_or(1, |a| if a.contains(':') { 28 } else { 1 });
    dns::Message {
        id,
        response: true,
        opcode: 0,
        authoritative: false,
        truncated: false,
        rcode: 0,
        questions: vec![dns::Question {
            name: name.into(),
            qtype,
            qclass: 1,
        }],
        answers,
        authorities: Vec::new(),
        additionals: Vec::new(),
        edns: false,
    }
}

/// A certificate of `issuer` for `name`, valid through the time of the bench, with an embedded timestamp.
/// Its key follows from its names.
pub(crate) fn certificate(name: &str, issuer: &str) -> tls::Certificate {
    use sha2::{Digest as _, Sha256};
    let subject = format!("CN={name}");
    tls::Certificate {
        sha256: Sha256::digest(format!("{subject} {issuer}")).into(),
        spki_sha256: Sha256::digest(&subject).into(),
        subject_der: Bytes::copy_from_slice(subject.as_bytes()),
        issuer_der: Bytes::copy_from_slice(issuer.as_bytes()),
        subject: subject.into(),
        issuer: issuer.into(),
        issuer_rdns: issuer.split(',').map(Into::into).collect(),
        not_before: Timestamp::from_secs(1_700_000_000),
        not_after: Timestamp::from_secs(1_900_000_000),
        dns_names: vec![name.into()],
        addresses: Vec::new(),
        common_name: Some(name.into()),
        scts: 1,
    }
}

pub(crate) fn chain(certificates: Vec<tls::Certificate>) -> tls::Chain {
    tls::Chain {
        has_leaf: !certificates.is_empty(),
        certificates,
        unreadable: 0,
    }
}

/// A full handshake of TLS 1.2 after which the client went on.
pub(crate) fn handshake(server: Vec<tls::Certificate>, client: Option<tls::Certificate>) -> tls::Handshake {
    tls::Handshake {
        version: Some(0x0303),
        resumption: None,
        server: Some(Arc::new(chain(server))),
        certificate_requested: client.is_some(),
        client: client.map(|c| Arc::new(chain(vec![c]))),
        scts: false,
        end: tls::HandshakeEnd::Established,
    }
}
