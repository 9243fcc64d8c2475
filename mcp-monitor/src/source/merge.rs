//! Several captures as one timeline.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{CaptureCounters, CaptureError, CaptureReader, Comment, Packet, Secrets};
use crate::types::Timestamp;

/// Packets of all readers in order of time; the order inside each file is kept, and of packets
/// with the same time the file given first goes first.
#[derive(Debug)]
pub struct Merged {
    readers: Vec<CaptureReader>,
    /// The next packet of each reader.
    heads: Vec<Option<Packet>>,
    queue: BinaryHeap<Reverse<(Timestamp, usize)>>,
    started: bool,
    /// Errors to be given out after the packets read before them.
    failed: Vec<CaptureError>,
    order: u64,
}

impl Merged {
    /// Merges `readers`.
    pub fn new(readers: Vec<CaptureReader>) -> Self {
        Self {
            heads: readers.iter().map(|_| None).collect(),
            readers,
            queue: BinaryHeap::new(),
            started: false,
            failed: Vec::new(),
            order: 0,
        }
    }

    /// The next packet in time, `id.order` counting from 1; `None` when all files are at their end.
    ///
    /// # Errors
    ///
    /// If the operating system fails to read one of them; the others can still be read by calling again.
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        let packet = if let [only] = self.readers.as_mut_slice() {
            only.next_packet()?
        } else {
            self.next_of_many()?
        };
        Ok(packet.map(|mut packet| {
            self.order = self.order.saturating_add(1);
            packet.id.order = self.order;
            packet
        }))
    }

    /// There is one capture, which is still being written, and its next packet is not all there.
    #[inline]
    pub fn waits(&mut self) -> bool {
        match self.readers.as_mut_slice() {
            [only] => only.waits(),
            _ => false,
        }
    }

    fn next_of_many(&mut self) -> Result<Option<Packet>, CaptureError> {
        if !self.started {
            self.started = true;
            for i in 0..self.readers.len() {
                self.advance(i);
            }
        }
        if let Some(error) = self.failed.pop() {
            return Err(error);
        }
        let Some(Reverse((_, i))) = self.queue.pop() else {
            return Ok(None);
        };
        let packet = self.heads.get_mut(i).and_then(Option::take);
        self.advance(i);
        Ok(packet)
    }

    fn advance(&mut self, i: usize) {
        if let (Some(reader), Some(head)) = (self.readers.get_mut(i), self.heads.get_mut(i)) {
            match reader.next_packet() {
                Ok(Some(packet)) => {
                    self.queue.push(Reverse((packet.time, i)));
                    *head = Some(packet);
                }
                Ok(None) => {}
                Err(error) => self.failed.push(error),
            }
        }
    }

    /// How files break off, one line each, once their end was reached.
    pub fn truncated(&self) -> impl Iterator<Item = &str> {
        self.readers.iter().filter_map(CaptureReader::truncated)
    }

    /// Sums over all files.
    pub fn counters(&self) -> CaptureCounters {
        self.readers
            .iter()
            .fold(CaptureCounters::default(), |sum, reader| {
                let c = reader.counters();
                CaptureCounters {
                    packets: sum.packets.saturating_add(c.packets),
                    bytes: sum.bytes.saturating_add(c.bytes),
                    errors: sum.errors.saturating_add(c.errors),
                    skipped_blocks: sum.skipped_blocks.saturating_add(c.skipped_blocks),
                    not_kept: sum.not_kept.saturating_add(c.not_kept),
                }
            })
    }

    /// The readers, in the order given.
    pub fn readers(&self) -> &[CaptureReader] {
        &self.readers
    }

    /// Whether [`take_secrets`](Self::take_secrets) has something.
    #[inline]
    pub fn has_secrets(&self) -> bool {
        self.readers.iter().any(CaptureReader::has_secrets)
    }

    /// Decryption secrets of all files met since the last call.
    pub fn take_secrets(&mut self) -> Vec<Secrets> {
        self.readers
            .iter_mut()
            .flat_map(CaptureReader::take_secrets)
            .collect()
    }

    /// Whether [`take_comments`](Self::take_comments) has something.
    #[inline]
    pub fn has_comments(&self) -> bool {
        self.readers.iter().any(CaptureReader::has_comments)
    }

    /// Comments of all files met since the last call, each with the index of its file.
    pub fn take_comments(&mut self) -> Vec<(usize, Comment)> {
        self.readers
            .iter_mut()
            .enumerate()
            .flat_map(|(i, r)| r.take_comments().into_iter().map(move |c| (i, c)))
            .collect()
    }
}
