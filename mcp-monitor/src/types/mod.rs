//! The vocabulary that every layer shares: time, packet identity, direction, anomalies, tables that forget.
//!
//! Nothing here knows a protocol or holds state.

mod anomaly;
mod bounded;
mod packet;
mod pod;
mod process;
mod severity;
mod time;

pub use anomaly::{Anomaly, AnomalyKind};
pub use bounded::{Bounded, DEFAULT_CAP, Once};
pub use packet::{At, Direction, PacketId, Plaintext, Scope, Transport};
pub use pod::{Pod, PodFacts, Qos, Workload};
pub use process::{Listener, Process};
pub use severity::Severity;
pub use time::Timestamp;
