//! Records on their way up.

use core::ptr;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop};
use mcp_monitor_common::{
    Step, client_hello,
    counter::Counter,
    dns,
    record::{CHUNK, DatagramRecord, DriftRecord, MAX_CHUNKS, SegmentRecord, flags, kind},
    verdict::{Drift, server_name},
};

use crate::{
    maps::{self, add, count},
    scratch::{Payload, Slot},
    skb::Skb,
    tables::MapTables,
};

const SEGMENT: usize = size_of::<SegmentRecord>();
const DATAGRAM: usize = size_of::<DatagramRecord>();

/// Whose packet or call it was.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) time: u64,
    pub(crate) cookie: u64,
    pub(crate) cgroup: u64,
    pub(crate) scope: u64,
}

impl Origin {
    /// Of the packet in a slot.
    ///
    /// # Safety
    ///
    /// The program holds `slot`.
    #[inline(always)]
    pub(crate) unsafe fn of(slot: *mut Slot) -> Self {
        // SAFETY: by contract.
        unsafe {
            Self {
                time: (*slot).time,
                cookie: (*slot).cookie,
                cgroup: (*slot).cgroup,
                scope: (*slot).scope,
            }
        }
    }
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Sends a verdict up.
#[inline(always)]
pub(crate) fn drift(drift: &Drift, port: [u8; 2], refused: bool, from: &Origin) {
    count(Counter::Drifts);
    if refused {
        count(Counter::Refused);
    }
    let record = DriftRecord {
        kind: kind::DRIFT,
        drift: drift.kind as u8,
        port,
        refused: u32::from(refused),
        time: from.time,
        cookie: from.cookie,
        cgroup: from.cgroup,
        scope: from.scope,
        pattern: drift.host.pattern,
        address: drift.address,
    };
    // SAFETY: the whole record, on the stack.
    unsafe { maps::output(ptr::from_ref(&record).cast(), size_of::<DriftRecord>() as u64, 0) };
}

/// Sends the TCP segment that a slot describes up, in chunks where it is large, and looks for a pinned
/// server name in it where that was asked for. A function of its own, so that the verifier goes through
/// it once and not once per way that leads here.
///
/// # Safety
///
/// The program holds `slot`.
#[inline(never)]
pub(crate) unsafe fn segment(skb: Skb, slot: *mut Slot) {
    count(Counter::Captured);
    // SAFETY: by contract; every length is bounded by its buffer.
    unsafe {
        let headers = ptr::addr_of!((*slot).headers);
        let from = Origin::of(slot);
        (*slot).head = SegmentRecord {
            kind: kind::SEGMENT,
            flags: (*slot).bits,
            version: (*headers).version,
            tcp_flags: (*headers).flags,
            source_port: (*headers).source_port,
            destination_port: (*headers).destination_port,
            time: from.time,
            cookie: from.cookie,
            cgroup: from.cgroup,
            scope: from.scope,
            source: (*headers).source,
            destination: (*headers).destination,
            sequence: (*headers).sequence,
            acknowledgement: (*headers).acknowledgement,
            offset: 0,
            length: 0,
            total: (*slot).wanted,
            reserved: 0,
        };
        let mut more = chunk(skb, slot);
        // Between the first piece and the others, which take its place in the buffer.
        if (*slot).look != 0 && maps::has_loop() {
            find_server_name(slot);
        }
        for _ in 1..MAX_CHUNKS {
            if !more {
                break;
            }
            more = chunk(skb, slot);
        }
        let (offset, wanted) = ((*slot).head.offset, (*slot).wanted);
        if offset < wanted {
            add(Counter::TooLargeBytes, u64::from(wanted.wrapping_sub(offset)));
        }
    }
}

/// Sends the next piece up. `false` after the last one.
#[inline(always)]
unsafe fn chunk(skb: Skb, slot: *mut Slot) -> bool {
    // SAFETY: the caller holds the slot.
    unsafe {
        let offset = (*slot).head.offset;
        let piece = at_most_chunk((*slot).wanted.wrapping_sub(offset));
        (*slot).head.length = piece as u32;
        if !fill(skb, slot, (*slot).headers.payload_at.wrapping_add(offset), piece) {
            return false;
        }
        maps::output_payload(
            ptr::addr_of!((*slot).head).cast(),
            piece.wrapping_add(SEGMENT as u64),
            piece,
        );
        (*slot).head.flags = ((*slot).head.flags & !flags::RESUMED) | flags::CONTINUED;
        let offset = offset.wrapping_add((*slot).head.length);
        (*slot).head.offset = offset;
        offset < (*slot).wanted
    }
}

/// Sends the UDP datagram that a slot describes up, and walks it as a DNS answer where that was asked for.
///
/// # Safety
///
/// The program holds `slot`.
#[inline(never)]
pub(crate) unsafe fn datagram(skb: Skb, slot: *mut Slot) {
    count(Counter::Captured);
    // SAFETY: by contract; the record ends where the payload begins.
    unsafe {
        let headers = ptr::addr_of!((*slot).headers);
        let from = Origin::of(slot);
        let head = ptr::addr_of_mut!((*slot).head)
            .cast::<u8>()
            .add(SEGMENT - DATAGRAM);
        *head.cast::<DatagramRecord>() = DatagramRecord {
            kind: kind::DATAGRAM,
            flags: (*slot).bits,
            version: (*headers).version,
            reserved: 0,
            source_port: (*headers).source_port,
            destination_port: (*headers).destination_port,
            time: from.time,
            cookie: from.cookie,
            cgroup: from.cgroup,
            scope: from.scope,
            source: (*headers).source,
            destination: (*headers).destination,
            length: (*headers).payload_length.min(CHUNK as u32),
            total: (*headers).payload_length,
        };
        let piece = at_most_chunk((*headers).payload_length);
        if fill(skb, slot, (*headers).payload_at, piece) {
            maps::output(head, piece.wrapping_add(DATAGRAM as u64), piece);
            if (*slot).look != 0 && maps::has_loop() {
                walk_dns(slot);
            }
        }
    }
}

/// At most [`CHUNK`], in a way that the verifier follows.
#[inline(always)]
pub(crate) fn at_most_chunk(length: u32) -> u64 {
    let mut length = u64::from(length);
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!(
            "if {0} <= {1} goto +1",
            "{0} = {1}",
            inout(reg) length,
            const CHUNK,
        );
    }
    length
}

