//! Keys of Initial packets, and opening them (RFC 9001 section 5, RFC 9369 section 3.3).

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use aes_gcm::{
    Aes128Gcm, Nonce,
    aead::{Aead, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;

use super::{Version, packet::Long};

const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc,
    0xbb, 0x7f, 0x0a,
];
const SALT_V2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9,
    0xbd, 0x2e, 0xd9,
];

/// Whose packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sender {
    Client,
    Server,
}

/// Key, IV and header protection key of one side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keys {
    pub(super) key: [u8; 16],
    pub(super) iv: [u8; 12],
    pub(super) hp: [u8; 16],
}

impl Keys {
    /// From the connection id that the client chose for its first packet.
    pub(super) fn initial(version: Version, connection_id: &[u8], sender: Sender) -> Option<Self> {
        let salt = match version {
            Version::V1 => SALT_V1,
            Version::V2 => SALT_V2,
        };
        let (_, initial) = Hkdf::<Sha256>::extract(Some(&salt), connection_id);
        let label = match sender {
            Sender::Client => "client in",
            Sender::Server => "server in",
        };
        let secret = Hkdf::<Sha256>::from_prk(&expand::<32>(&initial, label)?).ok()?;
        let [key, iv, hp] = match version {
            Version::V1 => ["quic key", "quic iv", "quic hp"],
            Version::V2 => ["quicv2 key", "quicv2 iv", "quicv2 hp"],
        };
        Some(Self {
            key: expand(&secret, key)?,
            iv: expand(&secret, iv)?,
            hp: expand(&secret, hp)?,
        })
    }

    /// The frames of a packet; `None` if it was not sealed with these keys.
    pub(super) fn open(&self, packet: &Long<'_>) -> Option<Vec<u8>> {
        let (header, protected) = packet.bytes.split_at_checked(packet.number_at)?;
        // The sample is taken as if the packet number had its full four bytes.
        let sample: [u8; 16] = *protected.get(4..)?.first_chunk()?;
        let mut mask = aes::Block::from(sample);
        Aes128::new(&self.hp.into()).encrypt_block(&mut mask);
        let [mask_first, mask_number @ ..] = *mask.first_chunk::<5>()?;
        let first = header.first()? ^ (mask_first & 0x0f);
        let number_len = usize::from(first & 3).saturating_add(1);
        let (number, sealed) = protected.split_at_checked(number_len)?;
        let mut associated = header.to_vec();
        *associated.first_mut()? = first;
        let mut nonce = self.iv;
        // Packet numbers of Initials stay far below 2^32, so that the truncated one is the whole.
        let mut value = [0_u8; 4];
        let at = value.len().checked_sub(number_len)?;
        for ((slot, byte), mask) in value.get_mut(at..)?.iter_mut().zip(number).zip(mask_number) {
            *slot = byte ^ mask;
            associated.push(*slot);
        }
        for (slot, byte) in nonce.iter_mut().rev().zip(value.iter().rev()) {
            *slot ^= byte;
        }
        let payload = Payload {
            msg: sealed,
            aad: &associated,
        };
        Aes128Gcm::new(&self.key.into())
            .decrypt(&Nonce::from(nonce), payload)
            .ok()
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> Option<[u8; N]> {
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_len = u8::try_from(label.len()).ok()?.checked_add(6)?;
    let info = [&length[..], &[label_len], b"tls13 ", label.as_bytes(), &[0]].concat();
    let mut out = [0; N];
    secret.expand(&info, &mut out).ok()?;
    Some(out)
}
