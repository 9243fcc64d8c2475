//! Frames of Initial packets, and the handshake bytes in them put in order (RFC 9000 section 19).

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

use super::packet::varint;
use crate::proto::reader::Reader;

/// Pieces out of order held per direction.
const MAX_PIECES: usize = 256;

/// Something in a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// Handshake bytes and where they belong.
    Crypto(u64, Bytes),
    /// The connection ends; error code.
    Close(u64),
}

/// The frames of an opened packet that matter, and whether all of it was understood.
pub(super) fn frames(payload: Bytes) -> (Vec<Frame>, bool) {
    let mut found = Vec::new();
    let mut reader = Reader::new(&payload);
    while !reader.is_empty() {
        match frame(&payload, &mut reader) {
            Some(Some(frame)) => found.push(frame),
            Some(None) => {}
            None => return (found, false),
        }
    }
    (found, true)
}

fn frame(payload: &Bytes, reader: &mut Reader<'_>) -> Option<Option<Frame>> {
    let kind = varint(reader)?;
    match kind {
        // PADDING, PING.
        0 | 1 => {}
        // ACK, with counts of congestion marks where the last bit is set.
        2 | 3 => {
            varint(reader)?;
            varint(reader)?;
            let ranges = varint(reader)?;
            varint(reader)?;
            for _ in 0..ranges {
                varint(reader)?;
                varint(reader)?;
            }
            if kind == 3 {
                for _ in 0..3 {
                    varint(reader)?;
                }
            }
        }
        6 => {
            let offset = varint(reader)?;
            let length = usize::try_from(varint(reader)?).ok()?;
            let data = payload.slice_ref(reader.take(length)?);
            return Some(Some(Frame::Crypto(offset, data)));
        }
        0x1c => {
            let code = varint(reader)?;
            varint(reader)?;
            let reason = usize::try_from(varint(reader)?).ok()?;
            reader.take(reason)?;
            return Some(Some(Frame::Close(code)));
        }
        _ => return None,
    }
    Some(None)
}

/// The handshake bytes of one direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// In order, messages that were taken left out.
    ready: BytesMut,
    /// Bytes of messages that were taken.
    taken: u64,
    /// Beyond a hole, by where they begin.
    pieces: BTreeMap<u64, Bytes>,
    held: usize,
}

/// More was sent than is kept.
#[derive(Debug)]
pub(super) struct OverLimit;

impl Stream {
    /// Takes bytes. Where pieces overlap, the first to come counts.
    pub(super) fn push(&mut self, offset: u64, data: Bytes, limit: usize) -> Result<(), OverLimit> {
        let end = offset.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if usize::try_from(end).map_or(true, |end| end > limit) {
            return Err(OverLimit);
        }
        self.insert(offset, data);
        let over = self.held > limit || self.pieces.len() > MAX_PIECES;
        self.drain();
        if over && !self.pieces.is_empty() {
            return Err(OverLimit);
        }
        Ok(())
    }

    fn insert(&mut self, offset: u64, mut data: Bytes) {
        let ready = self.ready_to();
        let mut offset = offset;
        if offset < ready {
            let known = usize::try_from(ready.saturating_sub(offset)).unwrap_or(usize::MAX);
            data.advance(known.min(data.len()));
            offset = ready;
        }
        if data.is_empty() {
            return;
        }
        match self.pieces.get(&offset) {
            Some(known) if known.len() >= data.len() => return,
            Some(known) => {
                // The same start, more of it: what came first stays, the rest goes behind it.
                let rest = data.split_off(known.len());
                let behind = u64::try_from(known.len()).unwrap_or(u64::MAX);
                offset = offset.saturating_add(behind);
                if self.pieces.contains_key(&offset) {
                    return;
                }
                data = rest;
            }
            None => {}
        }
        self.held = self.held.saturating_add(data.len());
        self.pieces.insert(offset, data);
    }

    /// Moves what has become contiguous behind what is ready.
    fn drain(&mut self) {
        let mut ready = self.ready_to();
        while let Some(entry) = self.pieces.first_entry() {
            let known = match ready.checked_sub(*entry.key()) {
                None => return,
                Some(known) => usize::try_from(known).unwrap_or(usize::MAX),
            };
            let piece = entry.remove();
            self.held = self.held.saturating_sub(piece.len());
            self.ready
                .extend_from_slice(piece.get(known..).unwrap_or_default());
            ready = self.ready_to();
        }
    }

    /// The bytes before this offset have come.
    fn ready_to(&self) -> u64 {
        let ready = u64::try_from(self.ready.len()).unwrap_or(u64::MAX);
        self.taken.saturating_add(ready)
    }

    /// Takes the next handshake message once it is whole: type and body. An error if it is larger than `limit`.
    pub(super) fn message(&mut self, limit: usize) -> Result<Option<(u8, Bytes)>, OverLimit> {
        let Some([kind, a, b, c]) = self.ready.first_chunk().copied() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if length > limit {
            return Err(OverLimit);
        }
        let end = length.saturating_add(4);
        if self.ready.len() < end {
            return Ok(None);
        }
        let message = self.ready.split_to(end).freeze().slice(4..);
        self.taken = self.taken.saturating_add(u64::try_from(end).unwrap_or(u64::MAX));
        Ok(Some((kind, message)))
    }
}
