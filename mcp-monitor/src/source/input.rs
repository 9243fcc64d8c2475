//! Opening a capture: a file or standard input, plain or compressed.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::blocks::Blocks;

/// Opens `path` (`-` is standard input) and looks through gzip and zstd.
pub(super) fn open(path: &Path) -> io::Result<Blocks> {
    let (mut input, regular): (Box<dyn Read + Send>, bool) = if path == Path::new("-") {
        (Box::new(io::stdin()), false)
    } else {
        let file = File::open(path)?;
        let kind = file.metadata()?;
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        (Box::new(file), kind.is_file())
    };
    let mut magic = Vec::with_capacity(4);
    (&mut input).take(4).read_to_end(&mut magic)?;
    let input = io::Cursor::new(magic.clone()).chain(input);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Blocks::new(Box::new(MultiGzDecoder::new(BufReader::new(input))), true),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            Blocks::new(Box::new(Zstd::new(Box::new(BufReader::new(input)))), true)
        }
        _ => Blocks::new(Box::new(input), regular),
    })
}

/// All frames of a zstd file one after another. The decoder refuses windows above 100 MiB.
struct Zstd {
    state: ZstdState,
}

type Source = Box<dyn Read + Send>;

enum ZstdState {
    Between(Source),
    Frame(Box<StreamingDecoder<Source, ruzstd::decoding::FrameDecoder>>),
    Done,
}

impl Zstd {
    fn new(source: Source) -> Self {
        Self {
            state: ZstdState::Between(source),
        }
    }

    /// Starts the next frame, passing over skippable ones; `None` at the end of the input.
    fn next_frame(mut source: Source) -> io::Result<Option<ZstdState>> {
        loop {
            let mut head = Vec::with_capacity(4);
            (&mut source).take(4).read_to_end(&mut head)?;
            match head.as_slice() {
                [] => return Ok(None),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                    let mut len = [0; 4];
                    source.read_exact(&mut len)?;
                    let len = u64::from(u32::from_le_bytes(len));
                    if io::copy(&mut (&mut source).take(len), &mut io::sink())? < len {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => {
                    let source: Source = Box::new(io::Cursor::new(head).chain(source));
                    let frame = StreamingDecoder::new(source).map_err(invalid)?;
                    return Ok(Some(ZstdState::Frame(Box::new(frame))));
                }
            }
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Read for Zstd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, ZstdState::Done) {
                ZstdState::Done => return Ok(0),
                ZstdState::Between(source) => match Self::next_frame(source)? {
                    Some(state) => self.state = state,
                    None => return Ok(0),
                },
                ZstdState::Frame(mut frame) => {
                    let got = frame.read(buf).map_err(invalid)?;
                    if got > 0 {
                        self.state = ZstdState::Frame(frame);
                        return Ok(got);
                    }
                    self.state = ZstdState::Between(frame.into_inner());
                }
            }
        }
    }
}
