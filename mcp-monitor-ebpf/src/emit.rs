//! Records on their way up.

use core::ptr;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop};
use mcp_monitor_common::{
    Step, client_hello,
    counter::Counter,
    dns,
    headers::Headers,
    record::{CHUNK, DatagramRecord, DriftRecord, MAX_CHUNKS, SegmentRecord, flags, kind},
    verdict::{Drift, server_name},
};

use crate::{
    maps::{self, add, count},
    scratch::{self, Payload, Slot},
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
pub(crate) fn drift(drift: &Drift, port: [u8; 2], from: &Origin) {
    count(Counter::Drifts);
    let record = DriftRecord {
        kind: kind::DRIFT,
        drift: drift.kind as u8,
        port,
        reserved: 0,
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

/// Takes a slot and notes whose packet it holds.
#[inline(always)]
fn slot_for(from: &Origin) -> Option<*mut Slot> {
    let slot = scratch::take()?;
    // SAFETY: just taken.
    unsafe {
        (*slot).generation = maps::generation();
        (*slot).time = from.time;
        (*slot).cookie = from.cookie;
        (*slot).cgroup = from.cgroup;
        (*slot).scope = from.scope;
    }
    Some(slot)
}

/// Sends a TCP segment up, in chunks where it is large; `length` bytes of payload. With `hello`, looks
/// for a pinned server name in it.
#[inline(always)]
pub(crate) fn segment(skb: Skb, headers: &Headers, length: u32, flag_bits: u8, from: &Origin, hello: bool) {
    count(Counter::Captured);
    let Some(slot) = slot_for(from) else {
        return;
    };
    // SAFETY: the slot is held until released below; every length is bounded by its buffer.
    unsafe {
        (*slot).head = SegmentRecord {
            kind: kind::SEGMENT,
            flags: flag_bits,
            version: headers.version,
            tcp_flags: headers.flags,
            source_port: headers.source_port,
            destination_port: headers.destination_port,
            time: from.time,
            cookie: from.cookie,
            cgroup: from.cgroup,
            scope: from.scope,
            source: headers.source,
            destination: headers.destination,
            sequence: headers.sequence,
            acknowledgement: headers.acknowledgement,
            offset: 0,
            length: 0,
            total: length,
            reserved: 0,
        };
        let mut offset = 0_u32;
        for chunk in 0..MAX_CHUNKS {
            let piece = at_most_chunk(length.wrapping_sub(offset));
            if !fill(skb, slot, headers.payload_at.wrapping_add(offset), piece) {
                break;
            }
            (*slot).head.offset = offset;
            (*slot).head.length = piece as u32;
            if chunk == 1 {
                (*slot).head.flags = (flag_bits & !flags::RESUMED) | flags::CONTINUED;
            }
            maps::output(
                ptr::addr_of!((*slot).head).cast(),
                piece.wrapping_add(SEGMENT as u64),
                piece,
            );
            if chunk == 0 && hello && maps::has_loop() {
                find_server_name(slot, headers, from);
            }
            offset = offset.wrapping_add(piece as u32);
            if offset >= length {
                break;
            }
        }
        if offset < length {
            add(Counter::TooLargeBytes, u64::from(length.wrapping_sub(offset)));
        }
        scratch::release(slot);
    }
}

/// Sends a UDP datagram up. With `answer`, walks it as a DNS answer.
#[inline(always)]
pub(crate) fn datagram(skb: Skb, headers: &Headers, flag_bits: u8, from: &Origin, answer: bool) {
    count(Counter::Captured);
    let Some(slot) = slot_for(from) else {
        return;
    };
    // SAFETY: as in `segment`; the record ends where the payload begins.
    unsafe {
        let piece = at_most_chunk(headers.payload_length);
        if fill(skb, slot, headers.payload_at, piece) {
            let head = ptr::addr_of_mut!((*slot).head)
                .cast::<u8>()
                .add(SEGMENT - DATAGRAM);
            *head.cast::<DatagramRecord>() = DatagramRecord {
                kind: kind::DATAGRAM,
                flags: flag_bits,
                version: headers.version,
                reserved: 0,
                source_port: headers.source_port,
                destination_port: headers.destination_port,
                time: from.time,
                cookie: from.cookie,
                cgroup: from.cgroup,
                scope: from.scope,
                source: headers.source,
                destination: headers.destination,
                length: piece as u32,
                total: headers.payload_length,
            };
            maps::output(head, piece.wrapping_add(DATAGRAM as u64), piece);
            if answer && maps::has_loop() {
                walk_dns(slot);
            }
        }
        scratch::release(slot);
    }
}

/// At most [`CHUNK`], in a way that the verifier follows.
#[inline(always)]
fn at_most_chunk(length: u32) -> u64 {
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

/// Copies payload into the slot. `false` if there was some and it could not be read.
#[inline(always)]
unsafe fn fill(skb: Skb, slot: *mut Slot, at: u32, length: u64) -> bool {
    // SAFETY: the caller holds the slot and bounds the length by its buffer.
    unsafe {
        (*slot).filled = length as u32;
        if length == 0 {
            return true;
        }
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
unsafe fn find_server_name(slot: *mut Slot, headers: &Headers, from: &Origin) {
    // SAFETY: the caller holds the slot.
    unsafe {
        let tables = MapTables::new(slot);
        if (*slot).hello.begin(&Payload(slot), &tables) == Step::Done {
            return;
        }
        count(Counter::HellosWalked);
        repeat(client_hello::MAX_STEPS, hello_step, slot);
        if let Some(host) = (*slot).hello.host(&tables)
            && let Some(found) = server_name(&tables, host, &headers.destination)
        {
            drift(&found, headers.destination_port, from);
        }
    }
}
