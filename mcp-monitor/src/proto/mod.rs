//! Protocols over flows: one folder each, with the same set of files.

pub mod coding;
mod detector;
pub mod dns;
pub mod http;
pub mod http1;
pub mod http2;
pub mod quic;
mod reader;
pub mod sse;
pub mod tls;
pub mod websocket;

pub use detector::{Detected, Detector, Held, Protocol};

/// What a protocol says of the first bytes of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// It is this protocol.
    Certain,
    /// More bytes are needed.
    Unsure,
    /// It is not.
    NotForUs,
}
