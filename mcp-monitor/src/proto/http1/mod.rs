//! HTTP/1.0 and 1.1 (RFC 9112) as an observer sees it.
//!
//! [`Connection`] takes the bytes of both directions as they come, in any pieces, and
//! says what they mean as [`HttpEvent`](super::http::HttpEvent)s. Body bytes pass through
//! without being copied; a head is copied once, so that keeping it does not keep the
//! packets it came in.
//!
//! Every request is followed by an `End` of each direction, every response by one. The
//! response precedes its request where the capture holds the request's bytes back.
//!
//! Where the length of a message is ambiguous, the reading that RFC 9112 prescribes is
//! taken and an `HttpAmbiguous` anomaly says so; where it prescribes none, the message
//! ends incomplete and the next plausible start of one, at the start of a segment, is
//! waited for. The same wait follows lost bytes whose end cannot be told and is how a
//! capture that begins in mid-connection falls into step.

mod chunked;
mod connection;
mod framing;
mod head;
mod pairing;
mod probe;
mod side;

pub use connection::Connection;
pub use probe::probe;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a head, its final empty line included. Above it: `HttpHeadLimit`, and the
    /// next message start is waited for. Default 64 KiB.
    pub max_head: usize,
    /// Fields of a head. Those above are left out, `HttpHeadLimit` says so. Default 128.
    pub max_headers: usize,
    /// Requests in flight. The responses to those above come unpaired;
    /// `HttpPipelineLimit` says so for each. Default 256.
    pub max_pipeline: usize,
    /// Bytes held after a request that asks for another protocol, until the response
    /// decides. Above it the client has evidently changed protocol. Default 64 KiB.
    pub max_held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head: 64 * 1024,
            max_headers: 128,
            max_pipeline: 256,
            max_held: 64 * 1024,
        }
    }
}

#[cfg(test)]
mod tests;
