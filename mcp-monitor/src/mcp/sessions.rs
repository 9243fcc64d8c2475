//! Sessions and their transactions, over connections and processes.

use std::{
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    num::NonZeroUsize,
    sync::Arc,
};

use hashbrown::HashMap;
use lru::LruCache;

use super::{
    Message, MessageKind, RequestId, Revision, TransportKind,
    context::{Answered, ClientKey, Implementation, ServerKey, Session, Target},
    json,
};
use crate::{
    flow::FlowId,
    proto::http::ExchangeId,
    types::{At, Bounded, Direction, Once, PacketId, Timestamp},
};

/// Handle of a session in [`Sessions`]; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionHandle(u64);

/// Caps of the tables.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Sessions remembered; the least recently used is forgotten first.
    pub sessions: NonZeroUsize,
    /// Ids of unanswered requests of one session; the oldest is forgotten first.
    pub pending: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions: NonZeroUsize::MIN.saturating_add(65_535),
            pending: 4096,
        }
    }
}

/// A request that has no answer yet. There is no time limit: a slow tool may take hours.
#[derive(Clone, Debug)]
struct Pending {
    method: Arc<str>,
    name: Option<Arc<str>>,
    at: At,
    first: PacketId,
    carrier: (FlowId, ExchangeId),
    serial: u64,
}

#[derive(Debug)]
struct State {
    /// Shared with messages that are still to be judged.
    session: Arc<Session>,
    /// Whose ids are unique.
    host: ServerKey,
    /// By direction of the request and its id, oldest first out. Requests with one id are kept apart
    /// by what carried them.
    pending: LruCache<(Direction, RequestId), Vec<Pending>>,
    serial: u64,
    /// What clients answered lately, by id and body: a redirect makes them send it again.
    repeats: LruCache<(RequestId, u64), Answered>,
}

/// Answers remembered for [`State::repeats`], per session.
const REPEATS: usize = 64;
/// Answers remembered for [`Sessions::orphans`].
const ORPHANS: usize = 4096;

/// Events of resumable streams remembered for [`Sessions::replayed`].
const DELIVERED: usize = 65_536;

/// Open requests with one and the same id; more of them push the oldest out.
const SAME_ID: usize = 16;

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    limits: SessionLimits,
    states: Bounded<SessionHandle, State>,
    by_id: HashMap<(ServerKey, Arc<str>), SessionHandle>,
    next: u64,
    started: u64,
    forgotten_sessions: u64,
    forgotten_requests: u64,
    unmatched: u64,
    /// Answers that came before their request (a late retransmission), or whose request was lost for good.
    orphans: Once<(FlowId, ExchangeId, RequestId)>,
    /// Messages of SSE streams with event ids, by session and hash of event id and body.
    delivered: Once<(SessionHandle, u64)>,
    /// Has a key that no server knows: else it could make a message that is taken for another one and not shown.
    unguessable: RandomState,
}

