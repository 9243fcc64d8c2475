//! Opens the records of one direction (RFC 8446 section 5.2; RFC 5246 section 6.2.3).

use aes::{Aes128, Aes256};
use aes_gcm::{
    Aes128Gcm, Aes256Gcm,
    aead::{AeadInOut, KeyInit, consts},
};
use bytes::{Bytes, BytesMut};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::NoPadding};
use ccm::Ccm;
use chacha20poly1305::ChaCha20Poly1305;
use hmac::{Hmac, Mac};
use zeroize::Zeroizing;

use super::{
    keylog::Secret,
    schedule::{Hash, expand_label},
    suite::{CbcMac, Cipher, Suite},
};

type Ccm16<A> = Ccm<A, consts::U16, consts::U12>;
type Ccm8<A> = Ccm<A, consts::U8, consts::U12>;

const AES_BLOCK: usize = 16;
const EXPLICIT_NONCE: usize = 8;

/// Keys of one direction and the number of its next record.
pub(super) struct Opener {
    sequence: u64,
    kind: Kind,
}

enum Kind {
    Tls13 {
        aead: Aead,
        iv: [u8; 12],
        secret: Secret,
        hash: Hash,
        cipher: Cipher,
    },
    /// An AEAD of TLS 1.2; with part of the nonce in the record, or not (ChaCha20).
    Tls12 { aead: Aead, iv: Iv12 },
    Cbc {
        key: Secret,
        mac_key: Secret,
        mac: CbcMac,
        /// RFC 7366.
        encrypt_then_mac: bool,
    },
}

#[derive(Clone, Copy)]
enum Iv12 {
    Salt([u8; 4]),
    Whole([u8; 12]),
}

enum Aead {
    Aes128Gcm(Box<Aes128Gcm>),
    Aes256Gcm(Box<Aes256Gcm>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
    Aes128Ccm(Box<Ccm16<Aes128>>),
    Aes128Ccm8(Box<Ccm8<Aes128>>),
    Aes256Ccm(Box<Ccm16<Aes256>>),
    Aes256Ccm8(Box<Ccm8<Aes256>>),
}

/// Key material of one direction of TLS 1.2.
pub(super) struct Keys12 {
    pub(super) mac: Secret,
    pub(super) key: Secret,
    pub(super) iv: Secret,
}

/// Header of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) version: u16,
}

/// A record that authenticated.
pub(super) struct Opened {
    /// Content type; for TLS 1.3 the inner one.
    pub(super) kind: u8,
    pub(super) content: Bytes,
}

impl Aead {
    fn new(cipher: Cipher, key: &[u8]) -> Option<Self> {
        Some(match cipher {
            Cipher::Aes128Gcm => Self::Aes128Gcm(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            Cipher::Aes256Gcm => Self::Aes256Gcm(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            Cipher::ChaCha20Poly1305 => {
                Self::ChaCha20Poly1305(Box::new(ChaCha20Poly1305::new_from_slice(key).ok()?))
            }
            Cipher::Aes128Ccm { short: false } => Self::Aes128Ccm(Box::new(Ccm::new_from_slice(key).ok()?)),
            Cipher::Aes128Ccm { short: true } => Self::Aes128Ccm8(Box::new(Ccm::new_from_slice(key).ok()?)),
            Cipher::Aes256Ccm { short: false } => Self::Aes256Ccm(Box::new(Ccm::new_from_slice(key).ok()?)),
            Cipher::Aes256Ccm { short: true } => Self::Aes256Ccm8(Box::new(Ccm::new_from_slice(key).ok()?)),
            Cipher::Cbc { .. } => return None,
        })
    }

    fn tag_len(&self) -> usize {
        match self {
            Self::Aes128Ccm8(_) | Self::Aes256Ccm8(_) => 8,
            _ => 16,
        }
    }

    /// Opens `data` in place; what remains is the plaintext.
    fn open(&self, nonce: &[u8; 12], aad: &[u8], data: &mut BytesMut) -> Option<()> {
        let plain = data.len().checked_sub(self.tag_len())?;
        let (body, tag) = data.split_at_mut_checked(plain)?;
        let nonce = nonce.into();
        let result = match self {
            Self::Aes128Gcm(a) => a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?),
            Self::Aes256Gcm(a) => a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?),
            Self::ChaCha20Poly1305(a) => {
                a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?)
            }
            Self::Aes128Ccm(a) => a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?),
            Self::Aes128Ccm8(a) => {
                a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?)
            }
            Self::Aes256Ccm(a) => a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?),
            Self::Aes256Ccm8(a) => {
                a.decrypt_inout_detached(nonce, aad, body.into(), (&*tag).try_into().ok()?)
            }
        };
        result.ok()?;
        data.truncate(plain);
        Some(())
    }
}