/// What is not 0 is at least 1: verifiers before Linux 6.8 do not conclude it, and refuse copies that may be empty.
#[inline(always)]
fn at_least_one(length: u64) -> u64 {
    let mut length = length;
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("if {0} >= 1 goto +1", "{0} = 1", inout(reg) length);
    }
    length
}

/// Copies payload into the slot. `false` if there was some and it could not be read.
#[inline(always)]
unsafe fn fill(skb: Skb, slot: *mut Slot, at: u32, length: u64) -> bool {
    // SAFETY: the caller holds the slot and bounds the length by its buffer.
    unsafe {
        (*slot).filled = length as u32;
        if length == 0 {
            return true;
        }
        let length = at_least_one(length);
        let whole = skb.copy(at, ptr::addr_of_mut!((*slot).payload).cast(), length as u32);
        if !whole {
            count(Counter::Unreadable);
        }
        whole
    }
}

/// What a `bpf_loop` callback is given: it must lie on the stack.
#[repr(C)]
struct LoopContext {
    slot: *mut Slot,
}

#[inline(always)]
unsafe fn repeat(steps: u32, callback: extern "C" fn(u64, *mut LoopContext) -> i64, slot: *mut Slot) -> i64 {
    let mut context = LoopContext { slot };
    // SAFETY: the callback gets the context it is written for.
    unsafe {
        bpf_loop(
            steps,
            callback as *mut core::ffi::c_void,
            ptr::from_mut(&mut context).cast(),
            0,
        )
    }
}

extern "C" fn dns_step(_: u64, context: *mut LoopContext) -> i64 {
    // SAFETY: the context that `repeat` passed.
    unsafe {
        let slot = (*context).slot;
        let step = (*slot).dns.step(&Payload(slot), &mut MapTables::new(slot));
        i64::from(step == Step::Done)
    }
}

#[inline(always)]
unsafe fn walk_dns(slot: *mut Slot) {
    // SAFETY: the caller holds the slot.
    unsafe {
        if (*slot).dns.begin(&Payload(slot)) == Step::Done {
            return;
        }
        count(Counter::DnsWalked);
        if repeat(dns::MAX_STEPS, dns_step, slot) >= i64::from(dns::MAX_STEPS) {
            count(Counter::DnsGivenUp);
        }
    }
}

extern "C" fn hello_step(_: u64, context: *mut LoopContext) -> i64 {
    // SAFETY: the context that `repeat` passed.
    unsafe {
        let slot = (*context).slot;
        let step = (*slot).hello.step(&Payload(slot), &MapTables::new(slot));
        i64::from(step == Step::Done)
    }
}

#[inline(always)]
unsafe fn find_server_name(slot: *mut Slot) {
    // SAFETY: the caller holds the slot.
    unsafe {
        let tables = MapTables::new(slot);
        if (*slot).hello.begin(&Payload(slot), &tables) == Step::Done {
            return;
        }
        count(Counter::HellosWalked);
        repeat(client_hello::MAX_STEPS, hello_step, slot);
        if let Some(host) = (*slot).hello.host(&tables)
            && let Some(found) = server_name(&tables, host, &(*slot).headers.destination)
        {
            drift(&found, (*slot).headers.destination_port, false, &Origin::of(slot));
        }
    }
}