impl Sessions {
    /// Empty.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            states: Bounded::new(limits.sessions.get()),
            by_id: HashMap::new(),
            next: 0,
            started: 0,
            forgotten_sessions: 0,
            forgotten_requests: 0,
            unmatched: 0,
            orphans: Once::new(ORPHANS),
            delivered: Once::new(DELIVERED),
            unguessable: RandomState::new(),
        }
    }

    /// Sessions begun so far: those with an id of their own, and connections that spoke MCP without one.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Sessions forgotten because the table was full.
    pub fn forgotten_sessions(&self) -> u64 {
        self.forgotten_sessions
    }

    /// Unanswered requests forgotten because a session had too many.
    pub fn forgotten_requests(&self) -> u64 {
        self.forgotten_requests
    }

    /// Responses whose request was not seen, before or after them.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// The session, if it is still remembered.
    pub fn get(&self, handle: SessionHandle) -> Option<&Arc<Session>> {
        self.states.peek(&handle).map(|s| &s.session)
    }

    /// Bytes were lost on one of its flows.
    pub fn set_lossy(&mut self, handle: SessionHandle) {
        if let Some(state) = self.states.get_mut(&handle)
            && !state.session.lossy
        {
            Arc::make_mut(&mut state.session).lossy = true;
        }
    }

    /// A session without id (yet).
    pub fn begin(&mut self, target: &Target, client: ClientKey, start: Timestamp) -> SessionHandle {
        let handle = SessionHandle(self.next);
        self.next = self.next.saturating_add(1);
        self.started = self.started.saturating_add(1);
        let session = Session {
            id: None,
            server: target.server_key(),
            client,
            transport: None,
            requested: None,
            negotiated: None,
            server_info: None,
            client_capabilities: None,
            lossy: false,
            start,
        };
        let state = State {
            session: Arc::new(session),
            host: target.host_key(),
            pending: LruCache::unbounded(),
            serial: 0,
            repeats: LruCache::unbounded(),
        };
        if let Some((_, old)) = self.states.insert_evicting(handle, state) {
            self.forgotten_sessions = self.forgotten_sessions.saturating_add(1);
            if let Some(id) = &old.session.id {
                self.by_id.remove(&(old.host, Arc::clone(id)));
            }
        }
        handle
    }

    /// The session with this id at this host, begun if it is new.
    pub fn with_id(&mut self, target: &Target, id: &str, client: &ClientKey, at: Timestamp) -> SessionHandle {
        if let Some(handle) = self.find(&target.host_key(), id) {
            self.states.get_mut(&handle);
            return handle;
        }
        let handle = self.begin(target, client.clone(), at);
        self.name(handle, id);
        handle
    }

    /// The session with this id at this host, if known.
    pub fn find(&self, host: &ServerKey, id: &str) -> Option<SessionHandle> {
        self.by_id.get(&(host.clone(), Arc::from(id))).copied()
    }

    /// Gives a session that had none its id. One that has an id keeps it.
    pub fn name(&mut self, handle: SessionHandle, id: &str) {
        let Some(state) = self.states.get_mut(&handle) else {
            return;
        };
        if state.session.id.is_none() {
            let id: Arc<str> = Arc::from(id);
            Arc::make_mut(&mut state.session).id = Some(id.clone());
            self.by_id.insert((state.host.clone(), id), handle);
        }
    }

    /// Forgets a session that can have no further messages. It has been counted.
    pub fn end(&mut self, handle: SessionHandle) {
        if let Some(state) = self.states.remove(&handle)
            && let Some(id) = &state.session.id
        {
            self.by_id.remove(&(state.host, Arc::clone(id)));
        }
    }

    /// Notes a request so that its answer finds it.
    pub fn ask(&mut self, handle: SessionHandle, message: &Message, flow: FlowId) {
        let (Some(id), Some(method)) = (&message.id, &message.method) else {
            return;
        };
        let limit = self.limits.pending;
        let Some(state) = self.states.get_mut(&handle) else {
            return;
        };
        if !self.orphans.is_empty()
            && self
                .orphans
                .remove(&(flow, message.exchange, id.clone()))
                .is_some()
        {
            self.unmatched = self.unmatched.saturating_sub(1);
            return;
        }
        let key = (message.direction, id.clone());
        if state.pending.len() >= limit && !state.pending.contains(&key) {
            let forgotten = state.pending.pop_lru().map_or(0, |(_, list)| list.len());
            self.forgotten_requests = self.forgotten_requests.saturating_add(forgotten as u64);
        }
        state.serial = state.serial.saturating_add(1);
        let pending = Pending {
            method: method.clone(),
            name: message.name.clone(),
            at: message.at,
            first: message.first,
            carrier: (flow, message.exchange),
            serial: state.serial,
        };
        let same_id = state.pending.get_or_insert_mut(key, Vec::new);
        if same_id.len() >= SAME_ID {
            same_id.remove(0);
            self.forgotten_requests = self.forgotten_requests.saturating_add(1);
        }
        same_id.push(pending);
    }

    /// The request that `message` answers. One carried by the same exchange is preferred, then the
    /// latest with that id: a request replayed after a redirect leaves the first one behind.
    pub fn answer(&mut self, handle: SessionHandle, message: &Message, flow: FlowId) -> Option<Answered> {
        let state = self.states.get_mut(&handle)?;
        // Only what a client answers can be sent again by a redirect.
        let repeat = (message.direction == Direction::ToServer)
            .then(|| Some((message.id.clone()?, hash(&message.body))))
            .flatten();
        let found = state.take(message, flow);
        match (&found, repeat) {
            (Some(answered), Some(key)) => remember(&mut state.repeats, REPEATS, key, answered.clone()),
            (None, Some(key)) if state.repeats.contains(&key) => return state.repeats.get(&key).cloned(),
            (None, _) => {
                self.unmatched = self.unmatched.saturating_add(1);
                if let Some(id) = message.id.clone() {
                    self.orphans.first((flow, message.exchange, id));
                }
            }
            (Some(_), None) => {}
        }
        found
    }

    /// Notes a message of a stream whose events have ids. True if it came before and this stream was `resumed`
    /// (`Last-Event-ID`): the server sends again what it thinks the client has missed.
    pub fn replayed(&mut self, handle: SessionHandle, message: &Message, resumed: bool) -> bool {
        let Some(event) = &message.event_id else {
            return false;
        };
        let key = (handle, self.unguessable.hash_one((event, &message.body)));
        !self.delivered.first(key) && resumed
    }

    /// Takes from `initialize`, `server/discover` and the version header what they say of the session.
    pub fn learn(
        &mut self,
        handle: SessionHandle,
        message: &Message,
        answered: Option<&Answered>,
        header: Option<&str>,
    ) {
        let Some(state) = self.states.get_mut(&handle) else {
            return;
        };
        let known = &state.session;
        let by_method = message.method.as_deref().or(answered.map(|a| a.method.as_ref()));
        let says = match (by_method, message.kind) {
            (Some("initialize"), MessageKind::Request | MessageKind::Response)
            | (Some("server/discover"), MessageKind::Response) => true,
            (Some(_), MessageKind::Request) => known.requested.is_none() || known.client.info.is_none(),
            _ => false,
        };
        // Most messages change nothing, and what does not change need not be copied.
        if !says && (known.negotiated.is_some() || message.direction == Direction::ToClient) {
            return;
        }
        let session = Arc::make_mut(&mut state.session);
        let params = message.params().unwrap_or_default();
        let result = message.result().unwrap_or_default();
        let text = |json: &[u8], path: &[&str]| json::path_str(json, path).map(|s| s.into_owned());
        match (by_method, message.kind) {
            (Some("initialize"), MessageKind::Request) => {
                session.requested = text(params, &["protocolVersion"]).and_then(|v| Revision::parse(&v));
                session.client.info =
                    implementation(params, "clientInfo").map(|i| (i.name.into(), i.version.into()));
                session.client_capabilities = canonical(params, &["capabilities"]);
            }
            (Some("initialize"), MessageKind::Response) => {
                session.negotiated = text(result, &["protocolVersion"]).and_then(|v| Revision::parse(&v));
                session.server_info = implementation(result, "serverInfo").map(Arc::new);
            }
            (Some("server/discover"), MessageKind::Response) => {
                let info = implementation(result, "serverInfo").or_else(|| {
                    json::path(result, &["_meta"])
                        .and_then(|m| implementation(m, "io.modelcontextprotocol/serverInfo"))
                });
                session.server_info = info.map(Arc::new).or(session.server_info.take());
            }
            (Some(_), MessageKind::Request)
                if session.requested.is_none() || session.client.info.is_none() =>
            {
                if let Some(meta) = json::path(params, &["_meta"]) {
                    let version = text(meta, &["io.modelcontextprotocol/protocolVersion"]);
                    if let Some(version) = version.and_then(|v| Revision::parse(&v)) {
                        session.requested.get_or_insert(version.clone());
                        session.negotiated = Some(version);
                    }
                    if session.client.info.is_none() {
                        session.client.info = implementation(meta, "io.modelcontextprotocol/clientInfo")
                            .map(|i| (i.name.into(), i.version.into()));
                    }
                    if session.client_capabilities.is_none() {
                        session.client_capabilities =
                            canonical(meta, &["io.modelcontextprotocol/clientCapabilities"]);
                    }
                }
            }
            _ => {}
        }
        // A capture that began after the handshake: the header every later request carries says it.
        if session.negotiated.is_none()
            && message.direction == Direction::ToServer
            && by_method != Some("initialize")
        {
            session.negotiated = header.and_then(Revision::parse);
        }
    }

    /// The transport, once something shows it.
    pub fn set_transport(&mut self, handle: SessionHandle, transport: TransportKind) {
        if let Some(state) = self.states.get_mut(&handle)
            && state.session.transport != Some(transport)
        {
            Arc::make_mut(&mut state.session).transport = Some(transport);
        }
    }
}

