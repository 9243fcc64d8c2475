//! Checksums and structure: what tells a credential from text that looks like one.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use super::{format::BECH32, jwt};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Digits of a base62 CRC-32, as GitHub and npm append it.
const CRC_DIGITS: usize = 6;

/// Six base62 digits of the CRC-32 of `text`, zeros in front.
pub(super) fn crc32_base62(text: &[u8]) -> [u8; CRC_DIGITS] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CRC_DIGITS];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(rest % 62).unwrap_or(0);
        *digit = BASE62.get(index).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// The last six characters are the checksum of those before.
pub(super) fn crc32_base62_ok(body: &[u8]) -> bool {
    body.split_last_chunk::<CRC_DIGITS>()
        .is_some_and(|(text, sum)| crc32_base62(text) == *sum)
}

fn bech32_step(mut state: u32, value: u8) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let top = state >> 25;
    state = ((state & 0x01ff_ffff) << 5) ^ u32::from(value);
    for (i, g) in GENERATOR.iter().enumerate() {
        if (top >> i) & 1 == 1 {
            state ^= g;
        }
    }
    state
}

fn bech32_prefix(prefix: &[u8]) -> u32 {
    let high = prefix.iter().fold(1, |s, b| bech32_step(s, b >> 5));
    let zero = bech32_step(high, 0);
    prefix.iter().fold(zero, |s, b| bech32_step(s, b & 31))
}

/// Checksum of BIP 173 over a text of one case: prefix, `1`, data.
pub(super) fn bech32_ok(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let Some(split) = memchr::memrchr(b'1', &text) else {
        return false;
    };
    let (Some(prefix), Some(data)) = (text.get(..split), text.get(split.saturating_add(1)..)) else {
        return false;
    };
    let mut state = bech32_prefix(prefix);
    for b in data {
        match BECH32
            .iter()
            .position(|c| c == b)
            .and_then(|v| u8::try_from(v).ok())
        {
            Some(value) => state = bech32_step(state, value),
            None => return false,
        }
    }
    state == 1
}

/// Six digits that make `prefix` `1` `data` valid (all lower case).
pub(super) fn bech32_checksum(prefix: &[u8], data: &[u8]) -> [u8; 6] {
    let mut state = bech32_prefix(prefix);
    for b in data {
        let value = BECH32.iter().position(|c| c == b).unwrap_or(0);
        state = bech32_step(state, u8::try_from(value).unwrap_or(0));
    }
    for _ in 0..6 {
        state = bech32_step(state, 0);
    }
    state ^= 1;
    let mut digits = [0u8; 6];
    for (i, digit) in (0u32..6).zip(digits.iter_mut()) {
        let shift = 5u32.saturating_mul(5u32.saturating_sub(i));
        let value = usize::try_from((state >> shift) & 31).unwrap_or(0);
        *digit = BECH32.get(value).copied().unwrap_or(b'q');
    }
    digits
}

/// Base58Check: the last four bytes are the start of the double SHA-256 of the rest.
pub(super) fn base58check_ok(text: &[u8]) -> bool {
    let Some(bytes) = base58_decode(text) else {
        return false;
    };
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(payload, sum)| base58_sum(payload) == *sum)
}

/// Four bytes of double SHA-256.
pub(super) fn base58_sum(payload: &[u8]) -> [u8; 4] {
    let twice = Sha256::digest(Sha256::digest(payload));
    twice.first_chunk::<4>().copied().unwrap_or_default()
}

/// Longest text in base58 that is decoded: the work is the square of it.
const BASE58_LONGEST: usize = 128;

fn base58_decode(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > BASE58_LONGEST {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for b in text {
        let digit = BASE58.iter().position(|c| c == b)?;
        let mut carry = u32::try_from(digit).ok()?;
        for byte in bytes.iter_mut().rev() {
            carry = carry.saturating_add(u32::from(*byte).saturating_mul(58));
            *byte = u8::try_from(carry & 0xff).ok()?;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.insert(0, u8::try_from(carry).ok()?);
        }
    }
    Some(bytes)
}

/// Base58 of `bytes`, which must not begin with zero.
pub(super) fn base58_encode(bytes: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = Vec::new();
    for b in bytes {
        let mut carry = u32::from(*b);
        for digit in digits.iter_mut().rev() {
            carry = carry.saturating_add(u32::from(*digit).saturating_mul(256));
            *digit = u8::try_from(carry % 58).unwrap_or(0);
            carry /= 58;
        }
        while carry > 0 {
            digits.insert(0, u8::try_from(carry % 58).unwrap_or(0));
            carry /= 58;
        }
    }
    let letter = |d: &u8| BASE58.get(usize::from(*d)).copied().unwrap_or(b'1');
    digits.iter().map(letter).collect()
}

/// A JSON Web Token by structure.
pub(super) fn jwt_ok(text: &[u8]) -> bool {
    jwt::decode_claims(text).is_some()
}

/// Base64 of printable `user:password`, both non-empty, the password no placeholder.
pub(super) fn basic_ok(text: &[u8]) -> bool {
    let Some(pair) = decode_base64(text) else {
        return false;
    };
    let Some(colon) = memchr::memchr(b':', &pair) else {
        return false;
    };
    let printable = |b: &u8| b.is_ascii_graphic() || *b == b' ' || *b >= 0x80;
    let user = pair.get(..colon).unwrap_or_default();
    // `{"alg":…`: JSON has a colon too.
    let name = !user.iter().any(|b| matches!(b, b'"' | b'{' | b' '));
    name && colon > 0 && colon.saturating_add(1) < pair.len() && pair.iter().all(printable)
}

/// The text up to the first `_` is base64 of a JSON object.
pub(super) fn json_prefix_ok(text: &[u8]) -> bool {
    let head = text.split(|b| *b == b'_').next().unwrap_or(text);
    decode_base64(head).is_some_and(|json| serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok())
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let bare = text.get(..text.len().saturating_sub(padding))?;
    STANDARD_NO_PAD.decode(bare).ok()
}

/// Upper case, lower case and digits all occur.
pub(super) fn mixed(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_lowercase)
        && text.iter().any(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_published_dummy() {
        // The dummy token of npm's announcement, in two parts so that scanners let it be.
        let body = ["qkJaB6MffYVzZXWqmcoF49yrUxP3wf", "0LsakP"].concat();
        assert!(crc32_base62_ok(body.as_bytes()));
        assert!(!crc32_base62_ok(body.replace("qk", "kq").as_bytes()));
    }

    #[test]
    fn bech32_vectors_of_bip_173() {
        assert!(bech32_ok(b"A12UEL5L"));
        assert!(bech32_ok(b"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"));
        assert!(bech32_ok(
            b"split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"
        ));
        assert!(!bech32_ok(b"A12UEL5M"));
        assert_eq!(&bech32_checksum(b"a", b""), b"2uel5l");
    }

    #[test]
    fn base58_round_trip() {
        let mut payload = vec![4, 136, 173, 228, 0, 7, 9];
        payload.extend(base58_sum(&payload.clone()));
        let text = base58_encode(&payload);
        assert!(base58check_ok(&text));
        let mut wrong = text.clone();
        wrong.swap(1, 4);
        assert!(!base58check_ok(&wrong));
    }

    #[test]
    fn basic_needs_both_halves() {
        assert!(basic_ok(b"dXNlcjpwYXNzd29yZA=="));
        assert!(!basic_ok(b"dXNlcm5hbWU="));
        assert!(!basic_ok(b"not base64"));
    }
}
