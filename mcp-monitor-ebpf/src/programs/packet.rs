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
    headers::{Headers, Packet as _, UDP},
    record::flags,
    verdict,
};

use crate::{
    emit::{self, Origin},
    log::debug,
    maps::{self, add, count},
    programs::connect::judge,
    skb::Skb,
};

/// The packet goes on its way.
const PASS: i32 = 1;
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
    inspect(ctx, skb, socket, flow, egress);
    PASS
}

#[inline(always)]
fn inspect(ctx: &SkBuffContext, skb: Skb, common: *mut bpf_sock, flow: *mut FlowState, egress: bool) {
    // SAFETY: as above.
    if !flow.is_null() && unsafe { (*flow).state } == state::DUPLICATE {
        count(Counter::Duplicate);
        return;
    }
    // SAFETY: not null.
    let socket = unsafe { bpf_sk_fullsock(common) };
    if socket.is_null() {
        count(Counter::NoSocket);
        return;
    }
    let mut headers = Headers::new();
    if headers.read(&skb).is_none() {
        count(Counter::Undecoded);
        return;
    }
    if headers.protocol == UDP {
        datagram(skb, socket, &headers, egress);
    } else {
        segment(ctx, skb, socket, &headers, flow, egress);
    }
}

/// Whose packet it is.
#[inline(always)]
fn origin(skb: Skb, socket: *mut bpf_sock, cookie: u64, netns: Option<u64>) -> Origin {
    // SAFETY: a full socket.
    let cgroup = unsafe { bpf_sk_cgroup_id(socket.cast::<c_void>()) };
    let _ = skb;
    Origin {
        time: emit::now(),
        cookie,
        cgroup,
        scope: netns.unwrap_or(cgroup),
    }
}

#[inline(always)]
fn cookie_of(skb: Skb) -> u64 {
    // SAFETY: the program's context.
    unsafe { bpf_get_socket_cookie(skb.context()) }
}

/// DNS goes up, seen at the client's end only: the server's end, if it is local too, says the same.
#[inline(always)]
fn datagram(skb: Skb, socket: *mut bpf_sock, headers: &Headers, egress: bool) {
    let port = dns::PORT.to_be_bytes();
    let from_server = headers.source_port == port;
    let to_server = headers.destination_port == port;
    if !from_server && !to_server {
        other_udp(skb, socket, headers, egress);
        return;
    }
    if (egress && !to_server) || (!egress && !from_server) {
        count(Counter::Duplicate);
        return;
    }
    let from = origin(skb, socket, cookie_of(skb), maps::packet_netns(skb.context()));
    emit::datagram(skb, headers, direction(egress), &from, !egress);
}

/// A connected socket that is not DNS's will not become so: its `connect` judged it.
#[inline(always)]
fn other_udp(skb: Skb, socket: *mut bpf_sock, headers: &Headers, egress: bool) {
    count(Counter::OtherUdp);
    // SAFETY: a full socket.
    let connected = unsafe { (*socket).dst_port } != 0;
    if !connected {
        return;
    }
    if egress && let Some(drift) = judge(&headers.destination) {
        let from = origin(skb, socket, cookie_of(skb), maps::packet_netns(skb.context()));
        emit::drift(&drift, headers.destination_port, &from);
    }
    if egress {
        let flow = maps::flow_or_new(socket.cast());
        if !flow.is_null() {
            // SAFETY: checked for null.
            unsafe { (*flow).state = state::IGNORED };
        }
    }
}

#[inline(always)]
const fn direction(egress: bool) -> u8 {
    if egress { flags::EGRESS } else { 0 }
}

