//! Probes on Go's `crypto/tls`, which passes arguments and results in registers.
//!
//! Stacks of goroutines move, and a goroutine may return on another thread than it entered on. So a call is
//! told by its goroutine and by how deep in that one's stack it was made, which neither of them changes; its
//! return is met at the function's return instructions. A buffer on the stack is noted by its depth too.
//!
//! A `Conn` does not keep the `client_random`, but the goroutine that shakes hands handles the ClientHello as
//! it goes over the wire.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::uprobe,
    programs::ProbeContext,
};
use mcp_monitor_common::{
    counter::Counter,
    plaintext::{Call, GoCallKey, HelloStart, ObjectKey, flags as bits},
};

use crate::{
    maps::{self, add, count},
    programs::tls::calls::{self, Site},
};

/// `(*Conn).Write(b)`.
#[uprobe]
pub(crate) fn mcp_go_write(ctx: ProbeContext) -> u32 {
    begin(&ctx, bits::WRITTEN)
}

/// `(*Conn).Read(b)`.
#[uprobe]
pub(crate) fn mcp_go_read(ctx: ProbeContext) -> u32 {
    begin(&ctx, 0)
}

/// A return instruction of either.
#[uprobe]
pub(crate) fn mcp_go_return(ctx: ProbeContext) -> u32 {
    let registers = Registers::of(&ctx);
    let length = registers.first;
    // Errors come with zero, or with what was done before them.
    if length as i64 <= 0 && !calls::watched() {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid();
    let Some((stack, key)) = call_key(thread, &registers) else {
        return 0;
    };
    let Some(mut call) = maps::take_go_call(&key) else {
        if length as i64 > 0 && calls::watched() {
            // It was entered before the probes were there, or its note found no room.
            count(Counter::TlsNoRoom);
            add(Counter::TlsLostBytes, length);
        }
        return 0;
    };
    if length as i64 > 0 && length <= u64::from(call.offered) {
        if call.flags & bits::ON_STACK != 0 {
            call.flags &= !bits::ON_STACK;
            call.buffer = stack.high.wrapping_sub(call.buffer);
        }
        calls::returned(
            &Site::without_random(thread, call.object, &ctx),
            &call,
            length as u32,
        );
    }
    0
}

/// `(*Conn).Close()`: memory is the garbage collector's, so this is the end of it.
#[uprobe]
pub(crate) fn mcp_go_close(ctx: ProbeContext) -> u32 {
    calls::freed(bpf_get_current_pid_tgid(), Registers::of(&ctx).first);
    0
}

/// `(*Conn).clientHandshake(ctx)`, `(*Conn).serverHandshake(ctx)`: once for each connection.
#[uprobe]
pub(crate) fn mcp_go_handshake(ctx: ProbeContext) -> u32 {
    if !calls::watched() {
        return 0;
    }
    let registers = Registers::of(&ctx);
    let thread = bpf_get_current_pid_tgid();
    // What had this address before was never closed.
    calls::freed(thread, registers.first);
    maps::put_go_handshake(&goroutine_key(thread, &registers), registers.first);
    0
}

/// A return instruction of `(*clientHelloMsg).marshal()`: the message is the first result.
#[uprobe]
pub(crate) fn mcp_go_hello_sent(ctx: ProbeContext) -> u32 {
    hello(&ctx, Registers::of(&ctx).first)
}

/// `(*clientHelloMsg).unmarshal(data)`.
#[uprobe]
pub(crate) fn mcp_go_hello_received(ctx: ProbeContext) -> u32 {
    hello(&ctx, Registers::of(&ctx).second)
}

/// What Go's convention gives these functions.
struct Registers {
    first: u64,
    second: u64,
    third: u64,
    /// The `g` of the goroutine.
    goroutine: u64,
    stack: u64,
}

impl Registers {
    #[cfg(bpf_target_arch = "x86_64")]
    #[inline(always)]
    fn of(ctx: &ProbeContext) -> Self {
        // SAFETY: the program's context.
        unsafe {
            let registers = ctx.regs;
            Self {
                first: (*registers).rax,
                second: (*registers).rbx,
                third: (*registers).rcx,
                goroutine: (*registers).r14,
                stack: (*registers).rsp,
            }
        }
    }

    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    fn of(ctx: &ProbeContext) -> Self {
        // SAFETY: the program's context.
        unsafe {
            let registers = ctx.regs;
            Self {
                first: (*registers).regs[0],
                second: (*registers).regs[1],
                third: (*registers).regs[2],
                goroutine: (*registers).regs[28],
                stack: (*registers).sp,
            }
        }
    }

    /// Machines on which the finder plans no probe.
    #[cfg(not(any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")))]
    #[inline(always)]
    fn of(_: &ProbeContext) -> Self {
        Self {
            first: 0,
            second: 0,
            third: 0,
            goroutine: 0,
            stack: 0,
        }
    }
}

/// Bounds of a goroutine's stack: what a `g` begins with, in every version.
#[derive(Clone, Copy)]
#[repr(C)]
struct Stack {
    low: u64,
    high: u64,
}

#[inline(always)]
fn call_key(thread: u64, registers: &Registers) -> Option<(Stack, GoCallKey)> {
    // SAFETY: a helper that fails where nothing is mapped.
    let stack = unsafe { bpf_probe_read_user(registers.goroutine as *const Stack) }.ok()?;
    let key = GoCallKey {
        goroutine: registers.goroutine,
        pid: (thread >> 32) as u32,
        depth: stack.high.wrapping_sub(registers.stack) as u32,
    };
    Some((stack, key))
}

#[inline(always)]
fn goroutine_key(thread: u64, registers: &Registers) -> ObjectKey {
    ObjectKey {
        address: registers.goroutine,
        pid: (thread >> 32) as u32,
        reserved: 0,
    }
}

#[inline(always)]
fn begin(ctx: &ProbeContext, flags: u8) -> u32 {
    if !calls::watched() {
        return 0;
    }
    let registers = Registers::of(ctx);
    let thread = bpf_get_current_pid_tgid();
    let Some((stack, key)) = call_key(thread, &registers) else {
        return 0;
    };
    let mut call = Call {
        object: registers.first,
        buffer: registers.second,
        length_at: 0,
        offered: registers.third.min(u64::from(u32::MAX)) as u32,
        flags,
        reserved: [0; 3],
    };
    if call.buffer >= stack.low && call.buffer < stack.high {
        call.buffer = stack.high.wrapping_sub(call.buffer);
        call.flags |= bits::ON_STACK;
    }
    maps::put_go_call(&key, &call);
    if flags & bits::WRITTEN != 0 {
        calls::before_write(&Site::without_random(thread, call.object, ctx));
    }
    0
}

/// Takes the `client_random` of a ClientHello that the goroutine handles for its connection.
#[inline(always)]
fn hello(ctx: &ProbeContext, message: u64) -> u32 {
    if !calls::watched() {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid();
    let Some(object) = maps::go_handshake(&goroutine_key(thread, &Registers::of(ctx))) else {
        return 0;
    };
    // SAFETY: a helper that fails where nothing is mapped.
    if let Ok(start) = unsafe { bpf_probe_read_user(message as *const HelloStart) }
        && start.kind == HelloStart::CLIENT_HELLO
    {
        calls::learned(&Site::without_random(thread, object, ctx), &start.random);
    }
    0
}
