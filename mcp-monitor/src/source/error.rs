//! Why a capture could not be read at all.

use std::{io, path::PathBuf};

/// A capture that gives no packets: it cannot be opened or read, or is not a capture.
///
/// A capture that breaks off after a good start is not an error; see
/// [`CaptureReader::truncated`](super::CaptureReader::truncated).
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file; `-` is standard input.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Not a single byte.
    #[error("{}: found an empty file, expected a pcap or pcapng capture", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Starts like nothing that is read here.
    #[error("{}: found {found}, expected a pcap or pcapng capture (plain, gzip or zstd)", path.display())]
    NotACapture {
        /// Which file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// Starts like a capture, but its header is cut or contradicts itself.
    #[error("{}: found {found}, expected {expected}", path.display())]
    BadHeader {
        /// Which file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What the format asks for.
        expected: &'static str,
    },
}
