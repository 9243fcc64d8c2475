//! From the kernel's clock to capture time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::types::Timestamp;

/// Steps of the wall clock below this are left to be slewed.
const STEP_NS: u64 = 50_000_000;
/// How often the wall clock is looked at, in kernel time.
const EVERY_NS: u64 = 1_000_000_000;

/// Turns nanoseconds since boot into Unix time that never goes backwards.
///
/// A wall clock that is set forward is followed at once. One that is set back is followed at half speed: time
/// that stood still until the clock had caught up would end no connection and no window of alerts meanwhile.
#[derive(Debug)]
pub(super) struct Clock {
    /// Unix time of the boot that is in use.
    boot: u64,
    /// The one that the wall clock says, where `boot` is ahead of it.
    behind: Option<u64>,
    checked: u64,
    /// The latest time since boot that was asked for.
    seen: u64,
    latest: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            boot: boot_time().unwrap_or(0),
            behind: None,
            checked: 0,
            seen: 0,
            latest: 0,
        }
    }

    /// Time now, by the same measure. Records that wait in the ring keep their own, earlier times.
    pub(super) fn now(&mut self) -> Timestamp {
        let since_boot = nanoseconds(ClockId::CLOCK_BOOTTIME).unwrap_or(self.seen);
        self.advance(since_boot);
        Timestamp(self.latest.max(self.boot.saturating_add(since_boot)))
    }

    /// Records of two CPUs may lie in the ring in another order than they were stamped; the later one
    /// then takes the time of the one before it.
    pub(super) fn time(&mut self, since_boot: u64) -> Timestamp {
        self.advance(since_boot);
        self.latest = self.latest.max(self.boot.saturating_add(since_boot));
        Timestamp(self.latest)
    }

    /// The wall clock says that the boot was at this time.
    fn set(&mut self, boot: u64) {
        let ahead = self.boot.saturating_sub(boot);
        let by = || Duration::from_nanos(boot.abs_diff(self.behind.unwrap_or(self.boot)));
        if boot.saturating_sub(self.boot) > STEP_NS {
            tracing::warn!(by = ?by(), "the wall clock was set forward: what was idle may end early");
            (self.boot, self.behind) = (boot, None);
        } else if self.behind.is_some() || ahead > STEP_NS {
            let news = boot.abs_diff(self.behind.unwrap_or(self.boot)) > STEP_NS;
            if news {
                tracing::warn!(by = ?by(), "the wall clock was set back: times go on, at half speed until it has caught up");
            }
            self.behind = (ahead > 0).then_some(boot);
        }
    }

    /// Looks at the wall clock when it is time to, and gives back half of the time that passed where that one
    /// is behind.
    fn advance(&mut self, since_boot: u64) {
        if since_boot.saturating_sub(self.checked) > EVERY_NS {
            self.checked = since_boot;
            if let Some(boot) = boot_time() {
                self.set(boot);
            }
        }
        let passed = since_boot.saturating_sub(self.seen);
        self.seen = self.seen.max(since_boot);
        if let Some(behind) = self.behind {
            let passed = passed.checked_div(2).unwrap_or(0);
            self.boot = self.boot.saturating_sub(passed).max(behind);
            self.behind = (self.boot > behind).then_some(behind);
        }
    }
}

/// Nanoseconds since boot, as the kernel programs have them.
pub(super) fn since_boot() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME).unwrap_or(0)
}

/// Unix time of the boot, in nanoseconds.
fn boot_time() -> Option<u64> {
    let wall = nanoseconds(ClockId::CLOCK_REALTIME)?;
    let boot = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
    wall.checked_sub(boot)
}

fn nanoseconds(clock: ClockId) -> Option<u64> {
    let time = clock_gettime(clock).ok()?;
    u64::try_from(time.tv_sec())
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.tv_nsec()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u64 = 1_000_000_000_000;

    fn clock() -> Clock {
        Clock {
            boot: BOOT,
            behind: None,
            checked: 0,
            seen: 0,
            latest: 0,
        }
    }

    #[test]
    fn never_goes_backwards() {
        let mut clock = clock();
        assert_eq!(clock.time(500), Timestamp(BOOT + 500));
        assert_eq!(clock.time(400), Timestamp(BOOT + 500));
        assert_eq!(clock.time(501), Timestamp(BOOT + 501));
    }

    #[test]
    fn a_clock_set_forward_is_followed_at_once() {
        let mut clock = clock();
        clock.set(BOOT + 3_600_000_000_000);
        assert_eq!(clock.time(500), Timestamp(BOOT + 3_600_000_000_500));
    }

    #[test]
    fn a_clock_set_back_is_followed_at_half_speed() {
        let mut clock = clock();
        assert_eq!(clock.time(100), Timestamp(BOOT + 100));
        clock.set(BOOT - 100_000_000);
        assert_eq!(clock.time(200), Timestamp(BOOT + 150));
        // 200 ms later the 100 ms are given back, and no more than those.
        assert_eq!(clock.time(200_000_200), Timestamp(BOOT + 100_000_200));
        assert_eq!(clock.time(200_000_300), Timestamp(BOOT + 100_000_300));
        assert_eq!(clock.behind, None);
    }
}
