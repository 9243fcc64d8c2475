//! The record `mcp-monitor.alert/1`. Order of fields and nulls are part of the contract.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Incident, Kubernetes, Storm};
use crate::{
    detect::{Seen, SeenKind, Severity},
    flow::{FlowInfo, FlowRef},
    mcp::{
        Message,
        context::{Connection, MessageContext},
    },
    proto::http::RequestHead,
    types::{Plaintext, Process, Timestamp, Transport},
};

/// One alert.
#[derive(Clone, Debug, Serialize)]
pub struct Alert {
    /// `mcp-monitor.alert/1`.
    pub schema: &'static str,
    /// Derived from the content: the same capture gives the same ids.
    pub id: String,
    /// Capture time of the first occurrence.
    pub time: Timestamp,
    /// Rule id.
    pub rule: &'static str,
    /// The rule's slug.
    pub name: &'static str,
    /// The rule's category.
    pub category: &'static str,
    /// After the pins' `rules` settings.
    pub severity: Severity,
    /// One sentence.
    pub summary: String,
    /// Name of the pinned endpoint.
    pub endpoint: Option<String>,
    /// What should have been seen.
    pub expected: Vec<String>,
    /// What was seen.
    pub observed: Option<String>,
    /// The connection.
    pub flow: Option<Flow>,
    /// The local process, live only.
    pub process: Option<ProcessRef>,
    /// The pod of that process; live only.
    pub kubernetes: Option<Kubernetes>,
    /// The message, for findings in MCP.
    pub mcp: Option<Mcp>,
    /// Which packets show it.
    pub evidence: Evidence,
    /// Frameworks.
    pub taxonomy: Taxonomy,
    /// How often within the dedup window.
    pub count: u64,
    /// First occurrence.
    pub first_seen: Timestamp,
    /// Last occurrence.
    pub last_seen: Timestamp,
    /// Which incident it belongs to, and its place there.
    pub incident: Option<Incident>,
    /// Set where this alert stands for many different findings of its rule.
    pub storm: Option<Storm>,
}

/// A connection as records show it.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// See [`flow_id`].
    pub id: String,
    /// TCP or UDP.
    pub transport: Transport,
    /// Who opened it; `None` where that is not known, as of plaintext whose packets were not seen.
    pub client: Option<Peer>,
    /// The other side, likewise.
    pub server: Option<Peer>,
    /// Best name known for the server.
    pub server_name: Option<String>,
    /// How its plaintext is seen.
    pub plaintext: Plaintext,
    /// Payload bytes known to be missing.
    pub lost_bytes: u64,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peer {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip, self.port).fmt(f)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            port: address.port(),
        }
    }
}

/// A process on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Thread name.
    pub comm: String,
    /// Executable.
    pub exe: Option<String>,
    /// Container.
    pub container_id: Option<String>,
    /// cgroup v2 path.
    pub cgroup: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
}

/// What is known of the message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mcp {
    /// Revision in force.
    pub protocol_version: Option<String>,
    /// Transport.
    pub transport: Option<&'static str>,
    /// Fingerprint of the session id.
    pub session: Option<String>,
    /// Method; of the request where it is a response.
    pub method: Option<String>,
    /// JSON-RPC id.
    pub request_id: Option<String>,
    /// Tool of a `tools/call`.
    pub tool: Option<String>,
}

/// Which packets show it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evidence {
    /// Packet numbers as Wireshark shows them, ascending.
    pub packets: Vec<u64>,
    /// The capture file; `None` live.
    pub capture: Option<String>,
    /// What people wrote into the capture on these packets (pcapng comments), in the order of the packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<String>,
    /// Index of `capture` among the files given: two may have one name.
    #[serde(skip)]
    pub file: u16,
}

/// Where the rule stands in the frameworks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Taxonomy {
    /// AIR-SEC-026.
    pub air_sec_026: &'static [&'static str],
    /// OWASP MCP Top 10.
    pub owasp_mcp: &'static [&'static str],
    /// MITRE ATLAS.
    pub atlas: &'static [&'static str],
}

