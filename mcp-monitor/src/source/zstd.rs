//! Captures compressed with Zstandard (RFC 8878).

use std::io::{self, BufRead};

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// log2 of the largest window that is decompressed: 128 MiB, the limit of the zstd command.
const MAX_WINDOW_LOG: u32 = 27;

/// All frames of `input` one after another; skippable ones are passed over.
pub(super) struct Zstd<R> {
    input: R,
    context: DCtx<'static>,
    /// Inside a frame.
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(input: R) -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        context
            .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
            .map_err(invalid)?;
        Ok(Self {
            input,
            context,
            open: false,
        })
    }
}

fn invalid(code: zstd_safe::ErrorCode) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code))
}

impl<R: BufRead> io::Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let data = self.input.fill_buf()?;
            let ended = data.is_empty();
            let mut source = InBuffer::around(data);
            let mut target = OutBuffer::around(&mut *buf);
            // At the end of the input, what the decoder still holds comes out.
            if ended && !self.open {
                return Ok(0);
            }
            let hint = self
                .context
                .decompress_stream(&mut target, &mut source)
                .map_err(invalid)?;
            let (consumed, produced) = (source.pos(), target.pos());
            self.open = hint != 0;
            self.input.consume(consumed);
            if produced > 0 {
                return Ok(produced);
            }
            if ended && self.open {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
