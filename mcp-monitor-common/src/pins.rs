//! Keys of the tables that hold the pins.
//!
//! Every key carries the generation of the pins it belongs to. New pins are written beside the old
//! ones under the next generation; one store to [`Control::generation`] then makes them valid, so no
//! packet ever meets half a table. The old generation stays until the swap after, for programs that
//! read its number just before.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::{Address, MAPPED_BITS};

/// The one entry of the control table.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Control {
    /// Pins in force.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key of the table of name patterns.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NameKey {
    /// [`NameHash`](crate::name::NameHash) of the pattern.
    pub pattern: u64,
    /// Pins it belongs to.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of the table of name patterns.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NameValue {
    /// Index of the pinned host.
    pub host: u32,
    /// See [`HOST_HAS_ADDRESSES`] and [`HOST_REFUSES_DRIFT`].
    pub flags: u32,
}

/// The host pins addresses; without it the host is known but cannot drift.
pub const HOST_HAS_ADDRESSES: u32 = 1;
/// Connections to the host at an address outside its prefixes are to be refused.
pub const HOST_REFUSES_DRIFT: u32 = 2;

/// Data of a longest-prefix-match key. The generation and host stand in front of the address and are
/// always matched whole, so one trie serves every host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PrefixKey {
    /// Pins it belongs to.
    pub generation: [u8; 4],
    /// Index of the pinned host.
    pub host: [u8; 4],
    /// Address.
    pub address: Address,
}

impl PrefixKey {
    /// Bits in front of the address.
    pub const HEAD_BITS: u32 = 64;
    /// Bits of a whole key: what a lookup asks for.
    pub const BITS: u32 = 192;

    /// Of one host and address.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u32, host: u32, address: Address) -> Self {
        Self {
            generation: generation.to_be_bytes(),
            host: host.to_be_bytes(),
            address,
        }
    }

    /// Length of the key for an IPv4 prefix of `length` bits.
    #[must_use]
    pub const fn v4_bits(length: u8) -> u32 {
        Self::HEAD_BITS
            .saturating_add(MAPPED_BITS)
            .saturating_add(length as u32)
    }

    /// Length of the key for an IPv6 prefix of `length` bits.
    #[must_use]
    pub const fn v6_bits(length: u8) -> u32 {
        Self::HEAD_BITS.saturating_add(length as u32)
    }
}
