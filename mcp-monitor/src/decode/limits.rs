//! What the decoder may hold.

use std::time::Duration;

/// Bounds of a [`Decoder`](super::Decoder).
#[derive(Clone, Debug)]
pub struct DecodeLimits {
    /// Headers looked through in one packet (tags, tunnels, IP headers) before it is given up. Default 16.
    pub max_depth: u8,
    /// Datagrams waiting for fragments. The oldest goes first. Default 1024.
    pub max_fragmented: usize,
    /// Bytes held in fragments, bookkeeping included. The oldest datagram goes first. Default 4 MiB.
    pub max_fragment_bytes: usize,
    /// How long a datagram waits for its fragments, in capture time. Default 30 s, as Linux.
    pub fragment_timeout: Duration,
    /// Two packets with the same headers within this time at one capture point are one. Zero turns it off. Default 2 ms.
    pub duplicate_window: Duration,
    /// The same across files and interfaces, whose clocks may differ. Default 100 ms.
    pub duplicate_window_across: Duration,
    /// Anomalies kept until they are taken; more are counted only. Default 1024.
    pub max_anomalies: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_depth: 16,
            max_fragmented: 1024,
            max_fragment_bytes: 4 << 20,
            fragment_timeout: Duration::from_secs(30),
            duplicate_window: Duration::from_millis(2),
            duplicate_window_across: Duration::from_millis(100),
            max_anomalies: 1024,
        }
    }
}
