//! The counts of a run, as `--summary` and `/metrics` export them.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

#[cfg(feature = "live")]
pub use super::links::LinkCounters;
use super::{correlator::Correlator, shard::Shard};
use crate::decode::Decoder;
#[cfg(feature = "live")]
use crate::{
    attribution::kubernetes::IdentityStatus,
    sink::delivery::SinkCounters,
    source::live::{KernelCounters, tls::TlsCounters},
};

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
    /// How the rules fared.
    pub rules: Rules,
    /// What was let go, by table or limit. Zero everywhere means nothing was.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Counters of the kernel program; live only.
    #[cfg(feature = "live")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelCounters>,
    /// Plaintext from TLS libraries; live only.
    #[cfg(feature = "live")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plaintext: Option<PlaintextCounts>,
    /// Pins that were changed while running; live only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reloads: Option<Reloads>,
    /// Names of pods; live only, where the Kubernetes API is followed.
    #[cfg(feature = "live")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// By the sinks' names; only where there are any.
    #[cfg(feature = "live")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeMap<String, SinkCounters>>,
    /// Wall time of the run.
    pub seconds: f64,
}

/// Plaintext from the TLS libraries of processes.
#[cfg(feature = "live")]
#[derive(Clone, Default, Debug, Serialize)]
pub struct PlaintextCounts {
    /// The probes.
    #[serde(flatten)]
    pub probes: TlsCounters,
    /// How their plaintext found its flows.
    #[serde(flatten)]
    pub links: LinkCounters,
    /// Processes that run now whose TLS cannot be read, by reason.
    pub unreadable_by: BTreeMap<&'static str, u64>,
}

/// Changes of the pins of a running monitor.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Reloads {
    /// Came into force.
    pub applied: u64,
    /// Refused as a whole; the pins before stayed in force.
    pub refused: u64,
}

/// Rules, and findings that are no alert of their own.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Rules {
    /// Rules that failed and are off since (OP-06 says which).
    pub disabled: u64,
    /// Findings of rules that the pins turn off.
    pub findings_off: u64,
    /// Findings that the pins accept.
    pub findings_suppressed: u64,
    /// Findings that are part of a storm.
    pub findings_stormed: u64,
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
    /// Responses to which no query was seen with the same ports, id and question.
    pub unmatched: u64,
    /// Multicast DNS messages, which are not among the above.
    pub mdns: u64,
    /// Link-local multicast name resolution messages, which are not among the above.
    pub llmnr: u64,
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
    /// QUIC flows whose start could be read.
    pub quic_flows: u64,
    /// DTLS flows, which are not read.
    pub dtls_flows: u64,
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

impl Summary {
    /// Counts something let go, under `dropped`.
    pub(super) fn dropped(&mut self, key: &'static str, n: u64) {
        let count = self.dropped.entry(key).or_default();
        *count = count.saturating_add(n);
    }

    /// Adds up what the parts of the engine counted.
    pub fn collect<'a>(
        decoder: &Decoder,
        shards: impl Iterator<Item = &'a Shard>,
        correlator: &Correlator,
    ) -> Self {
        let mut s = Self::default();
        let add = |to: &mut u64, n: u64| *to = to.saturating_add(n);
        let mut drop = BTreeMap::new();
        let mut dropped = |key: &'static str, n: u64| {
            let count: &mut u64 = drop.entry(key).or_default();
            *count = count.saturating_add(n);
        };
        for shard in shards {
            let f = shard.flow_counters();
            add(&mut s.flows.tcp, f.flows_tcp);
            add(&mut s.flows.udp, f.flows_udp);
            add(&mut s.tcp.segments, f.segments);
            add(&mut s.tcp.retransmitted, f.retransmitted);
            add(&mut s.tcp.reordered, f.reordered);
            add(&mut s.tcp.gaps, f.gaps);
            add(&mut s.tcp.lost_bytes, f.lost_bytes);
            dropped("flows_evicted", f.evictions);
            dropped("unlinked_flows_evicted", shard.unlinked_evicted());
            dropped("segments_over_limit", f.pending_dropped);
            dropped("streams_over_limit", f.pending_evicted);
            dropped("anomalies_over_limit", f.anomalies_suppressed);
            let a = shard.application_counters();
            add(&mut s.dns.queries, a.dns_queries);
            add(&mut s.dns.responses, a.dns_responses);
            add(&mut s.dns.nxdomain, a.dns_nxdomain);
            add(&mut s.dns.unmatched, a.dns_unmatched);
            add(&mut s.dns.mdns, a.mdns_messages);
            add(&mut s.dns.llmnr, a.llmnr_messages);
            add(&mut s.tls.quic_flows, a.quic_flows);
            add(&mut s.tls.dtls_flows, a.dtls_flows);
            add(&mut s.tls.client_hellos, a.client_hellos);
            add(&mut s.tls.server_hellos, a.server_hellos);
            add(&mut s.tls.decrypted_flows, a.decrypted_flows);
            add(&mut s.http.requests, a.conversation.http_requests);
            add(&mut s.http.responses, a.conversation.http_responses);
            add(&mut s.sse.streams, a.conversation.sse_streams);
            add(&mut s.sse.events, a.conversation.sse_events);
        }
        let d = decoder.counters();
        dropped("fragments_lost", d.fragments_lost);
        dropped("anomalies_over_limit", d.anomalies_dropped);
        let tracker = correlator.tracker();
        let m = tracker.counters();
        s.mcp = Mcp {
            requests: m.requests,
            responses: m.responses,
            notifications: m.notifications,
            errors: m.errors,
            sessions: tracker.sessions().started(),
            unmatched: tracker.sessions().unmatched(),
            methods: m.methods.clone(),
        };
        dropped("sessions_forgotten", tracker.sessions().forgotten_sessions());
        dropped("requests_forgotten", tracker.sessions().forgotten_requests());
        dropped("names_forgotten", tracker.names_forgotten());
        dropped("facts_forgotten", correlator.facts_forgotten());
        // Live, whoever writes them counts.
        dropped("records_unwritten", 0);
        let (rules, alerts) = (correlator.detector_counters(), correlator.alerter_counters());
        s.rules = Rules {
            disabled: rules.disabled,
            findings_off: alerts.disabled,
            findings_suppressed: alerts.suppressed,
            findings_stormed: alerts.stormed,
        };
        dropped("findings_over_limit", rules.findings_over_limit);
        dropped("alerts_early", alerts.early);
        s.dropped = drop;
        s.anomalies = correlator
            .anomalies()
            .iter()
            .map(|(kind, n)| (kind.slug(), *n))
            .collect();
        s.alerts = correlator.alert_counts().clone();
        s
    }
}
