//! Flows by how long they may be silent, least recently seen first.

use std::time::Duration;

use super::FlowLimits;
use crate::types::Timestamp;

/// What a flow waits for decides how long it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// SYN without an answer.
    Opening,
    /// UDP.
    Datagram,
    /// Reset, and lingering.
    Reset,
    /// FIN of the only direction that is seen.
    HalfClosed,
    /// All others.
    Open,
}

impl Class {
    /// In the order in which they are evicted.
    pub(super) const ALL: [Self; 5] = [
        Self::Opening,
        Self::Reset,
        Self::Datagram,
        Self::HalfClosed,
        Self::Open,
    ];

    pub(super) fn timeout(self, limits: &FlowLimits) -> Duration {
        match self {
            Self::Opening => limits.idle_opening,
            Self::Datagram => limits.idle_datagram,
            Self::Reset => limits.linger_reset,
            Self::HalfClosed => limits.idle_half_closed,
            Self::Open => limits.idle_open,
        }
    }
}

/// A flow's place in its list. Slots are indexes into the table's slab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) class: Class,
    pub(super) previous: Option<u32>,
    pub(super) next: Option<u32>,
    /// When it was put at the end of the list.
    pub(super) since: Timestamp,
}

/// First and last slot of each list.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Ends {
    pub(super) first: Option<u32>,
    pub(super) last: Option<u32>,
}

/// The ends of all lists.
#[derive(Default, Debug)]
pub(super) struct Lists {
    opening: Ends,
    datagram: Ends,
    reset: Ends,
    half_closed: Ends,
    open: Ends,
}

impl Lists {
    pub(super) fn ends(&mut self, class: Class) -> &mut Ends {
        match class {
            Class::Opening => &mut self.opening,
            Class::Datagram => &mut self.datagram,
            Class::Reset => &mut self.reset,
            Class::HalfClosed => &mut self.half_closed,
            Class::Open => &mut self.open,
        }
    }
}
