//! Servers at an address outside their pins that prove who they are.
//!
//! A pinned key in a full handshake that the client completed is proof: the server signed with it. An
//! issuer's name is not, since nothing here verifies the certificate's signature.

use std::{net::IpAddr, time::Duration};

use crate::{
    baseline::Bounded,
    config::pins::Pins,
    detect::{Seen, SeenKind},
    mcp::context::EndpointIndex,
    proto::tls::HandshakeEnd,
    types::Timestamp,
};

/// How long a proof holds.
const HOLDS: Duration = Duration::from_secs(86_400);
/// Endpoint and address pairs remembered.
const MAX_PROOFS: usize = 4096;

/// Rules whose finding says nothing but that the address is not pinned.
pub(super) const RULES: [&str; 2] = ["DNS-01", "DST-02"];

/// What a summary says then.
pub(super) const NOTE: &str = "; the server there proved a pinned key, so it is likely the same server at a new address: confirm that and pin it";

/// Proofs so far.
#[derive(Debug)]
pub(super) struct Proofs(Bounded<(EndpointIndex, IpAddr), Timestamp>);

impl Default for Proofs {
    fn default() -> Self {
        Self(Bounded::new(MAX_PROOFS))
    }
}

impl Proofs {
    /// Looks at an event: the endpoint and address outside its pins that it proves, if it does.
    pub(super) fn see(&mut self, seen: &Seen<'_>, pins: &Pins) -> Option<(EndpointIndex, IpAddr)> {
        let SeenKind::Handshake(handshake) = &seen.kind else {
            return None;
        };
        let index = seen.connection?.endpoint?;
        let endpoint = pins.endpoint(Some(index))?;
        let address = seen.flow?.info.server.ip();
        let leaf = handshake.server.as_ref()?.leaf()?;
        let proved = handshake.end == HandshakeEnd::Established
            && handshake.resumption.is_none()
            && endpoint.tls.spki_sha256.contains(&leaf.spki_sha256);
        if !proved || endpoint.allows_address(address) {
            return None;
        }
        self.0.insert((index, address), seen.at.time);
        Some((index, address))
    }

    /// The address that a finding observed was proved to be this endpoint's.
    pub(super) fn covers(
        &self,
        rule: &str,
        endpoint: Option<EndpointIndex>,
        observed: Option<&str>,
        now: Timestamp,
    ) -> bool {
        let address = observed.and_then(|text| text.parse().ok());
        let (true, Some(endpoint), Some(address)) = (RULES.contains(&rule), endpoint, address) else {
            return false;
        };
        self.0
            .peek(&(endpoint, address))
            .is_some_and(|at| now.since(*at) < HOLDS)
    }

    /// Forgets everything: endpoints have other numbers now.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
