//! What the traffic teaches, fact by fact: the raw material of pins, baselines and attestations.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::record::{Observation, Record};
use crate::{
    baseline::{
        Bounded, Fact, Learned, LearningOptions, Once, Row, Subject, TallyKey, TallyRow, ToolList, Verdict,
        canonical, fact::cut, held, jwt_part, tally::Tallies,
    },
    config::pins::Pins,
    detect::{Seen, SeenKind, credentials::header_credential},
    flow::{FlowEnd, FlowId},
    mcp::{
        Message, MessageKind, TransportKind,
        context::{MessageContext, Origin, ServerKey},
        json,
    },
    proto::{
        dns,
        http::RequestHead,
        tls::{Chain, ServerHello, ja4::ja4},
    },
    types::{At, Direction, Plaintext, Timestamp},
};

/// Hosts that a fact must concern to be kept beyond this run.
const MAX_HOSTS: usize = 16_384;
/// Sessions remembered so that each is counted once.
const MAX_SESSIONS: usize = 65_536;
/// Bytes of arguments searched for contacts, and contacts kept of one call.
const MAX_ARGUMENTS: usize = 16 << 10;
const MAX_CONTACTS: usize = 16;
/// Servers that one protected resource metadata document may name.
const MAX_ISSUERS: usize = 16;
/// Where protected resource metadata lies (RFC 9728 section 3.1).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Learns facts and counts what was verified.
#[derive(Debug)]
pub(super) struct Observer {
    pins: Arc<Pins>,
    learned: Learned,
    tallies: Tallies,
    sessions: Once<(ServerKey, Option<Arc<str>>, Option<FlowId>)>,
    /// Hosts that speak MCP or are pinned.
    concerned: Bounded<Arc<str>, ()>,
    /// Facts are said once, at the end: replay.
    settled: bool,
    /// Facts that were new just now, to be said: live.
    fresh: Vec<Row>,
}

/// Where and by whom something was seen.
struct Place<'a> {
    at: At,
    seen: &'a Seen<'a>,
}

impl Observer {
    pub(super) fn new(pins: Arc<Pins>, options: LearningOptions, track: bool, settled: bool) -> Self {
        Self {
            pins,
            learned: Learned::new(options, track),
            tallies: Tallies::default(),
            sessions: Bounded::new(MAX_SESSIONS),
            concerned: Bounded::new(MAX_HOSTS),
            settled,
            fresh: Vec::new(),
        }
    }

    pub(super) fn set_pins(&mut self, pins: Arc<Pins>) {
        self.pins = pins;
    }

    pub(super) fn load(&mut self, rows: Vec<Row>) {
        for row in &rows {
            self.concern(row.subject.host());
        }
        self.learned.load(rows);
    }

    /// An alert questions the identity of a host.
    pub(super) fn question(&mut self, host: &str, now: Timestamp) {
        self.learned.question(host, now);
    }

    pub(super) fn is_questioned(&self, host: &str, now: Timestamp) -> bool {
        self.learned.is_questioned(host, now)
    }

    /// How many facts are remembered.
    pub(super) fn known(&self) -> u64 {
        self.learned.known()
    }

    /// How many facts made room for others.
    pub(super) fn evicted(&self) -> u64 {
        self.learned.evicted()
    }

