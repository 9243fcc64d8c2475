//! DEFLATE (RFC 1951), alone or as zlib (RFC 1950): what `deflate` means depends on the server.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Codec, Step};

/// Calls the inflater once.
pub(super) fn inflate(
    inflater: &mut Decompress,
    input: &[u8],
    output: &mut [u8],
) -> Result<Step, &'static str> {
    let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
    let status = inflater
        .decompress(input, output, FlushDecompress::None)
        .map_err(|_| "deflate data does not decode")?;
    let size = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
    Ok(Step {
        consumed: size(inflater.total_in(), before_in),
        produced: size(inflater.total_out(), before_out),
        done: status == Status::StreamEnd,
    })
}

/// The `deflate` coding: zlib by the book, raw as some servers send it.
#[derive(Default)]
pub(super) struct Deflate {
    /// The first byte, until the second tells which it is.
    first: Option<u8>,
    inflater: Option<Decompress>,
}

impl Codec for Deflate {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, &'static str> {
        if let Some(inflater) = &mut self.inflater {
            return inflate(inflater, input, output);
        }
        let mut bytes = self.first.into_iter().chain(input.iter().copied());
        let (Some(cmf), Some(flags)) = (bytes.next(), bytes.next()) else {
            self.first = self.first.or(input.first().copied());
            return Ok(Step {
                consumed: input.len(),
                produced: 0,
                done: false,
            });
        };
        // RFC 1950 section 2.2: method 8, and a multiple of 31.
        let zlib = cmf & 0x0f == 8 && u16::from_be_bytes([cmf, flags]).checked_rem(31) == Some(0);
        let inflater = self.inflater.insert(Decompress::new(zlib));
        if let Some(first) = self.first.take() {
            inflate(inflater, &[first], output)?;
        }
        inflate(inflater, input, output)
    }
}
