//! Telling secrets apart without keeping them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Keyed digest of a secret. Equal secrets have equal fingerprints under one key, and nothing
/// about a secret can be learned from its fingerprint without the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    /// The first 16 hex digits: enough to compare by eye and to grep for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// HMAC-SHA-256 with the key of the installation.
#[derive(Clone)]
pub struct Fingerprinter {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

impl Fingerprinter {
    /// With a key. Installations that share a key can compare fingerprints.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        // HMAC pads a shorter key with zeros to the block size, so this is the same key.
        Self {
            keyed: Hmac::<Sha256>::new(&block),
        }
    }

    /// The fingerprint of a secret.
    pub fn fingerprint(&self, secret: &[u8]) -> Fingerprint {
        let mut mac = self.keyed.clone();
        mac.update(secret);
        Fingerprint(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_hmac_sha_256() {
        // RFC 4231 test case 3 has a 20-byte key; zeros up to 32 bytes are the same HMAC key.
        let mut key = [0u8; 32];
        key[..20].fill(0xaa);
        let print = Fingerprinter::new(&key).fingerprint(&[0xdd; 50]);
        assert_eq!(print.to_string(), "773ea91e36800e46");
    }

    #[test]
    fn differs_by_key_and_secret() {
        let (a, b) = (Fingerprinter::new(&[1; 32]), Fingerprinter::new(&[2; 32]));
        assert_ne!(a.fingerprint(b"x"), b.fingerprint(b"x"));
        assert_ne!(a.fingerprint(b"x"), a.fingerprint(b"y"));
        assert_eq!(a.fingerprint(b"x"), a.fingerprint(b"x"));
        assert!(!format!("{a:?}").contains("1, 1"));
    }
}
