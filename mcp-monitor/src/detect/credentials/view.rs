//! Seeing through one layer of encoding.

use std::ops::Range;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Hit, scan};
use crate::mcp::json;

/// Shortest run of base64 or hex characters that is decoded.
const SHORTEST_RUN: usize = 24;

/// Decoded bytes looked at to judge whether a run holds text.
const PEEK: usize = 24;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// As [`scan`], also through JSON escapes, and in what that leaves through percent-encoding,
/// base64 or hex. Hits tell the place in `text` itself.
///
/// A run of base64 or hex is decoded if it begins with printable text, so images cost little;
/// a secret in the middle of binary data is not seen.
pub fn scan_deep(text: &[u8], out: &mut Vec<Hit>) {
    let first = out.len();
    match Layer::json(text) {
        // What stands unescaped also stands in the unescaped text.
        Some(layer) => {
            let mut hits = Vec::new();
            scan_encoded(&layer.text, &mut hits);
            layer.place(&mut hits);
            out.append(&mut hits);
        }
        None => scan_encoded(text, out),
    }
    debug_assert!(
        out.get(first..)
            .is_some_and(|hits| hits.is_sorted_by_key(|h| h.start))
    );
}

fn scan_encoded(text: &[u8], out: &mut Vec<Hit>) {
    let first = out.len();
    scan(text, out);
    let mut deeper = Vec::new();
    if let Some(layer) = Layer::percent(text) {
        let mut hits = Vec::new();
        scan(&layer.text, &mut hits);
        layer.place(&mut hits);
        deeper.append(&mut hits);
    }
    each_run(text, |range| scan_run(text, range, &mut deeper));
    if deeper.is_empty() {
        return;
    }
    // The outer reading goes before the inner one; of two inner ones the first.
    let mut all: Vec<(bool, Hit)> = out.drain(first..).map(|hit| (false, hit)).collect();
    all.extend(deeper.into_iter().map(|hit| (true, hit)));
    all.sort_by_key(|(deep, hit)| (hit.start, *deep));
    let mut last: Option<(bool, Hit)> = None;
    for (deep, hit) in all {
        last = match last.take() {
            Some((l_deep, l)) if hit.start < l.range().end => match l_deep && !deep {
                true => Some((deep, hit)),
                false => Some((l_deep, l)),
            },
            l => {
                out.extend(l.map(|(_, hit)| hit));
                Some((deep, hit))
            }
        };
    }
    out.extend(last.map(|(_, hit)| hit));
}

/// `text` with the escapes of JSON strings resolved; `None` if there are none. What is not a string
/// stays as it is.
pub fn json_unescaped(text: &[u8]) -> Option<Vec<u8>> {
    Layer::json(text).map(|layer| layer.text)
}

/// `text` with percent-encoded ASCII resolved; `None` if there is none.
pub fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    Layer::percent(text).map(|layer| layer.text)
}

/// Reads an escape at the start of a text: the character and the escape's length.
type Escape = fn(&[u8]) -> Option<(char, usize)>;

/// A decoded copy.
#[derive(Debug)]
struct Layer<'a> {
    text: Vec<u8>,
    original: &'a [u8],
    mark: u8,
    escape: Escape,
}

impl<'a> Layer<'a> {
    /// `None` if there is nothing to decode.
    fn json(text: &'a [u8]) -> Option<Self> {
        memchr::memchr(b'\\', text)?;
        Some(Self::decode(text, b'\\', json_escape))
    }

    fn percent(text: &'a [u8]) -> Option<Self> {
        let encoded =
            memchr::memchr_iter(b'%', text).any(|at| text.get(at..).and_then(percent_escape).is_some());
        encoded.then(|| Self::decode(text, b'%', percent_escape))
    }

