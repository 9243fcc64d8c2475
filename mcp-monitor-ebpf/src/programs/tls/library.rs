//! Probes on libraries with C calling conventions: OpenSSL, BoringSSL, GnuTLS (uprobes 4.14, cookies 5.15).
//!
//! A call of one function may reach the probe of another (`gnutls_record_send` that of
//! `gnutls_record_send2`): the innermost call takes the place of the outer one, whose return then finds
//! nothing to say.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use mcp_monitor_common::plaintext::{Call, flags as bits};

use crate::{
    maps,
    programs::tls::calls::{self, Site},
};

/// `SSL_write(ssl, buffer, length)`, `gnutls_record_send(session, buffer, length)`.
#[uprobe]
pub(crate) fn mcp_tls_write(ctx: ProbeContext) -> u32 {
    begin(&ctx, bits::WRITTEN, false)
}

/// `SSL_write_ex(ssl, buffer, length, written)`.
#[uprobe]
pub(crate) fn mcp_tls_write_ex(ctx: ProbeContext) -> u32 {
    begin(&ctx, bits::WRITTEN, true)
}

/// `SSL_read(ssl, buffer, length)`, `gnutls_record_recv(session, buffer, length)`.
#[uprobe]
pub(crate) fn mcp_tls_read(ctx: ProbeContext) -> u32 {
    begin(&ctx, 0, false)
}

/// `SSL_read_ex(ssl, buffer, length, read)`.
#[uprobe]
pub(crate) fn mcp_tls_read_ex(ctx: ProbeContext) -> u32 {
    begin(&ctx, 0, true)
}

/// Any of these returns.
#[uretprobe]
pub(crate) fn mcp_tls_return(ctx: RetProbeContext) -> u32 {
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = maps::take_tls_call(thread) else {
        return 0;
    };
    let returned: i32 = ctx.ret();
    let length = if call.length_at == 0 {
        returned
    } else if returned == 1 {
        // SAFETY: a helper that fails where nothing is mapped.
        match unsafe { bpf_probe_read_user(call.length_at as *const u64) } {
            Ok(length) => length as i32,
            Err(_) => return 0,
        }
    } else {
        return 0;
    };
    // Errors and retries are zero or negative.
    if length > 0 {
        let site = Site::of(thread, call.object, &ctx);
        calls::returned(&site, &call, length as u32);
    }
    0
}

/// `SSL_free`, `gnutls_deinit`: the address may be used again.
#[uprobe]
pub(crate) fn mcp_tls_free(ctx: ProbeContext) -> u32 {
    if let Some(object) = ctx.arg::<u64>(0) {
        calls::freed(bpf_get_current_pid_tgid(), object);
    }
    0
}

#[inline(always)]
fn begin(ctx: &ProbeContext, flags: u8, by_pointer: bool) -> u32 {
    if !calls::watched() {
        return 0;
    }
    let (Some(object), Some(buffer), Some(offered)) =
        (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u32>(2))
    else {
        return 0;
    };
    let length_at = if by_pointer {
        ctx.arg::<u64>(3).unwrap_or(0)
    } else {
        0
    };
    let thread = bpf_get_current_pid_tgid();
    let call = Call {
        object,
        buffer,
        length_at,
        offered,
        flags,
        reserved: [0; 3],
    };
    maps::put_tls_call(thread, &call);
    if flags & bits::WRITTEN != 0 {
        calls::before_write(&Site::of(thread, object, ctx));
    }
    0
}
