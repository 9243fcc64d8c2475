//! A socket buffer as the shared code reads it.

use core::ffi::c_void;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};
use mcp_monitor_common::headers::Packet;

/// A packet from its network header on.
#[derive(Clone, Copy)]
pub(crate) struct Skb(*mut __sk_buff);

impl Skb {
    #[inline(always)]
    pub(crate) fn new(ctx: &SkBuffContext) -> Self {
        Self(ctx.skb.skb)
    }

    #[inline(always)]
    pub(crate) fn context(self) -> *mut c_void {
        self.0.cast()
    }

    /// Its socket, or null.
    #[inline(always)]
    pub(crate) fn socket(self) -> *mut aya_ebpf::bindings::bpf_sock {
        // SAFETY: the context of the program.
        unsafe { (*self.0).__bindgen_anon_2.sk }
    }

    /// Copies `length` bytes at `at` to `to`.
    ///
    /// # Safety
    ///
    /// `to` must be writable for `length` bytes.
    #[inline(always)]
    pub(crate) unsafe fn copy(self, at: u32, to: *mut u8, length: u32) -> bool {
        // SAFETY: by contract.
        unsafe { bpf_skb_load_bytes(self.0.cast(), at, to.cast(), length) == 0 }
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = core::mem::MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: exactly N bytes are written where N fit.
        unsafe {
            self.copy(at, bytes.as_mut_ptr().cast(), N as u32)
                .then(|| bytes.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context of the program.
        unsafe { (*self.0).len }
    }
}
