//! What every library's probes have in common: TLS objects, and plaintext on its way up.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm,
        generated::{bpf_get_attach_cookie, bpf_get_current_cgroup_id, bpf_probe_read_user},
    },
};
use mcp_monitor_common::{
    counter::Counter,
    plaintext::{
        Call, ObjectEndRecord, ObjectKey, ObjectRecord, ObjectState, PlaintextRecord, RANDOM, SNAPSHOT,
        flags as bits,
    },
    record::{CHUNK, MAX_CHUNKS, SegmentRecord, kind},
};

use crate::{
    emit::{at_most_chunk, now},
    maps::{self, add, count},
    scratch::{self, Slot},
};

const SEGMENT: usize = size_of::<SegmentRecord>();
const OBJECT: usize = size_of::<ObjectRecord>();
const PLAINTEXT: usize = size_of::<PlaintextRecord>();

/// Which object, called in which process through which library.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    pub(crate) key: ObjectKey,
    target: u32,
    /// The object's memory has the `client_random`.
    keeps_random: bool,
}

impl Site {
    /// `thread` is process and thread id of the caller.
    #[inline(always)]
    pub(crate) fn of(thread: u64, object: u64, ctx: &impl EbpfContext) -> Self {
        Self {
            key: ObjectKey {
                address: object,
                pid: (thread >> 32) as u32,
                reserved: 0,
            },
            // SAFETY: the program's context.
            target: unsafe { bpf_get_attach_cookie(ctx.as_ptr()) } as u32,
            keeps_random: true,
        }
    }

    /// The same, of a library whose objects do not keep the `client_random`: see [`learned`].
    #[inline(always)]
    pub(crate) fn without_random(thread: u64, object: u64, ctx: &impl EbpfContext) -> Self {
        Self {
            keeps_random: false,
            ..Self::of(thread, object, ctx)
        }
    }
}

/// Whether the calling process is below the cgroup that is watched, and its plaintext wanted.
#[inline(always)]
pub(crate) fn watched() -> bool {
    maps::in_watched_cgroup()
}

/// State of an object, a new one if it has none; `None` if there is no room for it.
#[inline(always)]
pub(crate) fn object(site: &Site) -> Option<*mut ObjectState> {
    if let Some(state) = maps::tls_object(&site.key) {
        return Some(state);
    }
    count(Counter::TlsObjects);
    let state = ObjectState {
        born: now(),
        written: 0,
        read: 0,
        socket: 0,
        early: 0,
        announced: 0,
        known: 0,
        reserved: [0; 5],
        random: [0; RANDOM],
    };
    maps::put_tls_object(&site.key, &state);
    maps::tls_object(&site.key)
}

/// Announces an object before its first write: of the two ends of a local connection the client is then
/// known first.
#[inline(always)]
pub(crate) fn before_write(site: &Site) {
    if let Some(state) = object(site) {
        // SAFETY: a value of the table; a field at a time.
        unsafe {
            if (*state).early == 0 && (*state).announced == 0 && (site.keeps_random || (*state).known != 0) {
                (*state).early = 1;
                announce(site, state, true);
            }
        }
    }
}

/// Keeps the `client_random` of a connection whose handshake was watched.
#[inline(always)]
pub(crate) fn learned(site: &Site, random: &[u8; RANDOM]) {
    if let Some(state) = object(site) {
        // SAFETY: a value of the table; only the goroutine that shakes hands writes it.
        unsafe {
            if (*state).known == 0 {
                (*state).random = *random;
                (*state).known = 1;
            }
        }
    }
}

/// Sends the plaintext of a call up that carried `length` bytes.
#[inline(always)]
pub(crate) fn returned(site: &Site, call: &Call, length: u32) {
    count(Counter::TlsCalls);
    let Some(state) = object(site) else {
        add(Counter::TlsLostBytes, u64::from(length));
        return;
    };
    // SAFETY: a value of the table; a field at a time, and reading and writing threads have one each.
    unsafe {
        if (*state).announced == 0 {
            (*state).announced = 1;
            announce(site, state, call.flags & bits::WRITTEN != 0);
        }
        let counted = if call.flags & bits::WRITTEN != 0 {
            core::ptr::addr_of_mut!((*state).written)
        } else {
            core::ptr::addr_of_mut!((*state).read)
        };
        let offset = *counted;
        *counted = offset.wrapping_add(u64::from(length));
        let Some(slot) = scratch::take() else {
            add(Counter::TlsLostBytes, u64::from(length));
            return;
        };
        let head = head::<PlaintextRecord>(slot);
        *head = PlaintextRecord {
            kind: kind::PLAINTEXT,
            flags: call.flags,
            reserved: 0,
            pid: site.key.pid,
            time: now(),
            object: site.key.address,
            born: (*state).born,
            offset,
            length: 0,
            padding: 0,
        };
        pieces(slot, call.buffer, length);
        scratch::release(slot);
    }
}

/// Where a record lies that ends where the payload begins.
#[inline(always)]
unsafe fn head<T>(slot: *mut Slot) -> *mut T {
    // SAFETY: the record is no longer than the one that is there; see the test beside the records.
    unsafe {
        core::ptr::addr_of_mut!((*slot).head)
            .cast::<u8>()
            .add(SEGMENT - size_of::<T>())
            .cast()
    }
}

