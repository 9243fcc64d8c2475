//! Where the bytes of an HTTP body go: nowhere, into one JSON text, or into SSE events.

use bytes::{Bytes, BytesMut};

use super::held::Share;
use crate::types::PacketId;

/// A body being collected. One chunk stays shared with the packet; more are joined.
#[derive(Debug, Default)]
pub struct Collected {
    one: Bytes,
    joined: BytesMut,
    /// First packet of the body.
    pub first: Option<PacketId>,
    /// It grew past the cap and was let go.
    pub overflowed: bool,
    /// Bytes that its head announced, 0 if none did.
    announced: usize,
    share: Share,
}

/// Room is made for what was announced, but for no more than this many times what came.
const TRUST: usize = 8;

impl Collected {
    /// Empty; what it will hold is counted in `share`, and its head announced `announced` bytes.
    pub(super) fn counted(share: Share, announced: usize) -> Self {
        Self {
            share,
            announced,
            ..Self::default()
        }
    }

    /// Adds a chunk; at more than `cap` bytes everything is let go.
    pub fn push(&mut self, data: Bytes, packet: PacketId, cap: usize) {
        if self.overflowed || data.is_empty() {
            return;
        }
        self.first.get_or_insert(packet);
        if self.len().saturating_add(data.len()) > cap {
            *self = Self {
                first: self.first,
                overflowed: true,
                ..Self::default()
            };
            return;
        }
        self.share.set(self.len().saturating_add(data.len()));
        if self.one.is_empty() && self.joined.is_empty() {
            self.one = data;
            return;
        }
        if self.joined.is_empty() {
            let came = self.one.len().saturating_add(data.len());
            let room = self.announced.min(cap).min(came.saturating_mul(TRUST)).max(came);
            self.joined.reserve(room);
            self.joined.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.joined.extend_from_slice(&data);
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.one.len().saturating_add(self.joined.len())
    }

    /// Nothing came (or all was let go).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole body.
    pub fn take(&mut self) -> Bytes {
        self.share.set(0);
        if self.joined.is_empty() {
            std::mem::take(&mut self.one)
        } else {
            self.joined.split().freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_is_not_copied() {
        let data = Bytes::from(vec![1, 2, 3]);
        let mut body = Collected::default();
        body.push(data.clone(), PacketId::default(), 10);
        assert_eq!(body.take().as_ptr(), data.as_ptr());
    }

    #[test]
    fn joins_and_caps() {
        let mut body = Collected::default();
        for chunk in [&b"ab"[..], b"cd", b"ef"] {
            body.push(Bytes::copy_from_slice(chunk), PacketId::default(), 6);
        }
        assert_eq!(body.len(), 6);
        body.push(Bytes::from_static(b"g"), PacketId::default(), 6);
        assert!(body.overflowed && body.is_empty());
    }

    #[test]
    fn what_a_head_announces_is_not_believed_beyond_a_few_times_what_came() {
        let piece = || Bytes::from(vec![0; 1000]);
        for (announced, room) in [(0, 2000..2100), (5000, 5000..5100), (usize::MAX, 16_000..16_100)] {
            let mut body = Collected::counted(Share::default(), announced);
            body.push(piece(), PacketId::default(), 1 << 20);
            assert_eq!(body.joined.capacity(), 0);
            body.push(piece(), PacketId::default(), 1 << 20);
            assert!(room.contains(&body.joined.capacity()), "{announced}");
        }
    }
}
