//! OAuth as MCP uses it: metadata, authorization and token requests, and which of them are MCP's.

use url::{Url, form_urlencoded};

use super::{
    domain,
    origin::{origin_of, resolve},
};
use crate::{
    baseline::Bounded,
    detect::{Seen, SeenKind, World},
    mcp::{
        Document,
        context::{EndpointIndex, Origin, Target},
    },
    proto::http::RequestHead,
    types::Direction,
};

/// Parameters of one request that are looked at.
const MAX_PARAMETERS: usize = 64;

/// The answer is metadata of an authorization server (RFC 8414, OpenID Connect Discovery).
pub(super) fn is_server_metadata(path: &str) -> bool {
    path.contains("/.well-known/oauth-authorization-server")
        || path.contains("/.well-known/openid-configuration")
}

/// The answer is metadata of a protected resource (RFC 9728).
pub(super) fn is_resource_metadata(path: &str) -> bool {
    path.contains("/.well-known/oauth-protected-resource")
}

/// A JSON object that a server sent.
pub(super) fn answer(document: &Document) -> Option<serde_json::Value> {
    if document.direction != Direction::ToClient {
        return None;
    }
    serde_json::from_slice(&document.body)
        .ok()
        .filter(serde_json::Value::is_object)
}

/// Host, and the port where it is not the scheme's own: what stays when TLS ends at a proxy.
pub(super) fn authority(origin: &Origin) -> String {
    let host = if domain::is_loopback(&origin.host) {
        "localhost"
    } else {
        &*origin.host
    };
    if origin.port == origin.scheme.default_port() {
        host.to_owned()
    } else {
        format!("{host}:{}", origin.port)
    }
}

/// As [`authority`], of a URL.
pub(super) fn authority_of(url: &str) -> Option<String> {
    Some(authority(&origin_of(&Url::parse(url).ok()?)?))
}

/// Parameters of an authorization or token request. Values are secrets.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Of the query.
    pub(super) fn of_query(head: &RequestHead) -> Self {
        Self::form(head.query().unwrap_or_default())
    }

    /// Of a request's body: a form, or an object of strings.
    pub(super) fn of_body(document: &Document) -> Option<Self> {
        if document.direction != Direction::ToServer {
            return None;
        }
        if &*document.media_type == "application/x-www-form-urlencoded" {
            return Some(Self::form(&document.body));
        }
        let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&document.body).ok()?;
        let text = |v: serde_json::Value| v.as_str().map(str::to_owned);
        Some(Self(
            body.into_iter()
                .filter_map(|(k, v)| Some((k, text(v)?)))
                .take(MAX_PARAMETERS)
                .collect(),
        ))
    }

    fn form(text: &[u8]) -> Self {
        Self(
            form_urlencoded::parse(text)
                .take(MAX_PARAMETERS)
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        )
    }

    /// The first of this name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }
}

/// A request for authorization (RFC 6749 section 4.1.1, RFC 9126) or for a token (section 4.1.3).
pub(super) enum Asked {
    /// `response_type` is there.
    Authorization(Parameters),
    /// `grant_type` is there.
    Token(Parameters),
}

impl Asked {
    /// What an event asks an authorization server for, and where.
    pub(super) fn of<'a>(seen: &Seen<'a>) -> Option<(Self, &'a Target)> {
        match &seen.kind {
            SeenKind::Request { head, target, .. } => {
                memchr::memmem::find(head.query()?, b"response_type=")?;
                Some((Self::Authorization(Parameters::of_query(head)), target))
            }
            SeenKind::Document { document, target, .. } => {
                let parameters = Parameters::of_body(document)?;
                if parameters.get("grant_type").is_some() {
                    return Some((Self::Token(parameters), target));
                }
                parameters.get("response_type")?;
                Some((Self::Authorization(parameters), target))
            }
            _ => None,
        }
    }

    /// Its parameters.
    pub(super) fn parameters(&self) -> &Parameters {
        match self {
            Self::Authorization(p) | Self::Token(p) => p,
        }
    }
}

/// Authorization servers that MCP servers named in their metadata, by [`authority`], with the endpoint
/// of the one that named them last.
#[derive(Default)]
pub(super) struct AuthorizationServers {
    named: Bounded<String, Option<EndpointIndex>>,
}

impl AuthorizationServers {
    /// Looks at protected-resource metadata.
    pub(super) fn learn(&mut self, seen: &Seen<'_>) {
        let SeenKind::Document { document, target, .. } = &seen.kind else {
            return;
        };
        if !is_resource_metadata(&target.path) {
            return;
        }
        let Some(body) = answer(document) else { return };
        let list = body.get("authorization_servers").and_then(|s| s.as_array());
        for server in list.into_iter().flatten().filter_map(|s| s.as_str()).take(16) {
            if let Some(authority) = authority_of(server) {
                self.named.insert(authority, target.endpoint);
            }
        }
    }

    /// The endpoint that named this place, or pins it, as its authorization server; the inner one is `None`
    /// for a server that no pin names.
    pub(super) fn of(&self, target: &Target, world: &World<'_>) -> Option<Option<EndpointIndex>> {
        if let Some(endpoint) = self.named.peek(&authority(&target.origin)) {
            return Some(*endpoint);
        }
        pinned_for(target, world).map(Some)
    }

    /// The request goes to an authorization server of MCP, or is for an MCP server that a pin names:
    /// which endpoint's, if that is known.
    pub(super) fn concerned(
        &self,
        target: &Target,
        parameters: &Parameters,
        world: &World<'_>,
    ) -> Option<Option<EndpointIndex>> {
        if let Some(endpoint) = self.of(target, world) {
            return Some(endpoint);
        }
        let resource = resolve(target, parameters.get("resource")?.as_bytes())?;
        let origin = origin_of(&resource)?;
        world
            .pins
            .match_target(&origin.host, origin.port, resource.path())
            .map(Some)
    }
}

/// The first endpoint that pins this host as its authorization server.
pub(super) fn pinned_for(target: &Target, world: &World<'_>) -> Option<EndpointIndex> {
    let here = authority(&target.origin);
    world.pins.endpoints.iter().position(|e| {
        e.auth
            .authorization_servers
            .iter()
            .any(|s| authority_of(s).as_ref() == Some(&here))
    })
}