    /// Everything seen in this run.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.learned.seen_here()
    }

    /// Facts to keep. Those of hosts that neither speak MCP nor are pinned are left out.
    pub(super) fn take_changes(&mut self) -> Vec<Row> {
        let (pins, concerned) = (&self.pins, &self.concerned);
        self.learned.take_changes(|subject| {
            let host = subject.host();
            concerned.peek(host).is_some() || !pins.endpoints_of_host(host).is_empty()
        })
    }

    pub(super) fn take_tallies(&mut self) -> Vec<TallyRow> {
        self.tallies.take()
    }

    /// Looks at an event. `tools` is the list that it completes.
    pub(super) fn see(&mut self, seen: &Seen<'_>, tools: Option<&ToolList>) {
        let place = Place { at: seen.at, seen };
        match &seen.kind {
            SeenKind::Dns {
                direction: Direction::ToClient,
                message,
            } if message.response => self.dns(&place, message),
            SeenKind::ClientHello(hello) => {
                let fact = Fact::ClientTls {
                    ja4: ja4(hello).into(),
                    exe: exe(seen),
                };
                if let Some(subject) = server(seen) {
                    self.learn(&place, subject, fact);
                }
            }
            SeenKind::ServerHello { hello, .. } if !hello.retry => {
                if let Some(subject) = server(seen) {
                    self.connected(&place, &subject);
                    self.learn(&place, subject, negotiated(hello));
                }
            }
            SeenKind::Certificates {
                direction: Direction::ToClient,
                chain,
            } => {
                if let (Some(subject), Some(fact)) = (server(seen), certificate(chain)) {
                    self.learn(&place, subject, fact);
                }
            }
            SeenKind::Document { document, target, .. } if document.direction == Direction::ToClient => {
                if let Some(resource) = target.path.strip_prefix(METADATA) {
                    let subject = Subject::Url(target.origin.clone(), cut(resource));
                    self.metadata(&place, &subject, &document.body);
                }
            }
            SeenKind::Message { message, context } => self.message(&place, message, context, tools),
            SeenKind::Close(end) => self.close(seen, end),
            _ => {}
        }
    }

    fn dns(&mut self, place: &Place<'_>, message: &dns::Message) {
        let Some(question) = message.questions.first() else {
            return;
        };
        let subject = Subject::name(&question.name);
        let mut useful = false;
        for record in &message.answers {
            match &record.data {
                dns::RecordData::Address(address) => {
                    let fact = Fact::DnsAnswer { address: *address };
                    self.learn(place, subject.clone(), fact);
                    self.measure(place, subject.clone(), Fact::DnsTtl {}, record.ttl.into());
                    useful = true;
                }
                dns::RecordData::Cname(target) => {
                    let fact = Fact::DnsCname { target: cut(target) };
                    self.learn(place, subject.clone(), fact);
                    useful = true;
                }
                _ => {}
            }
        }
        if let (true, Some(flow)) = (useful, place.seen.flow) {
            let resolver = flow.info.server.ip();
            self.learn(place, subject, Fact::DnsResolver { resolver });
        }
    }

    fn connected(&mut self, place: &Place<'_>, subject: &Subject) {
        if let Some(flow) = place.seen.flow
            && !place.seen.is_unlinked()
        {
            let address = flow.info.server.ip();
            self.learn(place, subject.clone(), Fact::Address { address });
        }
    }

    fn message(
        &mut self,
        place: &Place<'_>,
        message: &Message,
        context: &MessageContext<'_>,
        tools: Option<&ToolList>,
    ) {
        let Some(flow) = place.seen.flow else { return };
        let (session, target) = (context.session, context.target);
        let method = message.method.as_ref().or(context.answers.map(|a| &a.method));
        let proof = method.is_some_and(|m| crate::mcp::methods::is_mcp(m));
        if !proof && !place.seen.connection.is_some_and(|c| c.mcp) {
            return;
        }
        let subject = Subject::url(target);
        let first = (
            session.server.clone(),
            session.id.clone(),
            session.id.is_none().then_some(flow.info.id),
        );
        let new_session = self.sessions.first(first);
        let request = message.kind == MessageKind::Request && message.direction == Direction::ToServer;
        self.tally(place, &subject, |tally| {
            tally.sessions = tally.sessions.saturating_add(u64::from(new_session));
            tally.requests = tally.requests.saturating_add(u64::from(request));
            if let (true, Some((name, version))) = (new_session, &session.client.info) {
                tally.client(&cut(name), &cut(version));
            }
        });
        if !proof {
            return;
        }
        // With HTTP+SSE the place to post to is the server's choice; the stream's URL is the endpoint.
        let posted = session.transport == Some(TransportKind::HttpSse) && context.response.is_none();
        // Without the request all that is known is the address.
        let known = !target.path.is_empty();
        if !posted && known {
            self.concern(subject.host());
            let transport = session.transport.map(|t| t.slug().into());
            self.learn(place, subject.clone(), Fact::Endpoint { transport });
        }
        if request && method.is_some_and(|m| &**m == "tools/call") {
            self.contacts(place, &subject, message);
        }
        if message.kind != MessageKind::Response || message.direction != Direction::ToClient {
            return;
        }
        self.answer(place, &subject, message, context);
        for tool in tools.iter().flat_map(|list| list.tools.iter()) {
            let fact = Fact::Tool {
                name: cut(&tool.name),
                hash: canonical::hex(&tool.hash).into(),
            };
            self.learn(place, subject.clone(), fact);
        }
    }

    /// A successful answer of the server.
    fn answer(
        &mut self,
        place: &Place<'_>,
        subject: &Subject,
        message: &Message,
        context: &MessageContext<'_>,
    ) {
        let session = context.session;
        self.connected(
            place,
            &Subject::Server(subject.host().into(), context.target.origin.port),
        );
        if let Some(request) = context.request {
            let fact = authentication(request);
            let none = matches!(&fact, Fact::Authentication { scheme, .. } if &**scheme == "none");
            self.tally(place, subject, |tally| {
                let count = match none {
                    true => &mut tally.unauthenticated,
                    false => &mut tally.authenticated,
                };
                *count = count.saturating_add(1);
            });
            self.learn(place, subject.clone(), fact);
        }
        if let Some(version) = &session.negotiated {
            let version = version.0.clone();
            self.learn(place, subject.clone(), Fact::Protocol { version });
        }
        if !context
            .answers
            .is_some_and(|a| matches!(&*a.method, "initialize" | "server/discover"))
        {
            return;
        }
        if let Some(info) = &session.server_info {
            let fact = Fact::Server {
                name: cut(&info.name),
                version: cut(&info.version),
            };
            self.learn(place, subject.clone(), fact);
        }
        let result = message.result().unwrap_or_default();
        let capabilities = json::path(result, &["capabilities"])
            .and_then(|text| serde_json::from_slice::<serde_json::Map<_, _>>(text).ok());
        for name in capabilities.iter().flat_map(|map| map.keys()).take(64) {
            let name = cut(name);
            self.learn(place, subject.clone(), Fact::Capability { name });
        }
    }

    fn metadata(&mut self, place: &Place<'_>, subject: &Subject, body: &[u8]) {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
            return;
        };
        if let Some(resource) = body.get("resource").and_then(|r| r.as_str()) {
            let url = cut(resource);
            self.learn(place, subject.clone(), Fact::Resource { url });
        }
        let servers = body.get("authorization_servers").and_then(|s| s.as_array());
        for server in servers.into_iter().flatten().take(MAX_ISSUERS) {
            if let Some(url) = server.as_str().map(cut) {
                self.learn(place, subject.clone(), Fact::AuthorizationServer { url });
            }
        }
    }

    fn contacts(&mut self, place: &Place<'_>, subject: &Subject, message: &Message) {
        let (Some(tool), Some(params)) = (&message.name, message.params()) else {
            return;
        };
        let arguments = params.get(..params.len().min(MAX_ARGUMENTS)).unwrap_or_default();
        for host in contacts(arguments) {
            let tool = cut(tool);
            self.learn(place, subject.clone(), Fact::Contact { tool, host });
        }
    }

    fn close(&mut self, seen: &Seen<'_>, end: &FlowEnd) {
        let (Some(flow), Some(connection)) = (seen.flow, seen.connection) else {
            return;
        };
        let Some(subject) = server(seen) else { return };
        if !connection.mcp && held::endpoints_of(&self.pins, &subject).is_empty() {
            return;
        }
        let bytes = end.to_server.bytes.saturating_add(end.to_client.bytes);
        let lost = end.to_server.lost_bytes.saturating_add(end.to_client.lost_bytes);
        let unseen = match flow.plaintext {
            Plaintext::None => bytes.saturating_add(lost),
            _ => lost,
        };
        let place = Place { at: seen.at, seen };
        self.tally(&place, &subject, |tally| {
            tally.connections = tally.connections.saturating_add(1);
            tally.bytes = tally.bytes.saturating_add(bytes).saturating_add(lost);
            tally.unseen_bytes = tally.unseen_bytes.saturating_add(unseen);
        });
    }

    fn concern(&mut self, host: &str) {
        if self.concerned.get_mut(host).is_none() {
            self.concerned.insert(host.into(), ());
        }
    }

    fn learn(&mut self, place: &Place<'_>, subject: Subject, fact: Fact) {
        self.take(place, subject, fact, None);
    }

    fn measure(&mut self, place: &Place<'_>, subject: Subject, fact: Fact, number: u64) {
        self.take(place, subject, fact, Some(number));
    }

    fn take(&mut self, place: &Place<'_>, subject: Subject, fact: Fact, measure: Option<u64>) {
        let held = held::hold(&self.pins, &subject, &fact);
        let approved = !held.is_empty()
            && held
                .iter()
                .all(|h| matches!(h.verdict, Verdict::Same | Verdict::Rotated));
        // What an answer of DNS says is verified once a connection goes there.
        if !matches!(subject, Subject::Name(_)) {
            for one in &held {
                self.tally(place, &subject, |tally| tally.check(one.key, one.verdict));
            }
        }
        let known = (!self.settled).then(|| (subject.clone(), fact.clone()));
        let new = self.learned.see(place.at, subject, fact, measure, approved);
        if let (true, Some((subject, fact))) = (new, known) {
            self.fresh.extend(self.learned.row(&subject, &fact));
        }
    }

    fn tally(
        &mut self,
        place: &Place<'_>,
        subject: &Subject,
        count: impl FnOnce(&mut crate::baseline::Tally),
    ) {
        let Some(flow) = place.seen.flow else { return };
        let index = held::endpoints_of(&self.pins, subject).first().copied();
        let endpoint = match (self.pins.endpoint(index), subject) {
            (Some(endpoint), _) => endpoint.name.to_string(),
            (None, Subject::Url(origin, _)) => server_of(origin),
            (None, other) => other.to_string(),
        };
        let agent = exe(place.seen).map_or_else(|| flow.info.client.ip().to_string(), |exe| exe.to_string());
        let key = TallyKey {
            endpoint,
            agent,
            hour: TallyKey::hour_of(place.at.time),
        };
        self.tallies.count(key, count);
    }

    /// Facts to say now if they are `wanted`: those that made room (replay), those that are new (live).
    pub(super) fn news(&mut self, wanted: bool, out: &mut Vec<Record>) {
        let gone = self.learned.take_forgotten();
        let news = match self.settled {
            true => gone,
            false => std::mem::take(&mut self.fresh),
        };
        if wanted {
            out.extend(news.iter().filter_map(observation));
        }
    }

    /// Facts to say at the end.
    pub(super) fn finish(&mut self, out: &mut Vec<Record>) {
        out.extend(self.learned.seen_here().iter().filter_map(observation));
    }
}

