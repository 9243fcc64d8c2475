//! What goes out: alerts, messages, flows, observations.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    alert::{Alert, Flow, Kubernetes, ProcessRef, session_fingerprint},
    baseline::Standing,
    detect::{canonical, credentials},
    flow::{DirectionStats, FlowEnd},
    mcp::{
        FlowEvent, Message, MessageKind, Revision, TransportKind,
        context::{Answered, Connection, Session, Target},
    },
    types::{Direction, Timestamp},
};

/// One record of the output.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// An alert.
    Alert(Box<Alert>),
    /// An MCP message.
    Message(Box<MessageRecord>),
    /// A flow at its end.
    Flow(Box<FlowRecord>),
    /// Something learned.
    Observation(Box<Observation>),
}

impl Record {
    /// One line for people.
    pub fn text(&self) -> String {
        match self {
            Self::Alert(alert) => alert.to_string(),
            Self::Message(message) => message.text(),
            Self::Flow(flow) => flow.text(),
            Self::Observation(observation) => observation.text(),
        }
    }
}

/// `mcp-monitor.message/1`: one MCP message.
#[derive(Clone, Debug, Serialize)]
pub struct MessageRecord {
    schema: &'static str,
    time: Timestamp,
    direction: Direction,
    flow: Flow,
    endpoint: Option<usize>,
    server: String,
    /// Fingerprint of the session id.
    session: Option<String>,
    transport: Option<TransportKind>,
    protocol_version: Option<Revision>,
    kind: MessageKind,
    id: Option<String>,
    method: Option<String>,
    tool: Option<String>,
    /// From the request to this response.
    latency_seconds: Option<f64>,
    error_code: Option<i64>,
    size: usize,
    /// Lower-case hex of the SHA-256 of the RFC 8785 form; `null` if the text is not I-JSON.
    sha256: Option<String>,
    packets: [u64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
}

impl MessageRecord {
    pub(super) fn new(
        event: &FlowEvent,
        message: &Message,
        target: &Target,
        session: &Session,
        answers: Option<&Answered>,
        connection: &Connection,
        bodies: bool,
    ) -> Self {
        let method = message
            .method
            .as_ref()
            .or(answers.map(|a| &a.method))
            .map(|m| m.to_string());
        let is_tool_call = method.as_deref() == Some("tools/call");
        let name = message.name.as_ref().or(answers.and_then(|a| a.name.as_ref()));
        Self {
            schema: "mcp-monitor.message/1",
            time: message.at.time,
            direction: message.direction,
            flow: Flow::new(&event.flow, Some(connection)),
            endpoint: target.endpoint,
            server: target.origin.to_string(),
            session: session.id.as_deref().map(session_fingerprint),
            transport: session.transport,
            protocol_version: session.negotiated.clone().or(session.requested.clone()),
            kind: message.kind,
            id: message.id.as_ref().map(ToString::to_string),
            tool: name.filter(|_| is_tool_call).map(|n| n.to_string()),
            method,
            latency_seconds: answers.map(|a| a.latency.as_secs_f64()),
            error_code: message.error_code,
            size: message.body.len(),
            sha256: canonical::canonical_sha256(&message.body).map(|d| hex(&d)),
            packets: [message.first.number, message.at.packet.number],
            body: bodies
                .then(|| credentials::mask(&message.body))
                .and_then(|text| RawValue::from_string(text).ok()),
        }
    }

