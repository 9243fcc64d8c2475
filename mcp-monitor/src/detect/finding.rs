//! What a rule says.

pub use crate::types::Severity;
use crate::{mcp::context::EndpointIndex, types::PacketId};

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

impl Finding {
    /// With nothing but a summary.
    pub fn new(rule: &'static str, summary: impl Into<String>) -> Self {
        Self {
            rule,
            summary: summary.into(),
            endpoint: None,
            expected: Vec::new(),
            observed: None,
            severity: None,
            evidence: Vec::new(),
        }
    }

    /// On an endpoint.
    #[must_use]
    pub fn at(mut self, endpoint: Option<EndpointIndex>) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// What should have been seen.
    #[must_use]
    pub fn expected(mut self, expected: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.expected = expected.into_iter().map(Into::into).collect();
        self
    }

    /// What was seen.
    #[must_use]
    pub fn observed(mut self, observed: impl Into<String>) -> Self {
        self.observed = Some(observed.into());
        self
    }

    /// Instead of the rule's own severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// A packet that shows it, besides the one of the event.
    #[must_use]
    pub fn shown_by(mut self, packet: PacketId) -> Self {
        self.evidence.push(packet);
        self
    }
}
