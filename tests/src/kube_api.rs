//! The part of the Kubernetes API that the monitor asks, and nothing more: pods of one node, list and watch; Events,
//! create and patch.
//!
//! No API server can be had here. This one is strict instead: a request that a real one would refuse, or that
//! asks for more than the chart's ClusterRole allows, is refused and remembered as a complaint.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

/// What a watch is told, in the order of their versions.
#[derive(Debug, Default)]
struct State {
    version: u64,
    /// Changes before this version are forgotten.
    oldest: u64,
    pods: BTreeMap<String, Value>,
    changes: Vec<(u64, Value)>,
    /// Connections are refused with 503.
    away: bool,
    /// Watches that are open end when this moves.
    epoch: u64,
    lists: u64,
    watches: u64,
    complaints: Vec<String>,
    /// By namespace and name.
    events: BTreeMap<String, Value>,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// An API server with the pods of one node.
#[derive(Debug)]
pub struct KubeApi {
    address: SocketAddr,
    node: String,
    token: String,
    shared: Shared,
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KubeApi {
    /// Serves on loopback, for a client that carries `token`.
    pub fn start(node: &str, token: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        lock(&shared).version = 100;
        let api = Self {
            address,
            node: node.to_owned(),
            token: token.to_owned(),
            shared,
        };
        let (shared, node, token) = (api.shared.clone(), api.node.clone(), api.token.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, node, token) = (shared.clone(), node.clone(), token.clone());
                std::thread::spawn(move || serve(&stream, &shared, &node, &token));
            }
        });
        Ok(api)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "t", "context": {"cluster": "c", "user": "u"}}],
        })
        .to_string()
    }

    /// Adds a pod or changes it. `metadata` needs `uid`.
    pub fn put(&self, mut pod: Value) {
        let mut state = lock(&self.shared);
        state.version += 1;
        let version = state.version;
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let kind = if state.pods.contains_key(&uid) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state
            .changes
            .push((version, json!({"type": kind, "object": pod})));
        state.pods.insert(uid, pod);
        self.shared.1.notify_all();
    }

    /// Deletes a pod.
    pub fn delete(&self, uid: &str) {
        let mut state = lock(&self.shared);
        state.version += 1;
        let version = state.version;
        if let Some(mut pod) = state.pods.remove(uid) {
            pod["metadata"]["resourceVersion"] = json!(version.to_string());
            state
                .changes
                .push((version, json!({"type": "DELETED", "object": pod})));
        }
        self.shared.1.notify_all();
    }

    /// Goes away (503 to all, open watches end) or comes back.
    pub fn set_away(&self, away: bool) {
        let mut state = lock(&self.shared);
        state.away = away;
        state.epoch += 1;
        self.shared.1.notify_all();
    }

    /// Ends open watches in the middle.
    pub fn disconnect(&self) {
        lock(&self.shared).epoch += 1;
        self.shared.1.notify_all();
    }

    /// Forgets what changed so far, as etcd's compaction does: a watch from an older version gets 410 Gone.
    pub fn compact(&self) {
        let mut state = lock(&self.shared);
        state.version += 1;
        state.oldest = state.version;
        state.changes.clear();
        state.epoch += 1;
        self.shared.1.notify_all();
    }

    /// Lists and watches answered so far.
    pub fn answered(&self) -> (u64, u64) {
        let state = lock(&self.shared);
        (state.lists, state.watches)
    }

    /// Waits until that many lists and watches were answered.
    pub fn wait_answered(&self, lists: u64, watches: u64, limit: Duration) -> bool {
        let state = lock(&self.shared);
        let (state, _) = self
            .shared
            .1
            .wait_timeout_while(state, limit, |s| s.lists < lists || s.watches < watches)
            .unwrap_or_else(PoisonError::into_inner);
        state.lists >= lists && state.watches >= watches
    }

    /// Events that were written, by `NAMESPACE/NAME`.
    pub fn events(&self) -> BTreeMap<String, Value> {
        lock(&self.shared).events.clone()
    }

    /// Forgets them, as the API does after an hour.
    pub fn expire_events(&self) {
        lock(&self.shared).events.clear();
    }

    /// What a real server would have refused.
    pub fn complaints(&self) -> Vec<String> {
        lock(&self.shared).complaints.clone()
    }
}

