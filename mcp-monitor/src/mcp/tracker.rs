//! The half of MCP that looks across flows: names, targets, sessions, transactions.
//!
//! Takes [`FlowEvent`]s in order of the wire and says, with a [`Step`], what each one belongs to.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use hashbrown::{HashMap, HashSet};

use super::{
    Carrier, FlowEvent, FlowEventKind, Message, MessageKind, TransportKind,
    context::{Answered, ClientKey, Connection, Scheme, ServerKey, Session, Target},
    names::Names,
    sessions::{SessionHandle, SessionLimits, Sessions},
    target::{EndpointMatch, split_authority, target},
};
use crate::{
    flow::{FlowId, FlowRef},
    proto::http::{ExchangeId, RequestHead, ResponseHead},
    types::{Bounded, Direction, Once, Plaintext, Process},
};

/// Caps of the tracker's tables.
#[derive(Clone, Copy, Debug)]
pub struct TrackerLimits {
    /// Client and address pairs whose name is remembered.
    pub names: NonZeroUsize,
    /// Server paths known to speak MCP.
    pub paths: NonZeroUsize,
    /// Open exchanges of one connection; the oldest is forgotten first.
    pub exchanges: usize,
    /// Local sockets whose process is remembered.
    pub processes: NonZeroUsize,
    /// Sessions and transactions.
    pub sessions: SessionLimits,
}

impl Default for TrackerLimits {
    fn default() -> Self {
        let size = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            names: size(65_536),
            paths: size(16_384),
            exchanges: 1024,
            processes: size(65_536),
            sessions: SessionLimits::default(),
        }
    }
}

/// MCP counts of a run; keys of `mcp` in the summary.
#[derive(Clone, Default, Debug)]
pub struct McpCounters {
    /// `method` with `id`.
    pub requests: u64,
    /// `result` or `error`.
    pub responses: u64,
    /// `method` without `id`.
    pub notifications: u64,
    /// Responses with `error`.
    pub errors: u64,
    /// Requests and notifications by method. Bounded: see [`METHODS`].
    pub methods: BTreeMap<Arc<str>, u64>,
}

/// Hosts kept once; at more of them it begins anew.
const HOSTS: usize = 4096;
/// Different method names counted apart; further ones share [`OTHER_METHODS`].
pub const METHODS: usize = 256;
/// Key of the methods beyond [`METHODS`].
pub const OTHER_METHODS: &str = "(other)";

#[derive(Debug)]
struct Exchange {
    request: Option<Arc<RequestHead>>,
    response: Option<Arc<ResponseHead>>,
    target: Arc<Target>,
    session: Option<SessionHandle>,
    mcp: bool,
}

#[derive(Debug, Default)]
struct Conn {
    /// Shared with events that are still to be judged.
    connection: Arc<Connection>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    /// Session of messages that carry no session id.
    anonymous: Option<SessionHandle>,
    /// The first session with an id of its own.
    named: Option<SessionHandle>,
    /// There was another one.
    several: bool,
}

impl Conn {
    /// MCP was seen on it, if `mcp`.
    fn speaks(&mut self, mcp: bool) {
        if mcp && !self.connection.mcp {
            Arc::make_mut(&mut self.connection).mcp = true;
        }
    }
}

/// What an event belongs to.
#[derive(Clone, Debug)]
pub enum Step {
    /// Nothing beyond its connection.
    Plain,
    /// An HTTP event.
    Http {
        /// The request of the exchange, if seen.
        request: Option<Arc<RequestHead>>,
        /// The response of the exchange, if seen already.
        response: Option<Arc<ResponseHead>>,
        /// Whom the request addressed.
        target: Arc<Target>,
        /// It belongs to MCP, as far as is known now.
        mcp: bool,
    },
    /// An MCP message.
    Message {
        /// Whom the request that carried it addressed.
        target: Arc<Target>,
        /// Its session.
        session: SessionHandle,
        /// For a response: its request.
        answers: Option<Answered>,
        /// HTTP request of the exchange.
        request: Option<Arc<RequestHead>>,
        /// HTTP response of the exchange.
        response: Option<Arc<ResponseHead>>,
    },
}

/// See the module.
pub struct Tracker {
    limits: TrackerLimits,
    endpoints: Arc<dyn EndpointMatch>,
    connections: HashMap<FlowId, Conn>,
    names: Names,
    /// Hosts of targets, each once: keys of many tables hold them, and equal ones are told by their place then.
    hosts: HashSet<Arc<str>>,
    paths: Once<(ServerKey, Box<str>)>,
    /// Paths that an MCP server redirects to, and from where.
    moved: Bounded<(ServerKey, Box<str>), Box<str>>,
    processes: Bounded<u64, Arc<Process>>,
    sessions: Sessions,
    counters: McpCounters,
    nameless: Arc<Connection>,
}

