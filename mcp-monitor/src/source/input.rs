//! Opening a capture: a file or standard input, plain or compressed.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::{blocks::Blocks, follow::Following, zstd::Zstd};

/// Opens `path` (`-` is standard input) and looks through gzip and zstd.
pub(super) fn open(path: &Path) -> io::Result<Blocks> {
    let (input, regular) = raw(path)?;
    decompressed(input, |input, compressed| {
        Blocks::new(input, compressed || regular)
    })
}

/// As [`open`], of an input that is still being written.
pub(super) fn follow(path: &Path) -> io::Result<Blocks> {
    let (input, unread) = Following::start(raw(path)?.0)?;
    decompressed(Box::new(input), |input, _| Blocks::following(input, unread))
}

/// The bytes as they are, and whether they are those of a regular file.
fn raw(path: &Path) -> io::Result<(Box<dyn Read + Send>, bool)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), false));
    }
    let file = File::open(path)?;
    let kind = file.metadata()?;
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
    }
    Ok((Box::new(file), kind.is_file()))
}

/// `blocks` is told whether the input is compressed.
fn decompressed(
    mut input: Box<dyn Read + Send>,
    blocks: impl FnOnce(Box<dyn Read + Send>, bool) -> Blocks,
) -> io::Result<Blocks> {
    let mut magic = Vec::with_capacity(4);
    (&mut input).take(4).read_to_end(&mut magic)?;
    let input = io::Cursor::new(magic.clone()).chain(input);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => blocks(Box::new(MultiGzDecoder::new(BufReader::new(input))), true),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            blocks(Box::new(Zstd::new(BufReader::new(input))?), true)
        }
        _ => blocks(Box::new(input), false),
    })
}
