//! Return instructions of a Go function, and how one begins.

use iced_x86::{Code, Decoder, DecoderOptions};

use super::super::image::Machine;

/// Bytes of a function's code.
pub const MAX_CODE: u64 = 64 << 10;
/// Return instructions of a function.
pub const MAX_RETURNS: usize = 64;
/// Bytes that tell whether a function begins.
pub(super) const PROLOGUE: u64 = 16;

/// `ret` on 64-bit ARM, where every instruction has four bytes.
const RET_AARCH64: u32 = 0xd65f_03c0;
/// `ldr x16, [x28, #16]`: the goroutine's stack limit.
const LIMIT_AARCH64: u32 = 0xf940_0b90;

/// Whether code begins as Go functions with a frame do: it compares the stack pointer with the goroutine's
/// limit, in large frames after computing the lowest address they need.
pub(super) fn begins_function(machine: Machine, code: &[u8]) -> bool {
    match machine {
        // cmp rsp, [r14+16] · lea r12, [rsp-8 bits] · lea r12, [rsp-32 bits]
        Machine::X86_64 => [
            &[0x49, 0x3b, 0x66, 0x10][..],
            &[0x4c, 0x8d, 0x64, 0x24],
            &[0x4c, 0x8d, 0xa4, 0x24],
        ]
        .iter()
        .any(|start| code.starts_with(start)),
        Machine::Aarch64 => code
            .first_chunk()
            .is_some_and(|word| u32::from_le_bytes(*word) == LIMIT_AARCH64),
    }
}

/// Offsets of the return instructions; `None` if there is none, too many, or code that is not understood.
pub(super) fn sites(machine: Machine, code: &[u8]) -> Option<Vec<u64>> {
    if code.len() as u64 > MAX_CODE {
        return None;
    }
    let sites = match machine {
        Machine::X86_64 => sites_x86(code)?,
        Machine::Aarch64 => (0_u64..)
            .step_by(4)
            .zip(code.chunks_exact(4))
            .filter(|(_, word)| **word == RET_AARCH64.to_le_bytes())
            .map(|(offset, _)| offset)
            .collect(),
    };
    (!sites.is_empty() && sites.len() <= MAX_RETURNS).then_some(sites)
}

fn sites_x86(code: &[u8]) -> Option<Vec<u64>> {
    let mut sites = Vec::new();
    for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
        match instruction.code() {
            // Padding after the function may end in the middle of an instruction; it is INT3 in Go.
            Code::INVALID => return None,
            Code::Retnq => sites.push(instruction.ip()),
            _ => {}
        }
    }
    Some(sites)
}
