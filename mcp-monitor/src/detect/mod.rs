//! Rules over events: from what was seen to findings.
//!
//! A rule is one file in `rules/`. It sees [`Seen`] events and the read-only [`World`], keeps
//! what state it needs (bounded), and says [`Finding`]s.

pub mod catalogue;
pub mod credentials;
pub mod drift;
mod engine;
mod facts;
pub mod finding;
pub mod personal;
pub mod rule;
pub mod rules;
pub mod seen;
mod session_ids;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;

pub use crate::baseline::canonical;
pub use drift::{Drift, DriftKind};
pub use engine::{Common, Detector, DetectorCounters, Group, MAX_FINDINGS, Prepared};
pub use facts::{Facts, MAX_RESULT, Record};
pub use finding::{Finding, Severity};
pub use seen::{Seen, SeenKind, World};
