//! Gives the limits of the configuration to the layers.

use std::num::NonZeroUsize;

use super::shard::ShardLimits;
use crate::{
    alert::AlerterOptions,
    baseline::LearningOptions,
    config::program::{Alerts, Baseline, Limits},
    decode::DecodeLimits,
    mcp::tracker::TrackerLimits,
};

fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn non_zero(limit: u64) -> NonZeroUsize {
    NonZeroUsize::new(size(limit)).unwrap_or(NonZeroUsize::MIN)
}

impl Limits {
    /// Of the decoder.
    pub fn decode(&self) -> DecodeLimits {
        DecodeLimits {
            max_fragmented: size(self.fragmented_datagrams),
            max_fragment_bytes: size(self.fragment_bytes),
            fragment_timeout: self.fragment_timeout,
            duplicate_window: self.duplicate_window,
            duplicate_window_across: self.duplicate_window_across,
            ..DecodeLimits::default()
        }
    }

    /// Of one flow table among `tables`, and of its flows' parsers.
    pub fn shard(&self, tables: usize) -> ShardLimits {
        let mut limits = ShardLimits::default();
        limits.flow.max_flows = size(self.flows);
        limits.flow.max_pending = size(self.pending_bytes);
        limits.flow.max_pending_total = size(self.pending_bytes_total);
        limits.flow.wait_retransmission = self.wait_retransmission;
        limits.flow.idle_open = self.idle_open;
        limits.flow.idle_opening = self.idle_opening;
        limits.flow.idle_datagram = self.idle_datagram;
        limits.flow = limits.flow.share(tables);
        limits.application.http1.max_head = size(self.http_head_bytes);
        limits.application.http1.max_headers = size(self.http_headers);
        limits.application.http1.max_pipeline = size(self.http_pipeline);
        limits.application.tls.max_handshake = size(self.tls_handshake_bytes);
        limits.application.quic.max_handshake = size(self.tls_handshake_bytes);
        limits.application.conversation.message = size(self.message_bytes);
        limits.application.conversation.held_total = size(self.message_bytes_total)
            .checked_div(tables)
            .unwrap_or(usize::MAX);
        limits.application.conversation.document = size(self.document_bytes);
        limits.application.conversation.exchanges = size(self.exchanges);
        limits
    }

    /// Of what is known across flows.
    pub fn tracker(&self) -> TrackerLimits {
        let mut limits = TrackerLimits {
            names: non_zero(self.resolved_names),
            paths: non_zero(self.mcp_paths),
            exchanges: size(self.exchanges),
            processes: non_zero(self.processes),
            ..TrackerLimits::default()
        };
        limits.sessions.sessions = non_zero(self.sessions);
        limits.sessions.pending = size(self.pending_requests);
        limits
    }
}

impl Alerts {
    /// Of the alerter; mode and captures are the caller's.
    pub fn alerter(&self) -> AlerterOptions {
        AlerterOptions {
            window: self.window,
            max_open: size(self.max_open),
            max_packets: size(self.max_packets),
            storm: self.storm,
            incident_gap: self.incident_gap,
            ..AlerterOptions::default()
        }
    }
}

impl Baseline {
    /// Of what learns.
    pub fn learning(&self) -> LearningOptions {
        LearningOptions {
            dns: self.learn_dns,
            network: self.learn_network,
            tls: self.learn_tls,
            mcp: self.learn_mcp,
            tools: self.learn_tools,
            auth: self.learn_auth,
            quarantine: self.quarantine,
            max_facts: size(self.max_facts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of the configuration are those of the layers.
    #[test]
    fn defaults_agree() {
        let limits = Limits::default();
        let shown = |a: &dyn std::fmt::Debug| format!("{a:?}");
        assert_eq!(shown(&limits.decode()), shown(&DecodeLimits::default()));
        assert_eq!(shown(&limits.shard(1)), shown(&ShardLimits::default()));
        assert_eq!(shown(&limits.tracker()), shown(&TrackerLimits::default()));
        assert_eq!(
            shown(&Baseline::default().learning()),
            shown(&LearningOptions::default())
        );
        assert_eq!(
            shown(&Alerts::default().alerter()),
            shown(&AlerterOptions::default())
        );
    }
}