    fn text(&self) -> String {
        let arrow = match self.direction {
            Direction::ToServer => "→",
            Direction::ToClient => "←",
        };
        let mut line = format!("{} {arrow} {} ", self.time, self.server);
        let kind = match self.kind {
            MessageKind::Request => "request",
            MessageKind::Response => "response",
            MessageKind::Error => "error",
            MessageKind::Notification => "notification",
        };
        line.push_str(kind);
        for part in [&self.method, &self.tool].into_iter().flatten() {
            let _ = write!(line, " {part}");
        }
        if let Some(id) = &self.id {
            let _ = write!(line, " id={id}");
        }
        if let Some(code) = self.error_code {
            let _ = write!(line, " code={code}");
        }
        if let Some(latency) = self.latency_seconds {
            let _ = write!(line, " {:.1}ms", latency * 1e3);
        }
        let _ = write!(line, " {}B", self.size);
        line
    }
}

/// `mcp-monitor.flow/1`: one connection at its end.
#[derive(Clone, Debug, Serialize)]
pub struct FlowRecord {
    schema: &'static str,
    time: Timestamp,
    start: Timestamp,
    /// The connection.
    pub flow: Flow,
    /// Index of the pinned endpoint.
    pub endpoint: Option<usize>,
    /// MCP was seen on it.
    pub mcp: bool,
    from_start: bool,
    end: &'static str,
    duration_seconds: f64,
    to_server: Counts,
    to_client: Counts,
    /// The local process, live only.
    process: Option<ProcessRef>,
    /// Its pod, live only.
    kubernetes: Option<Kubernetes>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Counts {
    packets: u64,
    bytes: u64,
    retransmitted: u64,
    reordered: u64,
    gaps: u64,
    lost_bytes: u64,
}

impl From<&DirectionStats> for Counts {
    fn from(s: &DirectionStats) -> Self {
        Self {
            packets: s.packets,
            bytes: s.bytes,
            retransmitted: s.retransmitted,
            reordered: s.reordered,
            gaps: s.gaps,
            lost_bytes: s.lost_bytes,
        }
    }
}

impl FlowRecord {
    pub(super) fn new(event: &FlowEvent, end: &FlowEnd, connection: &Connection, node: Option<&str>) -> Self {
        let process = connection.process.as_deref();
        let info = &event.flow.info;
        Self {
            schema: "mcp-monitor.flow/1",
            time: end.last,
            start: info.start.time,
            flow: Flow::new(&event.flow, Some(connection)),
            endpoint: connection.endpoint,
            mcp: connection.mcp,
            from_start: info.from_start,
            end: end.reason.slug(),
            duration_seconds: end.last.since(info.start.time).as_secs_f64(),
            to_server: (&end.to_server).into(),
            to_client: (&end.to_client).into(),
            process: process.map(ProcessRef::from),
            kubernetes: Kubernetes::of(process, node),
        }
    }

    fn text(&self) -> String {
        format!(
            "{} {} {} {:.3}s ↑{}B ↓{}B lost {}B{}",
            self.start,
            self.flow,
            self.end,
            self.duration_seconds,
            self.to_server.bytes,
            self.to_client.bytes,
            self.to_server
                .lost_bytes
                .saturating_add(self.to_client.lost_bytes),
            if self.mcp { " MCP" } else { "" }
        )
    }
}

/// `mcp-monitor.observation/1`: one thing learned. In replay once, at the end, with its final count; live
/// when it is new, and again at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Observation {
    pub(super) schema: &'static str,
    /// First time in this run.
    pub(super) time: Timestamp,
    /// Kind of [`crate::baseline::Fact`].
    pub(super) kind: String,
    /// Name, server or URL it is about.
    pub(super) subject: String,
    /// What was learned, by field.
    pub(super) value: serde_json::Value,
    /// Packet of the first time in this run.
    pub(super) packet: u64,
    /// First time ever.
    pub(super) first_seen: Timestamp,
    /// Latest time.
    pub(super) last_seen: Timestamp,
    /// How often.
    pub(super) count: u64,
    /// Lowest and highest number that came with it; `null` for facts that measure nothing.
    pub(super) range: Option<[u64; 2]>,
    /// How far it can be trusted.
    pub(super) standing: Standing,
}

impl Observation {
    fn text(&self) -> String {
        let value = crate::detect::text::shown(&self.value.to_string());
        let mut line = format!(
            "{} {:<20} {} {value} ×{} {}",
            self.time,
            self.kind,
            crate::detect::text::shown(&self.subject),
            self.count,
            self.standing.as_str(),
        );
        if let Some([low, high]) = self.range {
            let _ = write!(line, " {low}..{high}");
        }
        line
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        },
    )
}
