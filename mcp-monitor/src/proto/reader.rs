//! A cursor over bytes from the wire: nom's parsers, with what follows them remembered.
//!
//! A record that breaks off keeps what was read before; with a plain chain of parsers all of it
//! would be lost.

use nom::{
    Parser,
    bytes::complete::take,
    multi::{length_data, many0},
    number::complete::{be_u8, be_u16, be_u24, be_u32},
};

/// Reads big-endian integers and byte runs from the front; every read says whether it fitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Runs a parser; where it does not fit, nothing is consumed.
    pub(super) fn parse<T>(
        &mut self,
        mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
    ) -> Option<T> {
        let (rest, value) = parser.parse(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        self.parse(take(len))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.parse(be_u8)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.parse(be_u16)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.parse(be_u32)
    }

    /// A run with an 8-bit length before it.
    pub(super) fn run8(&mut self) -> Option<Self> {
        self.parse(length_data(be_u8)).map(Self::new)
    }

    /// A run with a 16-bit length before it.
    pub(super) fn run16(&mut self) -> Option<Self> {
        self.parse(length_data(be_u16)).map(Self::new)
    }

    /// A run with a 24-bit length before it.
    pub(super) fn run24(&mut self) -> Option<Self> {
        self.parse(length_data(be_u24)).map(Self::new)
    }

    /// The rest as 16-bit integers; an odd byte at the end is left out.
    pub(super) fn u16s(mut self) -> Vec<u16> {
        self.parse(many0(be_u16)).unwrap_or_default()
    }
}
