//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical: the lengths of the
//! codes say everything.

/// Length in bits of the code of each octet; EOS has 30.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const SHORTEST: u32 = 5;
const LONGEST: u32 = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    length: u32,
    /// The first of them.
    first: u32,
    /// How many.
    count: u32,
    /// Where their octets begin in [`Table::octets`].
    offset: u32,
}

struct Table {
    rows: [Row; 26],
    /// Octets in order of code.
    octets: [u8; 256],
}

static TABLE: Table = table();

/// Lays the canonical code out at compile time.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]
const fn table() -> Table {
    let empty = Row {
        length: 0,
        first: 0,
        count: 0,
        offset: 0,
    };
    let mut rows = [empty; 26];
    let mut octets = [0; 256];
    let (mut length, mut code, mut filled) = (SHORTEST, 0, 0);
    while length <= LONGEST {
        let (first, offset) = (code, filled);
        let mut octet = 0;
        while octet < 256 {
            if LENGTHS[octet] as u32 == length {
                octets[filled as usize] = octet as u8;
                filled += 1;
                code += 1;
            }
            octet += 1;
        }
        rows[(length - SHORTEST) as usize] = Row {
            length,
            first,
            count: code - first,
            offset,
        };
        code <<= 1;
        length += 1;
    }
    Table { rows, octets }
}

/// Decodes a string. `None` where it is not one: EOS inside, or padding that is not a
/// prefix of EOS below eight bits (RFC 7541 section 5.2).
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    // The shortest code has five bits.
    let mut out = Vec::with_capacity(coded.len().saturating_mul(8).checked_div(5)?);
    let mut input = coded.iter();
    // Bits not used yet, at the top.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        while have <= 32 {
            let Some(byte) = input.next() else { break };
            bits |= u64::from(*byte).checked_shl(56u32.checked_sub(have)?)?;
            have = have.checked_add(8)?;
        }
        if have < SHORTEST {
            break;
        }
        let Some((length, octet)) = symbol(bits) else {
            break;
        };
        if length > have {
            break;
        }
        out.push(octet);
        bits = bits.checked_shl(length)?;
        have = have.checked_sub(length)?;
    }
    let padding = u64::MAX.checked_shl(64u32.checked_sub(have)?).unwrap_or(0);
    (have < 8 && input.len() == 0 && bits == padding).then_some(out)
}

fn symbol(bits: u64) -> Option<(u32, u8)> {
    for row in &TABLE.rows {
        let code = u32::try_from(bits.checked_shr(64u32.checked_sub(row.length)?)?).ok()?;
        let index = code.wrapping_sub(row.first);
        if code >= row.first && index < row.count {
            let at = usize::try_from(row.offset.checked_add(index)?).ok()?;
            return Some((row.length, *TABLE.octets.get(at)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 7541 appendix C.4 and C.6.
        for (coded, text) in [
            (
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                "https://www.example.com",
            ),
            (b"", ""),
        ] {
            assert_eq!(decode(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_code_is_complete() {
        // RFC 7541 appendix B: '0' is the first code, EOS the last one.
        assert_eq!(TABLE.octets.first(), Some(&b'0'));
        let last = TABLE.rows.last().unwrap();
        assert_eq!((last.first, last.count), (0x3fff_fffc, 3));
    }

    #[test]
    fn bad_padding_and_eos_are_refused() {
        assert_eq!(decode(b"\xff\xff\xff\xff"), None);
        assert_eq!(decode(b"\x00"), None);
        assert_eq!(decode(b"\x64\x02\xff"), None);
    }
}