/// `host:port`, as [`Subject::Server`] shows it, so that both kinds of facts count as one server.
fn server_of(origin: &Origin) -> String {
    Subject::Server(origin.host.clone(), origin.port).to_string()
}

fn observation(row: &Row) -> Option<Record> {
    let here = row.entry.here?;
    let (kind, value) = row.fact.parts();
    Some(Record::Observation(Box::new(Observation {
        schema: "mcp-monitor.observation/1",
        time: here.time,
        kind,
        subject: row.subject.to_string(),
        value,
        packet: here.packet.number,
        first_seen: row.entry.first,
        last_seen: row.entry.last,
        count: row.entry.count,
        range: row.entry.range.map(|(low, high)| [low, high]),
        standing: row.entry.standing,
    })))
}

fn exe(seen: &Seen<'_>) -> Option<Arc<str>> {
    let process = seen.connection?.process.as_ref()?;
    Some(cut(process.exe.as_deref().unwrap_or(&process.comm)))
}

/// The server of a connection: its best name, its port.
fn server(seen: &Seen<'_>) -> Option<Subject> {
    let name = seen.connection.and_then(|c| c.server_name());
    Some(Subject::server(name, seen.flow?.info.server))
}

fn negotiated(hello: &ServerHello) -> Fact {
    let extensions: Vec<String> = hello.extensions.iter().map(u16::to_string).collect();
    Fact::Tls {
        version: hello.version,
        cipher: hello.cipher,
        group: hello.key_share,
        alpn: hello.alpn.as_deref().map(cut),
        extensions: cut(&extensions.join("-")),
    }
}

