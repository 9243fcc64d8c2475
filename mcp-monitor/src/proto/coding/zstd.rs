//! Zstandard (RFC 8878) within the bounds for HTTP (RFC 9659).

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{Codec, Step};

/// log2 of the largest window that a sender may use in HTTP: 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// The `zstd` coding, several frames included.
///
/// The reference decoder, because it bounds its memory on hostile input and gives out what
/// a sender has flushed.
pub(super) struct Zstd {
    context: Option<DCtx<'static>>,
    complete: bool,
}

impl Default for Zstd {
    fn default() -> Self {
        let context = DCtx::try_create().and_then(|mut context| {
            let limited = context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG));
            limited.is_ok().then_some(context)
        });
        Self {
            context,
            complete: false,
        }
    }
}

impl Codec for Zstd {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, &'static str> {
        let context = self.context.as_mut().ok_or("no memory for zstd")?;
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        let hint = context
            .decompress_stream(&mut target, &mut source)
            .map_err(|_| "zstd data does not decode")?;
        let step = Step {
            consumed: source.pos(),
            produced: target.pos(),
            // Another frame may always follow.
            done: false,
        };
        if step.consumed > 0 || step.produced > 0 {
            self.complete = hint == 0;
        }
        Ok(step)
    }

    fn complete(&self) -> bool {
        self.complete
    }
}
