//! Brotli (RFC 7932).

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{Codec, Step};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// The `br` coding. Windows up to 16 MiB, as the format without extensions has it.
pub(super) struct Brotli {
    state: Box<State>,
    written: usize,
}

impl Default for Brotli {
    fn default() -> Self {
        Self {
            state: Box::new(State::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            )),
            written: 0,
        }
    }
}

impl Codec for Brotli {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, &'static str> {
        let mut available_in = input.len();
        let mut consumed = 0;
        let mut available_out = output.len();
        let mut produced = 0;
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut consumed,
            input,
            &mut available_out,
            &mut produced,
            output,
            &mut self.written,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => Err("br data does not decode"),
            result => Ok(Step {
                consumed,
                produced,
                done: matches!(result, BrotliResult::ResultSuccess),
            }),
        }
    }
}
