//! Private keys of servers, for captures of connections whose key exchange was RSA (RFC 5246 section
//! 7.4.7.1). Whoever has the key can open such a connection; with Diffie-Hellman nobody can.

use std::fmt;

use rsa::{
    Pkcs1v15Encrypt, PrivateKey, pkcs1::DecodeRsaPrivateKey as _, pkcs8::DecodePrivateKey as _,
    traits::PublicKeyParts as _,
};
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::Zeroizing;

use super::{
    keylog::{Random, Secret},
    schedule::{Hash, prf},
};
use crate::proto::reader::Reader;

/// Keys kept; each is tried on each key exchange of its size.
const MAX_KEYS: usize = 64;
/// Version and random bytes (RFC 5246 section 7.4.7.1).
const PREMASTER: usize = 48;
const MASTER: usize = 48;
/// Handshake bytes kept for the session hash; a longer handshake is not opened.
const MAX_TRANSCRIPT: usize = 256 * 1024;

/// Why a private key was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RsaKeyError {
    /// It is protected by a passphrase.
    #[error("an encrypted private key; decrypt it first, for instance with `openssl rsa`")]
    Encrypted,
    /// Not a key, or of another algorithm.
    #[error("no RSA private key in PEM form")]
    NotRsa,
    /// There is no room.
    #[error("a key beyond the {MAX_KEYS} that are kept")]
    Full,
}

/// Private keys, in the order given.
#[derive(Default)]
pub(super) struct RsaKeys(Vec<PrivateKey>);

impl fmt::Debug for RsaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKeys").field("keys", &self.0.len()).finish()
    }
}

impl RsaKeys {
    /// Takes a key in PEM form, PKCS #8 or PKCS #1.
    pub(super) fn add(&mut self, pem: &str) -> Result<(), RsaKeyError> {
        if pem.contains("ENCRYPTED") {
            return Err(RsaKeyError::Encrypted);
        }
        if self.0.len() >= MAX_KEYS {
            return Err(RsaKeyError::Full);
        }
        let key = PrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| PrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| RsaKeyError::NotRsa)?;
        self.0.push(key);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The premaster secret in the body of a ClientKeyExchange, by the first key that opens it.
    pub(super) fn premaster(&self, exchange: &[u8]) -> Option<Secret> {
        let encrypted = Reader::new(exchange).run16()?.rest();
        self.0
            .iter()
            .filter(|key| key.size() == encrypted.len())
            .filter_map(|key| key.decrypt(Pkcs1v15Encrypt, encrypted).ok())
            .map(Zeroizing::new)
            .find(|secret| secret.len() == PREMASTER)
    }
}

/// The handshake messages up to the key exchange (RFC 7627 section 3).
#[derive(Debug, Default)]
pub(super) struct Transcript {
    bytes: Vec<u8>,
    /// Messages are missing.
    cut: bool,
}

impl Transcript {
    /// The next message, its header made again.
    pub(super) fn push(&mut self, kind: u8, body: &[u8]) {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        if self.bytes.len().saturating_add(body.len()) > MAX_TRANSCRIPT {
            self.cut = true;
            return;
        }
        let [_, length @ ..] = length;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&length);
        self.bytes.extend_from_slice(body);
    }

    fn hash(&self, hash: Hash) -> Vec<u8> {
        match hash {
            Hash::Sha256 => Sha256::digest(&self.bytes).to_vec(),
            Hash::Sha384 => Sha384::digest(&self.bytes).to_vec(),
        }
    }
}

/// The master secret (RFC 5246 section 8.1); with `extended`, bound to the handshake (RFC 7627 section 4).
pub(super) fn master(
    hash: Hash,
    premaster: &[u8],
    client: &Random,
    server: &Random,
    extended: Option<&Transcript>,
) -> Option<Secret> {
    match extended {
        None => Some(prf(hash, premaster, b"master secret", &[client, server], MASTER)),
        Some(transcript) if transcript.cut => None,
        Some(transcript) => {
            let seed = transcript.hash(hash);
            Some(prf(hash, premaster, b"extended master secret", &[&seed], MASTER))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        let mut keys = RsaKeys::default();
        assert_eq!(keys.add("nonsense"), Err(RsaKeyError::NotRsa));
        let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(keys.add(sealed), Err(RsaKeyError::Encrypted));
        assert!(keys.is_empty());
    }

    #[test]
    fn a_transcript_is_bounded() {
        let mut transcript = Transcript::default();
        transcript.push(1, &[0; 100]);
        assert!(master(Hash::Sha256, &[0; 48], &[0; 32], &[0; 32], Some(&transcript)).is_some());
        transcript.push(11, &vec![0; MAX_TRANSCRIPT]);
        assert_eq!(transcript.bytes.len(), 104);
        assert!(master(Hash::Sha256, &[0; 48], &[0; 32], &[0; 32], Some(&transcript)).is_none());
    }
}
