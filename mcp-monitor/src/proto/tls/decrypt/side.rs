//! One direction: where its records begin, and the keys they are under.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC,
    record::{Header, Opened, Opener},
};
use crate::types::At;

const HEADER: usize = 5;
/// Payload of a record: 2^14 and what TLS 1.2 lets encryption add (RFC 5246 section 6.2.3).
const MAX_RECORD: usize = 16384 + 2048;
const MESSAGE_HEADER: usize = 4;

/// Which keys of TLS 1.3; TLS 1.2 has those of its traffic only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Early,
    Handshake,
    Traffic,
}

/// The next thing in the bytes.
pub(super) enum Framed {
    /// A record with its payload.
    Record(Header, Bytes),
    /// Bytes are missing for the next.
    More,
    /// This is no record, and no loss explains it.
    NotTls,
}

#[derive(Default)]
pub(super) struct Side {
    /// Bytes of records that are not complete; at most one record and one segment.
    buffer: BytesMut,
    /// A segment whose records are being taken out.
    fresh: Bytes,
    /// Payload still to come of a record that lost a part.
    skip: usize,
    /// Record boundaries were lost: the next segment may begin one.
    seeking: bool,
    /// Keys in use and those that follow.
    keys: VecDeque<(Stage, Opener)>,
    opened_any: bool,
    handshake: BytesMut,
    /// The rest of a handshake message that is too long to keep.
    skip_handshake: usize,
    held: Vec<(At, Header, Bytes)>,
    held_bytes: usize,
}

impl Side {
    pub(super) fn push(&mut self, data: Bytes) {
        let mut data = data;
        let skipped = self.skip.min(data.len());
        data.advance(skipped);
        self.skip = self.skip.saturating_sub(skipped);
        if self.buffer.is_empty() {
            self.fresh = data;
        } else {
            self.buffer.extend_from_slice(&data);
        }
    }

    /// The keys in use are those of early data.
    pub(super) fn in_early_data(&self) -> bool {
        matches!(self.keys.front(), Some((Stage::Early, _)))
    }

