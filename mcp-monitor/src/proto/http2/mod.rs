//! HTTP/2 (RFC 9113) as an observer sees it, with HPACK (RFC 7541).
//!
//! [`Connection`] says the same [`HttpEvent`](super::http::HttpEvent)s as HTTP/1; the
//! exchange is the stream. Trailers, pushed requests and interim responses are decoded, as
//! the compression state demands, and not reported.
//!
//! After lost bytes, or in a capture that begins in mid-connection, fields that refer to
//! table entries which were not seen are left out, never guessed, and an `Http2Error`
//! anomaly says so: such a head is partial, and where its method, target, authority or
//! status is among them it is not reported at all, only its body. Entries added later are
//! known again, since indices count from the newest.

mod connection;
mod frame;
mod head;
mod hpack;
mod huffman;

#[cfg(test)]
mod tests;

pub use connection::Connection;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open at a time. The oldest gives way to one above; `HttpPipelineLimit` says
    /// so. Default 1024.
    pub max_streams: usize,
    /// Bytes of a header block, as coded. Above it: `HttpHeadLimit`; what depends on it is
    /// unknown. Default 64 KiB.
    pub max_block: usize,
    /// Fields of a head; those above are left out, `HttpHeadLimit` says so. Default 128.
    pub max_headers: usize,
    /// Bytes of a compression table as RFC 7541 section 4.1 counts them; a larger one is
    /// followed as far as this. Default 64 KiB.
    pub max_table: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            max_block: 64 * 1024,
            max_headers: 128,
            max_table: 64 * 1024,
        }
    }
}

/// Whether a connection whose start was not captured speaks HTTP/2, judged by a segment of it; and who sent the
/// segment, if a header block in it tells: the first value is `None` for "no", the second for "cannot be told".
pub(super) fn joins(data: &[u8]) -> Option<Option<crate::types::Direction>> {
    use crate::types::Direction::{ToClient, ToServer};
    frame::joins(data).map(|sender| sender.map(|client| if client { ToServer } else { ToClient }))
}
