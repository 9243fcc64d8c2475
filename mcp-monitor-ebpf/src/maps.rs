//! Every map and load-time constant, behind functions that are all the programs know of them.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::{
        bpf_get_netns_cookie,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_ringbuf_output, bpf_ringbuf_query, bpf_sk_storage_get,
        },
    },
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};
use mcp_monitor_common::{
    address::Address,
    counter::{Counter, Counts},
    flow::{Decision, FlowState, Owner, Tuple},
    pins::{Control, NameKey, NameValue, PrefixKey},
    plaintext::{Call, GoCallKey, ObjectKey, ObjectState},
    verdict::{Drift, Learned},
};

const BPF_F_NO_PREALLOC: u32 = 1;

/// Start of name hashes: a random number per run.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);
/// 1 where the kernel has `bpf_loop` (5.17); without it, userspace walks DNS answers and ClientHellos.
#[unsafe(no_mangle)]
static HAS_LOOP: Global<u8> = Global::new(0);
/// 1 where `bpf_get_netns_cookie` may be called on packets.
#[unsafe(no_mangle)]
static HAS_NETNS: Global<u8> = Global::new(0);
/// 1 where plaintext comes from TLS libraries: their flows are then followed to their end.
#[unsafe(no_mangle)]
static HAS_PLAINTEXT: Global<u8> = Global::new(0);
/// 1 where connections that drift may be refused, for hosts whose pins ask for it.
#[unsafe(no_mangle)]
static MAY_REFUSE: Global<u8> = Global::new(0);
/// Depth of the watched cgroup below the root; 0 for the root itself.
#[unsafe(no_mangle)]
static CGROUP_LEVEL: Global<u32> = Global::new(0);
/// Id of the watched cgroup.
#[unsafe(no_mangle)]
static CGROUP_ID: Global<u64> = Global::new(0);

/// Ring buffer: 5.8. The loader sets the size.
#[map]
static EVENTS: aya_ebpf::maps::RingBuf = aya_ebpf::maps::RingBuf::with_byte_size(1 << 24, 0);
/// Socket-local storage: 5.2.
#[btf_map]
static FLOWS: SkStorage<FlowState> = SkStorage::new();
#[map]
static DECISIONS: LruHashMap<u64, Decision> = LruHashMap::with_max_entries(1 << 14, 0);
#[map]
static OWNERS: LruHashMap<Tuple, Owner> = LruHashMap::with_max_entries(1 << 15, 0);
#[map]
static LEARNED: LruHashMap<Address, Learned> = LruHashMap::with_max_entries(1 << 14, 0);
#[map]
static NAMES: HashMap<NameKey, NameValue> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map]
static PREFIXES: LpmTrie<PrefixKey, u8> = LpmTrie::with_max_entries(1 << 17, 0);
#[map]
static CONTROL: Array<Control> = Array::with_max_entries(1, 0);
/// Calls into TLS libraries that have not returned, by process and thread. Threads that die in a call make
/// room for others.
#[map]
static TLS_CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(1 << 13, 0);
/// The same of Go: a goroutine waits in one as long as its connection is silent.
#[map]
static TLS_GO_CALLS: LruHashMap<GoCallKey, Call> = LruHashMap::with_max_entries(1 << 15, 0);
/// Connections that goroutines shake hands for.
#[map]
static TLS_GO_HANDSHAKES: LruHashMap<ObjectKey, u64> = LruHashMap::with_max_entries(1 << 12, 0);
/// TLS objects that are in use. Those of processes that died make room for others.
#[map]
static TLS_OBJECTS: LruHashMap<ObjectKey, ObjectState> = LruHashMap::with_max_entries(1 << 15, 0);
/// By number of a library: where its objects keep the `client_random`, plus one; 0 while that is not known.
#[map]
static TLS_RANDOM: Array<u32> = Array::with_max_entries(1 << 12, 0);
#[map]
static COUNTERS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);

pub(crate) fn seed() -> u64 {
    SEED.load()
}

#[inline(always)]
pub(crate) fn has_loop() -> bool {
    HAS_LOOP.load() != 0
}

/// Whether a connection with this verdict is to be refused.
#[inline(always)]
pub(crate) fn refuses(drift: &Drift) -> bool {
    drift.host.refuses_drift() && MAY_REFUSE.load() != 0
}