impl Tracker {
    /// Empty, looking endpoints up in `endpoints`.
    pub fn new(limits: TrackerLimits, endpoints: Arc<dyn EndpointMatch>) -> Self {
        Self {
            endpoints,
            connections: HashMap::new(),
            names: Names::new(limits.names),
            hosts: HashSet::new(),
            paths: Once::new(limits.paths.get()),
            moved: Bounded::new(limits.paths.get()),
            processes: Bounded::new(limits.processes.get()),
            sessions: Sessions::new(limits.sessions),
            counters: McpCounters::default(),
            nameless: Arc::default(),
            limits,
        }
    }

    /// Pins changed: later look-ups use `endpoints`; open connections are looked up again.
    pub fn set_endpoints(&mut self, endpoints: Arc<dyn EndpointMatch>) {
        self.endpoints = endpoints;
        for conn in self.connections.values_mut() {
            let client = conn.connection.namespace();
            let client = client.as_deref();
            let name = conn.connection.server_name();
            let endpoint = name.and_then(|name| self.endpoints.by_host(name, client));
            Arc::make_mut(&mut conn.connection).endpoint = endpoint;
            for exchange in conn.exchanges.values_mut() {
                let t = &exchange.target;
                let endpoint = self
                    .endpoints
                    .by_target(&t.origin.host, t.origin.port, &t.path, client);
                if endpoint != t.endpoint {
                    exchange.target = Arc::new(Target {
                        endpoint,
                        ..(**t).clone()
                    });
                }
            }
        }
    }

    /// A local socket belongs to this process (live).
    pub fn set_process(&mut self, cookie: u64, process: Arc<Process>) {
        self.processes.insert(cookie, process);
    }

    /// The process of a local socket.
    pub fn process(&self, cookie: u64) -> Option<&Arc<Process>> {
        self.processes.peek(&cookie)
    }

    /// What is known of a flow's connection.
    pub fn connection(&self, flow: FlowId) -> &Arc<Connection> {
        self.connections
            .get(&flow)
            .map_or(&self.nameless, |c| &c.connection)
    }

    /// What is known of a session, if it is still remembered.
    pub fn session(&self, handle: SessionHandle) -> Option<&Arc<Session>> {
        self.sessions.get(handle)
    }

    /// All sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Names forgotten because the table was full.
    pub fn names_forgotten(&self) -> u64 {
        self.names.evicted()
    }

    /// Counts so far.
    pub fn counters(&self) -> &McpCounters {
        &self.counters
    }