/// One connection, with its requests one after the other.
fn serve(stream: &TcpStream, shared: &Shared, node: &str, token: &str) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut authorization = String::new();
        let (mut length, mut kind) = (0_usize, String::new());
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header.trim().is_empty() {
                break;
            }
            match header
                .split_once(':')
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            {
                Some((name, value)) if name == "authorization" => value.clone_into(&mut authorization),
                Some((name, value)) if name == "content-type" => value.clone_into(&mut kind),
                Some((name, value)) if name == "content-length" => length = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let answered = if lock(shared).away {
            refuse(stream, 503, "ServiceUnavailable", "away")
        } else if authorization != format!("Bearer {token}") {
            complain(shared, "no or a wrong token");
            refuse(stream, 401, "Unauthorized", "Unauthorized")
        } else if request.contains("/apis/events.k8s.io/") {
            let written = write_event(shared, request.trim(), &kind, &body);
            match written {
                Ok((code, event)) => send(&mut &*stream, code, &event),
                Err((code, reason, message)) => {
                    if code != 404 && code != 409 {
                        complain(shared, format!("{} {message}", request.trim()));
                    }
                    refuse(stream, code, reason, &message)
                }
            }
        } else {
            answer(stream, shared, node, request.trim())
        };
        if answered.is_err() {
            return;
        }
    }
}

fn complain(shared: &Shared, what: impl Into<String>) {
    lock(shared).complaints.push(what.into());
}

fn answer(stream: &TcpStream, shared: &Shared, node: &str, request: &str) -> std::io::Result<()> {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method != "GET" || path != "/api/v1/pods" {
        complain(shared, format!("{method} {path} is not allowed"));
        return refuse(
            stream,
            403,
            "Forbidden",
            "pods can be listed and watched, nothing else",
        );
    }
    let query: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, value.replace("%3D", "=").replace("%2C", ",")))
        .collect();
    let get = |name: &str| query.get(name).map(String::as_str);
    if get("fieldSelector") != Some(&*format!("spec.nodeName={node}")) {
        complain(shared, format!("asks for more than its node: {query:?}"));
        return refuse(stream, 403, "Forbidden", "of one node only");
    }
    if get("watch") != Some("true") && get("watch") != Some("1") {
        return list(stream, shared);
    }
    if get("allowWatchBookmarks") != Some("true") || get("timeoutSeconds").is_none() {
        complain(shared, format!("a watch without bookmarks or timeout: {query:?}"));
    }
    match get("resourceVersion").and_then(|version| version.parse().ok()) {
        Some(version) => watch(stream, shared, version),
        None => {
            complain(shared, format!("a watch without version: {query:?}"));
            refuse(stream, 400, "BadRequest", "no version")
        }
    }
}

/// Creates or patches an Event, with the checks of the API's validation.
fn write_event(
    shared: &Shared,
    request: &str,
    kind: &str,
    body: &[u8],
) -> Result<(u16, Value), (u16, &'static str, String)> {
    let invalid = |message: String| (422, "Invalid", message);
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path
        .trim_start_matches("/apis/events.k8s.io/v1/namespaces/")
        .split('/')
        .collect();
    let body: Value = serde_json::from_slice(body).map_err(|error| (400, "BadRequest", error.to_string()))?;
    let mut state = lock(shared);
    match (method, parts.as_slice()) {
        ("POST", [namespace, "events"]) => {
            if kind != "application/json" {
                return Err((415, "UnsupportedMediaType", kind.to_owned()));
            }
            check_event(namespace, &body).map_err(invalid)?;
            let name = format!(
                "{namespace}/{}",
                body["metadata"]["name"].as_str().unwrap_or_default()
            );
            if state.events.contains_key(&name) {
                return Err((409, "AlreadyExists", format!("{name} already exists")));
            }
            state.events.insert(name, body.clone());
            Ok((201, body))
        }
        ("PATCH", [namespace, "events", name]) => {
            if kind != "application/merge-patch+json" {
                return Err((415, "UnsupportedMediaType", kind.to_owned()));
            }
            let Some(event) = state.events.get_mut(&format!("{namespace}/{name}")) else {
                return Err((404, "NotFound", format!("{name} not found")));
            };
            let fields = body.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
            if fields.as_deref() != Some(&["series".to_owned()]) {
                return Err(invalid(format!("field is immutable: {body}")));
            }
            event["series"] = body["series"].clone();
            check_event(namespace, event).map_err(invalid)?;
            Ok((200, event.clone()))
        }
        _ => Err((
            403,
            "Forbidden",
            "events can be created and patched, nothing else".to_owned(),
        )),
    }
}

