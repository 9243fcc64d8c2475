//! Long headers (RFC 9000 section 17.2, RFC 9369 section 3.2).

use super::Version;
use crate::proto::reader::Reader;

/// Longest connection id of these versions.
const MAX_CONNECTION_ID: usize = 20;

/// What a long header begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
}

/// One packet with a long header, still protected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long<'a> {
    pub(super) version: Version,
    pub(super) kind: Kind,
    pub(super) destination: &'a [u8],
    pub(super) source: &'a [u8],
    /// The whole packet.
    pub(super) bytes: &'a [u8],
    /// Where the packet number begins; the header with it is what the seal covers.
    pub(super) number_at: usize,
}

/// A variable-length integer (RFC 9000 section 16).
pub(super) fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let more = match first >> 6 {
        0 => 0,
        1 => 1,
        2 => 3,
        _ => 7,
    };
    let mut value = u64::from(first & 0x3f);
    for byte in reader.take(more)? {
        value = value.wrapping_shl(8) | u64::from(*byte);
    }
    Some(value)
}

/// The first packet of a datagram, if it has a long header of a known version, and what follows it in
/// the datagram (RFC 9000 section 12.2). Nothing follows what cannot be read.
pub(super) fn split(datagram: &[u8]) -> (Option<Long<'_>>, &[u8]) {
    read(datagram).map_or((None, &[]), |(long, rest)| (Some(long), rest))
}

fn read(datagram: &[u8]) -> Option<(Long<'_>, &[u8])> {
    let mut reader = Reader::new(datagram);
    let first = reader.u8()?;
    // Header form and fixed bit.
    if first & 0xc0 != 0xc0 {
        return None;
    }
    let version = Version::of(reader.u32()?)?;
    let destination = reader.run8()?.rest();
    let source = reader.run8()?.rest();
    if destination.len() > MAX_CONNECTION_ID || source.len() > MAX_CONNECTION_ID {
        return None;
    }
    let kind = match (version, (first >> 4) & 3) {
        (Version::V1, 0) | (Version::V2, 1) => Kind::Initial,
        (Version::V1, 1) | (Version::V2, 2) => Kind::ZeroRtt,
        (Version::V1, 2) | (Version::V2, 3) => Kind::Handshake,
        _ => Kind::Retry,
    };
    let mut long = Long {
        version,
        kind,
        destination,
        source,
        bytes: datagram,
        number_at: 0,
    };
    if kind == Kind::Retry {
        return Some((long, &[]));
    }
    if kind == Kind::Initial {
        let token = usize::try_from(varint(&mut reader)?).ok()?;
        reader.take(token)?;
    }
    let length = usize::try_from(varint(&mut reader)?).ok()?;
    long.number_at = datagram.len().checked_sub(reader.rest().len())?;
    reader.take(length)?;
    let (bytes, rest) = datagram.split_at_checked(long.number_at.checked_add(length)?)?;
    long.bytes = bytes;
    Some((long, rest))
}
