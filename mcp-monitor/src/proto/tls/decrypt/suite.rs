//! What a cipher suite protects records with.

use super::schedule::Hash;

/// How records are sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    /// AES-128-CCM; with tags of 8 bytes.
    Aes128Ccm {
        short: bool,
    },
    Aes256Ccm {
        short: bool,
    },
    /// AES in CBC mode with an HMAC (TLS 1.2 and before).
    Cbc {
        key: usize,
        mac: CbcMac,
    },
}

/// HMAC of a CBC suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CbcMac {
    Sha1,
    Sha256,
    Sha384,
}

impl CbcMac {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// A suite that can be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suite {
    pub(super) cipher: Cipher,
    /// Of the key schedule.
    pub(super) hash: Hash,
}

impl Cipher {
    /// Bytes of the key.
    pub(super) fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ccm { .. } => 16,
            Self::Aes256Gcm | Self::Aes256Ccm { .. } | Self::ChaCha20Poly1305 => 32,
            Self::Cbc { key, .. } => key,
        }
    }
}

/// The key exchange of this suite is RSA: the client sends a secret that the server's key opens.
pub(super) fn exchanges_by_rsa(id: u16) -> bool {
    matches!(
        id,
        0x002f | 0x0035 | 0x003c | 0x003d | 0x009c | 0x009d | 0xc09c | 0xc09d | 0xc0a0 | 0xc0a1
    )
}

/// The suite of this number, for TLS 1.2 or 1.3; `None` if its records cannot be opened here.
pub(super) fn suite(id: u16) -> Option<Suite> {
    use Cipher::{Aes128Ccm, Aes128Gcm, Aes256Ccm, Aes256Gcm, Cbc, ChaCha20Poly1305};
    use Hash::{Sha256, Sha384};
    let cbc = |key, mac| Cbc { key, mac };
    let (cipher, hash) = match id {
        0x1301 => (Aes128Gcm, Sha256),
        0x1302 => (Aes256Gcm, Sha384),
        0x1303 => (ChaCha20Poly1305, Sha256),
        0x1304 => (Aes128Ccm { short: false }, Sha256),
        0x1305 => (Aes128Ccm { short: true }, Sha256),
        // RSA, DHE_RSA, DHE_DSS, ECDH(E)_(ECDSA|RSA): RFC 5288, 5289.
        0x009c | 0x009e | 0x00a2 | 0xc02b | 0xc02d | 0xc02f | 0xc031 => (Aes128Gcm, Sha256),
        0x009d | 0x009f | 0x00a3 | 0xc02c | 0xc02e | 0xc030 | 0xc032 => (Aes256Gcm, Sha384),
        // RFC 7905.
        0xcca8..=0xccaa => (ChaCha20Poly1305, Sha256),
        // RFC 6655, 7251.
        0xc09c | 0xc09e | 0xc0ac => (Aes128Ccm { short: false }, Sha256),
        0xc0a0 | 0xc0a2 | 0xc0ae => (Aes128Ccm { short: true }, Sha256),
        0xc09d | 0xc09f | 0xc0ad => (Aes256Ccm { short: false }, Sha256),
        0xc0a1 | 0xc0a3 | 0xc0af => (Aes256Ccm { short: true }, Sha256),
        // RFC 5246, 8422, 5289.
        0x002f | 0x0032 | 0x0033 | 0xc004 | 0xc009 | 0xc00e | 0xc013 => (cbc(16, CbcMac::Sha1), Sha256),
        0x0035 | 0x0038 | 0x0039 | 0xc005 | 0xc00a | 0xc00f | 0xc014 => (cbc(32, CbcMac::Sha1), Sha256),
        0x003c | 0x0040 | 0x0067 | 0xc023 | 0xc025 | 0xc027 | 0xc029 => (cbc(16, CbcMac::Sha256), Sha256),
        0x003d | 0x006a | 0x006b => (cbc(32, CbcMac::Sha256), Sha256),
        0xc024 | 0xc026 | 0xc028 | 0xc02a => (cbc(32, CbcMac::Sha384), Sha384),
        _ => return None,
    };
    Some(Suite { cipher, hash })
}
