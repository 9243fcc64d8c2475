//! Server-sent events (WHATWG HTML, section 9.2).

mod decoder;

pub use decoder::Decoder;

use bytes::Bytes;

/// One dispatched event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SseEvent {
    /// Event type; empty means `message`.
    pub event: Bytes,
    /// Data lines joined with LF. Shares the input where the event lay in one piece on one line.
    pub data: Bytes,
    /// Last event id in force when it was dispatched, if one was ever set.
    pub id: Option<Bytes>,
}
