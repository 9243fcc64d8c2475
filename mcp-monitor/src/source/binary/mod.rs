//! Finds the functions of TLS libraries in executables and shared libraries.
//!
//! [`examine`] answers where probes may be placed in a file: a [`Plan`] for each TLS library in it, or
//! the reason why a library that is there cannot be read. It follows no pointers of a running process and
//! runs nothing; the file is a stranger's, so every read and every table has a bound.
//!
//! C libraries are found by their exported or kept symbols, Go's by its function table, which stripping
//! leaves; rustls is found and refused. A name that stands for two places is refused: a probe in
//! the wrong place would give wrong bytes, which is worse than none.

mod contents;
mod error;
mod exported;
mod go;
mod image;
mod marks;
mod rustls;

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]
mod tests;

use serde::Serialize;

pub use self::{
    contents::{Contents, open},
    error::{BinaryError, Unreadable},
    go::{MAX_CODE, MAX_FUNCTIONS, MAX_RETURNS},
    image::{MAX_NAME, MAX_SECTIONS, MAX_SEGMENTS, MAX_STRINGS, MAX_SYMBOLS},
    marks::MAX_SCANNED,
};
use self::{image::Image, marks::Marks};

/// A TLS library.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Library {
    /// OpenSSL 1.1 and 3, as a shared library or inside an executable (Node.js); LibreSSL too.
    OpenSsl,
    /// BoringSSL, AWS-LC: the same functions without the `_ex` forms.
    BoringSsl,
    /// GnuTLS 3.
    GnuTls,
    /// `crypto/tls` of the Go standard library.
    Go,
    /// rustls.
    Rustls,
    /// Some TLS 1.3 implementation that none of the above signs tell.
    Unknown,
}

impl Library {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::BoringSsl => "BoringSSL",
            Self::GnuTls => "GnuTLS",
            Self::Go => "Go crypto/tls",
            Self::Rustls => "rustls",
            Self::Unknown => "a TLS library",
        }
    }
}

/// What a function does with a TLS object. Its arguments are those of the library's calling convention;
/// the object is always the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// `(object, buffer, size) -> length`, at most 0 where nothing was read.
    Read,
    /// `(object, buffer, size, &length) -> 1` where something was read.
    ReadEx,
    /// `(object, buffer, size) -> length`, at most 0 where nothing was written.
    Write,
    /// `(object, buffer, size, &length) -> 1` where something was written.
    WriteEx,
    /// `(object) -> status`: a handshake or a part of one. In Go a `context` follows the object.
    Handshake,
    /// `(message) -> bytes`: a ClientHello is written, in Go.
    HelloSent,
    /// `(message, bytes)`: a ClientHello is read, in Go.
    HelloReceived,
    /// `(object)`: says goodbye to the peer, or closes.
    Shutdown,
    /// `(object)`: its memory goes away.
    Free,
    /// `(object, fd)`: the socket for both directions.
    SetFd,
    /// `(object, fd)`: the socket to read from.
    SetReadFd,
    /// `(object, fd)`: the socket to write to.
    SetWriteFd,
    /// `(object, pointer)`: what the transport callbacks are given; where it is a small number, a socket.
    SetTransport,
}

/// Where in a function a probe belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// On its first instruction.
    Entry,
    /// A return probe at its first instruction. For C only: it rewrites the return address.
    Return,
    /// An entry probe on one of its return instructions, for stacks that move (Go).
    ReturnSite,
}

/// One place for a probe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Probe {
    /// What the function does.
    pub function: Function,
    /// The name it was found by.
    pub symbol: &'static str,
    /// Offset in the file, as `perf_event_open` wants it.
    pub file_offset: u64,
    /// Entry, return, or a return instruction.
    pub kind: ProbeKind,
}

/// Where to place probes for one library.
///
/// Functions of a library may call one another (`gnutls_record_send` calls `gnutls_record_send2` in some
/// versions): the outermost call counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// Which library.
    pub library: Library,
    /// Its version as far as the file says: of OpenSSL the ABI (`3.0.0`), of Go the toolchain (`1.24.2`).
    pub version: Option<Box<str>>,
    /// Ordered by file offset, each place and kind once. A function has several entries where the library
    /// has several names for it.
    pub probes: Vec<Probe>,
}

/// What a file holds. Both lists empty: no TLS library.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Examined {
    /// GNU build id, where there is one.
    pub build_id: Option<Box<[u8]>>,
    /// Libraries that can be read.
    pub plans: Vec<Plan>,
    /// Libraries that are there and cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// Finds the TLS libraries in a file.
///
/// Reads what it needs and no more: headers, symbol names, Go's function table; the constants of the
/// program (at most [`MAX_SCANNED`] bytes) only if nothing else told a library. Never holds more than a few
/// [`MAX_STRINGS`]. An `Err` is for files that are no executable of this machine or cannot be read.
pub fn examine(contents: &dyn Contents) -> Result<Examined, BinaryError> {
    let image = Image::read(contents)?;
    let mut examined = Examined {
        build_id: image.build_id(),
        ..Examined::default()
    };
    let found = |result: Result<Option<Plan>, Unreadable>, examined: &mut Examined| match result {
        Ok(plan) => examined.plans.extend(plan),
        Err(why) => examined.unreadable.push(why),
    };
    match exported::plans(&image) {
        Ok(results) => results
            .into_iter()
            .for_each(|result| found(result.map(Some), &mut examined)),
        Err(why) => found(Err(why), &mut examined),
    }
    found(go::plan(&image), &mut examined);
    if examined.plans.is_empty() && examined.unreadable.is_empty() {
        let marks = Marks::scan(&image)?;
        examined
            .unreadable
            .extend(marks.library().map(|library| match library {
                Library::Rustls => rustls::reason(&image),
                _ => Unreadable::Stripped { library },
            }));
    }
    Ok(examined)
}
