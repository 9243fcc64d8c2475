//! Pins and what was learned, in BPF maps.

use mcp_monitor_common::{
    address::Address,
    verdict::{Drift, Host, Learned, Tables},
};

use crate::{emit, maps, scratch::Slot};

/// The maps, at the generation that a slot's program began with.
pub(crate) struct MapTables {
    pub(crate) slot: *mut Slot,
    pub(crate) generation: u32,
}

impl MapTables {
    #[inline(always)]
    pub(crate) fn new(slot: *mut Slot) -> Self {
        Self {
            slot,
            // SAFETY: a slot that the program holds.
            generation: unsafe { (*slot).generation },
        }
    }
}

impl Tables for MapTables {
    #[inline(always)]
    fn seed(&self) -> u64 {
        maps::seed()
    }

    #[inline(always)]
    fn pattern(&self, pattern: u64) -> Option<Host> {
        pattern_at(pattern, self.generation)
    }

    #[inline(always)]
    fn within(&self, host: u32, address: &Address) -> bool {
        maps::within(self.generation, host, address)
    }

    #[inline(always)]
    fn learned(&self, address: &Address) -> Option<Learned> {
        maps::learned(address)
    }

    #[inline(always)]
    fn learn(&mut self, address: &Address, pattern: u64) {
        maps::learn(address, pattern);
    }

    #[inline(always)]
    fn drift(&mut self, drift: Drift) {
        // SAFETY: a slot that the program holds.
        let from = unsafe { emit::Origin::of(self.slot) };
        emit::drift(&drift, [0; 2], false, &from);
    }
}

#[inline(always)]
pub(crate) fn pattern_at(pattern: u64, generation: u32) -> Option<Host> {
    let value = maps::name(pattern, generation)?;
    Some(Host {
        pattern,
        host: value.host,
        flags: value.flags,
    })
}