    fn decode(original: &'a [u8], mark: u8, escape: Escape) -> Self {
        let mut text = Vec::with_capacity(original.len());
        let mut rest = original;
        loop {
            // Words go over whole, which is faster than pieces of any length where escapes stand close together.
            while let Some((word, tail)) = rest.split_first_chunk::<8>() {
                text.extend_from_slice(word);
                let plain = json::before_in_word(*word, mark);
                if plain < word.len() {
                    text.truncate(text.len().saturating_sub(word.len()).saturating_add(plain));
                    rest = rest.get(plain..).unwrap_or_default();
                    break;
                }
                rest = tail;
            }
            let Some((first, tail)) = rest.split_first() else {
                break;
            };
            match (*first == mark).then(|| escape(rest)).flatten() {
                Some((decoded, len)) => {
                    match u8::try_from(decoded) {
                        Ok(ascii) if ascii.is_ascii() => text.push(ascii),
                        _ => text.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                    rest = rest.get(len..).unwrap_or_default();
                }
                None => {
                    text.push(*first);
                    rest = tail;
                }
            }
        }
        Self {
            text,
            original,
            mark,
            escape,
        }
    }

    /// Places in the original, for hits in order. Hits are rare: the way is walked again for them
    /// rather than remembered for all.
    fn place(&self, hits: &mut [Hit]) {
        let (mut decoded, mut at) = (0usize, 0usize);
        let mut original_of = |target: usize| {
            while decoded < target
                && let Some(rest) = self.original.get(at..)
            {
                // Bytes up to the next escape are the same on both sides.
                let plain = memchr::memchr(self.mark, rest).unwrap_or(rest.len());
                let step = plain.min(target.saturating_sub(decoded));
                (decoded, at) = (decoded.saturating_add(step), at.saturating_add(step));
                if decoded >= target || step < plain {
                    break;
                }
                let (width, len) = match rest.get(step..).and_then(self.escape) {
                    Some((c, len)) => (c.len_utf8(), len),
                    None => (1, 1),
                };
                (decoded, at) = (decoded.saturating_add(width), at.saturating_add(len));
            }
            at
        };
        for hit in hits {
            let start = original_of(hit.start);
            let end = original_of(hit.range().end);
            (hit.start, hit.len) = (start, end.saturating_sub(start));
        }
    }
}

/// An escape of RFC 8259 section 7 at the start of `text`: the character and the escape's length.
fn json_escape(text: &[u8]) -> Option<(char, usize)> {
    let simple = |c| Some((c, 2));
    match text.get(1)? {
        b'n' => simple('\n'),
        b't' => simple('\t'),
        b'r' => simple('\r'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b @ (b'"' | b'\\' | b'/') => simple(char::from(*b)),
        b'u' => {
            let high = hex4(text.get(2..6)?)?;
            let low = || {
                let next = text.get(6..12)?.strip_prefix(b"\\u")?;
                hex4(next).filter(|l| (0xdc00..0xe000).contains(l))
            };
            if !(0xd800..0xe000).contains(&high) {
                return Some((char::from_u32(high)?, 6));
            }
            let pair = (high < 0xdc00).then(low).flatten().and_then(|low| {
                let value = ((high & 0x3ff) << 10) | (low & 0x3ff);
                char::from_u32(value.saturating_add(0x1_0000))
            });
            Some(pair.map_or((char::REPLACEMENT_CHARACTER, 6), |c| (c, 12)))
        }
        _ => None,
    }
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0u32, |value, b| Some((value << 4) | char::from(*b).to_digit(16)?))
}

/// `%XX` (RFC 3986 section 2.1) of an ASCII character; others cannot be part of a credential.
fn percent_escape(text: &[u8]) -> Option<(char, usize)> {
    let value = hex4(text.get(1..3)?)?;
    let c = char::from_u32(value)?;
    c.is_ascii().then_some((c, 3))
}

/// Base64 of either alphabet, hex included. Without branches, so that the compiler can look at sixteen at once.
const fn is_of_run(b: u8) -> bool {
    ((b | 0x20).wrapping_sub(b'a') < 26)
        | (b.wrapping_sub(b'0') < 10)
        | (b == b'+')
        | (b == b'/')
        | (b == b'-')
        | (b == b'_')
}

/// The same as a table: faster for one byte.
#[allow(clippy::indexing_slicing)] // Evaluated by the compiler, which checks the index.
const IN_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    while b < 0x80 {
        table[b as usize] = is_of_run(b);
        b = b.wrapping_add(1);
    }
    table
};

fn in_run(b: u8) -> bool {
    IN_RUN.get(usize::from(b)).copied().unwrap_or(false)
}

/// Length of the run at the start of `text`: most are words, images have long ones.
fn run_length(text: &[u8]) -> usize {
    let (first, blocks) = text.split_at_checked(SHORTEST_RUN).unwrap_or((text, &[]));
    let word = first.iter().take_while(|b| in_run(**b)).count();
    if word < SHORTEST_RUN {
        return word;
    }
    let whole = |block: &&[u8; 16]| block.iter().fold(true, |all, b| all & is_of_run(*b));
    let long = blocks.as_chunks::<16>().0.iter().take_while(whole).count();
    let long = word.saturating_add(long.saturating_mul(16));
    let rest = text.get(long..).unwrap_or_default();
    long.saturating_add(rest.iter().take_while(|b| in_run(**b)).count())
}