/// `iv` with the record number folded in.
fn numbered(iv: &[u8; 12], sequence: u64) -> [u8; 12] {
    let mut nonce = *iv;
    for (byte, n) in nonce.iter_mut().rev().zip(sequence.to_be_bytes().iter().rev()) {
        *byte ^= n;
    }
    nonce
}

impl Opener {
    /// For TLS 1.3, from a traffic secret.
    pub(super) fn tls13(suite: Suite, secret: &Secret) -> Option<Self> {
        let key = expand_label(suite.hash, secret, b"key", suite.cipher.key_len())?;
        let iv = expand_label(suite.hash, secret, b"iv", 12)?;
        Some(Self {
            sequence: 0,
            kind: Kind::Tls13 {
                aead: Aead::new(suite.cipher, &key)?,
                iv: iv.as_slice().try_into().ok()?,
                secret: secret.clone(),
                hash: suite.hash,
                cipher: suite.cipher,
            },
        })
    }

    /// For TLS 1.2, from its part of the key block.
    pub(super) fn tls12(suite: Suite, keys: Keys12, encrypt_then_mac: bool) -> Option<Self> {
        let kind = match suite.cipher {
            Cipher::Cbc { mac, .. } => Kind::Cbc {
                key: keys.key,
                mac_key: keys.mac,
                mac,
                encrypt_then_mac,
            },
            Cipher::ChaCha20Poly1305 => Kind::Tls12 {
                aead: Aead::new(suite.cipher, &keys.key)?,
                iv: Iv12::Whole(keys.iv.as_slice().try_into().ok()?),
            },
            cipher => Kind::Tls12 {
                aead: Aead::new(cipher, &keys.key)?,
                iv: Iv12::Salt(keys.iv.as_slice().try_into().ok()?),
            },
        };
        Some(Self { sequence: 0, kind })
    }

    /// The keys after a KeyUpdate (RFC 8446 section 7.2).
    pub(super) fn updated(&self) -> Option<Self> {
        let Kind::Tls13 {
            secret, hash, cipher, ..
        } = &self.kind
        else {
            return None;
        };
        let next = expand_label(*hash, secret, b"traffic upd", hash.len())?;
        Self::tls13(
            Suite {
                cipher: *cipher,
                hash: *hash,
            },
            &next,
        )
    }

    /// Records opened and passed over so far.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A record was lost, or opened elsewhere.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// How many bytes less than the record its content has, at least; what a lost record took with it.
    pub(super) fn overhead(&self) -> usize {
        match &self.kind {
            Kind::Tls13 { aead, .. } => aead.tag_len().saturating_add(1),
            Kind::Tls12 { aead, iv } => match iv {
                Iv12::Salt(_) => aead.tag_len().saturating_add(EXPLICIT_NONCE),
                Iv12::Whole(_) => aead.tag_len(),
            },
            Kind::Cbc { mac, .. } => mac.len().saturating_add(AES_BLOCK).saturating_add(1),
        }
    }

    /// Opens a record if it is the next one; the count goes on only then.
    pub(super) fn open(&mut self, header: Header, payload: &[u8]) -> Option<Opened> {
        let opened = match &self.kind {
            Kind::Tls13 { aead, iv, .. } => open13(aead, iv, self.sequence, header, payload),
            Kind::Tls12 { aead, iv } => open12(aead, *iv, self.sequence, header, payload),
            Kind::Cbc {
                key,
                mac_key,
                mac,
                encrypt_then_mac,
            } => {
                let sealed = Sealed {
                    mac_key,
                    mac: *mac,
                    sequence: self.sequence,
                    header,
                };
                open_cbc(key, &sealed, *encrypt_then_mac, payload)
            }
        }?;
        self.sequence = self.sequence.checked_add(1)?;
        Some(opened)
    }
}

