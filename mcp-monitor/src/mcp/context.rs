//! What is known around an event: the connection, the server it addresses, the session it belongs to.
//!
//! Written by the half of the engine that looks across flows, read by rules.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Revision, TransportKind};
use crate::{
    proto::http::{RequestHead, ResponseHead},
    types::{At, PacketId, Process, Timestamp},
};

/// Index of an endpoint in the pins file.
pub type EndpointIndex = usize;

/// What is known of a connection beyond its own packets.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// SNI of its ClientHello.
    pub sni: Option<Box<str>>,
    /// The name this client resolved to the server's address most recently before the flow began.
    pub resolved_as: Option<Arc<str>>,
    /// Host (without port) that HTTP requests on it name, the latest.
    pub authority: Option<Arc<str>>,
    /// Pinned endpoint by authority, SNI or resolved name (in that order); by address where no name is known.
    pub endpoint: Option<EndpointIndex>,
    /// MCP was seen on it.
    pub mcp: bool,
    /// The local process.
    pub process: Option<Arc<Process>>,
}

impl Connection {
    /// The Kubernetes namespace of the client, if the cluster has told it.
    pub fn namespace(&self) -> Option<Arc<str>> {
        self.process.as_ref()?.namespace()
    }

    /// The best name known for the server: authority, SNI, then what DNS said.
    pub fn server_name(&self) -> Option<&str> {
        self.authority
            .as_deref()
            .or(self.sni.as_deref())
            .or(self.resolved_as.as_deref())
    }
}

/// Scheme of an MCP endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A web origin (RFC 6454): scheme, host, port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin {
    /// Scheme.
    pub scheme: Scheme,
    /// Lower-case host name, or an address literal without brackets.
    pub host: Arc<str>,
    /// Port, the scheme's default filled in.
    pub port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "{}://{open}{}{close}", self.scheme.as_str(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// Whom an HTTP request addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Origin the client believes it talks to: scheme of the connection, host and port of the request.
    pub origin: Origin,
    /// Path without query.
    pub path: Box<str>,
    /// The pinned endpoint it belongs to.
    pub endpoint: Option<EndpointIndex>,
    /// Address it really went to.
    pub address: SocketAddr,
    /// Path on the same host that the server redirects here: it is one server at two places.
    pub moved_from: Option<Box<str>>,
}

/// Identity of a server across connections. See [`Target::host_key`] and [`Target::server_key`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ServerKey(pub Arc<str>);

impl Target {
    /// Whoever answers there: the host where it is a name or an address off this machine, address and port on
    /// loopback (there, every port is a server of its own).
    pub fn host_key(&self) -> ServerKey {
        let loopback = self.address.ip().is_loopback();
        if loopback {
            ServerKey(self.address.to_string().into())
        } else {
            ServerKey(self.origin.host.clone())
        }
    }

    /// The MCP server, of which a gateway has many on one host: the host, and what its path says beyond the
    /// habits of transports. `/mcp`, `/sse` and `/` are one server, `/jira/mcp` and `/wiki/mcp` are two.
    pub fn server_key(&self) -> ServerKey {
        let ServerKey(host) = self.host_key();
        let path = self.moved_from.as_deref().unwrap_or(&self.path);
        match place(path) {
            "" => ServerKey(host),
            place => ServerKey(format!("{host}{place}").into()),
        }
    }
}

/// Last parts of a path that tell a transport rather than a server.
const TRANSPORT_PARTS: &[&str] = &["mcp", "sse", "message", "messages"];

/// Bytes of a path that can tell servers apart; what follows is not looked at.
const MAX_PLACE: usize = 256;

/// See [`Target::server_key`].
fn place(path: &str) -> &str {
    let path = path
        .get(..path.floor_char_boundary(MAX_PLACE))
        .unwrap_or_default();
    let path = path.trim_end_matches('/');
    let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
    if TRANSPORT_PARTS.contains(&last) {
        before.trim_end_matches('/')
    } else {
        path
    }
}

/// Who a client is: the process where known, else its address together with its `clientInfo`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ClientKey {
    /// Address of the client's side.
    pub ip: IpAddr,
    /// Executable (live) if known.
    pub exe: Option<Box<str>>,
    /// `clientInfo` name and version, if it was said.
    pub info: Option<(Arc<str>, Arc<str>)>,
}

/// `serverInfo` as said in `initialize` or `server/discover`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Implementation {
    /// `name`.
    pub name: Box<str>,
    /// `version`.
    pub version: Box<str>,
}

/// One MCP session as far as it was seen. For 2026-07-28, which has none, one per connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// `Mcp-Session-Id`, or `sessionId` of HTTP+SSE. Shown in alerts only as a fingerprint.
    pub id: Option<Arc<str>>,
    /// Its server.
    pub server: ServerKey,
    /// Its client.
    pub client: ClientKey,
    /// Transport, once known.
    pub transport: Option<TransportKind>,
    /// Revision the client asked for (`initialize` params, or the version header).
    pub requested: Option<Revision>,
    /// Revision in force (`initialize` result, or the version each request carries).
    pub negotiated: Option<Revision>,
    /// `serverInfo`.
    pub server_info: Option<Arc<Implementation>>,
    /// JSON text of the client's capabilities, canonical form.
    pub client_capabilities: Option<Arc<str>>,
    /// Bytes were lost on one of its flows: absence of a message proves nothing.
    pub lossy: bool,
    /// First seen.
    pub start: Timestamp,
}

/// The request that a response answers.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Method.
    pub method: Arc<str>,
    /// See [`super::Message::name`].
    pub name: Option<Arc<str>>,
    /// When it was sent.
    pub at: At,
    /// First packet of it.
    pub first: PacketId,
    /// From request to response.
    pub latency: Duration,
}

/// Everything around one MCP message.
#[derive(Clone, Copy, Debug)]
pub struct MessageContext<'a> {
    /// The server addressed.
    pub target: &'a Target,
    /// Its session.
    pub session: &'a Session,
    /// For a response or error: the request, if it was seen.
    pub answers: Option<&'a Answered>,
    /// HTTP request that carried it (or whose response carried it).
    pub request: Option<&'a RequestHead>,
    /// HTTP response head, for messages to the client.
    pub response: Option<&'a ResponseHead>,
}
