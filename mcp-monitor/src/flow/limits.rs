//! What a flow table may hold, and for how long.

use std::time::Duration;

/// Bounds of a [`FlowTable`](super::FlowTable). Times are capture time.
#[derive(Clone, Debug)]
pub struct FlowLimits {
    /// Flows at once. The one least recently seen goes first, unanswered ones before others. Default 1,048,576.
    pub max_flows: usize,
    /// Ended connections remembered so that their last packets do not open new flows. Default 65,536.
    pub max_closed: usize,
    /// Out-of-order bytes held per direction, 128 bytes of bookkeeping per segment included. Default 1 MiB.
    pub max_pending: usize,
    /// The same over all flows. The stream that waits longest is given up first. Default 64 MiB.
    pub max_pending_total: usize,
    /// Delivered bytes kept per direction, to see whether a retransmission says something else.
    /// Default 1 KiB: with thousands of flows in turn, the copy is what costs most here.
    pub history: usize,
    /// The same over all flows. From half of it on, streams that begin keep a quarter; beyond it, none.
    /// Default 16 MiB.
    pub history_total: usize,
    /// How long a hole waits once the receiver acknowledged bytes in it: the capture lost or delayed them.
    /// Default 500 ms.
    pub wait_acknowledged: Duration,
    /// How long a hole waits while nothing is seen of the receiver. Default 2 s.
    pub wait_unseen: Duration,
    /// How long a hole waits while the receiver says that it waits too. Default 60 s.
    pub wait_retransmission: Duration,
    /// A connection that was never answered. Default 60 s.
    pub idle_opening: Duration,
    /// A connection in which nothing moves. Default 24 h: slow tools and event streams are silent for long.
    pub idle_open: Duration,
    /// After FIN of the only direction that is seen. Default 60 s.
    pub idle_half_closed: Duration,
    /// Between a reset and the end of the flow: what the capture has out of order still counts. Default 500 ms.
    pub linger_reset: Duration,
    /// UDP. Default 120 s.
    pub idle_datagram: Duration,
    /// How long an ended connection is remembered. Default 30 s.
    pub remember_closed: Duration,
    /// Anomalies reported per flow; more are counted only. Default 64.
    pub max_anomalies: u8,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            max_flows: 1 << 20,
            max_closed: 1 << 16,
            max_pending: 1 << 20,
            max_pending_total: 64 << 20,
            history: 1 << 10,
            history_total: 16 << 20,
            wait_acknowledged: Duration::from_millis(500),
            wait_unseen: Duration::from_secs(2),
            wait_retransmission: Duration::from_secs(60),
            idle_opening: Duration::from_secs(60),
            idle_open: Duration::from_secs(24 * 3600),
            idle_half_closed: Duration::from_secs(60),
            linger_reset: Duration::from_millis(500),
            idle_datagram: Duration::from_secs(120),
            remember_closed: Duration::from_secs(30),
            max_anomalies: 64,
        }
    }
}

impl FlowLimits {
    /// The share of one table among `tables`: totals are divided, what counts per flow stays.
    #[must_use]
    pub fn share(&self, tables: usize) -> Self {
        let part = |total: usize| total.div_ceil(tables.max(1)).max(1);
        Self {
            max_flows: part(self.max_flows),
            max_closed: part(self.max_closed),
            max_pending_total: part(self.max_pending_total),
            history_total: part(self.history_total),
            ..self.clone()
        }
    }
}