    pub(super) fn next_record(&mut self) -> Framed {
        let bytes: &[u8] = if self.buffer.is_empty() {
            &self.fresh
        } else {
            &self.buffer
        };
        let Some(([kind, major, minor, high, low], rest)) = bytes.split_first_chunk::<HEADER>() else {
            let plausible = bytes
                .iter()
                .zip([CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3..=3, 0..=4]);
            if !self.seeking || plausible.into_iter().all(|(b, range)| range.contains(b)) {
                self.keep();
            } else {
                self.seek();
            }
            return Framed::More;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(kind) && *major == 3 && *minor <= 4;
        // With its boundaries lost, an encrypted direction has records of data or alerts only.
        let sought = !self.seeking || matches!(*kind, ALERT | APPLICATION_DATA);
        if !known || !sought || length > MAX_RECORD {
            if self.seeking {
                self.seek();
                return Framed::More;
            }
            return Framed::NotTls;
        }
        let header = Header {
            kind: *kind,
            version: u16::from_be_bytes([*major, *minor]),
        };
        if rest.len() < length {
            self.keep();
            return Framed::More;
        }
        let payload = if self.buffer.is_empty() {
            self.fresh.advance(HEADER);
            self.fresh.split_to(length)
        } else {
            self.buffer.advance(HEADER);
            let payload = self.buffer.split_to(length).freeze();
            if self.buffer.len() < HEADER.saturating_add(MAX_RECORD) {
                // What follows the record that spanned segments is copied once.
                self.fresh = std::mem::take(&mut self.buffer).freeze();
            }
            payload
        };
        Framed::Record(header, payload)
    }

    /// The bytes left over wait for more.
    fn keep(&mut self) {
        if self.buffer.is_empty() && !self.fresh.is_empty() {
            self.buffer = BytesMut::from(&self.fresh[..]);
            self.fresh = Bytes::new();
        }
    }

    /// `bytes` are missing; how many bytes of content that costs at least, if any.
    pub(super) fn gap(&mut self, bytes: u64) -> Option<u64> {
        self.keep();
        let protected = self.is_protected();
        let overhead = self.keys.front().map_or(0, |(_, o)| o.overhead());
        let lost = bytes.saturating_sub(u64::try_from(overhead).unwrap_or(0)).max(1);
        if self.skip > 0 && bytes <= u64::try_from(self.skip).unwrap_or(u64::MAX) {
            self.skip = self
                .skip
                .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
            return protected.then_some(lost);
        }
        let missing = match self.buffer.split_first_chunk::<HEADER>() {
            Some(([.., high, low], have)) if self.skip == 0 => {
                usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(have.len())
            }
            _ => 0,
        };
        let within = usize::try_from(bytes).ok().filter(|b| *b <= missing);
        self.handshake = BytesMut::new();
        self.skip_handshake = 0;
        if let Some(bytes) = within {
            // Only this record is lost, and where the next begins is known.
            self.skip = missing.saturating_sub(bytes);
            let length = self.buffer.len().saturating_add(missing).saturating_sub(HEADER);
            self.buffer = BytesMut::new();
            let (_, opener) = self.keys.front_mut()?;
            opener.skip_to(opener.sequence().saturating_add(1));
            return Some(u64::try_from(length.saturating_sub(overhead)).unwrap_or(1).max(1));
        }
        self.seek();
        self.skip = 0;
        protected.then_some(lost)
    }

    /// Drops what is there; the next segment may begin a record.
    pub(super) fn seek(&mut self) {
        self.seeking = true;
        self.buffer = BytesMut::new();
        self.fresh = Bytes::new();
    }

    pub(super) fn is_seeking(&self) -> bool {
        self.seeking
    }

    pub(super) fn is_protected(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn opened_any(&self) -> bool {
        self.opened_any
    }

    /// Nothing was opened with the keys of the handshake.
    pub(super) fn at_first_handshake_record(&self) -> bool {
        self.keys
            .front()
            .is_some_and(|(stage, opener)| *stage == Stage::Handshake && opener.sequence() == 0)
    }

    /// Keys that come after those that are there.
    pub(super) fn enter(&mut self, stage: Stage, opener: Option<Opener>) {
        self.keys.extend(opener.map(|o| (stage, o)));
    }

    /// Keys for early data, before those of the handshake.
    pub(super) fn enter_first(&mut self, opener: Option<Opener>) {
        if let Some(opener) = opener {
            self.keys.push_front((Stage::Early, opener));
        }
    }

    /// The only keys from here on (TLS 1.2).
    pub(super) fn replace(&mut self, opener: Opener) {
        self.keys.clear();
        self.keys.push_back((Stage::Traffic, opener));
    }

    /// The keys up to and with those of `stage` are over.
    pub(super) fn leave(&mut self, stage: Stage) {
        if let Some(index) = self.keys.iter().position(|(s, _)| *s == stage) {
            self.keys.drain(..=index);
        }
    }

    /// The next generation of keys; whether there is one.
    pub(super) fn update(&mut self) -> bool {
        let Some((_, opener)) = self.keys.front_mut() else {
            return false;
        };
        match opener.updated() {
            Some(next) => {
                *opener = next;
                true
            }
            None => false,
        }
    }

    /// Opens a record. Where a handshake record that announced new keys was lost, the keys that
    /// follow are tried; where records were lost, so are the next `max_lost` numbers.
    pub(super) fn open(&mut self, header: Header, payload: &[u8], max_lost: u64) -> Option<Opened> {
        let tries = if self.seeking { max_lost } else { 0 };
        for index in 0..self.keys.len() {
            let Some((_, opener)) = self.keys.get_mut(index) else {
                break;
            };
            let expected = opener.sequence();
            for lost in 0..=tries {
                opener.skip_to(expected.saturating_add(lost));
                if let Some(opened) = opener.open(header, payload) {
                    self.keys.drain(..index);
                    self.seeking = false;
                    self.opened_any = true;
                    return Some(opened);
                }
            }
            opener.skip_to(expected);
        }
        None
    }

    /// Keeps a record for later; false if that is too much.
    pub(super) fn hold(&mut self, at: At, header: Header, payload: Bytes, max: usize) -> bool {
        self.held_bytes = self.held_bytes.saturating_add(payload.len());
        self.held.push((at, header, payload));
        self.held_bytes <= max
    }

    pub(super) fn take_held(&mut self) -> Vec<(At, Header, Bytes)> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    pub(super) fn push_handshake(&mut self, content: &[u8]) {
        let skipped = self.skip_handshake.min(content.len());
        self.skip_handshake = self.skip_handshake.saturating_sub(skipped);
        self.handshake
            .extend_from_slice(content.get(skipped..).unwrap_or_default());
    }

    /// The next whole handshake message: its type and body.
    pub(super) fn next_message(&mut self, max: usize) -> Option<(u8, Bytes)> {
        loop {
            let ([kind, a, b, c], rest) = self.handshake.split_first_chunk::<MESSAGE_HEADER>()?;
            let kind = *kind;
            let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?;
            if length > max {
                self.skip_handshake = length.saturating_sub(rest.len());
                let have = length.min(rest.len());
                self.handshake.advance(MESSAGE_HEADER.saturating_add(have));
                continue;
            }
            if rest.len() < length {
                return None;
            }
            self.handshake.advance(MESSAGE_HEADER);
            return Some((kind, self.handshake.split_to(length).freeze()));
        }
    }
}