fn check_event(namespace: &str, event: &Value) -> std::result::Result<(), String> {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let bounded = |path: &str, most: usize| {
        let found = text(path);
        match found.is_empty() || found.len() > most {
            true => Err(format!("{path}: {found:?}")),
            false => Ok(()),
        }
    };
    let time = |path: &str| {
        // RFC 3339 with six digits.
        let found = text(path);
        match found.len() == 27 && found.ends_with('Z') && found.as_bytes()[19] == b'.' {
            true => Ok(()),
            false => Err(format!("{path}: {found:?}")),
        }
    };
    bounded("/metadata/name", 253)?;
    bounded("/reportingController", 63 + 1 + 253)?;
    bounded("/reportingInstance", 128)?;
    bounded("/action", 128)?;
    bounded("/reason", 128)?;
    bounded("/note", 1024)?;
    bounded("/regarding/name", 253)?;
    time("/eventTime")?;
    if !["Normal", "Warning"].contains(&text("/type")) {
        return Err(format!("type: {:?}", text("/type")));
    }
    if !text("/reportingController").contains('/') {
        return Err("reportingController: no qualified name".to_owned());
    }
    let place = match text("/regarding/namespace") {
        "" => "default",
        place => place,
    };
    if text("/metadata/namespace") != namespace || place != namespace {
        return Err(format!("namespace: {namespace:?} of {place:?}"));
    }
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        if series["count"].as_i64() < Some(2) {
            return Err(format!("series.count: {series}"));
        }
        time("/series/lastObservedTime")?;
    }
    Ok(())
}

fn refuse(mut stream: &TcpStream, code: u16, reason: &str, message: &str) -> std::io::Result<()> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    send(&mut stream, code, &status)
}

fn send(stream: &mut &TcpStream, code: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code} -\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn list(mut stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let body = {
        let mut state = lock(shared);
        state.lists += 1;
        shared.1.notify_all();
        json!({
            "kind": "PodList", "apiVersion": "v1",
            "metadata": {"resourceVersion": state.version.to_string()},
            "items": state.pods.values().collect::<Vec<_>>(),
        })
    };
    send(&mut stream, 200, &body)
}

/// Changes after `version`, then a bookmark whenever nothing changed for a while.
fn watch(mut stream: &TcpStream, shared: &Shared, mut version: u64) -> std::io::Result<()> {
    if version < lock(shared).oldest {
        return refuse(stream, 410, "Expired", "too old resource version");
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    let epoch = {
        let mut state = lock(shared);
        state.watches += 1;
        shared.1.notify_all();
        state.epoch
    };
    loop {
        let lines = {
            let state = lock(shared);
            let quiet = |s: &mut State| s.epoch == epoch && s.version <= version;
            let (state, waited) = shared
                .1
                .wait_timeout_while(state, Duration::from_millis(500), quiet)
                .unwrap_or_else(PoisonError::into_inner);
            if state.epoch != epoch {
                // In the middle of the chunked body, as a connection that breaks.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            let mut lines: Vec<String> = state
                .changes
                .iter()
                .filter(|(of, _)| *of > version)
                .map(|(_, change)| change.to_string())
                .collect();
            version = state.version;
            if waited.timed_out() {
                let meta = json!({"resourceVersion": version.to_string()});
                let mark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta});
                lines.push(json!({"type": "BOOKMARK", "object": mark}).to_string());
            }
            lines
        };
        for line in lines {
            write!(stream, "{:x}\r\n{line}\n\r\n", line.len() + 1)?;
        }
    }
}
