//! Header compression (RFC 7541), the decoding half.

use std::collections::VecDeque;

use bytes::Bytes;

use super::huffman;
use crate::proto::reader::Reader;

/// Bytes of the fields of one decoded block; those above are left out. A block of 64 KiB can name a large
/// field of the table many thousand times.
const MAX_LIST: usize = 32 * 1024;

/// RFC 7541 section 4.1: what an entry counts beyond its octets.
const ENTRY_OVERHEAD: usize = 32;
const DEFAULT_TABLE: usize = 4096;

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

type Field = (Bytes, Bytes);

/// Compression state of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first. `None` stands for an entry whose name or value is not known.
    entries: VecDeque<Option<Field>>,
    size: usize,
    max_size: usize,
    limit: usize,
    /// Entries older than those kept may exist: blocks were lost.
    lossy: bool,
}

/// A decoded block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) fields: Vec<Field>,
    /// Fields that refer to entries which were not seen.
    pub(super) unknown: usize,
    /// Fields above the limit.
    pub(super) left_out: usize,
}

impl Decoder {
    /// `limit`: bytes of the table, whatever is negotiated.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: DEFAULT_TABLE.min(limit),
            limit,
            lossy: false,
        }
    }

    /// A block was lost: what the table holds is not known any more, nor its size.
    pub(super) fn lose(&mut self) {
        self.entries.clear();
        self.size = 0;
        self.max_size = self.limit;
        self.lossy = true;
    }

    /// Decodes a whole block. `Err` leaves the table in need of [`Self::lose`].
    pub(super) fn decode(&mut self, block: &[u8], max_fields: usize) -> Result<Block, &'static str> {
        let mut reader = Reader::new(block);
        let mut out = Block::default();
        let mut room = MAX_LIST;
        while let Some(first) = reader.u8() {
            let field = if first & 0x80 != 0 {
                self.lookup(integer(first, 7, &mut reader).ok_or("bad integer")?)?
            } else if first & 0x40 != 0 {
                let field = self.literal(first, 6, &mut reader)?;
                self.insert(&field);
                field
            } else if first & 0x20 != 0 {
                let size = integer(first, 5, &mut reader).ok_or("bad integer")?;
                self.max_size = size.min(self.limit);
                self.evict(0);
                continue;
            } else {
                self.literal(first, 4, &mut reader)?
            };
            match field {
                None => out.unknown = out.unknown.saturating_add(1),
                Some((name, value)) => {
                    let left = room.checked_sub(name.len().saturating_add(value.len()));
                    match left.filter(|_| out.fields.len() < max_fields) {
                        Some(left) => {
                            room = left;
                            out.fields.push((name, value));
                        }
                        None => out.left_out = out.left_out.saturating_add(1),
                    }
                }
            }
        }
        Ok(out)
    }

    fn lookup(&self, index: usize) -> Result<Option<Field>, &'static str> {
        let before = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC.get(before) {
            let part = |text: &'static str| Bytes::from_static(text.as_bytes());
            return Ok(Some((part(name), part(value))));
        }
        let at = before.saturating_sub(STATIC.len());
        match self.entries.get(at) {
            Some(entry) => Ok(entry.clone()),
            None if self.lossy => Ok(None),
            None => Err("index beyond the table"),
        }
    }

    fn literal(&self, first: u8, bits: u32, reader: &mut Reader<'_>) -> Result<Option<Field>, &'static str> {
        let index = integer(first, bits, reader).ok_or("bad integer")?;
        let name = if index == 0 {
            Some(string(reader)?)
        } else {
            self.lookup(index)?.map(|(name, _)| name)
        };
        let value = string(reader)?;
        Ok(name.map(|name| (name, value)))
    }

    fn insert(&mut self, field: &Option<Field>) {
        // An unknown name still takes a place; its size is not known, which at worst keeps
        // entries longer than the sender does, who then never refers to them.
        let size = field
            .as_ref()
            .map_or(0, |(name, value)| name.len().saturating_add(value.len()))
            .saturating_add(ENTRY_OVERHEAD);
        self.evict(size);
        if size <= self.max_size {
            self.entries.push_front(field.clone());
            self.size = self.size.saturating_add(size);
        }
    }

    /// Makes room for an entry of `size`.
    fn evict(&mut self, size: usize) {
        while self.size.saturating_add(size) > self.max_size {
            let Some(oldest) = self.entries.pop_back() else {
                self.size = 0;
                return;
            };
            let freed = oldest
                .map_or(0, |(name, value)| name.len().saturating_add(value.len()))
                .saturating_add(ENTRY_OVERHEAD);
            self.size = self.size.saturating_sub(freed);
        }
    }
}

