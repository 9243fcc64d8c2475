//! Large block reads, handed out as slices that share them.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use bytes::{Buf as _, Bytes};

use super::follow::Unread;

/// Size of one read from a file. Large enough to make system calls rare, small enough that a flow
/// which waits for the rest of a message does not keep much more than that.
const FILE_BLOCK: usize = 64 << 10;
/// Size of one read from a pipe, the capacity of a Linux pipe.
const PIPE_BLOCK: usize = 64 << 10;
/// Blocks kept for reuse once nothing refers to them.
const RETIRED: usize = 128;

/// A byte stream read in blocks; what is taken from it is a slice of the block, not a copy.
pub(super) struct Blocks {
    input: Box<dyn Read + Send>,
    /// Wait for whole blocks (files), or take what there is (pipes).
    whole: bool,
    /// What is read and not yet taken.
    ahead: Bytes,
    /// Blocks that may have become free.
    retired: VecDeque<Bytes>,
    eof: bool,
    /// An error of the input, told once the bytes read before it are used up.
    failed: Option<io::Error>,
    /// Of an input that is still being written.
    unread: Option<Unread>,
}

impl Blocks {
    pub(super) fn new(input: Box<dyn Read + Send>, whole: bool) -> Self {
        Self {
            input,
            whole,
            ahead: Bytes::new(),
            retired: VecDeque::with_capacity(RETIRED),
            eof: false,
            failed: None,
            unread: None,
        }
    }

    /// Of an input that is still being written: what there is is taken.
    pub(super) fn following(input: Box<dyn Read + Send>, unread: Unread) -> Self {
        Self {
            unread: Some(unread),
            ..Self::new(input, false)
        }
    }

    /// The input is still being written.
    #[inline]
    pub(super) fn is_followed(&self) -> bool {
        self.unread.is_some()
    }

    /// Takes what waits to be read of an input that is still being written; `false` if nothing does.
    pub(super) fn top_up(&mut self) -> bool {
        if self.eof || self.unread.as_ref().is_none_or(Unread::is_none) {
            return false;
        }
        if let Err(error) = self.read_more(self.ahead.len().saturating_add(1)) {
            self.failed = Some(error);
            self.eof = true;
        }
        true
    }

    /// What is read and not yet taken.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads until at least `n` bytes are ahead; `false` if the input ends before.
    ///
    /// Memory grows with the bytes that come, never with `n`.
    #[inline]
    pub(super) fn want(&mut self, n: usize) -> io::Result<bool> {
        if self.ahead.len() >= n {
            return Ok(true);
        }
        self.read_more(n)
    }

    #[cold]
    fn read_more(&mut self, n: usize) -> io::Result<bool> {
        let size = if self.whole { FILE_BLOCK } else { PIPE_BLOCK };
        while self.ahead.len() < n {
            if self.eof {
                return self.failed.take().map_or(Ok(false), Err);
            }
            let left = std::mem::take(&mut self.ahead);
            // The remainder moves in front of the new bytes, so that a packet is always contiguous.
            // Doubling keeps the moves of a block larger than `size` linear in its length.
            let mut block = self.free_block(size);
            let room = size.max(left.len());
            block.reserve(left.len().saturating_add(room));
            block.extend_from_slice(&left);
            self.retire(left);
            let before = block.len();
            if self.whole {
                let wanted = u64::try_from(block.capacity().saturating_sub(before)).unwrap_or(0);
                let result = (&mut self.input).take(wanted).read_to_end(&mut block);
                self.failed = result.err();
                self.eof = self.failed.is_some()
                    || u64::try_from(block.len().saturating_sub(before)).unwrap_or(0) < wanted;
            } else {
                block.resize(before.saturating_add(room), 0);
                let got = loop {
                    match self.input.read(block.get_mut(before..).unwrap_or_default()) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        other => break other,
                    }
                };
                block.truncate(before.saturating_add(*got.as_ref().unwrap_or(&0)));
                self.ahead = Bytes::from(block);
                self.eof = got? == 0;
                continue;
            }
            self.ahead = Bytes::from(block);
        }
        Ok(true)
    }

    /// A block that nothing refers to any more, else a new one.
    fn free_block(&mut self, size: usize) -> Vec<u8> {
        if let Some(at) = self.retired.iter().position(Bytes::is_unique)
            && let Some(block) = self.retired.remove(at)
        {
            let mut block = Vec::from(block);
            block.clear();
            return block;
        }
        Vec::with_capacity(size.saturating_add(size / 8))
    }

    fn retire(&mut self, block: Bytes) {
        if block.is_empty() {
            return;
        }
        if self.retired.len() >= RETIRED {
            self.retired.pop_front();
        }
        self.retired.push_back(block);
    }

    /// The next `n` bytes; fewer only if [`want`](Self::want) said that there are no more.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Bytes {
        self.ahead.split_to(n.min(self.ahead.len()))
    }

    /// Passes over up to `n` bytes that are ahead.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        self.ahead.advance(n.min(self.ahead.len()));
    }

    /// Passes over `n` bytes without keeping them; `false` if the input ends before.
    pub(super) fn skip(&mut self, mut n: u64) -> io::Result<bool> {
        while n > 0 {
            if !self.want(1)? {
                return Ok(false);
            }
            let step = usize::try_from(n).unwrap_or(usize::MAX).min(self.ahead.len());
            self.ahead.advance(step);
            n = n.saturating_sub(u64::try_from(step).unwrap_or(u64::MAX));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(len: u32) -> Vec<u8> {
        (0..len).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn takes_across_blocks_in_order() {
        let data = stream(500_000);
        for whole in [true, false] {
            let mut blocks = Blocks::new(Box::new(io::Cursor::new(data.clone())), whole);
            let mut seen = Vec::new();
            while blocks.want(1000).unwrap() {
                seen.extend_from_slice(&blocks.take(1000));
            }
            seen.extend_from_slice(&blocks.take(1000));
            assert_eq!(seen, data);
        }
    }

    #[test]
    fn a_request_larger_than_the_input_says_so_and_keeps_what_there_is() {
        let mut blocks = Blocks::new(Box::new(io::Cursor::new(stream(10))), true);
        assert!(!blocks.want(usize::MAX / 4).unwrap());
        assert_eq!(blocks.ahead().len(), 40);
        assert!(blocks.skip(39).unwrap());
        assert!(!blocks.skip(2).unwrap());
    }

    #[test]
    fn a_block_in_use_is_not_written_over() {
        let data = stream(1_000_000);
        let mut blocks = Blocks::new(Box::new(io::Cursor::new(data.clone())), true);
        let mut kept = Vec::new();
        while blocks.want(4096).unwrap() {
            let b = blocks.take(4096);
            if kept.len() < 300 {
                kept.push(b);
            }
        }
        let seen: Vec<u8> = kept.concat();
        assert_eq!(seen[..], data[..seen.len()]);
    }
}
