//! An input that is still being written, read on a thread of its own: so that it can be told whether bytes are waiting.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::{Buf as _, Bytes};
use crossbeam_channel::{Receiver, bounded};

/// Size of one read, the capacity of a Linux pipe.
const CHUNK: usize = 64 << 10;
/// Reads that may wait to be taken; then the writer has to.
const MAX_CHUNKS: usize = 16;

/// The reading end.
pub(super) struct Following {
    chunks: Receiver<io::Result<Bytes>>,
    /// Of the chunk that was begun.
    rest: Bytes,
    unread: Unread,
}

/// How many bytes came that were not taken.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// Whoever reads now may have to wait.
    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Following {
    /// Begins to read `input`. The thread ends with it, or when nobody takes any more.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had.
    pub(super) fn start(mut input: Box<dyn Read + Send>) -> io::Result<(Self, Unread)> {
        let (send, chunks) = bounded(MAX_CHUNKS);
        let unread = Unread::default();
        let count = unread.clone();
        let read = move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let chunk = match input.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) => Ok(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default())),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let len = chunk.as_ref().map_or(0, Bytes::len);
                let failed = chunk.is_err();
                count.0.fetch_add(len, Ordering::AcqRel);
                if send.send(chunk).is_err() || failed {
                    return;
                }
            }
        };
        thread::Builder::new().name("follow".to_owned()).spawn(read)?;
        let following = Self {
            chunks,
            rest: Bytes::new(),
            unread: unread.clone(),
        };
        Ok((following, unread))
    }
}

impl Read for Following {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => self.rest = chunk?,
                // The writer is done.
                Err(_) => return Ok(0),
            }
        }
        let n = self.rest.len().min(out.len());
        if let Some(out) = out.get_mut(..n) {
            self.rest.copy_to_slice(out);
        }
        self.unread.0.fetch_sub(n, Ordering::AcqRel);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn gives_all_bytes_and_says_when_none_are_left() {
        let (read, mut write) = io::pipe().unwrap();
        let (mut following, unread) = Following::start(Box::new(read)).unwrap();
        let data: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = data.clone();
        let writer = thread::spawn(move || {
            write.write_all(&sent).unwrap();
            write
        });
        let mut got = vec![0; data.len() - 10];
        following.read_exact(&mut got).unwrap();
        // All is written, but for what the reading thread has yet to count.
        let write = writer.join().unwrap();
        let mut last = [0; 10];
        following.read_exact(&mut last).unwrap();
        assert!(unread.is_none());
        got.extend_from_slice(&last);
        assert!(got == data);
        drop(write);
        assert_eq!(following.read(&mut last).unwrap(), 0);
        assert_eq!(following.read(&mut last).unwrap(), 0, "and stays at its end");
    }

    #[test]
    fn an_error_is_told_after_the_bytes_before_it() {
        struct Breaks(bool);
        impl Read for Breaks {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("broken"));
                }
                out[0] = 7;
                Ok(1)
            }
        }
        let (mut following, _) = Following::start(Box::new(Breaks(false))).unwrap();
        let mut byte = [0; 4];
        assert_eq!(following.read(&mut byte).unwrap(), 1);
        assert!(following.read(&mut byte).is_err());
        assert_eq!(following.read(&mut byte).unwrap(), 0);
    }
}