/// RFC 7541 section 5.1; `bits` is the length of the prefix.
fn integer(first: u8, bits: u32, reader: &mut Reader<'_>) -> Option<usize> {
    let mask = u8::MAX.checked_shr(8u32.checked_sub(bits)?)?;
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        return Some(value);
    }
    // Four octets more reach 2^28, far above every limit.
    for shift in [0u32, 7, 14, 21] {
        let byte = reader.u8()?;
        value = value.checked_add(usize::from(byte & 0x7f).checked_shl(shift)?)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// RFC 7541 section 5.2. Always a copy of its own: entries outlive their block.
fn string(reader: &mut Reader<'_>) -> Result<Bytes, &'static str> {
    let first = reader.u8().ok_or("block breaks off")?;
    let length = integer(first, 7, reader).ok_or("bad integer")?;
    let raw = reader.take(length).ok_or("block breaks off")?;
    if first & 0x80 == 0 {
        return Ok(Bytes::copy_from_slice(raw));
    }
    let mut text = huffman::decode(raw).ok_or("bad Huffman code")?;
    text.shrink_to_fit();
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<String> {
        let block = decoder.decode(block, 128).unwrap();
        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
        let mut lines: Vec<_> = block
            .fields
            .iter()
            .map(|(n, v)| format!("{}={}", text(n), text(v)))
            .collect();
        lines.extend((0..block.unknown).map(|_| "?".to_owned()));
        lines
    }

    #[test]
    fn a_large_field_is_not_named_without_end() {
        let mut decoder = Decoder::new(65536);
        let field = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4000]].concat();
        assert_eq!(decode(&mut decoder, &field).len(), 1);
        let block = decoder.decode(&[0xbe; 100], 128).unwrap();
        assert_eq!((block.fields.len(), block.left_out), (8, 92));
        // Small fields after it are still taken.
        let block = decoder.decode(&[&[0xbe; 9][..], &[0x83]].concat(), 128).unwrap();
        assert_eq!((block.fields.len(), block.left_out), (9, 1));
    }

    const FIRST: &[u8] = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    const SECOND: &[u8] = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
    const THIRD: &[u8] =
        b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";

    #[test]
    fn the_requests_of_appendix_c4() {
        let mut decoder = Decoder::new(65536);
        assert_eq!(
            decode(&mut decoder, FIRST),
            [
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com"
            ]
        );
        assert_eq!(decoder.size, 57);
        assert_eq!(
            decode(&mut decoder, SECOND),
            [
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com",
                "cache-control=no-cache"
            ]
        );
        assert_eq!(
            decode(&mut decoder, THIRD),
            [
                ":method=GET",
                ":scheme=https",
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value"
            ]
        );
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn after_a_lost_block_old_entries_are_unknown_and_new_ones_known() {
        let mut decoder = Decoder::new(65536);
        decode(&mut decoder, FIRST);
        decoder.lose();
        assert_eq!(
            decode(&mut decoder, SECOND),
            [
                ":method=GET",
                ":scheme=http",
                ":path=/",
                "cache-control=no-cache",
                "?"
            ]
        );
        assert_eq!(decode(&mut decoder, b"\xbe\xbf"), ["cache-control=no-cache", "?"]);
    }

    #[test]
    fn evicts_as_the_size_says() {
        let mut decoder = Decoder::new(65536);
        decode(&mut decoder, FIRST);
        decode(&mut decoder, SECOND);
        // Size 53 keeps the newest entry alone.
        assert_eq!(decode(&mut decoder, b"\x3f\x16\xbe"), ["cache-control=no-cache"]);
        assert!(decoder.decode(b"\xbf", 8).is_err());
    }

    #[test]
    fn bounds() {
        let mut decoder = Decoder::new(100);
        assert!(decoder.decode(b"\xff\xff\xff\xff\xff\xff\x01", 8).is_err());
        assert!(decoder.decode(b"\x80", 8).is_err());
        assert!(decoder.decode(b"\x00\x05abc", 8).is_err());
        let block = decoder.decode(&[0x82; 20], 8).unwrap();
        assert_eq!((block.fields.len(), block.left_out), (8, 12));
        decoder.decode(b"\x3f\xe1\xff\x03\x40\x01a\x01b", 8).unwrap();
        assert_eq!(decoder.max_size, 100);
    }
}
