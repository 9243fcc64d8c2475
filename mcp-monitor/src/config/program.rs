//! tmp
use std::path::{Path, PathBuf};
use super::ConfigError;
use crate::{decode::DecodeLimits, mcp::tracker::TrackerLimits, pipeline::shard::ShardLimits};
#[derive(Debug, Default, Clone)]
pub struct Program { pub pins: Option<PathBuf>, pub limits: Limits, pub source: Source }
#[derive(Debug, Default, Clone)]
pub struct Limits {}
#[derive(Debug, Clone)]
pub struct Source { pub cgroup: Option<PathBuf>, pub ring_bytes: u32 }
impl Default for Source { fn default() -> Self { Self { cgroup: None, ring_bytes: 64 << 20 } } }
impl Program { pub fn load(_: &Path) -> Result<Self, ConfigError> { Ok(Self::default()) } }
impl Limits {
    pub fn decode(&self) -> DecodeLimits { DecodeLimits::default() }
    pub fn shard(&self, tables: usize) -> ShardLimits { let mut s = ShardLimits::default(); s.flow = s.flow.share(tables); s }
    pub fn tracker(&self) -> TrackerLimits { TrackerLimits::default() }
}
