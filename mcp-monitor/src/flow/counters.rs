//! What a flow table counted.

/// Counts since the table was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlowCounters {
    /// TCP flows opened.
    pub flows_tcp: u64,
    /// UDP flows opened.
    pub flows_udp: u64,
    /// TCP segments, packets captured twice not included.
    pub segments: u64,
    /// Segments captured more than once that brought nothing new.
    pub duplicates: u64,
    /// Segments that carried only bytes already seen.
    pub retransmitted: u64,
    /// Segments that came before bytes that precede them.
    pub reordered: u64,
    /// Holes given up.
    pub gaps: u64,
    /// Bytes in them.
    pub lost_bytes: u64,
    /// Keep-alive probes.
    pub keepalives: u64,
    /// Overlaps with different bytes.
    pub conflicts: u64,
    /// Segments of no known connection that could not open one (bare acknowledgements, resets).
    pub stray: u64,
    /// Segments and resets outside any window the receiver could have.
    pub out_of_window: u64,
    /// Segments of connections that had ended.
    pub after_close: u64,
    /// Flows ended because the table was full.
    pub evictions: u64,
    /// Out-of-order bytes dropped at the limit of one direction.
    pub pending_dropped: u64,
    /// Streams given up at the limit over all flows.
    pub pending_evicted: u64,
    /// Most out-of-order bytes held at once, bookkeeping included.
    pub pending_high_water: u64,
    /// Streams that keep no history because the total was used up.
    pub without_history: u64,
    /// Anomalies not reported because their flow had too many.
    pub anomalies_suppressed: u64,
}

/// Adds one, stopping at the end of the range.
#[inline]
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