    /// What is known of each open connection, in no order.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values().map(|conn| &*conn.connection)
    }

    /// Open connections.
    pub fn open_connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes the next event. After [`FlowEventKind::Close`] call [`Self::forget`] once the event
    /// has been dealt with.
    pub fn handle(&mut self, event: &FlowEvent) -> Step {
        let flow = &event.flow;
        match &event.kind {
            FlowEventKind::Open => self.open(flow),
            FlowEventKind::Dns {
                direction: Direction::ToClient,
                message,
                ..
            } => {
                self.names.learn(flow.info.client.ip(), message);
            }
            FlowEventKind::ClientHello(hello) => {
                let endpoints = self.endpoints.clone();
                let conn = self.conn(flow);
                if let Some(name) = &hello.server_name {
                    let client = conn.connection.namespace();
                    let connection = Arc::make_mut(&mut conn.connection);
                    connection.endpoint = endpoints.by_host(name, client.as_deref());
                    connection.sni = Some(name.clone());
                }
            }
            FlowEventKind::Request { exchange, head, mcp } => {
                return self.request(flow, *exchange, head, *mcp);
            }
            FlowEventKind::Response {
                exchange,
                request,
                head,
            } => {
                return self.response(flow, *exchange, request.as_ref(), head);
            }
            FlowEventKind::Document(document) => return self.http_step(flow, document.exchange),
            FlowEventKind::AlternativeService {
                exchange: Some(exchange),
                ..
            } => return self.http_step(flow, *exchange),
            FlowEventKind::SseEndpoint { exchange, event, .. } => {
                self.sse_endpoint(flow, *exchange, &event.data);
                return self.http_step(flow, *exchange);
            }
            FlowEventKind::ExchangeEnd { exchange } => {
                if let Some(conn) = self.connections.get_mut(&flow.info.id) {
                    // Messages of a WebSocket belong to the exchange that opened it.
                    let switched = |e: &Exchange| e.response.as_ref().is_some_and(|r| r.status == 101);
                    if !conn.exchanges.get(exchange).is_some_and(switched) {
                        conn.exchanges.remove(exchange);
                    }
                }
            }
            FlowEventKind::Message(message) => return self.message(flow, message),
            _ => {}
        }
        Step::Plain
    }

    /// Forgets a closed flow.
    pub fn forget(&mut self, flow: FlowId) {
        if let Some(conn) = self.connections.remove(&flow)
            && let Some(handle) = conn.anonymous
            && self.sessions.get(handle).is_some_and(|s| s.id.is_none())
        {
            self.sessions.end(handle);
        }
    }

    fn open(&mut self, flow: &FlowRef) {
        let info = &flow.info;
        let resolved_as = self.names.lookup(info.client.ip(), info.server.ip());
        let process = info.cookie.and_then(|c| self.processes.get_mut(&c)).cloned();
        let client = process.as_ref().and_then(|process| process.namespace());
        let endpoint = match &resolved_as {
            Some(name) => self.endpoints.by_host(name, client.as_deref()),
            None => self.endpoints.by_address(info.server.ip()),
        };
        let connection = Connection {
            resolved_as,
            endpoint,
            process,
            ..Connection::default()
        };
        self.connections.insert(
            info.id,
            Conn {
                connection: Arc::new(connection),
                ..Conn::default()
            },
        );
    }

    fn conn(&mut self, flow: &FlowRef) -> &mut Conn {
        let conn = self.connections.entry(flow.info.id).or_default();
        if conn.connection.process.is_none()
            && let Some(process) = flow.info.cookie.and_then(|c| self.processes.get_mut(&c))
        {
            Arc::make_mut(&mut conn.connection).process = Some(process.clone());
        }
        conn
    }

    /// The one text of this host.
    fn host(&mut self, host: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.hosts.get(host) {
            return Arc::clone(known);
        }
        if self.hosts.len() >= HOSTS {
            self.hosts.clear();
        }
        self.hosts.insert(Arc::clone(host));
        Arc::clone(host)
    }

    fn request(&mut self, flow: &FlowRef, id: ExchangeId, head: &Arc<RequestHead>, hint: bool) -> Step {
        let scheme = scheme_of(flow);
        let endpoints = self.endpoints.clone();
        let limit = self.limits.exchanges;
        let conn = self.conn(flow);
        let mut target = target(
            head,
            flow.info.server,
            scheme,
            &conn.connection,
            endpoints.as_ref(),
        );
        target.origin.host = self.host(&target.origin.host);
        let place = (target.host_key(), target.path.clone());
        target.moved_from = self.moved.get_mut(&place).cloned();
        let target = Arc::new(target);
        let conn = self.conn(flow);
        if let Some(authority) = head
            .authority
            .as_deref()
            .and_then(|a| std::str::from_utf8(a).ok())
        {
            let (host, _) = split_authority(authority);
            if !host.is_empty() && conn.connection.authority.as_deref() != Some(host.as_str()) {
                Arc::make_mut(&mut conn.connection).authority = Some(host.into());
            }
        }
        if target.endpoint.is_some() && conn.connection.endpoint != target.endpoint {
            Arc::make_mut(&mut conn.connection).endpoint = target.endpoint;
        }
        let mcp = hint || self.paths.peek(&place).is_some();
        let session = session_id(head).and_then(|sid| self.sessions.find(&place.0, &sid));
        let conn = self.conn(flow);
        conn.speaks(hint);
        if conn.exchanges.len() >= limit {
            conn.exchanges.pop_first();
        }
        let exchange = Exchange {
            request: Some(head.clone()),
            response: None,
            target: target.clone(),
            session,
            mcp,
        };
        conn.exchanges.insert(id, exchange);
        Step::Http {
            request: Some(head.clone()),
            response: None,
            target,
            mcp,
        }
    }

    fn response(
        &mut self,
        flow: &FlowRef,
        id: ExchangeId,
        request: Option<&Arc<RequestHead>>,
        head: &Arc<ResponseHead>,
    ) -> Step {
        let exchange = self.exchange(flow, id);
        exchange.response = Some(head.clone());
        if exchange.request.is_none() {
            exchange.request = request.cloned();
        }
        let session = exchange.session;
        let target = exchange.target.clone();
        if exchange.mcp {
            self.redirected(&target, head);
        }
        // The answer to `initialize` names the session that the request began.
        if let (Some(handle), Some(sid)) = (session, head.headers.get_str("mcp-session-id")) {
            self.sessions.name(handle, sid);
        }
        self.http_step(flow, id)
    }

    /// A server that sends its clients to another path of its host is the same server there, unless that path is
    /// known to be one of its own.
    fn redirected(&mut self, from: &Target, head: &ResponseHead) {
        if !matches!(head.status, 301 | 302 | 307 | 308) {
            return;
        }
        let base = format!("{}{}", from.origin, from.path);
        let to = head.headers.get_str("location").and_then(|location| {
            let base = url::Url::parse(&base).ok()?;
            let to = base.join(location).ok()?;
            (to.origin() == base.origin()).then(|| Box::from(to.path()))
        });
        let Some(to) = to else { return };
        let place = (from.host_key(), to);
        if place.1 != from.path && self.paths.peek(&place).is_none() {
            let first = from.moved_from.clone().unwrap_or_else(|| from.path.clone());
            self.moved.insert(place, first);
        }
    }

    fn exchange(&mut self, flow: &FlowRef, id: ExchangeId) -> &mut Exchange {
        let scheme = scheme_of(flow);
        let endpoints = self.endpoints.clone();
        let server = flow.info.server;
        let conn = self.conn(flow);
        let connection = &conn.connection;
        conn.exchanges.entry(id).or_insert_with(|| {
            // A response whose request was lost: all that is known is the address.
            let host: Arc<str> = connection
                .server_name()
                .map_or_else(|| server.ip().to_string().into(), Arc::from);
            let endpoint = connection.endpoint.or_else(|| endpoints.by_address(server.ip()));
            let origin = super::context::Origin {
                scheme,
                host,
                port: server.port(),
            };
            let target = Target {
                origin,
                path: "".into(),
                endpoint,
                address: server,
                moved_from: None,
            };
            Exchange {
                request: None,
                response: None,
                target: Arc::new(target),
                session: None,
                mcp: false,
            }
        })
    }

    fn http_step(&mut self, flow: &FlowRef, id: ExchangeId) -> Step {
        let exchange = self.exchange(flow, id);
        Step::Http {
            request: exchange.request.clone(),
            response: exchange.response.clone(),
            target: exchange.target.clone(),
            mcp: exchange.mcp,
        }
    }

    fn client_key(&mut self, flow: &FlowRef) -> ClientKey {
        let ip = flow.info.client.ip();
        let exe = self
            .conn(flow)
            .connection
            .process
            .as_ref()
            .and_then(|p| p.exe.clone());
        ClientKey { ip, exe, info: None }
    }

    /// HTTP+SSE: the stream's first event names where to POST, and in its query the session.
    fn sse_endpoint(&mut self, flow: &FlowRef, id: ExchangeId, uri: &[u8]) {
        let client = self.client_key(flow);
        let exchange = self.exchange(flow, id);
        exchange.mcp = true;
        let (target, bound) = (exchange.target.clone(), exchange.session);
        let at = flow.info.start.time;
        let session = match (bound, std::str::from_utf8(uri).ok().and_then(uri_session)) {
            (Some(handle), _) => handle,
            (None, Some(sid)) => self.sessions.with_id(&target, &sid, &client, at),
            (None, None) => self.sessions.begin(&target, client, at),
        };
        self.sessions.set_transport(session, TransportKind::HttpSse);
        self.exchange(flow, id).session = Some(session);
        self.conn(flow).speaks(true);
    }

    fn message(&mut self, flow: &FlowRef, message: &Message) -> Step {
        let id = message.exchange;
        let client = self.client_key(flow);
        let exchange = self.exchange(flow, id);
        exchange.mcp = true;
        let (target, request, response) = (
            exchange.target.clone(),
            exchange.request.clone(),
            exchange.response.clone(),
        );
        let bound = exchange.session;
        let place = (target.host_key(), target.path.clone());
        if request.is_some() {
            self.paths.first(place);
        }
        let session = bound.unwrap_or_else(|| {
            self.find_session(
                flow,
                message,
                &target,
                client,
                request.as_deref(),
                response.as_deref(),
            )
        });
        self.exchange(flow, id).session = Some(session);
        let has_id = self.sessions.get(session).is_some_and(|s| s.id.is_some());
        let conn = self.conn(flow);
        conn.speaks(true);
        if has_id {
            let first = *conn.named.get_or_insert(session);
            conn.several |= first != session;
        }
        let resumed = request
            .as_deref()
            .is_some_and(|r| r.headers.get("last-event-id").is_some());
        if self.sessions.replayed(session, message, resumed) {
            return Step::Plain;
        }
        self.count(message);

        let header = request
            .as_deref()
            .and_then(|r| r.headers.get_str("mcp-protocol-version"));
        let answers = match message.kind {
            MessageKind::Request => {
                self.sessions.ask(session, message, flow.info.id);
                None
            }
            MessageKind::Response | MessageKind::Error => {
                self.sessions.answer(session, message, flow.info.id)
            }
            MessageKind::Notification => None,
        };
        self.sessions.learn(session, message, answers.as_ref(), header);
        let legacy = request.as_deref().and_then(legacy_session_id).is_some();
        if self.sessions.get(session).is_some_and(|s| s.transport.is_none()) {
            let kind = match message.carrier {
                Carrier::Websocket => TransportKind::Websocket,
                _ if legacy => TransportKind::HttpSse,
                _ => TransportKind::StreamableHttp,
            };
            self.sessions.set_transport(session, kind);
        }
        if flow.lost_bytes > 0 {
            self.sessions.set_lossy(session);
        }
        Step::Message {
            target,
            session,
            answers,
            request,
            response,
        }
    }

    fn find_session(
        &mut self,
        flow: &FlowRef,
        message: &Message,
        target: &Target,
        client: ClientKey,
        request: Option<&RequestHead>,
        response: Option<&ResponseHead>,
    ) -> SessionHandle {
        let at = message.at.time;
        let named = request
            .and_then(session_id)
            .or_else(|| response.and_then(|r| r.headers.get_str("mcp-session-id").map(Box::from)));
        if let Some(sid) = named {
            return self.sessions.with_id(target, &sid, &client, at);
        }
        if message.is("initialize") {
            // Of a server that gives no ids, what follows on the connection is of this session.
            let handle = self.sessions.begin(target, client, at);
            self.conn(flow).anonymous = Some(handle);
            return handle;
        }
        let conn = self.conn(flow);
        // A head that was not captured may have named any session, but where there is one there is no other.
        let sole = conn.named.filter(|_| request.is_none() && !conn.several);
        let known = sole
            .or(conn.anonymous)
            .filter(|h| self.sessions.get(*h).is_some());
        if let Some(handle) = known {
            return handle;
        }
        let handle = self.sessions.begin(target, client, at);
        self.conn(flow).anonymous = Some(handle);
        handle
    }

    fn count(&mut self, message: &Message) {
        let c = &mut self.counters;
        let bump = |n: &mut u64| *n = n.saturating_add(1);
        match message.kind {
            MessageKind::Request => bump(&mut c.requests),
            MessageKind::Notification => bump(&mut c.notifications),
            MessageKind::Response => bump(&mut c.responses),
            MessageKind::Error => {
                bump(&mut c.responses);
                bump(&mut c.errors);
            }
        }
        let Some(method) = &message.method else { return };
        if let Some(n) = c.methods.get_mut(method) {
            bump(n);
        } else {
            let key = if c.methods.len() < METHODS {
                method.clone()
            } else {
                Arc::from(OTHER_METHODS)
            };
            bump(c.methods.entry(key).or_default());
        }
    }
}

/// What packets carry in the clear is http; what had to be opened is https.
fn scheme_of(flow: &FlowRef) -> Scheme {
    if flow.plaintext == Plaintext::Packet {
        Scheme::Http
    } else {
        Scheme::Https
    }
}

/// The session a request names: header of Streamable HTTP, query of HTTP+SSE.
fn session_id(head: &RequestHead) -> Option<Box<str>> {
    head.headers
        .get_str("mcp-session-id")
        .filter(|s| !s.is_empty())
        .map(Box::from)
        .or_else(|| legacy_session_id(head))
}

/// `sessionId` (TypeScript SDK) or `session_id` (Python SDK) of a POST.
fn legacy_session_id(head: &RequestHead) -> Option<Box<str>> {
    if head.method != "POST" {
        return None;
    }
    std::str::from_utf8(head.query()?).ok().and_then(query_session)
}

fn uri_session(uri: &str) -> Option<Box<str>> {
    query_session(uri.split_once('?')?.1)
}

fn query_session(query: &str) -> Option<Box<str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let named = key.eq_ignore_ascii_case("sessionid") || key.eq_ignore_ascii_case("session_id");
        (named && !value.is_empty()).then(|| value.trim().into())
    })
}
