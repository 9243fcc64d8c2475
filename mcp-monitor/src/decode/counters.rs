//! What the decoder counted.

/// Counts since the decoder was made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct DecodeCounters {
    /// Packets given in.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// TCP segments given out.
    pub tcp: u64,
    /// UDP datagrams given out.
    pub udp: u64,
    /// Packets that hold no IP (ARP, LLDP…).
    pub not_ip: u64,
    /// IP packets that hold neither TCP nor UDP.
    pub other_ip: u64,
    /// Packets of a link type or encapsulation that is not decoded, e.g. 802.11.
    pub undecoded: u64,
    /// Packets shorter than their headers say though the capture did not cut them, or with headers cut off.
    pub truncated: u64,
    /// Packets whose payload the capture cut (snap length).
    pub cut: u64,
    /// Packets with headers that contradict themselves.
    pub bad_headers: u64,
    /// Packets nested deeper than the limit.
    pub too_deep: u64,
    /// Tunnel headers looked through.
    pub tunnelled: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub reassembled: u64,
    /// Fragmented datagrams given up: time, memory, or a cut fragment.
    pub fragments_lost: u64,
    /// Fragments that overlap others with other bytes or other bounds.
    pub fragment_overlaps: u64,
    /// Packets captured more than once: UDP and fragments left out, TCP segments marked.
    pub duplicates: u64,
    /// Anomalies not kept because nobody took them in time.
    pub anomalies_dropped: u64,
}

/// Adds one, stopping at the end of the range.
#[inline]
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
