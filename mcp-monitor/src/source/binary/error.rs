//! Why a file, or a TLS library in it, cannot be read.

use std::io;

use serde::Serialize;
use thiserror::Error;

use super::Library;

impl Unreadable {
    /// The reason in a word: one of ten.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Stripped { .. } => "stripped",
            Self::NoConvention { .. } => "no_convention",
            Self::Missing { .. } => "missing",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Indirect { .. } => "indirect",
            Self::OutsideCode { .. } => "outside_code",
            Self::OldGo { .. } => "old_go",
            Self::Code { .. } => "code",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Why a file was not examined.
#[derive(Debug, Error)]
pub enum BinaryError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It is a device, a pipe, a folder.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is no ELF file.
    #[error("it is not an ELF file")]
    NotElf,
    /// It is of a machine that is not supported.
    #[error("it is for a machine other than 64-bit x86 or ARM, little-endian (ELF machine {0})")]
    Machine(u16),
    /// Its tables contradict the file.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
}

/// Why a TLS library that is in a file cannot be read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Error, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Unreadable {
    /// The names of its functions were removed.
    #[error("{} is inside, but the names of its functions are not: the binary is stripped", library.name())]
    Stripped {
        /// Which.
        library: Library,
    },
    /// Its functions are named, but not how they take arguments and give results.
    #[error(
        "{} is inside: Rust fixes no calling convention, so where its functions have the plaintext is not known",
        library.name()
    )]
    NoConvention {
        /// Which.
        library: Library,
    },
    /// A function that is needed is not there.
    #[error("{} is there, but its {symbol} is not", library.name())]
    Missing {
        /// Of this library.
        library: Library,
        /// The function.
        symbol: &'static str,
    },
    /// A name stands for several places.
    #[error("{symbol} of {} is in {places} places: which is called cannot be told", library.name())]
    Ambiguous {
        /// Of this library.
        library: Library,
        /// The function.
        symbol: &'static str,
        /// In so many places.
        places: usize,
    },
    /// A name stands for a function that chooses the function.
    #[error("{symbol} of {} is chosen at run time (IFUNC)", library.name())]
    Indirect {
        /// Of this library.
        library: Library,
        /// The function.
        symbol: &'static str,
    },
    /// A function does not lie in the code of the file.
    #[error("{symbol} of {} lies outside the code of the file", library.name())]
    OutsideCode {
        /// Of this library.
        library: Library,
        /// The function.
        symbol: &'static str,
    },
    /// A Go toolchain older than the calling convention that is read.
    #[error(
        "it was built with Go {version}, which passes arguments on the stack; from 1.17 on (on ARM from 1.18) they are in registers"
    )]
    OldGo {
        /// Its version.
        version: Box<str>,
    },
    /// The code at a function's place is not what a function begins with or is made of.
    #[error("the code of {symbol} of {} is not understood", library.name())]
    Code {
        /// Of this library.
        library: Library,
        /// The function.
        symbol: &'static str,
    },
    /// A table is larger than what is read.
    #[error("{what} is of {size} bytes, more than the {cap} that are read")]
    TooLarge {
        /// Which table.
        what: &'static str,
        /// Bytes it has.
        size: u64,
        /// Bytes that are read at most.
        cap: u64,
    },
    /// A table contradicts the file.
    #[error("{what} is malformed")]
    Malformed {
        /// Which table.
        what: &'static str,
    },
}