/// Cookie of the context's network namespace where packets may ask for it.
#[inline(always)]
pub(crate) fn packet_netns(ctx: *mut c_void) -> Option<u64> {
    // SAFETY: a context of a program type that has the helper, as the loader found out.
    (HAS_NETNS.load() != 0).then(|| unsafe { bpf_get_netns_cookie(ctx) })
}

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add(counter, 1);
}

#[inline(always)]
pub(crate) fn add(counter: Counter, by: u64) {
    if let Some(counts) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the entry of this CPU, and a number below `COUNT`. An increment that races with an
        // interrupt on the same CPU may get lost; a lock would cost more than the number is worth.
        unsafe {
            let cell = counts.cast::<u64>().add(counter as usize);
            *cell = (*cell).wrapping_add(by);
        }
    }
}

/// State of a socket, null if it has none.
#[inline(always)]
pub(crate) fn flow(socket: *mut c_void) -> *mut FlowState {
    // SAFETY: the verifier holds `socket` to be a socket that is not null.
    unsafe { bpf_sk_storage_get(flows(), socket, core::ptr::null_mut(), 0) }.cast()
}

/// State of a socket, a new one if it has none; null if there is no memory for it.
#[inline(always)]
pub(crate) fn flow_or_new(socket: *mut c_void) -> *mut FlowState {
    // SAFETY: as above. The kernel zeroes what it creates, and zero is `FlowState::new()`.
    unsafe {
        bpf_sk_storage_get(
            flows(),
            socket,
            core::ptr::null_mut(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    }
    .cast()
}

#[inline(always)]
fn flows() -> *mut c_void {
    core::ptr::from_ref(&FLOWS).cast_mut().cast()
}

/// Takes what userspace decided on a socket, if it did since the last call.
#[inline(always)]
pub(crate) fn take_decision(cookie: u64) -> Option<u8> {
    // SAFETY: one byte is read; were the entry reused at this moment, it would be another flow's
    // decision, which the next classification by userspace corrects.
    let state = unsafe { DECISIONS.get(cookie) }?.state;
    let _ = DECISIONS.remove(cookie);
    Some(state)
}

#[inline(always)]
pub(crate) fn owner(tuple: &Tuple) -> Option<Owner> {
    // SAFETY: copied at once.
    unsafe { OWNERS.get(tuple) }.copied()
}

/// Takes ownership of a connection whoever has it.
#[inline(always)]
pub(crate) fn take_ownership(tuple: &Tuple, owner: &Owner) {
    let _ = OWNERS.insert(tuple, owner, 0);
}

/// Takes ownership of a connection unless somebody has it.
#[inline(always)]
pub(crate) fn claim_ownership(tuple: &Tuple, owner: &Owner) -> bool {
    const BPF_NOEXIST: u64 = 1;
    OWNERS.insert(tuple, owner, BPF_NOEXIST).is_ok()
}

#[inline(always)]
pub(crate) fn disown(tuple: &Tuple) {
    let _ = OWNERS.remove(tuple);
}

/// Generation of the pins in force.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    CONTROL.get(0).map_or(0, |control| control.generation)
}

#[inline(always)]
pub(crate) fn name(pattern: u64, generation: u32) -> Option<NameValue> {
    let key = NameKey {
        pattern,
        generation,
        reserved: 0,
    };
    // SAFETY: entries of a generation in force are never changed or removed.
    unsafe { NAMES.get(key) }.copied()
}

#[inline(always)]
pub(crate) fn within(generation: u32, host: u32, address: &Address) -> bool {
    let key = Key::new(PrefixKey::BITS, PrefixKey::new(generation, host, *address));
    PREFIXES.get(key).is_some()
}

#[inline(always)]
pub(crate) fn learned(address: &Address) -> Option<Learned> {
    // SAFETY: copied at once; a torn entry names hosts that are looked up again.
    unsafe { LEARNED.get(address) }.copied()
}

#[inline(always)]
pub(crate) fn learn(address: &Address, pattern: u64) {
    match LEARNED.get_ptr_mut(address) {
        // SAFETY: a value of this map; racing writers leave one of their hosts out.
        Some(learned) => unsafe { (*learned).add(pattern) },
        None => {
            let _ = LEARNED.insert(address, Learned::new(pattern), 0);
        }
    }
}

/// As [`output`], for payload of a connection: the first to go when the ring is nearly full, so that who
/// connects where, names and drift still get through.
///
/// # Safety
///
/// `data` must be readable for `length` bytes.
#[inline(always)]
pub(crate) unsafe fn output_payload(data: *const u8, length: u64, payload: u64) {
    if payload != 0 && is_crowded() {
        count(Counter::Shed);
        add(Counter::ShedBytes, payload);
        return;
    }
    // SAFETY: by contract.
    unsafe { output(data, length, payload) };
}

/// Less than an eighth of the ring is free.
#[inline(always)]
fn is_crowded() -> bool {
    const BPF_RB_AVAIL_DATA: u64 = 0;
    const BPF_RB_RING_SIZE: u64 = 1;
    let ring = core::ptr::from_ref(&EVENTS).cast_mut().cast::<c_void>();
    // SAFETY: the ring, and what is asked of it (5.8).
    let (used, size) = unsafe {
        (
            bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA),
            bpf_ringbuf_query(ring, BPF_RB_RING_SIZE),
        )
    };
    used > size - (size >> 3)
}

