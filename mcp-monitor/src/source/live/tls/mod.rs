//! Plaintext from the TLS libraries that processes use.
//!
//! [`scan`] looks through `/proc`, on a thread of its own, for files with TLS functions inside;
//! [`Probes`] puts the kernel's probes on them. A probe sits on a file, whoever maps it: a process that
//! loads a library later is seen from its first call.

mod probes;
mod process;
mod scan;
mod survey;
mod unreadable;

pub use self::{
    probes::{Probes, TlsCounters},
    scan::{Change, Scanner, Subject},
    survey::{MAX_SURVEYED, Survey, Surveyed, survey, survey_without},
    unreadable::{UnreadableProcesses, UnreadableProgram},
};

/// A TLS connection as the library of a process knows it. Addresses are used again, so the time of its
/// first call belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Object {
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Where it lies in the process.
    pub address: u64,
    /// Nanoseconds since boot.
    pub born: u64,
}
