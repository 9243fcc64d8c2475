//! From findings to alerts: severity, suppression, dedup, evidence.

mod alerter;
mod incident;
mod kubernetes;
mod proof;
mod record;
mod storm;
mod text;

pub use alerter::{Alerter, AlerterCounters, AlerterOptions, Mode};
pub use incident::Incident;
pub use kubernetes::Kubernetes;
pub use record::{Alert, Evidence, Flow, Mcp, Peer, ProcessRef, Taxonomy, flow_id, session_fingerprint};
pub use storm::Storm;
