//! `cgroup_skb`: every packet of every socket below the cgroup (4.10; socket storage 5.2).

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::{
        bpf_get_socket_cookie,
        generated::{bpf_sk_cgroup_id, bpf_sk_fullsock},
    },
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use mcp_monitor_common::{
    address::is_loopback,
    client_hello::looks_like_tls,
    counter::Counter,
    dns,
    flow::{FlowState, Owner, Tuple, looks_like_http, looks_like_request, state},
    headers::{Packet as _, UDP},
    record::flags,
};

use crate::{
    emit::{self, Origin},
    log::debug,
    maps::{self, add, count},
    programs::connect::judge,
    scratch::{self, Slot},
    skb::Skb,
};

/// The packet goes on its way.
const PASS: i32 = 1;
/// The packet goes nowhere; the call that sends it fails with `EPERM`.
const DROP: i32 = 0;
/// Bit of [`FlowState::attributed`]: it was said that a connected UDP socket's datagrams are refused.
const SAID_REFUSED: u8 = 4;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cgroup_skb(egress)]
pub(crate) fn mcp_egress(ctx: SkBuffContext) -> i32 {
    packet(&ctx, true)
}

#[cgroup_skb(ingress)]
pub(crate) fn mcp_ingress(ctx: SkBuffContext) -> i32 {
    packet(&ctx, false)
}

/// Ignored flows end here: one lookup, one count.
#[inline(always)]
fn packet(ctx: &SkBuffContext, egress: bool) -> i32 {
    let skb = Skb::new(ctx);
    let socket = skb.socket();
    if socket.is_null() {
        count(Counter::NoSocket);
        return PASS;
    }
    let flow = maps::flow(socket.cast());
    // SAFETY: checked for null; the storage lives as long as the socket.
    if !flow.is_null() && unsafe { (*flow).state } == state::IGNORED {
        count(Counter::Ignored);
        return PASS;
    }
    inspect(ctx, skb, socket, flow, egress)
}

#[inline(always)]
fn inspect(ctx: &SkBuffContext, skb: Skb, common: *mut bpf_sock, flow: *mut FlowState, egress: bool) -> i32 {
    // SAFETY: checked for null; the storage lives as long as the socket.
    if !flow.is_null() && unsafe { (*flow).state } == state::DUPLICATE {
        count(Counter::Duplicate);
        return PASS;
    }
    // SAFETY: not null.
    let socket = unsafe { bpf_sk_fullsock(common) };
    if socket.is_null() {
        count(Counter::NoSocket);
        return PASS;
    }
    let Some(slot) = scratch::take() else {
        return PASS;
    };
    let mut verdict = PASS;
    // SAFETY: the slot is held until it is released.
    unsafe {
        (*slot).wanted = 0;
        (*slot).look = 0;
        (*slot).bits = if egress { flags::EGRESS } else { 0 };
        if (*slot).headers.read(&skb).is_none() {
            count(Counter::Undecoded);
        } else if (*slot).headers.protocol == UDP {
            verdict = datagram(skb, socket, slot, egress);
        } else if (*socket).state == LISTEN {
            handshake(skb, socket, slot, egress);
        } else {
            segment(ctx, skb, socket, slot, flow, egress);
        }
        scratch::release(slot);
    }
    verdict
}

/// Notes whose packet it is.
///
/// # Safety
///
/// The program holds `slot`, and `socket` is a full socket.
#[inline(always)]
unsafe fn identify(skb: Skb, socket: *mut bpf_sock, slot: *mut Slot) {
    // SAFETY: by contract.
    unsafe {
        let cgroup = bpf_sk_cgroup_id(socket.cast::<c_void>());
        (*slot).cgroup = cgroup;
        (*slot).scope = maps::packet_netns(skb.context()).unwrap_or(cgroup);
        (*slot).cookie = bpf_get_socket_cookie(skb.context());
        (*slot).time = emit::now();
        (*slot).generation = maps::generation();
    }
}

/// DNS goes up, seen at the client's end only: the server's end, if it is local too, says the same.
///
/// # Safety
///
/// As for [`identify`].
#[inline(always)]
unsafe fn datagram(skb: Skb, socket: *mut bpf_sock, slot: *mut Slot, egress: bool) -> i32 {
    let port = dns::PORT.to_be_bytes();
    // SAFETY: by contract.
    unsafe {
        let from_server = (*slot).headers.source_port == port;
        let to_server = (*slot).headers.destination_port == port;
        if (egress && to_server) || (!egress && from_server) {
            identify(skb, socket, slot);
            (*slot).look = u8::from(!egress);
            emit::datagram(skb, slot);
        } else if from_server || to_server {
            count(Counter::Duplicate);
        } else {
            return other_udp(skb, socket, slot, egress);
        }
    }
    PASS
}