/// Every run of at least [`SHORTEST_RUN`] base64 characters. Looks at one byte in that many
/// where there is none.
fn each_run(text: &[u8], mut run: impl FnMut(Range<usize>)) {
    let mut done = 0usize;
    let mut at = SHORTEST_RUN.saturating_sub(1);
    while let Some(b) = text.get(at) {
        let mut end = at;
        if in_run(*b) {
            let before = text.get(done..at).unwrap_or_default();
            let after = text.get(at..).unwrap_or_default();
            let start = at.saturating_sub(before.iter().rev().take_while(|b| in_run(**b)).count());
            end = at.saturating_add(run_length(after));
            if end.saturating_sub(start) >= SHORTEST_RUN {
                run(start..end);
            }
            done = end;
        }
        at = end.saturating_add(SHORTEST_RUN);
    }
}

fn scan_run(text: &[u8], range: Range<usize>, out: &mut Vec<Hit>) {
    let Some(run) = text.get(range.clone()) else {
        return;
    };
    let is_hex = run.len().is_multiple_of(2) && run.iter().all(u8::is_ascii_hexdigit);
    let (decoded, from, to) = match is_hex {
        true => (decode_hex(run), 1, 2),
        false => (decode_base64(run), 3, 4),
    };
    let Some(decoded) = decoded else {
        return;
    };
    let mut hits = Vec::new();
    scan(&decoded, &mut hits);
    for hit in hits {
        // `from` bytes are written as `to` characters.
        let start = hit.start.checked_div(from).unwrap_or(0).saturating_mul(to);
        let end = hit.range().end.div_ceil(from).saturating_mul(to).min(run.len());
        out.push(Hit {
            kind: hit.kind,
            start: range.start.saturating_add(start),
            len: end.saturating_sub(start),
        });
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let peek = bytes.iter().take(PEEK);
    peek.clone().count() > 0
        && peek
            .into_iter()
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
}

fn decode_hex(run: &[u8]) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| hex4(pair).and_then(|v| u8::try_from(v).ok());
    let mut begin = [0; PEEK];
    let mut len = 0_usize;
    for (to, pair) in begin.iter_mut().zip(run.chunks_exact(2)) {
        *to = byte(pair)?;
        len = len.saturating_add(1);
    }
    if !is_text(begin.get(..len)?) {
        return None;
    }
    run.chunks_exact(2).map(byte).collect()
}

fn decode_base64(run: &[u8]) -> Option<Vec<u8>> {
    let engine = |part: &[u8]| match part.iter().any(|b| matches!(b, b'-' | b'_')) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    // A rest of one character decodes to nothing.
    let whole = match run.len() % 4 {
        1 => run.len().saturating_sub(1),
        _ => run.len(),
    };
    // Most runs are identifiers, which end here: so this costs no allocation.
    let peek = run.get(..whole.min(PEEK.div_ceil(3).saturating_mul(4)))?;
    let mut begin = [0; PEEK.next_multiple_of(3).saturating_add(3)];
    let len = engine(peek).decode_slice(peek, &mut begin).ok()?;
    if !is_text(begin.get(..len)?) {
        return None;
    }
    engine(run).decode(run.get(..whole)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_is_as_long_as_it_is(length in 0usize..100, rest in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = [vec![b'a'; length], rest].concat();
            prop_assert_eq!(run_length(&text), text.iter().take_while(|b| in_run(**b)).count());
        }

        #[test]
        fn blocks_and_single_bytes_are_of_one_mind(b: u8) {
            prop_assert_eq!(in_run(b), is_of_run(b));
        }

        #[test]
        fn escapes_go_wherever_they_stand(text in "[a-c\\\\nu0-9\"]{0,60}") {
            let bytes = text.as_bytes();
            let mut naive = Vec::new();
            let mut at = 0_usize;
            while let Some(b) = bytes.get(at) {
                let escape = (*b == b'\\').then(|| json_escape(&bytes[at..])).flatten();
                let (c, len) = escape.unwrap_or((char::from(*b), 1));
                naive.extend_from_slice(c.to_string().as_bytes());
                at = at.saturating_add(len);
            }
            prop_assert_eq!(json_unescaped(bytes).unwrap_or_else(|| bytes.to_vec()), naive);
        }
    }
}
