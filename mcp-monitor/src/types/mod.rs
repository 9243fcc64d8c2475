//! The vocabulary that every layer shares: time, packet identity, direction, anomalies, tables that forget.
//!
//! Nothing here knows a protocol or holds state.

mod anomaly;
mod packet;
mod pod;
mod process;
mod recent;
mod severity;
mod time;

pub use anomaly::{Anomaly, AnomalyKind};
pub use packet::{At, Direction, PacketId, Plaintext, Scope, Transport};
pub use pod::{Pod, PodFacts, Qos, Workload};
pub use process::{Listener, Process};
pub use recent::recent;
pub use severity::Severity;
pub use time::Timestamp;
