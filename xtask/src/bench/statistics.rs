//! The kernel's own run time statistics of BPF programs.

use anyhow::{Context, Result};

/// They are on while this lives. Taking them costs time of its own, so that what is timed runs without.
pub struct BpfStatistics {
    before: String,
}

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl BpfStatistics {
    pub fn on() -> Result<Self> {
        let before = std::fs::read_to_string(SWITCH).context("BPF statistics")?;
        std::fs::write(SWITCH, "1").context("switch BPF statistics on")?;
        Ok(Self { before })
    }
}

impl Drop for BpfStatistics {
    fn drop(&mut self) {
        let _ = std::fs::write(SWITCH, self.before.trim());
    }
}
