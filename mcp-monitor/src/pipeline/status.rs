//! What a running monitor knows of itself and of the endpoints, once a second.

use std::sync::Arc;

use super::{correlator::Correlator, summary::Summary};
use crate::{
    source::live::{Features, LiveSource, tls::UnreadableProgram},
    types::Timestamp,
};

/// Endpoints that are shown one by one; metrics and the page stay bounded.
pub const MAX_ENDPOINTS: usize = 1000;
/// Programs whose TLS cannot be read that are shown one by one.
pub const MAX_UNREADABLE: usize = 20;

/// A look at the packet loop. It costs the loop a walk over its open connections.
#[derive(Clone, Debug)]
pub struct Status {
    /// When.
    pub at: Timestamp,
    /// The counts so far, the same as at the end.
    pub summary: Summary,
    /// Connections open now.
    pub open_connections: u64,
    /// Of these, those that spoke MCP.
    pub open_mcp: u64,
    /// Facts remembered.
    pub facts: u64,
    /// When the pins in force came into force.
    pub pins_since: Timestamp,
    /// Endpoints in the pins, also beyond [`MAX_ENDPOINTS`].
    pub pinned: u64,
    /// The endpoints, in the order of the pins.
    pub endpoints: Vec<EndpointStatus>,
    /// What the kernel offers.
    pub features: Features,
    /// Programs in use whose TLS cannot be read, those with the most processes first; at most
    /// [`MAX_UNREADABLE`].
    pub unreadable: Vec<UnreadableProgram>,
}

/// A pinned endpoint as it stands.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its URL, with host patterns as pinned.
    pub url: String,
    /// Connections to it that are open now.
    pub open: u64,
    /// Of these, those on which MCP was seen.
    pub mcp: u64,
}

impl Status {
    pub(super) fn new(
        at: Timestamp,
        pins_since: Timestamp,
        summary: Summary,
        correlator: &Correlator,
        source: &LiveSource,
    ) -> Self {
        let pins = correlator.pins();
        let mut endpoints: Vec<EndpointStatus> = pins
            .endpoints
            .iter()
            .take(MAX_ENDPOINTS)
            .map(|endpoint| EndpointStatus {
                name: endpoint.name.clone(),
                url: endpoint.url.to_string(),
                open: 0,
                mcp: 0,
            })
            .collect();
        let (mut open, mut mcp) = (0_u64, 0_u64);
        for connection in correlator.tracker().connections() {
            let speaks = u64::from(connection.mcp);
            open = open.saturating_add(1);
            mcp = mcp.saturating_add(speaks);
            if let Some(endpoint) = connection.endpoint.and_then(|index| endpoints.get_mut(index)) {
                endpoint.open = endpoint.open.saturating_add(1);
                endpoint.mcp = endpoint.mcp.saturating_add(speaks);
            }
        }
        Self {
            at,
            summary,
            open_connections: open,
            open_mcp: mcp,
            facts: correlator.facts_known(),
            pins_since,
            pinned: u64::try_from(pins.endpoints.len()).unwrap_or(u64::MAX),
            endpoints,
            features: source.features(),
            unreadable: source.unreadable_programs(MAX_UNREADABLE),
        }
    }
}