/// # Safety
///
/// The program holds `slot`, whose record is filled in.
#[inline(never)]
unsafe fn pieces(slot: *mut Slot, buffer: u64, length: u32) {
    let mut done = 0_u32;
    // SAFETY: by contract; the helper fails where nothing is mapped.
    unsafe {
        let head = head::<PlaintextRecord>(slot);
        for _ in 0..MAX_CHUNKS {
            let piece = at_most_chunk(length.wrapping_sub(done));
            if piece == 0 {
                return;
            }
            let from = buffer.wrapping_add(u64::from(done));
            let payload = core::ptr::addr_of_mut!((*slot).payload);
            if bpf_probe_read_user(payload.cast(), piece as u32, from as *const _) == 0 {
                (*head).length = piece as u32;
                maps::output(head.cast(), piece.wrapping_add(PLAINTEXT as u64), piece);
            } else {
                add(Counter::TlsLostBytes, piece);
            }
            (*head).offset = (*head).offset.wrapping_add(piece);
            done = done.wrapping_add(piece as u32);
        }
    }
    if done < length {
        add(Counter::TlsLostBytes, u64::from(length.wrapping_sub(done)));
    }
}

/// Says which object this is, with the memory in which its `client_random` lies.
///
/// # Safety
///
/// `state` is a value of the table.
#[inline(always)]
unsafe fn announce(site: &Site, state: *mut ObjectState, writes: bool) {
    let Some(slot) = scratch::take() else {
        return;
    };
    if !site.keeps_random {
        // SAFETY: by contract; the slot is held.
        unsafe {
            let length = if (*state).known != 0 { RANDOM as u32 } else { 0 };
            let record = describe(site, state, slot, writes, (1, 0, length));
            *core::ptr::addr_of_mut!((*slot).payload).cast() = (*state).random;
            maps::output(record.cast(), (OBJECT + RANDOM) as u64, 0);
            scratch::release(slot);
        }
        return;
    }
    let known = maps::tls_random_at(site.target);
    // SAFETY: by contract; the slot is held.
    unsafe {
        let (at, length) = match known {
            Some(at) => (at, RANDOM as u32),
            None => (0, SNAPSHOT as u32),
        };
        let record = describe(site, state, slot, writes, (0, at, length));
        let payload = core::ptr::addr_of_mut!((*slot).payload);
        let from = site.key.address.wrapping_add(u64::from(at));
        let read = if known.is_some() {
            bpf_probe_read_user(payload.cast(), RANDOM as u32, from as *const _)
        } else {
            bpf_probe_read_user(payload.cast(), SNAPSHOT as u32, from as *const _)
        };
        if read != 0 {
            // Said all the same: the stream is there, to whom it belongs is not known.
            (*record).length = 0;
            maps::output(record.cast(), OBJECT as u64, 0);
        } else if known.is_some() {
            maps::output(record.cast(), (OBJECT + RANDOM) as u64, 0);
        } else {
            maps::output(record.cast(), (OBJECT + SNAPSHOT) as u64, 0);
        }
        scratch::release(slot);
    }
}

/// Fills in what is known of an object: whether its memory is the `client_random` itself, where in the object
/// it lies, and how long it is.
#[inline(always)]
unsafe fn describe(
    site: &Site,
    state: *mut ObjectState,
    slot: *mut Slot,
    writes: bool,
    (exact, at, length): (u8, u32, u32),
) -> *mut ObjectRecord {
    // SAFETY: the caller holds both.
    unsafe {
        let record = head::<ObjectRecord>(slot);
        *record = ObjectRecord {
            kind: kind::TLS_OBJECT,
            writes: u8::from(writes),
            exact,
            reserved: 0,
            pid: site.key.pid,
            time: now(),
            object: site.key.address,
            born: (*state).born,
            cgroup: bpf_get_current_cgroup_id(),
            socket: (*state).socket,
            target: site.target,
            at,
            length,
            padding: 0,
            comm: bpf_get_current_comm().unwrap_or([0; 16]),
        };
        record
    }
}

/// The object at this address is gone.
#[inline(always)]
pub(crate) fn freed(thread: u64, object: u64) {
    let key = ObjectKey {
        address: object,
        pid: (thread >> 32) as u32,
        reserved: 0,
    };
    let Some(state) = maps::tls_object(&key) else {
        return;
    };
    // SAFETY: a value of the table.
    let record = unsafe {
        ObjectEndRecord {
            kind: kind::TLS_END,
            reserved: [0; 3],
            pid: key.pid,
            time: now(),
            object,
            born: (*state).born,
            written: (*state).written,
            read: (*state).read,
        }
    };
    maps::remove_tls_object(&key);
    // SAFETY: the whole record, on the stack.
    unsafe {
        maps::output(
            core::ptr::from_ref(&record).cast(),
            size_of::<ObjectEndRecord>() as u64,
            0,
        );
    }
}

const _: () = assert!(SNAPSHOT <= CHUNK);