impl State {
    fn take(&mut self, message: &Message, flow: FlowId) -> Option<Answered> {
        let key = (message.direction.reversed(), message.id.clone()?);
        let candidates = self.pending.get_mut(&key)?;
        let carrier = (flow, message.exchange);
        let at = candidates
            .iter()
            .position(|p| p.carrier == carrier)
            .or(candidates.len().checked_sub(1))?;
        let found = candidates.remove(at);
        // What was asked before with the same id is answered too, or never will be.
        candidates.retain(|p| p.serial > found.serial);
        if candidates.is_empty() {
            self.pending.pop(&key);
        }
        Some(Answered {
            latency: message.at.time.since(found.at.time),
            method: found.method,
            name: found.name,
            at: found.at,
            first: found.first,
        })
    }
}

fn remember<K: Hash + Eq, V>(table: &mut LruCache<K, V>, most: usize, key: K, value: V) {
    table.put(key, value);
    if table.len() > most {
        table.pop_lru();
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn implementation(object: &[u8], key: &str) -> Option<Implementation> {
    let info = json::path(object, &[key])?;
    let name = json::path_str(info, &["name"])?;
    let version = json::path_str(info, &["version"]).unwrap_or_default();
    Some(Implementation {
        name: name.as_ref().into(),
        version: version.as_ref().into(),
    })
}

fn canonical(object: &[u8], path: &[&str]) -> Option<Arc<str>> {
    let value: serde_json::Value = serde_json::from_slice(json::path(object, path)?).ok()?;
    serde_json_canonicalizer::to_string(&value).ok().map(Arc::from)
}