fn certificate(chain: &Chain) -> Option<Fact> {
    let leaf = chain.leaf()?;
    Some(Fact::Certificate {
        sha256: super::record::hex(&leaf.sha256).into(),
        spki_sha256: chain
            .certificates
            .iter()
            .map(|c| STANDARD.encode(c.spki_sha256).into())
            .collect(),
        issuer: cut(&leaf.issuer),
    })
}

/// How a request authenticated, without the credential itself.
fn authentication(head: &RequestHead) -> Fact {
    let mut scheme: Arc<str> = "none".into();
    let (mut audience, mut issuer) = (None, None);
    if let Some(value) = head.headers.get("authorization") {
        let mut parts = value.splitn(2, |b| *b == b' ');
        let first = parts.next().unwrap_or_default();
        let token = parts.next();
        scheme = match (token, std::str::from_utf8(first)) {
            (Some(_), Ok(word)) if word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                cut(&word.to_ascii_lowercase())
            }
            // A value without scheme is the credential itself.
            _ => "authorization".into(),
        };
        if let Some(claims) = token.and_then(|t| jwt_part(t.trim_ascii(), 1)) {
            let named: Vec<&str> = ["aud", "resource"]
                .iter()
                .filter_map(|key| claims.get(key))
                .flat_map(|value| match value {
                    serde_json::Value::Array(list) => list.iter().filter_map(|v| v.as_str()).collect(),
                    other => other.as_str().into_iter().collect::<Vec<_>>(),
                })
                .take(8)
                .collect();
            audience = (!named.is_empty()).then(|| cut(&named.join(" ")));
            issuer = claims.get("iss").and_then(|v| v.as_str()).map(cut);
        }
    } else if let Some(found) = head
        .headers
        .iter()
        .find_map(|(name, value)| header_credential(name, value))
    {
        scheme = cut(&found.kind);
    }
    Fact::Authentication {
        scheme,
        audience,
        issuer,
    }
}

