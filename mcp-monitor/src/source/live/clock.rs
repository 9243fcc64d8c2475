//! From the kernel's clock to capture time.

use nix::time::{ClockId, clock_gettime};

use crate::types::Timestamp;

/// Steps of the wall clock below this are left to be slewed.
const STEP_NS: u64 = 50_000_000;
/// How often the wall clock is looked at, in kernel time.
const EVERY_NS: u64 = 1_000_000_000;

/// Turns nanoseconds since boot into Unix time that never goes backwards.
#[derive(Debug)]
pub(super) struct Clock {
    boot: u64,
    checked: u64,
    latest: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            boot: boot_time().unwrap_or(0),
            checked: 0,
            latest: 0,
        }
    }

    /// Records of two CPUs may lie in the ring in another order than they were stamped; the later one
    /// then takes the time of the one before it.
    pub(super) fn time(&mut self, since_boot: u64) -> Timestamp {
        if since_boot.saturating_sub(self.checked) > EVERY_NS {
            self.checked = since_boot;
            if let Some(boot) = boot_time()
                && boot.abs_diff(self.boot) > STEP_NS
            {
                self.boot = boot;
            }
        }
        self.latest = self.latest.max(self.boot.saturating_add(since_boot));
        Timestamp(self.latest)
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

    #[test]
    fn never_goes_backwards() {
        let mut clock = Clock {
            boot: 1_000,
            checked: 0,
            latest: 0,
        };
        assert_eq!(clock.time(500), Timestamp(1_500));
        assert_eq!(clock.time(400), Timestamp(1_500));
        assert_eq!(clock.time(501), Timestamp(1_501));
    }
}