#[inline(always)]
fn segment(
    ctx: &SkBuffContext,
    skb: Skb,
    socket: *mut bpf_sock,
    headers: &Headers,
    flow: *mut FlowState,
    egress: bool,
) {
    let control = headers.flags & (SYN | FIN | RST) != 0;
    // SAFETY: a full socket.
    if unsafe { (*socket).state } == LISTEN {
        handshake(skb, socket, headers, control, egress);
        return;
    }
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
        let mut now = (*flow).state;
        let cookie = cookie_of(skb);
        let netns = maps::packet_netns(skb.context());
        if now == state::NEW {
            now = claim(headers, cookie, netns, egress);
            (*flow).state = now;
            if now == state::DUPLICATE {
                count(Counter::Duplicate);
                return;
            }
            debug!(ctx, "flow {} state {}", cookie, now);
        }
        if let Some(decided) = maps::take_decision(cookie) {
            now = decided;
            (*flow).state = now;
            if now == state::IGNORED {
                count(Counter::Ignored);
                return;
            }
        }
        let mut length = headers.payload_length;
        if length == 0 && !control {
            count(Counter::Acknowledgements);
            return;
        }
        let mut hello = false;
        let mut skipped = false;
        if length != 0 {
            if now == state::WATCH || (*flow).begun == 0 {
                let start = skb.load::<8>(headers.payload_at).unwrap_or([0; 8]);
                if now == state::WATCH {
                    if looks_like_request(start) {
                        resume(flow);
                        now = state::UNDECIDED;
                    } else {
                        count(Counter::Watched);
                        skipped = true;
                    }
                } else {
                    (*flow).begun = 1;
                    if looks_like_http(start) {
                        (*flow).http = 1;
                    } else if now == state::UNDECIDED && looks_like_tls(start) {
                        now = state::HANDSHAKE;
                        (*flow).state = now;
                        hello = egress;
                    }
                }
            }
            if !skipped {
                let used = if egress { (*flow).egress } else { (*flow).ingress };
                if used >= (*flow).budget() {
                    if now == state::HANDSHAKE {
                        (*flow).state = state::IGNORED;
                        count(Counter::Ignored);
                        return;
                    }
                    count(Counter::OverBudget);
                    add(Counter::OverBudgetBytes, u64::from(length));
                    skipped = true;
                }
                let used = used.saturating_add(length);
                if egress {
                    (*flow).egress = used;
                } else {
                    (*flow).ingress = used;
                }
            }
        }
        let skip_flag = if egress {
            core::ptr::addr_of_mut!((*flow).skipped_egress)
        } else {
            core::ptr::addr_of_mut!((*flow).skipped_ingress)
        };
        let mut headers = *headers;
        if skipped {
            *skip_flag = 1;
            if !control {
                return;
            }
            // The end of the stream still counts: without its payload, at its place.
            headers.sequence = u32::from_be_bytes(headers.sequence)
                .wrapping_add(length)
                .to_be_bytes();
            length = 0;
        }
        let mut bits = direction(egress);
        if *skip_flag != 0 {
            *skip_flag = 0;
            bits |= flags::RESUMED;
        }
        let from = origin(skb, socket, cookie, netns);
        emit::segment(skb, &headers, length, bits, &from, hello);
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

#[inline(always)]
fn tuple_of(headers: &Headers, netns: Option<u64>) -> Tuple {
    let scope = if is_loopback(&headers.source) || is_loopback(&headers.destination) {
        netns.unwrap_or(0)
    } else {
        0
    };
    Tuple::new(
        &headers.source,
        headers.source_port,
        &headers.destination,
        headers.destination_port,
        scope,
    )
}

/// Settles which end gives the packets up: the one that connects, else whoever comes first.
#[inline(always)]
fn claim(headers: &Headers, cookie: u64, netns: Option<u64>, egress: bool) -> u8 {
    let tuple = tuple_of(headers, netns);
    if egress && headers.flags & (SYN | ACK) == SYN {
        let owner = Owner {
            cookie,
            initial: headers.sequence,
            has_initial: 1,
        };
        maps::take_ownership(&tuple, &owner);
        return state::UNDECIDED;
    }
    let owner = Owner {
        cookie,
        initial: [0; 4],
        has_initial: 0,
    };
    if maps::claim_ownership(&tuple, &owner) || maps::owner(&tuple).is_none_or(|other| other.cookie == cookie)
    {
        state::UNDECIDED
    } else {
        state::DUPLICATE
    }
}

/// Packets before there is a connection: they belong to the listening socket.
#[inline(always)]
fn handshake(skb: Skb, socket: *mut bpf_sock, headers: &Headers, control: bool, egress: bool) {
    if headers.payload_length == 0 && !control {
        count(Counter::Acknowledgements);
        return;
    }
    let netns = maps::packet_netns(skb.context());
    let tuple = tuple_of(headers, netns);
    if let Some(owner) = maps::owner(&tuple) {
        let first = headers.flags & (SYN | ACK) == SYN;
        if !first || (owner.has_initial != 0 && owner.initial == headers.sequence) {
            count(Counter::Duplicate);
            return;
        }
        // A new connection from elsewhere with the tuple of an old one.
        maps::disown(&tuple);
    }
    let from = origin(skb, socket, 0, netns);
    emit::segment(
        skb,
        headers,
        headers.payload_length,
        direction(egress),
        &from,
        false,
    );
}

const _: fn() = || {
    let _ = verdict::connect::<crate::tables::MapTables>;
};
