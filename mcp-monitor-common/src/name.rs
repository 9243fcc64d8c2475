//! Host names as 64-bit hashes.
//!
//! A name is hashed from its last byte to its first, in lower case and without the final dot. So
//! one pass meets, at each dot, the hash of the suffix behind it: the exact name and every
//! `*.suffix` that covers it cost one walk. A pattern `*.example.com` is hashed the same way, star
//! and all, so patterns and names share one table.

use crate::verdict::{Host, Tables};

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a over the bytes in reverse order, from a secret start so that nobody can aim for a collision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameHash(pub u64);

impl NameHash {
    /// The empty name. `seed` is any number: live a random one, in replay 0.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(OFFSET ^ seed)
    }

    /// With one more byte at the front.
    #[inline(always)]
    #[must_use]
    pub const fn before(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(PRIME))
    }

    /// Of a whole name or `*.suffix` pattern in text form; case and a final dot do not matter.
    #[must_use]
    pub fn of(seed: u64, name: &str) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut hash = Self::new(seed);
        for byte in name.bytes().rev() {
            hash = hash.before(byte.to_ascii_lowercase());
        }
        hash
    }
}

/// A walk over one name, from its last byte to its first, that finds the pattern it falls under.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NameWalk {
    hash: u64,
    best: Host,
}

impl NameWalk {
    /// Before the last byte.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            hash: NameHash::new(seed).0,
            best: Host::NONE,
        }
    }

    /// Takes the next byte towards the front.
    #[inline(always)]
    pub fn before<T: Tables>(&mut self, byte: u8, tables: &T) {
        let hash = NameHash(self.hash).before(byte.to_ascii_lowercase());
        self.hash = hash.0;
        if byte == b'.'
            && let Some(host) = tables.pattern(hash.before(b'*').0)
        {
            self.best = host;
        }
    }

    /// The pinned host the name falls under: the exact one, else the longest `*.suffix`.
    #[inline(always)]
    pub fn finish<T: Tables>(&self, tables: &T) -> Option<Host> {
        tables.pattern(self.hash).or(if self.best.pattern == 0 {
            None
        } else {
            Some(self.best)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_ignores_case_and_final_dot() {
        assert_eq!(
            NameHash::of(7, "Mcp.Example.COM."),
            NameHash::of(7, "mcp.example.com")
        );
        assert_ne!(
            NameHash::of(7, "mcp.example.com"),
            NameHash::of(8, "mcp.example.com")
        );
    }
}
