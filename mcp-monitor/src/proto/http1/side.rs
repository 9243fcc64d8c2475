//! Where one direction of a connection stands.

use bytes::{Bytes, BytesMut};

use super::{framing::Framing, head::EndScanner};
use crate::{
    proto::http::ExchangeId,
    types::{At, PacketId},
};

/// State between two pieces of one direction.
#[derive(Debug)]
pub(super) enum State {
    /// Out of step: a message start is looked for at each start of a segment.
    Seek,
    /// In or before a head.
    Head(Partial),
    /// In a body.
    Body(Body),
    /// In a chunked body, after lost bytes: the next chunk is looked for.
    SeekChunk(ExchangeId),
    /// Request side, after a request that asks for another protocol.
    Held(Held),
    /// Another protocol.
    Tunnel,
}

/// As much of a head as has come.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) bytes: BytesMut,
    pub(super) scanner: EndScanner,
    pub(super) first: Option<PacketId>,
    /// Found by seeking: when it turns out to be none, that is nobody's fault.
    pub(super) sought: bool,
    /// Not yet certain to be one.
    pub(super) unsure: bool,
}

impl Partial {
    /// The first bytes together with `data`, as far as a probe looks.
    pub(super) fn with<'a>(&self, data: &'a [u8], window: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.bytes.is_empty() {
            return data;
        }
        buffer.extend(self.bytes.iter().chain(data).take(window));
        buffer
    }
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) exchange: ExchangeId,
    pub(super) framing: Framing,
    /// No byte of it was lost so far.
    pub(super) intact: bool,
    /// The request asks for another protocol.
    pub(super) upgrade: bool,
}

/// Bytes that are HTTP or not as the response will tell.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) exchange: ExchangeId,
    pub(super) parts: Vec<(At, Bytes)>,
    pub(super) size: usize,
}

impl Held {
    pub(super) fn new(exchange: ExchangeId) -> Self {
        Self {
            exchange,
            parts: Vec::new(),
            size: 0,
        }
    }

    /// Everything held, in one piece.
    pub(super) fn joined(self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.size);
        for (_, data) in self.parts {
            all.extend_from_slice(&data);
        }
        all.freeze()
    }

    /// The first bytes held, as far as a probe looks.
    pub(super) fn prefix(&self, window: usize) -> Vec<u8> {
        self.parts
            .iter()
            .flat_map(|(_, data)| data.iter().copied())
            .take(window)
            .collect()
    }
}

/// A head that begins in step.
pub(super) fn fresh() -> State {
    State::Head(Partial::default())
}
