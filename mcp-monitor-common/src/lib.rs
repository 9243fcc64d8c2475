//! What the kernel programs and userspace agree on, and the logic both run.
//!
//! The kernel runs this code over an skb and BPF maps, replay over slices and ordinary tables, so
//! both reach the same verdicts. That asks for a style of its own: no recursion, no allocation, and
//! every loop over input written as a `step` that a driver repeats (`bpf_loop` there, `for` here),
//! because the verifier must see an end to it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod address;
pub mod client_hello;
pub mod counter;
pub mod dns;
pub mod flow;
pub mod headers;
pub mod name;
pub mod pins;
pub mod plaintext;
pub mod record;
pub mod ring;
pub mod verdict;

/// Bytes that arrive from the network, readable one by one.
///
/// A slice in userspace, a scratch buffer of bounded length in the kernel.
pub trait Text {
    /// The byte at `at`, or `None` past the end.
    fn byte(&self, at: u32) -> Option<u8>;

    /// Big-endian integer of two bytes at `at`.
    #[inline(always)]
    fn pair(&self, at: u32) -> Option<u16> {
        let high = self.byte(at)?;
        let low = self.byte(at.wrapping_add(1))?;
        Some(u16::from_be_bytes([high, low]))
    }
}

impl Text for [u8] {
    #[inline(always)]
    fn byte(&self, at: u32) -> Option<u8> {
        self.get(at as usize).copied()
    }
}

/// Whether a walk has more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Call `step` again.
    More,
    /// The walk is over.
    Done,
}