/// Hosts of URLs and mail addresses in a JSON text, each once, lower case.
fn contacts(text: &[u8]) -> Vec<Arc<str>> {
    let mut hosts: Vec<Arc<str>> = Vec::new();
    let is_host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    for at in memchr::memchr2_iter(b':', b'@', text) {
        let after = at.saturating_add(1);
        let rest = text.get(after..).unwrap_or_default();
        let rest = match text.get(at) {
            Some(b'@') if at.checked_sub(1).and_then(|i| text.get(i)).is_some_and(is_host) => rest,
            Some(b':') => match rest.strip_prefix(b"//") {
                Some(rest) => rest,
                None => continue,
            },
            _ => continue,
        };
        let len = rest.iter().take(254).take_while(|b| is_host(b)).count();
        let host = rest.get(..len).and_then(|h| std::str::from_utf8(h).ok());
        let Some(host) = host.map(|h| h.trim_matches('.').to_ascii_lowercase()) else {
            continue;
        };
        let named = host.contains('.') && host.parse::<IpAddr>().is_err() || host.parse::<IpAddr>().is_ok();
        if named && !hosts.iter().any(|known| **known == *host) {
            hosts.push(host.into());
            if hosts.len() >= MAX_CONTACTS {
                break;
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contacts_are_hosts_of_urls_and_mail() {
        let text = br#"{"to":"Ann.Lee@Mail.Example","cc":["x@mail.example"],"link":"see https://u:p@docs.example.com:8443/a?b and 10:30, a@b, mailto:z@203.0.113.9"}"#;
        let found: Vec<String> = contacts(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["mail.example", "docs.example.com", "203.0.113.9"]);
    }

    proptest! {
        #[test]
        fn any_arguments(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(contacts(&text).len() <= MAX_CONTACTS);
        }
    }
}
