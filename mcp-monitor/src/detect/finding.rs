//! What a rule says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{mcp::context::EndpointIndex, types::PacketId};

/// How bad. Ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it some day.
    Low,
    /// Look at it today.
    Medium,
    /// Look at it now.
    High,
    /// Wake someone.
    Critical,
}

impl Severity {
    /// In lower case, as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing a rule found. Context (flow, process, session) is added by `alert`.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// Rule id, e.g. `DNS-01`.
    pub rule: &'static str,
    /// One sentence that an SRE can act on. Never holds a secret.
    pub summary: String,
    /// Pinned endpoint concerned.
    pub endpoint: Option<EndpointIndex>,
    /// What should have been seen; empty if there is no such thing.
    pub expected: Vec<String>,
    /// What was seen.
    pub observed: Option<String>,
    /// Instead of the rule's own severity.
    pub severity: Option<Severity>,
    /// Packets that show it, besides the one of the event.
    pub evidence: Vec<PacketId>,
}
