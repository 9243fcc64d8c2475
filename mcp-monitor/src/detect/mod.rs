//! Rules over events: from what was seen to findings.
//!
//! A rule is one file in `rules/`. It sees [`Seen`] events and the read-only [`World`], keeps
//! what state it needs (bounded), and says [`Finding`]s.

pub mod canonical;
pub mod credentials;
pub mod drift;
pub mod finding;
pub mod seen;

pub use drift::{Drift, DriftKind};
pub use finding::{Finding, Severity};
pub use seen::{Seen, SeenKind, World};
