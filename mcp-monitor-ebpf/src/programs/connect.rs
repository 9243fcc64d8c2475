//! `cgroup/connect4|6` and `sendmsg4|6`: who talks to whom, before the first byte (4.17, 4.18).

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_get_netns_cookie,
        bpf_get_socket_cookie, generated::bpf_get_current_cgroup_id,
    },
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use mcp_monitor_common::{
    address::{Address, from_v4},
    counter::Counter,
    dns,
    flow::state,
    headers::{TCP, UDP},
    record::{ProcessRecord, kind},
    verdict::{self, Drift, Host, Learned, Tables},
};

use crate::{
    emit::{self, Origin},
    log::debug,
    maps::{self, count},
    tables,
};

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails with `EPERM`.
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
pub(crate) fn mcp_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, address4(&ctx))
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn mcp_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, address6(&ctx))
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn mcp_sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, address4(&ctx))
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn mcp_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, address6(&ctx))
}

#[inline(always)]
fn address4(ctx: &SockAddrContext) -> Address {
    // SAFETY: the program's context.
    from_v4(unsafe { (*ctx.sock_addr).user_ip4 }.to_ne_bytes())
}

#[inline(always)]
fn address6(ctx: &SockAddrContext) -> Address {
    // SAFETY: the program's context.
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = unsafe {
        [
            (*ctx.sock_addr).user_ip6[0].to_ne_bytes(),
            (*ctx.sock_addr).user_ip6[1].to_ne_bytes(),
            (*ctx.sock_addr).user_ip6[2].to_ne_bytes(),
            (*ctx.sock_addr).user_ip6[3].to_ne_bytes(),
        ]
    };
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> [u8; 2] {
    // SAFETY: the program's context; the port is the first two bytes, in network order.
    (unsafe { (*ctx.sock_addr).user_port } as u16).to_ne_bytes()
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, address: Address) -> i32 {
    // SAFETY: the program's context.
    let protocol = unsafe { (*ctx.sock_addr).protocol };
    let port = port(ctx);
    if protocol == u32::from(TCP) {
        count(Counter::Connects);
        let from = origin(ctx);
        process(&from, TCP, port, &address);
        if let Some(drift) = judge(&address) {
            debug!(ctx, "connection of {} drifts", from.cookie);
            let refused = maps::refuses(&drift);
            emit::drift(&drift, port, refused, &from);
            if refused {
                return REFUSE;
            }
        }
    } else if protocol == u32::from(UDP) {
        // Resolver libraries connect UDP sockets only to learn which source address they would get, so
        // a verdict waits for the first datagram. The process is known only here.
        let resolver = port == dns::PORT.to_be_bytes();
        forget(ctx);
        if resolver || judge(&address).is_some() {
            process(&origin(ctx), UDP, port, &address);
        }
    }
    ALLOW
}

/// A UDP socket that was connected elsewhere starts anew.
#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // SAFETY: the program's context.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return;
    }
    let flow = maps::flow(socket.cast());
    if !flow.is_null() {
        // SAFETY: checked for null.
        unsafe { (*flow).state = state::NEW };
    }
}

#[inline(always)]
fn send(ctx: &SockAddrContext, address: Address) -> i32 {
    // SAFETY: the program's context.
    if unsafe { (*ctx.sock_addr).protocol } != u32::from(UDP) {
        return ALLOW;
    }
    let port = port(ctx);
    // The two ways do not meet again: Linux 6.1 would see the fields of a verdict that is not there read.
    let Some(drift) = judge(&address) else {
        if port == dns::PORT.to_be_bytes() && is_first(ctx, 1) {
            count(Counter::Connects);
            process(&origin(ctx), UDP, port, &address);
        }
        return ALLOW;
    };
    let refused = maps::refuses(&drift);
    if is_first(ctx, 2) {
        count(Counter::Connects);
        let from = origin(ctx);
        process(&from, UDP, port, &address);
        emit::drift(&drift, port, refused, &from);
    }
    if refused { REFUSE } else { ALLOW }
}

/// One report per socket and reason, which has the bit: a datagram is no connection.
#[inline(always)]
fn is_first(ctx: &SockAddrContext, bit: u8) -> bool {
    // SAFETY: the program's context.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return false;
    }
    let flow = maps::flow_or_new(socket.cast());
    if flow.is_null() {
        return true;
    }
    // SAFETY: checked for null.
    unsafe {
        let first = (*flow).attributed & bit == 0;
        (*flow).attributed |= bit;
        first
    }
}

#[inline(always)]
fn origin(ctx: &SockAddrContext) -> Origin {
    // SAFETY: the program's context.
    unsafe {
        Origin {
            time: emit::now(),
            cookie: bpf_get_socket_cookie(ctx.as_ptr()),
            cgroup: bpf_get_current_cgroup_id(),
            scope: bpf_get_netns_cookie(ctx.as_ptr()),
        }
    }
}

#[inline(always)]
fn process(from: &Origin, protocol: u8, port: [u8; 2], address: &Address) {
    let ids = bpf_get_current_pid_tgid();
    let record = ProcessRecord {
        kind: kind::PROCESS,
        protocol,
        port,
        pid: (ids >> 32) as u32,
        thread: ids as u32,
        user: bpf_get_current_uid_gid() as u32,
        time: from.time,
        cookie: from.cookie,
        cgroup: from.cgroup,
        scope: from.scope,
        address: *address,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    // SAFETY: the whole record, on the stack.
    unsafe {
        maps::output(
            core::ptr::from_ref(&record).cast(),
            size_of::<ProcessRecord>() as u64,
            0,
        );
    }
}

/// The tables where no slot is held: a connection is judged, nothing is learned.
struct Lookup {
    generation: u32,
}

impl Tables for Lookup {
    #[inline(always)]
    fn seed(&self) -> u64 {
        maps::seed()
    }

    #[inline(always)]
    fn pattern(&self, pattern: u64) -> Option<Host> {
        tables::pattern_at(pattern, self.generation)
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
    fn learn(&mut self, _: &Address, _: u64) {}

    #[inline(always)]
    fn drift(&mut self, _: Drift) {}
}

/// Judges a connection to `address`.
#[inline(always)]
pub(crate) fn judge(address: &Address) -> Option<Drift> {
    let tables = Lookup {
        generation: maps::generation(),
    };
    verdict::connect(&tables, address)
}