/// A connected socket that is not DNS's will not become so, short of another `connect`. That one was
/// not judged: resolver libraries connect UDP sockets only to learn which source address they would get.
/// A socket whose datagrams are refused is looked at again each time: the pins may change.
///
/// # Safety
///
/// As for [`identify`].
#[inline(always)]
unsafe fn other_udp(skb: Skb, socket: *mut bpf_sock, slot: *mut Slot, egress: bool) -> i32 {
    count(Counter::OtherUdp);
    // SAFETY: by contract.
    unsafe {
        if !egress || (*socket).dst_port == 0 {
            return PASS;
        }
        let address = (*slot).headers.destination;
        let flow = maps::flow_or_new(socket.cast());
        if let Some(drift) = judge(&address) {
            let refused = maps::refuses(&drift);
            if !refused || flow.is_null() || (*flow).attributed & SAID_REFUSED == 0 {
                identify(skb, socket, slot);
                emit::drift(
                    &drift,
                    (*slot).headers.destination_port,
                    refused,
                    &Origin::of(slot),
                );
            }
            if refused {
                if !flow.is_null() {
                    (*flow).attributed |= SAID_REFUSED;
                }
                return DROP;
            }
        }
        if !flow.is_null() {
            (*flow).state = state::IGNORED;
        }
        PASS
    }
}

/// # Safety
///
/// As for [`identify`]; `flow` is the socket's state, or null.
#[inline(always)]
unsafe fn segment(
    ctx: &SkBuffContext,
    skb: Skb,
    socket: *mut bpf_sock,
    slot: *mut Slot,
    flow: *mut FlowState,
    egress: bool,
) {
    let flow = if flow.is_null() {
        maps::flow_or_new(socket.cast())
    } else {
        flow
    };
    if flow.is_null() {
        count(Counter::NoStorage);
        return;
    }
    // SAFETY: checked for null; a field at a time, since the other direction may run too.
    unsafe {
        let control = (*slot).headers.flags & (SYN | FIN | RST) != 0;
        if (*slot).headers.payload_length == 0 && !control && (*flow).state != state::NEW {
            count(Counter::Acknowledgements);
            return;
        }
        (*slot).cookie = bpf_get_socket_cookie(skb.context());
        if (*flow).state == state::NEW {
            (*flow).state = claim(skb, slot, egress);
            debug!(ctx, "flow {} state {}", (*slot).cookie, (*flow).state);
        }
        if let Some(decided) = maps::take_decision((*slot).cookie) {
            (*flow).state = decided;
        }
        let now = (*flow).state;
        if now == state::DUPLICATE {
            count(Counter::Duplicate);
        } else if now == state::IGNORED {
            count(Counter::Ignored);
        } else if wanted(skb, slot, flow, egress) {
            identify(skb, socket, slot);
            emit::segment(skb, slot);
        }
    }
}

/// Whether the segment goes up; how much of it and with which flags is noted in the slot.
///
/// # Safety
///
/// The program holds `slot`; `flow` is not null.
#[inline(never)]
unsafe fn wanted(skb: Skb, slot: *mut Slot, flow: *mut FlowState, egress: bool) -> bool {
    // SAFETY: by contract.
    unsafe {
        let length = (*slot).headers.payload_length;
        let control = (*slot).headers.flags & (SYN | FIN | RST) != 0;
        let skipped = if egress {
            core::ptr::addr_of_mut!((*flow).skipped_egress)
        } else {
            core::ptr::addr_of_mut!((*flow).skipped_ingress)
        };
        if length == 0 {
            if !control {
                count(Counter::Acknowledgements);
                return false;
            }
        } else {
            let refused = refusal(skb, slot, flow, egress, length);
            if let Some(counter) = refused {
                *skipped = 1;
                if counter == Counter::OverBudget {
                    add(Counter::OverBudgetBytes, u64::from(length));
                }
                if !control {
                    count(counter);
                    return false;
                }
                // The end of the stream still counts: without its payload, at its place.
                let sequence = u32::from_be_bytes((*slot).headers.sequence);
                (*slot).headers.sequence = sequence.wrapping_add(length).to_be_bytes();
            } else {
                (*slot).wanted = length;
            }
        }
        if *skipped != 0 {
            *skipped = 0;
            (*slot).bits |= flags::RESUMED;
        }
        true
    }
}

