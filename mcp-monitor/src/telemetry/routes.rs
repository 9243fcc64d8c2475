//! What is served, and to whom.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    board::{Board, now},
    exposition::{self, Format},
    health, log, metrics, page,
    query::{AlertQuery, FlowQuery, Parameters},
};
use crate::config::{program::Http, secret::Secret};

/// Bytes of a request's body.
const BODY: usize = 4096;

/// Who is let in.
#[derive(Clone)]
enum Guard {
    /// Everybody who has the token. Its digest: comparing digests takes as long whatever was sent.
    Token(Arc<[u8; 32]>),
    /// TLS has checked the client already.
    Certificate,
    /// Everybody on this machine who addresses the server by a name that only this machine has: a web page
    /// whose own name was made to resolve here is none of them.
    Loopback,
}

impl Guard {
    fn of(http: &Http) -> Self {
        match (&http.token, &http.tls) {
            (Some(token), _) => Self::Token(Arc::new(digest(token))),
            (None, Some(tls)) if tls.client_ca.is_some() => Self::Certificate,
            _ => Self::Loopback,
        }
    }
}

fn digest(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose().as_bytes()).into()
}

/// Everything.
pub(super) fn all(board: Arc<Board>, http: &Http) -> Router {
    Router::new()
        .route("/", get(show_page))
        .route("/metrics", get(show_metrics))
        .route("/alerts", get(show_alerts))
        .route("/flows", get(show_flows))
        .route("/version", get(show_version))
        .route("/log", get(show_log).put(set_log))
        .merge(probe_routes())
        .with_state(board)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(Guard::of(http), admit))
        .layer(middleware::from_fn(protect))
}

/// Probes only.
pub(super) fn probes(board: Arc<Board>) -> Router {
    probe_routes()
        .with_state(board)
        .layer(middleware::from_fn(protect))
}

fn probe_routes() -> Router<Arc<Board>> {
    Router::new()
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    match guard {
        Guard::Certificate => next.run(request).await,
        Guard::Token(expected) if token(headers).is_some_and(|sent| digest(&sent) == *expected) => {
            next.run(request).await
        }
        Guard::Token(_) => {
            let ask = [(
                header::WWW_AUTHENTICATE,
                "Basic realm=\"mcp-monitor: any name, the token as password\"",
            )];
            let text = "a token is needed: Authorization: Bearer TOKEN\n";
            (StatusCode::UNAUTHORIZED, ask, text).into_response()
        }
        Guard::Loopback if headers.get(header::HOST).is_none_or(is_local) => next.run(request).await,
        Guard::Loopback => {
            let text =
                "this server answers to localhost and loopback addresses only, unless http.token is set\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
    }
}

/// A bearer token, or the password of Basic.
fn token(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(rest));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| Secret::new(password))
}

fn is_local(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What every answer says to browsers.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    response
}

fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn wrong(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()
}

async fn show_health(State(board): State<Arc<Board>>) -> Response {
    let health = health::health(&board);
    (status(health.alive), Json(health)).into_response()
}

async fn show_readiness(State(board): State<Arc<Board>>) -> Response {
    let readiness = health::readiness(&board);
    (status(readiness.ready), Json(readiness)).into_response()
}

async fn show_metrics(State(board): State<Arc<Board>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::of(accept.unwrap_or_default());
    let text = exposition::write(&metrics::families(&board), format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

/// A list and its name.
#[derive(Serialize)]
struct List<T> {
    schema: &'static str,
    time: crate::types::Timestamp,
    /// Newest first.
    #[serde(flatten)]
    items: BTreeMap<&'static str, Vec<T>>,
}

fn list<T: Serialize>(schema: &'static str, name: &'static str, items: Vec<T>) -> Response {
    Json(List {
        schema,
        time: now(),
        items: BTreeMap::from([(name, items)]),
    })
    .into_response()
}

async fn show_alerts(State(board): State<Arc<Board>>, Query(parameters): Query<Parameters>) -> Response {
    match AlertQuery::read(&parameters, now()) {
        Ok(query) => list("mcp-monitor.alerts/1", "alerts", query.of(board.recent.alerts())),
        Err(message) => wrong(&message),
    }
}

async fn show_flows(State(board): State<Arc<Board>>, Query(parameters): Query<Parameters>) -> Response {
    let status = board.status();
    let place = |name: &str| {
        let endpoints = &status.as_ref()?.endpoints;
        endpoints.iter().position(|endpoint| &*endpoint.name == name)
    };
    match FlowQuery::read(&parameters, place) {
        Ok(query) => list("mcp-monitor.flows/1", "flows", query.of(board.recent.flows())),
        Err(message) => wrong(&message),
    }
}

async fn show_version(State(board): State<Arc<Board>>) -> Response {
    Json(serde_json::json!({
        "name": "mcp-monitor",
        "version": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "debug_assertions": cfg!(debug_assertions),
        "started": board.started,
        "kernel_features": board.status().map(|status| status.features),
    }))
    .into_response()
}

async fn show_log() -> String {
    log::filter() + "\n"
}

async fn set_log(body: Bytes) -> Response {
    let text = String::from_utf8_lossy(&body);
    match log::set_filter(text.trim()) {
        Ok(()) => {
            let filter = log::filter();
            tracing::info!(filter, "log levels changed over HTTP");
            show_log().await.into_response()
        }
        Err(error) => wrong(&format!(
            "{error}; expected a filter such as info or warn,mcp_monitor=debug"
        )),
    }
}

async fn show_page(State(board): State<Arc<Board>>, Query(parameters): Query<Parameters>) -> Response {
    let html = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, page::policy()),
    ];
    match page::render(&board, &parameters) {
        Ok(text) => (html, text).into_response(),
        Err(message) => wrong(&message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_hosts() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token(&headers).map(|t| t.expose().to_owned())
        };
        assert_eq!(with("Bearer abc"), Some("abc".into()));
        assert_eq!(
            with(&format!("basic {}", STANDARD.encode("me:a:b"))),
            Some("a:b".into())
        );
        assert_eq!(with("Digest abc"), None);
        for (host, local) in [
            ("localhost:9464", true),
            ("127.0.0.1:9464", true),
            ("[::1]:9464", true),
            ("evil.example:9464", false),
            ("localhost.evil.example", false),
            ("203.0.113.5", false),
        ] {
            assert_eq!(is_local(&HeaderValue::from_static(host)), local, "{host}");
        }
    }
}
