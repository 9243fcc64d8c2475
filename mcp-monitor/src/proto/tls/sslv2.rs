//! The SSL 2.0 ClientHello, in which clients up to TLS 1.2 could begin (RFC 5246 appendix E.2).

use super::ClientHello;
use crate::proto::{Probe, reader::Reader};

/// SSL 2.0 itself, with which nothing after the hello can be read.
pub(super) const SSL2: u16 = 0x0002;
/// Most bytes of such a hello after its length: more means that it is something else.
const MAX: usize = 1024;

/// Bytes of the hello after its two-byte length.
pub(super) fn length(first_two: [u8; 2]) -> Option<usize> {
    let [high, low] = first_two;
    let length = usize::from(u16::from_be_bytes([high & 0x7f, low]));
    (high & 0x80 != 0 && (9..=MAX).contains(&length)).then_some(length)
}

/// Judges the first bytes that a client sent.
pub(super) fn probe(first_bytes: &[u8]) -> Probe {
    match *first_bytes {
        [] => Probe::Unsure,
        [high] => sure(high & 0x80 != 0 && high < 0x85, false),
        [high, low] => sure(length([high, low]).is_some(), false),
        [high, low, kind] => sure(length([high, low]).is_some() && kind == 1, false),
        [high, low, kind, major] => sure(
            length([high, low]).is_some() && kind == 1 && matches!(major, 0 | 3),
            false,
        ),
        [high, low, kind, major, minor, ..] => sure(
            length([high, low]).is_some() && kind == 1 && matches!((major, minor), (0, 2) | (3, 0..=3)),
            true,
        ),
    }
}

fn sure(fits: bool, enough: bool) -> Probe {
    match (fits, enough) {
        (false, _) => Probe::NotForUs,
        (true, false) => Probe::Unsure,
        (true, true) => Probe::Certain,
    }
}

/// Reads what follows the length. `None` where it contradicts itself.
pub(super) fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader::new(body);
    reader.u8().filter(|kind| *kind == 1)?;
    let version = reader.u16()?;
    let ciphers = usize::from(reader.u16()?);
    let session = usize::from(reader.u16()?);
    let challenge = usize::from(reader.u16()?);
    let specs = reader.take(ciphers)?;
    let session_id = reader.take(session)?.to_vec();
    let challenge = reader.take(challenge)?;
    let mut random = [0; 32];
    // The challenge stands at the end of the random, zeros before it.
    for (to, from) in random.iter_mut().rev().zip(challenge.iter().rev()) {
        *to = *from;
    }
    Some(ClientHello {
        legacy_version: version,
        max_version: version,
        // Suites of SSL 3.0 and later are those whose first byte is zero.
        ciphers: specs
            .chunks_exact(3)
            .filter_map(|spec| match spec {
                [0, high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            })
            .collect(),
        random,
        session_id,
        ..ClientHello::default()
    })
}