/// Why payload does not go up, if it does not.
///
/// # Safety
///
/// As for [`wanted`].
#[inline(always)]
unsafe fn refusal(
    skb: Skb,
    slot: *mut Slot,
    flow: *mut FlowState,
    egress: bool,
    length: u32,
) -> Option<Counter> {
    // SAFETY: by contract.
    unsafe {
        if (*flow).state == state::WATCH {
            let start = skb.load::<8>((*slot).headers.payload_at).unwrap_or([0; 8]);
            if !looks_like_request(start) {
                return Some(Counter::Watched);
            }
            resume(flow);
        } else if (*flow).state == state::PLAINTEXT {
            return Some(Counter::Encrypted);
        } else if (*flow).begun == 0 {
            (*flow).begun = 1;
            let start = skb.load::<8>((*slot).headers.payload_at).unwrap_or([0; 8]);
            if looks_like_http(start) {
                (*flow).http = 1;
            } else if looks_like_tls(start) && (*flow).state == state::UNDECIDED {
                (*flow).state = state::HANDSHAKE;
                (*slot).look = u8::from(egress);
            }
        }
        let used = if egress {
            core::ptr::addr_of_mut!((*flow).egress)
        } else {
            core::ptr::addr_of_mut!((*flow).ingress)
        };
        if *used >= (*flow).budget() {
            if (*flow).state == state::HANDSHAKE && maps::has_plaintext() {
                (*flow).state = state::PLAINTEXT;
                return Some(Counter::Encrypted);
            }
            if (*flow).state == state::HANDSHAKE {
                (*flow).state = state::IGNORED;
                return Some(Counter::Ignored);
            }
            return Some(Counter::OverBudget);
        }
        *used = (*used).saturating_add(length);
        None
    }
}

/// Back to undecided: a watched connection begins another request.
///
/// # Safety
///
/// `flow` is not null.
#[inline(always)]
unsafe fn resume(flow: *mut FlowState) {
    count(Counter::Resumed);
    // SAFETY: by contract.
    unsafe {
        (*flow).state = state::UNDECIDED;
        (*flow).http = 1;
        (*flow).egress = 0;
        (*flow).ingress = 0;
        (*flow).skipped_egress = 1;
        (*flow).skipped_ingress = 1;
    }
}

/// # Safety
///
/// The program holds `slot`.
#[inline(always)]
unsafe fn tuple_of(skb: Skb, slot: *mut Slot) -> Tuple {
    // SAFETY: by contract.
    unsafe {
        let headers = core::ptr::addr_of!((*slot).headers);
        let local = is_loopback(&(*headers).source) || is_loopback(&(*headers).destination);
        let scope = if local {
            maps::packet_netns(skb.context()).unwrap_or(0)
        } else {
            0
        };
        Tuple::new(
            &(*headers).source,
            (*headers).source_port,
            &(*headers).destination,
            (*headers).destination_port,
            scope,
        )
    }
}

/// Settles which end gives the packets up: the one that connects, else whoever comes first.
///
/// # Safety
///
/// The program holds `slot`.
#[inline(never)]
unsafe fn claim(skb: Skb, slot: *mut Slot, egress: bool) -> u8 {
    // SAFETY: by contract.
    unsafe {
        let tuple = tuple_of(skb, slot);
        let cookie = (*slot).cookie;
        let first = egress && (*slot).headers.flags & (SYN | ACK) == SYN;
        let owner = Owner {
            cookie,
            initial: (*slot).headers.sequence,
            has_initial: u32::from(first),
        };
        if first {
            maps::take_ownership(&tuple, &owner);
            return state::UNDECIDED;
        }
        if maps::claim_ownership(&tuple, &owner)
            || maps::owner(&tuple).is_none_or(|other| other.cookie == cookie)
        {
            state::UNDECIDED
        } else {
            state::DUPLICATE
        }
    }
}

/// Packets before there is a connection: they belong to the listening socket.
///
/// # Safety
///
/// As for [`identify`].
#[inline(always)]
unsafe fn handshake(skb: Skb, socket: *mut bpf_sock, slot: *mut Slot, egress: bool) {
    // SAFETY: by contract.
    unsafe {
        let bits = (*slot).headers.flags;
        let length = (*slot).headers.payload_length;
        if length == 0 && bits & (SYN | FIN | RST) == 0 {
            count(Counter::Acknowledgements);
            return;
        }
        let tuple = tuple_of(skb, slot);
        if let Some(owner) = maps::owner(&tuple) {
            let first = !egress && bits & (SYN | ACK) == SYN;
            if !first || (owner.has_initial != 0 && owner.initial == (*slot).headers.sequence) {
                count(Counter::Duplicate);
                return;
            }
            // A new connection from elsewhere with the tuple of an old one.
            maps::disown(&tuple);
        }
        identify(skb, socket, slot);
        (*slot).cookie = 0;
        (*slot).wanted = length;
        emit::segment(skb, slot);
    }
}
