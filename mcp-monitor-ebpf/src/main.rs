//! The kernel side of mcp-monitor: sees packets and connections, judges pinned names, gives up payload.
//!
//! Contexts and helpers only: no kernel structure offsets, so one object serves every kernel from 5.15.
//! What it decides is decided by `mcp-monitor-common`; what is here is access to packets and maps.
#![no_std]
#![no_main]
// Two bounds and an exchange that the verifier must see as written; the compiler is a nightly anyway.
#![feature(asm_experimental_arch)]

mod emit;
mod log;
mod maps;
mod programs;
mod scratch;
mod skb;
mod tables;

/// The kernel offers the helpers used here to programs under a GPL-compatible licence.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier proves that nothing gets here: it accepts no endless loop.
    loop {}
}
