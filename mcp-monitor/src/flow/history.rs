//! The last delivered bytes of a stream, to hold retransmissions against.

/// The tail of a stream. Empty, and without memory, until something is kept.
#[derive(Default, Debug)]
pub(super) struct History {
    bytes: Vec<u8>,
    /// Stream offset behind the last byte.
    end: u64,
}

impl History {
    /// Memory held.
    pub(super) fn allocated(&self) -> usize {
        self.bytes.capacity()
    }

    /// Keeps the tail of `data`, which starts at `offset`, within `cap` bytes in all.
    #[inline]
    pub(super) fn push(&mut self, offset: u64, data: &[u8], cap: usize) {
        if offset != self.end {
            self.bytes.clear();
        }
        self.end = offset.saturating_add(len(data));
        let tail = data.get(data.len().saturating_sub(cap)..).unwrap_or_default();
        let excess = self.bytes.len().saturating_add(tail.len()).saturating_sub(cap);
        if excess > 0 {
            // `cap` is small: moving what stays costs less than a ring would.
            self.bytes.drain(..excess.min(self.bytes.len()));
        }
        let len = self.bytes.len().saturating_add(tail.len());
        if len > self.bytes.capacity() {
            // Doubling, but never above `cap`: there are two of these in each flow.
            let wanted = len.max(self.bytes.capacity().saturating_mul(2).min(cap));
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(tail);
    }

    /// Whether `data` at `offset` says something else than what was delivered, as far as that is kept.
    pub(super) fn conflicts(&self, offset: u64, data: &[u8]) -> bool {
        let start = self.end.saturating_sub(len(&self.bytes));
        differs(start, &self.bytes, offset, data)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn len(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// Whether two pieces of one stream differ where both have bytes.
pub(super) fn differs(a_offset: u64, a: &[u8], b_offset: u64, b: &[u8]) -> bool {
    let start = a_offset.max(b_offset);
    let end = a_offset
        .saturating_add(len(a))
        .min(b_offset.saturating_add(len(b)));
    if start >= end {
        return false;
    }
    let part = |offset: u64, data| -> Option<&[u8]> {
        let from = usize::try_from(start.checked_sub(offset)?).ok()?;
        let to = usize::try_from(end.checked_sub(offset)?).ok()?;
        <[u8]>::get(data, from..to)
    };
    part(a_offset, a) != part(b_offset, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_differences_only_where_bytes_are_kept() {
        let mut h = History::default();
        h.push(100, b"abcdefgh", 6);
        assert!(!h.conflicts(100, b"XX"));
        assert!(h.conflicts(100, b"XXX"));
        assert!(!h.conflicts(102, b"cdefgh"));
        assert!(!h.conflicts(106, b"ghZZZ"));
        assert!(h.conflicts(107, b"x"));
        h.push(108, b"ij", 6);
        assert!(!h.conflicts(104, b"efghij"));
        assert!(!h.conflicts(103, b"X"));
        assert!(h.conflicts(109, b"X"));
        // A hole: what came before it is no longer next to what comes.
        h.push(200, b"z", 6);
        assert!(!h.conflicts(109, b"X"));
        assert!(h.conflicts(200, b"X"));
    }
}