/// Sends `length` bytes at `data` up. Counts a record, or its loss.
///
/// # Safety
///
/// `data` must be readable for `length` bytes.
#[inline(always)]
pub(crate) unsafe fn output(data: *const u8, length: u64, payload: u64) {
    // SAFETY: by contract.
    let sent = unsafe {
        bpf_ringbuf_output(
            core::ptr::from_ref(&EVENTS).cast_mut().cast(),
            data.cast_mut().cast(),
            length,
            0,
        )
    };
    if sent == 0 {
        count(Counter::Records);
    } else {
        count(Counter::RingFull);
        add(Counter::RingFullBytes, payload);
    }
}

#[inline(always)]
pub(crate) fn has_plaintext() -> bool {
    HAS_PLAINTEXT.load() != 0
}

/// Whether the current process is below the cgroup that is watched.
#[inline(always)]
pub(crate) fn in_watched_cgroup() -> bool {
    let level = CGROUP_LEVEL.load();
    // SAFETY: a number.
    level == 0 || unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) } == CGROUP_ID.load()
}

/// Notes a call of this thread, in place of one that did not return.
#[inline(always)]
pub(crate) fn put_tls_call(thread: u64, call: &Call) {
    if TLS_CALLS.insert(&thread, call, 0).is_err() {
        count(Counter::TlsNoRoom);
    }
}

/// The call of this thread that returns.
#[inline(always)]
pub(crate) fn take_tls_call(thread: u64) -> Option<Call> {
    // SAFETY: copied at once, and no other thread writes it.
    let call = unsafe { TLS_CALLS.get(&thread) }.copied()?;
    let _ = TLS_CALLS.remove(&thread);
    Some(call)
}

/// Notes a call of a goroutine.
#[inline(always)]
pub(crate) fn put_go_call(key: &GoCallKey, call: &Call) {
    if TLS_GO_CALLS.insert(key, call, 0).is_err() {
        count(Counter::TlsNoRoom);
    }
}

/// The call that returns.
#[inline(always)]
pub(crate) fn take_go_call(key: &GoCallKey) -> Option<Call> {
    // SAFETY: copied at once, and only this goroutine writes it.
    let call = unsafe { TLS_GO_CALLS.get(key) }.copied()?;
    let _ = TLS_GO_CALLS.remove(key);
    Some(call)
}

/// Notes that a goroutine shakes hands for a connection.
#[inline(always)]
pub(crate) fn put_go_handshake(goroutine: &ObjectKey, object: u64) {
    if TLS_GO_HANDSHAKES.insert(goroutine, object, 0).is_err() {
        count(Counter::TlsNoRoom);
    }
}

/// For which connection a goroutine shook hands last.
#[inline(always)]
pub(crate) fn go_handshake(goroutine: &ObjectKey) -> Option<u64> {
    // SAFETY: copied at once, and only this goroutine writes it.
    unsafe { TLS_GO_HANDSHAKES.get(goroutine) }.copied()
}

#[inline(always)]
pub(crate) fn tls_object(key: &ObjectKey) -> Option<*mut ObjectState> {
    TLS_OBJECTS.get_ptr_mut(key)
}

#[inline(always)]
pub(crate) fn put_tls_object(key: &ObjectKey, state: &ObjectState) {
    if TLS_OBJECTS.insert(key, state, 0).is_err() {
        count(Counter::TlsNoRoom);
    }
}

#[inline(always)]
pub(crate) fn remove_tls_object(key: &ObjectKey) {
    let _ = TLS_OBJECTS.remove(key);
}

/// Where objects of a library keep the `client_random`.
#[inline(always)]
pub(crate) fn tls_random_at(target: u32) -> Option<u32> {
    TLS_RANDOM.get(target)?.checked_sub(1)
}
