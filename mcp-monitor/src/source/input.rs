//! Opening a capture: a file or standard input, plain or compressed.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use super::{blocks::Blocks, zstd::Zstd};

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
            Blocks::new(Box::new(Zstd::new(BufReader::new(input))?), true)
        }
        _ => Blocks::new(Box::new(input), regular),
    })
}