fn open13(aead: &Aead, iv: &[u8; 12], sequence: u64, header: Header, payload: &[u8]) -> Option<Opened> {
    let [major, minor] = header.version.to_be_bytes();
    let [high, low] = u16::try_from(payload.len()).ok()?.to_be_bytes();
    let mut data = BytesMut::from(payload);
    aead.open(
        &numbered(iv, sequence),
        &[header.kind, major, minor, high, low],
        &mut data,
    )?;
    // Content, its type, zeroes.
    let end = data.iter().rposition(|b| *b != 0)?;
    let kind = *data.get(end)?;
    data.truncate(end);
    Some(Opened {
        kind,
        content: data.freeze(),
    })
}

/// Sequence number, type, version and length: what TLS 1.2 authenticates beside the content.
fn additional(sequence: u64, header: Header, len: usize) -> Option<[u8; 13]> {
    let [major, minor] = header.version.to_be_bytes();
    let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
    let mut aad = [0; 13];
    let rest = [header.kind, major, minor, high, low];
    for (slot, byte) in aad
        .iter_mut()
        .zip(sequence.to_be_bytes().iter().chain(rest.iter()))
    {
        *slot = *byte;
    }
    Some(aad)
}

fn open12(aead: &Aead, iv: Iv12, sequence: u64, header: Header, payload: &[u8]) -> Option<Opened> {
    let (nonce, sealed) = match iv {
        Iv12::Whole(iv) => (numbered(&iv, sequence), payload),
        Iv12::Salt(salt) => {
            let (explicit, sealed) = payload.split_at_checked(EXPLICIT_NONCE)?;
            let mut nonce = [0; 12];
            for (slot, byte) in nonce.iter_mut().zip(salt.iter().chain(explicit)) {
                *slot = *byte;
            }
            (nonce, sealed)
        }
    };
    let len = sealed.len().checked_sub(aead.tag_len())?;
    let mut data = BytesMut::from(sealed);
    aead.open(&nonce, &additional(sequence, header, len)?, &mut data)?;
    Some(Opened {
        kind: header.kind,
        content: data.freeze(),
    })
}

/// What the HMAC of a CBC record covers beside its bytes.
struct Sealed<'a> {
    mac_key: &'a [u8],
    mac: CbcMac,
    sequence: u64,
    header: Header,
}

impl Sealed<'_> {
    fn verify(&self, data: &[u8], tag: &[u8]) -> Option<()> {
        let aad = additional(self.sequence, self.header, data.len())?;
        match self.mac {
            CbcMac::Sha1 => verify::<Hmac<sha1::Sha1>>(self.mac_key, &aad, data, tag),
            CbcMac::Sha256 => verify::<Hmac<sha2::Sha256>>(self.mac_key, &aad, data, tag),
            CbcMac::Sha384 => verify::<Hmac<sha2::Sha384>>(self.mac_key, &aad, data, tag),
        }
    }
}

fn verify<M: Mac + hmac::KeyInit>(key: &[u8], aad: &[u8], data: &[u8], tag: &[u8]) -> Option<()> {
    let mut mac = <M as hmac::KeyInit>::new_from_slice(key).ok()?;
    mac.update(aad);
    mac.update(data);
    mac.verify_slice(tag).ok()
}

fn open_cbc(key: &[u8], sealed: &Sealed<'_>, encrypt_then_mac: bool, payload: &[u8]) -> Option<Opened> {
    let mac_len = sealed.mac.len();
    let encrypted = if encrypt_then_mac {
        let (encrypted, tag) = payload.split_at_checked(payload.len().checked_sub(mac_len)?)?;
        sealed.verify(encrypted, tag)?;
        encrypted
    } else {
        payload
    };
    let (iv, ciphertext) = encrypted.split_at_checked(AES_BLOCK)?;
    let mut data = Zeroizing::new(ciphertext.to_vec());
    let plain = match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded::<NoPadding>(&mut data)
            .ok()?,
        _ => cbc::Decryptor::<Aes256>::new_from_slices(key, iv)
            .ok()?
            .decrypt_padded::<NoPadding>(&mut data)
            .ok()?,
    };
    // The last byte says how many like it stand before it.
    let padding = usize::from(*plain.last()?).checked_add(1)?;
    let (plain, padding) = plain.split_at_checked(plain.len().checked_sub(padding)?)?;
    let value = *padding.last()?;
    if padding.iter().any(|b| *b != value) {
        return None;
    }
    let content = if encrypt_then_mac {
        plain
    } else {
        let (content, tag) = plain.split_at_checked(plain.len().checked_sub(mac_len)?)?;
        sealed.verify(content, tag)?;
        content
    };
    Some(Opened {
        kind: sealed.header.kind,
        content: Bytes::copy_from_slice(content),
    })
}
