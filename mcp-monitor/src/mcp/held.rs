//! How many bytes of bodies a connection holds until they are whole.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The sum over a connection. Only the thread that has the connection touches it; it is atomic so that the
/// connection may change threads.
#[derive(Debug, Default)]
pub(super) struct Gauge(Option<Arc<AtomicU64>>);

/// What one body holds; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    gauge: Option<Arc<AtomicU64>>,
    bytes: u64,
}

impl Gauge {
    pub(super) fn share(&mut self) -> Share {
        Share {
            gauge: Some(Arc::clone(self.0.get_or_insert_default())),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |gauge| gauge.load(Relaxed))
    }
}

impl Share {
    /// The body holds so many bytes now.
    pub(super) fn set(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes != self.bytes
            && let Some(gauge) = &self.gauge
        {
            let sum = gauge.load(Relaxed).saturating_sub(self.bytes);
            gauge.store(sum.saturating_add(bytes), Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_dropped_is_given_back() {
        let mut gauge = Gauge::default();
        let (mut a, mut b) = (gauge.share(), gauge.share());
        a.set(10);
        b.set(5);
        a.set(7);
        assert_eq!(gauge.bytes(), 12);
        drop(a);
        assert_eq!(gauge.bytes(), 5);
    }
}
