//! The bytes of a file, read a piece at a time.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::BinaryError;

/// What can be read at any place.
pub trait Contents {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `out` from `offset`; an error where the file ends before.
    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Contents for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }
}

impl Contents for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let piece = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(out.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(piece);
        Ok(())
    }
}

impl Contents for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn fill(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.as_slice().fill(offset, out)
    }
}

/// Opens a file that a stranger may have placed: never waits for a pipe's other end, wants a regular file.
pub fn open(path: &Path) -> Result<File, BinaryError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(BinaryError::NotAFile);
    }
    Ok(file)
}
