//! Content codings (RFC 9110 section 8.4.1): gzip, deflate, br (RFC 7932), zstd (RFC 8878),
//! also several on top of each other, decoded as the bytes come.
//!
//! What a coding has flushed comes out at once, so that events of a compressed stream are
//! seen when they are sent.

mod brotli;
mod gzip;
mod zlib;
mod zstd;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::types::{Anomaly, AnomalyKind};

/// Output is made in pieces of at most this size.
const PIECE: usize = 16 * 1024;

/// Bounds of one body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Decoded bytes. Default 1 GiB: bodies that are kept have a lower cap of their own, this
    /// one bounds the work for streams.
    pub max_output: u64,
    /// Decoded bytes for each byte on the wire, beyond [`Self::free_output`]. Default 200.
    pub max_ratio: u64,
    /// Decoded bytes to which the ratio does not apply. Default 1 MiB.
    pub free_output: u64,
    /// Codings on top of each other. Default 4.
    pub max_stack: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_output: 1 << 30,
            max_ratio: 200,
            free_output: 1 << 20,
            max_stack: 4,
        }
    }
}

/// Progress of one call of a codec.
struct Step {
    consumed: usize,
    produced: usize,
    /// The coded data is complete; what follows is not part of it.
    done: bool,
}

/// One coding. Must consume or produce something unless it needs more input.
trait Codec: Send {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, &'static str>;

    /// The coded data may end here.
    fn complete(&self) -> bool {
        false
    }
}

/// Decodes one body.
pub struct Decoder {
    limits: Limits,
    /// In the order of decoding.
    stages: Vec<Stage>,
    wire: u64,
    /// An error or a limit ended it; the rest of the body is passed over.
    failed: bool,
}

struct Stage {
    name: &'static str,
    codec: Box<dyn Codec>,
    output: u64,
    started: bool,
    done: bool,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.stages.iter().map(|s| s.name).collect();
        f.debug_struct("Decoder")
            .field("stages", &names)
            .field("wire", &self.wire)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder for the values of `Content-Encoding` in wire order; `None` where nothing is
    /// coded. An unknown coding, or too many, is an anomaly: the body cannot be read.
    pub fn new<'a>(values: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Result<Option<Self>, Anomaly> {
        let mut stages = Vec::new();
        for item in values.flat_map(|value| value.split(|b| *b == b',')) {
            let name = item.trim_ascii().to_ascii_lowercase();
            let (name, codec): (_, Box<dyn Codec>) = match name.as_slice() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => ("gzip", Box::<gzip::Gzip>::default()),
                b"deflate" => ("deflate", Box::<zlib::Deflate>::default()),
                b"br" => ("br", Box::<brotli::Brotli>::default()),
                b"zstd" => ("zstd", Box::<zstd::Zstd>::default()),
                _ => return Err(error("unknown content coding")),
            };
            if stages.len() >= limits.max_stack {
                return Err(error("more content codings on top of each other than the limit"));
            }
            stages.push(Stage {
                name,
                codec,
                output: 0,
                started: false,
                done: false,
            });
        }
        stages.reverse();
        Ok((!stages.is_empty()).then_some(Self {
            limits,
            stages,
            wire: 0,
            failed: false,
        }))
    }

    /// The next bytes of the body; decoded pieces go to `out`. After an anomaly the rest is
    /// passed over in silence.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<Bytes>) -> Option<Anomaly> {
        if self.failed || data.is_empty() {
            return None;
        }
        let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.wire = self.wire.saturating_add(size);
        let result = self.run(0, data, out);
        self.fail(result)
    }

    /// The body ended. Says so if coded data breaks off.
    pub fn finish(&mut self) -> Option<Anomaly> {
        if std::mem::replace(&mut self.failed, true) {
            return None;
        }
        let mut open = self
            .stages
            .iter()
            .filter(|stage| stage.started && !stage.done && !stage.codec.complete());
        open.next()
            .map(|stage| error(format!("{} breaks off", stage.name)))
    }

    /// Bytes of the body are missing: nothing after them can be decoded.
    pub fn gap(&mut self) {
        self.failed = true;
    }

    fn fail(&mut self, result: Result<(), Anomaly>) -> Option<Anomaly> {
        let anomaly = result.err()?;
        self.failed = true;
        Some(anomaly)
    }

    /// Passes `data` through the stages from `index` on. As deep as there are stages.
    fn run(&mut self, index: usize, data: &[u8], out: &mut Vec<Bytes>) -> Result<(), Anomaly> {
        if index >= self.stages.len() {
            out.push(Bytes::copy_from_slice(data));
            return Ok(());
        }
        let mut input = data;
        let mut buffer = [0u8; PIECE];
        loop {
            let Some(stage) = self.stages.get_mut(index) else {
                return Ok(());
            };
            stage.started = true;
            if stage.done {
                // Padding after the end is common; anything else there is nobody's data.
                return if input.iter().all(|b| *b == 0) {
                    Ok(())
                } else {
                    Err(error(format!("data after the end of {}", stage.name)))
                };
            }
            let step = stage.codec.step(input, &mut buffer).map_err(error)?;
            stage.done = step.done;
            input = input.get(step.consumed..).unwrap_or_default();
            let idle = step.consumed == 0 && step.produced == 0 && !step.done;
            let full = step.produced == buffer.len();
            self.emit(index, buffer.get(..step.produced).unwrap_or_default(), out)?;
            if idle || (input.is_empty() && !full) {
                return Ok(());
            }
        }
    }

    fn emit(&mut self, index: usize, piece: &[u8], out: &mut Vec<Bytes>) -> Result<(), Anomaly> {
        if piece.is_empty() {
            return Ok(());
        }
        let allowed = self
            .wire
            .saturating_mul(self.limits.max_ratio)
            .saturating_add(self.limits.free_output)
            .min(self.limits.max_output);
        if let Some(stage) = self.stages.get_mut(index) {
            let size = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            stage.output = stage.output.saturating_add(size);
            if stage.output > allowed {
                let detail = format!("{} of {} bytes gives more than {allowed}", stage.name, self.wire);
                return Err(Anomaly::new(AnomalyKind::InflateLimit, detail));
            }
        }
        self.run(index.saturating_add(1), piece, out)
    }
}

fn error(detail: impl Into<String>) -> Anomaly {
    Anomaly::new(AnomalyKind::CodingError, detail)
}
