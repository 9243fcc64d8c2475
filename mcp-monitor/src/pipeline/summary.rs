//! The counts of a run, as `--summary` and `/metrics` export them.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

/// One JSON object; the keys are part of the contract.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Summary {
    /// Packets read (live: records from the kernel that carried packets).
    pub packets: u64,
    /// Bytes of them on the wire.
    pub bytes: u64,
    /// Captures that broke off, and packets that could not be read.
    pub capture_errors: u64,
    /// Flows begun.
    pub flows: Flows,
    /// TCP.
    pub tcp: Tcp,
    /// DNS messages.
    pub dns: Dns,
    /// TLS.
    pub tls: Tls,
    /// HTTP messages.
    pub http: Http,
    /// Server-sent events.
    pub sse: Sse,
    /// MCP.
    pub mcp: Mcp,
    /// By kind.
    pub anomalies: BTreeMap<&'static str, u64>,
    /// Alerts by rule, suppressed ones left out.
    pub alerts: BTreeMap<&'static str, u64>,
    /// What was let go, by table or limit. Zero everywhere means nothing was.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Counters of the kernel program; live only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<BTreeMap<&'static str, u64>>,
    /// Wall time of the run.
    pub seconds: f64,
}

/// Flows by transport.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Flows {
    /// TCP connections.
    pub tcp: u64,
    /// UDP flows.
    pub udp: u64,
}

/// TCP reassembly.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Tcp {
    /// Segments, duplicates of the capture left out.
    pub segments: u64,
    /// Segments that brought only bytes already seen.
    pub retransmitted: u64,
    /// Segments that came before bytes preceding them.
    pub reordered: u64,
    /// Holes given up.
    pub gaps: u64,
    /// Bytes in them.
    pub lost_bytes: u64,
}

/// DNS messages.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Dns {
    /// Queries.
    pub queries: u64,
    /// Responses.
    pub responses: u64,
    /// Responses with rcode 3.
    pub nxdomain: u64,
}

/// TLS.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Tls {
    /// ClientHellos.
    pub client_hellos: u64,
    /// ServerHellos, HelloRetryRequest left out.
    pub server_hellos: u64,
    /// Flows whose plaintext was opened.
    pub decrypted_flows: u64,
}

/// HTTP messages.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Http {
    /// Requests.
    pub requests: u64,
    /// Final responses.
    pub responses: u64,
}

/// Server-sent events.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Sse {
    /// Responses of type `text/event-stream`.
    pub streams: u64,
    /// Events dispatched.
    pub events: u64,
}

/// MCP messages.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Mcp {
    /// `method` with `id`.
    pub requests: u64,
    /// `result` or `error`.
    pub responses: u64,
    /// `method` without `id`.
    pub notifications: u64,
    /// Responses with `error`.
    pub errors: u64,
    /// Sessions begun: with an id, or connections that spoke MCP without one.
    pub sessions: u64,
    /// Responses whose request was not seen.
    pub unmatched: u64,
    /// Requests and notifications by method.
    pub methods: BTreeMap<Arc<str>, u64>,
}