/// Id of a flow in records: derived from its ends and first packet, so it does not depend on
/// how the work was divided among threads.
pub fn flow_id(info: &FlowInfo) -> String {
    let mut hash = Sha256::new();
    let transport: &[u8] = match info.transport {
        Transport::Tcp => b"tcp",
        Transport::Udp => b"udp",
    };
    hash.update(transport);
    hash.update(info.client.to_string());
    hash.update([0]);
    hash.update(info.server.to_string());
    hash.update(info.start.time.0.to_be_bytes());
    hash.update(info.start.packet.number.to_be_bytes());
    hex_prefix(&hash.finalize(), 16)
}

/// A session id as records show it: 12 hex digits of its SHA-256.
pub fn session_fingerprint(id: &str) -> String {
    hex_prefix(&Sha256::digest(id.as_bytes()), 12)
}

/// The first `digits` hex digits.
pub(super) fn hex_prefix(bytes: &[u8], digits: usize) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(digits);
    for byte in bytes.iter().take(digits.div_ceil(2)) {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(digits);
    text
}

impl Flow {
    /// A flow as it stands, with what is known of its connection.
    pub fn new(flow: &FlowRef, connection: Option<&Connection>) -> Self {
        let known = |address: SocketAddr| flow.info.linked.then(|| address.into());
        Self {
            id: flow_id(&flow.info),
            transport: flow.info.transport,
            client: known(flow.info.client),
            server: known(flow.info.server),
            server_name: connection.and_then(Connection::server_name).map(str::to_owned),
            plaintext: flow.plaintext,
            lost_bytes: flow.lost_bytes,
        }
    }
}

/// `tcp 10.1.0.5:41022 → 10.96.0.10:53`, as text output shows it.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        match (&self.client, &self.server) {
            (Some(client), Some(server)) => write!(f, "{transport} {client} → {server}"),
            _ => write!(f, "{transport}, addresses not known"),
        }
    }
}

impl ProcessRef {
    /// The process of an event's connection.
    pub(super) fn of(seen: &Seen<'_>) -> Option<Self> {
        seen.connection?.process.as_deref().map(Self::from)
    }
}

impl From<&Process> for ProcessRef {
    fn from(process: &Process) -> Self {
        Self {
            pid: process.pid,
            comm: process.comm.to_string(),
            exe: process.exe.as_deref().map(str::to_owned),
            container_id: process.container_id.as_deref().map(str::to_owned),
            cgroup: process.cgroup.as_deref().map(str::to_owned),
            started: process.started,
        }
    }
}

impl Mcp {
    /// What an event says of MCP.
    pub(super) fn of(seen: &Seen<'_>) -> Option<Self> {
        match &seen.kind {
            SeenKind::Message { message, context } => Some(Self::of_message(message, context)),
            SeenKind::Request { head, mcp: true, .. } => Some(Self::of_request(head)),
            SeenKind::Response {
                request: Some(head),
                mcp: true,
                ..
            } => Some(Self::of_request(head)),
            _ => None,
        }
    }

    /// Of a message and what is around it.
    pub fn of_message(message: &Message, context: &MessageContext<'_>) -> Self {
        let session = context.session;
        let method = message
            .method
            .as_ref()
            .or_else(|| context.answers.map(|a| &a.method));
        let name = message
            .name
            .as_ref()
            .or_else(|| context.answers.and_then(|a| a.name.as_ref()));
        Self {
            protocol_version: session.negotiated.as_ref().map(|r| r.as_str().to_owned()),
            transport: session.transport.map(|t| t.slug()),
            session: session.id.as_deref().map(session_fingerprint),
            method: method.map(|m| m.to_string()),
            request_id: message.id.as_ref().map(ToString::to_string),
            tool: name
                .filter(|_| method.is_some_and(|m| &**m == "tools/call"))
                .map(|n| n.to_string()),
        }
    }

    fn of_request(head: &RequestHead) -> Self {
        let text = |name| head.headers.get_str(name);
        Self {
            protocol_version: text("mcp-protocol-version").map(str::to_owned),
            session: text("mcp-session-id").map(session_fingerprint),
            method: text("mcp-method").map(str::to_owned),
            ..Self::default()
        }
    }
}
