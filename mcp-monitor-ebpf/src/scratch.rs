//! Buffers too large for the 512-byte stack.
//!
//! A program may be interrupted by another one on the same CPU (a softirq, or with preemption another
//! task), so each CPU has a few and a program holds one for itself.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use mcp_monitor_common::{
    Text,
    client_hello::HelloWalk,
    counter::Counter,
    dns::DnsWalk,
    headers::Headers,
    record::{CHUNK, SegmentRecord},
};

use crate::maps::count;

/// How many programs may be at work on one CPU at once.
const SLOTS: u32 = 4;

#[map]
static SCRATCH: PerCpuArray<Slot> = PerCpuArray::with_max_entries(SLOTS, 0);

/// One program's buffers.
#[repr(C)]
pub(crate) struct Slot {
    busy: u64,
    /// Pins this program judges by.
    pub(crate) generation: u32,
    /// Bytes of `payload` that are filled.
    pub(crate) filled: u32,
    /// Nanoseconds since boot, of the packet.
    pub(crate) time: u64,
    /// Socket cookie of the packet.
    pub(crate) cookie: u64,
    pub(crate) cgroup: u64,
    pub(crate) scope: u64,
    /// What is known of the packet lies here rather than on the stack: the verifier follows every value
    /// on the stack through every path, and there are too many paths; of memory it assumes nothing.
    pub(crate) headers: Headers,
    /// Payload bytes to give up.
    pub(crate) wanted: u32,
    /// See `record::flags`.
    pub(crate) bits: u8,
    /// 1 if a server name is to be looked for.
    pub(crate) look: u8,
    pub(crate) hello: HelloWalk,
    pub(crate) dns: DnsWalk,
    /// A record; the shorter kinds end where this one does, so that payload follows every kind.
    pub(crate) head: SegmentRecord,
    pub(crate) payload: [u8; CHUNK],
}

/// Takes a free one.
#[inline(always)]
pub(crate) fn take() -> Option<*mut Slot> {
    for index in 0..SLOTS {
        if let Some(slot) = SCRATCH.get_ptr_mut(index) {
            // SAFETY: a map value, which lives as long as the program; only `busy` is touched.
            if unsafe { exchange(core::ptr::addr_of_mut!((*slot).busy), 1) } == 0 {
                return Some(slot);
            }
        }
    }
    count(Counter::ScratchBusy);
    None
}

/// Stores a value and returns the one before, in one instruction (`core` has no atomics for this target).
#[inline(always)]
unsafe fn exchange(cell: *mut u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: the caller passes a cell of its own CPU.
    unsafe {
        core::arch::asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value, in(reg) cell);
    }
    value
}

/// Gives one back.
///
/// # Safety
///
/// `slot` came from [`take`] and is not used afterwards.
#[inline(always)]
pub(crate) unsafe fn release(slot: *mut Slot) {
    // SAFETY: by contract.
    unsafe { core::ptr::addr_of_mut!((*slot).busy).write_volatile(0) };
}

/// The payload of a slot as the walks read it.
pub(crate) struct Payload(pub(crate) *mut Slot);

impl Text for Payload {
    #[inline(always)]
    fn byte(&self, at: u32) -> Option<u8> {
        // SAFETY: the mask keeps the offset inside the buffer. It is done out of the compiler's sight,
        // which would drop it as redundant where the verifier still needs it.
        unsafe {
            if at >= (*self.0).filled {
                return None;
            }
            let mut at = u64::from(at);
            core::arch::asm!("{0} &= {1}", inout(reg) at, const CHUNK - 1);
            Some(*(*self.0).payload.as_ptr().add(at as usize))
        }
    }
}
