//! Keys from secrets: the PRF of TLS 1.2 (RFC 5246 section 5) and the labels of TLS 1.3
//! (RFC 8446 section 7).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::keylog::Secret;

/// The hash of a cipher suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// `PRF(secret, label, seed)`, `len` bytes of it.
pub(super) fn prf(hash: Hash, secret: &[u8], label: &[u8], seed: &[&[u8]], len: usize) -> Secret {
    match hash {
        Hash::Sha256 => p_hash::<Hmac<Sha256>>(secret, label, seed, len),
        Hash::Sha384 => p_hash::<Hmac<Sha384>>(secret, label, seed, len),
    }
}

fn p_hash<M: Mac + KeyInit>(secret: &[u8], label: &[u8], seed: &[&[u8]], len: usize) -> Secret {
    // HMAC takes keys of any length.
    let mac = |parts: &[&[u8]]| -> Vec<u8> {
        let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret) else {
            return Vec::new();
        };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    };
    let mut seeded = vec![label];
    seeded.extend_from_slice(seed);
    let mut a = mac(&seeded);
    let mut out = Zeroizing::new(Vec::with_capacity(len.saturating_add(48)));
    while out.len() < len && !a.is_empty() {
        let mut parts = vec![a.as_slice()];
        parts.extend_from_slice(&seeded);
        out.extend_from_slice(&mac(&parts));
        a = mac(&[&a]);
    }
    out.truncate(len);
    out
}

/// `HKDF-Expand-Label(secret, label, "", len)`.
pub(super) fn expand_label(hash: Hash, secret: &[u8], label: &[u8], len: usize) -> Option<Secret> {
    let mut info = Vec::with_capacity(32);
    info.extend_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
    info.push(u8::try_from(label.len().checked_add(6)?).ok()?);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(0);
    let mut out = Zeroizing::new(vec![0; len]);
    match hash {
        Hash::Sha256 => Hkdf::<Sha256>::from_prk(secret)
            .ok()?
            .expand(&info, &mut out)
            .ok()?,
        Hash::Sha384 => Hkdf::<Sha384>::from_prk(secret)
            .ok()?
            .expand(&info, &mut out)
            .ok()?,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace()
            .map(|b| u8::from_str_radix(b, 16).unwrap())
            .collect()
    }

    /// RFC 8448 section 3: the server's handshake traffic secret gives its key and IV.
    #[test]
    fn expands_as_the_example_session_of_rfc_8448() {
        let secret = bytes(
            "b6 7b 7d 69 0c c1 6c 4e 75 e5 42 13 cb 2d 37 b4 e9 c9 12 bc de d9 10 5d 42 be fd 59 d3 91 ad 38",
        );
        let key = expand_label(Hash::Sha256, &secret, b"key", 16).unwrap();
        assert_eq!(
            key.as_slice(),
            bytes("3f ce 51 60 09 c2 17 27 d0 f2 e4 e8 6e e4 03 bc")
        );
        let iv = expand_label(Hash::Sha256, &secret, b"iv", 12).unwrap();
        assert_eq!(iv.as_slice(), bytes("5d 31 3e b2 67 12 76 ee 13 00 0b 30"));
    }

    /// The vector that the TLS working group published for P_SHA256.
    #[test]
    fn prf_as_published() {
        let secret = bytes("9b be 43 6b a9 40 f0 17 b1 76 52 84 9a 71 db 35");
        let seed = bytes("a0 ba 9f 93 6c da 31 18 27 a6 f7 96 ff d5 19 8c");
        let out = prf(Hash::Sha256, &secret, b"test label", &[&seed], 100);
        assert_eq!(out.len(), 100);
        assert_eq!(
            out.get(..16).unwrap(),
            bytes("e3 f2 29 ba 72 7b e1 7b 8d 12 26 20 55 7c d4 53")
        );
    }
}
