//! What there is to show: written by the packet loop and others, read by requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{exposition::Family, health::Condition, recent::Recent};
use crate::{
    config::program::Http,
    pipeline::{progress::Progress, record::Record, status::Status},
    types::Timestamp,
};

/// How long after the last loss the ring still counts as overflowing.
const RING_CALM: Duration = Duration::from_secs(60);

/// Says how another part of the program fares, when asked.
pub type Probe = Box<dyn Fn() -> Vec<Condition> + Send + Sync>;
/// Adds numbers of another part to the metrics, when asked.
pub type Gauges = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// See the module.
pub struct Board {
    /// Where the packet loop is.
    pub progress: Arc<Progress>,
    pub(super) stuck_after: Duration,
    pub(super) started: Timestamp,
    pub(super) recent: Recent,
    status: ArcSwapOption<Status>,
    /// Lost in the kernel at the last look, and when it last grew.
    losses: ArcSwap<(u64, Option<Instant>)>,
    pins_since: AtomicU64,
    /// The file with the pins, if there is one.
    has_pins: bool,
    stopping: AtomicBool,
    /// Stages that were stuck.
    pub(super) stuck: AtomicU64,
    probes: ArcSwap<Vec<Probe>>,
    gauges: ArcSwap<Vec<Gauges>>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Board {
    /// An empty board.
    pub fn new(http: Option<&Http>, progress: Arc<Progress>, stuck_after: Duration, has_pins: bool) -> Self {
        Self {
            progress,
            stuck_after,
            started: now(),
            recent: Recent::new(http.unwrap_or(&Http::default())),
            status: ArcSwapOption::empty(),
            losses: ArcSwap::from_pointee((0, None)),
            pins_since: AtomicU64::new(0),
            has_pins,
            stopping: AtomicBool::new(false),
            stuck: AtomicU64::new(0),
            probes: ArcSwap::from_pointee(Vec::new()),
            gauges: ArcSwap::from_pointee(Vec::new()),
        }
    }

    /// Parts of the program whose state belongs into `/readyz` and `/metrics`. Before the server starts.
    pub fn connect(&self, probes: Vec<Probe>, gauges: Vec<Gauges>) {
        self.probes.store(Arc::new(probes));
        self.gauges.store(Arc::new(gauges));
    }

    /// Takes a look at the packet loop.
    pub fn publish(&self, status: Status) {
        let lost = status.summary.kernel.map_or(0, |kernel| kernel.lost());
        if lost > self.losses.load().0 {
            self.losses.store(Arc::new((lost, Some(Instant::now()))));
        }
        let before = self.pins_since.swap(status.pins_since.0, Ordering::Relaxed);
        if before != status.pins_since.0 {
            self.recent.forget_places();
        }
        self.status.store(Some(Arc::new(status)));
    }

    /// Takes records as they go out.
    pub fn take(&self, records: &[Record]) {
        self.recent.take(records);
    }

    /// The end begins: not ready any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> Option<Arc<Status>> {
        self.status.load_full()
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn has_pins(&self) -> bool {
        self.has_pins
    }

    pub(super) fn overflowing(&self) -> Option<u64> {
        let losses = self.losses.load();
        losses.1.filter(|at| at.elapsed() < RING_CALM).map(|_| losses.0)
    }

    pub(super) fn conditions(&self) -> Vec<Condition> {
        self.probes.load().iter().flat_map(|probe| probe()).collect()
    }

    pub(super) fn gauges(&self) -> Vec<Family> {
        self.gauges.load().iter().flat_map(|gauges| gauges()).collect()
    }
}

/// By the wall clock.
pub(super) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
