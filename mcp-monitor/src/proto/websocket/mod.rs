//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), as an observer sees it after
//! an HTTP upgrade.

mod frame;
mod side;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::types::{Anomaly, At, Direction};

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, decompressed. Above it: `BodyLimit`, and the message is passed
    /// over. Default 16 MiB.
    pub max_message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 16 * 1024 * 1024,
        }
    }
}

/// What a WebSocket says.
#[derive(Clone, Debug)]
pub enum WsEvent {
    /// A whole message, unmasked and decompressed. Shares the input where it lay in one
    /// piece, unmasked and plain.
    Message {
        /// Which way.
        direction: Direction,
        /// Text; else binary.
        text: bool,
        /// The content.
        data: Bytes,
        /// When it was complete.
        at: At,
    },
    /// A close frame.
    Close {
        /// Which way.
        direction: Direction,
        /// Status code, if one is given.
        code: Option<u16>,
        /// When.
        at: At,
    },
    /// Something was wrong.
    Anomaly {
        /// What.
        anomaly: Anomaly,
        /// When.
        at: At,
    },
}

/// Whether a connection whose start was not captured is a WebSocket that carries JSON text, judged by a segment of
/// it; and who sent the segment, since only clients mask.
pub(super) fn joins(data: &[u8]) -> Option<Direction> {
    frame::joins(data).map(|masked| {
        if masked {
            Direction::ToServer
        } else {
            Direction::ToClient
        }
    })
}

/// A connection after its upgrade.
#[derive(Debug)]
pub struct Connection {
    to_server: side::Side,
    to_client: side::Side,
}

impl Connection {
    /// A connection whose next bytes are the first frame of each direction.
    ///
    /// Whether permessage-deflate was agreed need not be known: a compressed message says
    /// so, and a decoder that keeps its context reads those of senders that do not.
    pub fn new(limits: Limits) -> Self {
        Self {
            to_server: side::Side::new(Direction::ToServer, limits),
            to_client: side::Side::new(Direction::ToClient, limits),
        }
    }

    /// A connection joined in the middle.
    pub fn joined(limits: Limits) -> Self {
        Self {
            to_server: side::Side::new(Direction::ToServer, limits).joined(),
            to_client: side::Side::new(Direction::ToClient, limits).joined(),
        }
    }

    /// The next bytes of a direction; each call is taken for the start of a segment.
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes, out: &mut Vec<WsEvent>) {
        self.side(direction).data(at, data, out);
    }

    /// `bytes` of a direction will never come. The message they belong to is given up.
    pub fn gap(&mut self, direction: Direction, bytes: u64) {
        self.side(direction).gap(bytes);
    }

    /// Bytes held of messages under way.
    pub fn held(&self) -> usize {
        self.to_server.held().saturating_add(self.to_client.held())
    }

    /// Lets the messages under way go; those after them are read.
    pub fn give_up(&mut self) {
        self.to_server.give_up();
        self.to_client.give_up();
    }

    fn side(&mut self, direction: Direction) -> &mut side::Side {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}
