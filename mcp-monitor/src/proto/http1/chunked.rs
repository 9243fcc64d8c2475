//! The chunked transfer coding (RFC 9112 section 7.1).

use bytes::{Buf, Bytes};

/// Bytes of chunk extensions and trailers that one body may have: 64 KiB.
const MAX_OVERHEAD: usize = 64 * 1024;
/// Digits of a chunk size: what fits 64 bits.
const MAX_DIGITS: u8 = 16;

/// Decoder state; takes the body in any pieces.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    overhead: usize,
    bare_lf: bool,
}

#[derive(Debug)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer(TrailerLine),
}

impl Default for State {
    fn default() -> Self {
        Self::Size { value: 0, digits: 0 }
    }
}

#[derive(Debug, Clone, Copy)]
enum TrailerLine {
    Start,
    StartCr,
    Inside,
}

/// What one step yields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Body bytes; call again.
    Data(Bytes),
    /// Everything was taken; more is needed.
    Pending,
    /// The body ended; the rest belongs to the next message.
    Done,
    /// Not chunked coding; a remark.
    Malformed(&'static str),
}

impl Chunked {
    /// A decoder that expects the start of a chunk.
    pub(super) fn resumed() -> Self {
        Self::default()
    }

    /// A line of the framing ended in LF without CR.
    pub(super) fn bare_lf(&self) -> bool {
        self.bare_lf
    }

    /// How many bytes may be missing without the position in the coding being lost.
    pub(super) fn skippable(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Skips that many bytes of chunk data; at most [`Self::skippable`].
    pub(super) fn skip(&mut self, bytes: u64) {
        if let State::Data { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.state = State::DataCr;
            }
        }
    }

    /// Takes from the front of `data` until there is something to say.
    pub(super) fn step(&mut self, data: &mut Bytes) -> Step {
        loop {
            if let State::Data { left } = &mut self.state {
                if data.is_empty() {
                    return Step::Pending;
                }
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                *left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.state = State::DataCr;
                }
                return Step::Data(data.split_to(take));
            }
            if let State::Extension { .. } | State::Trailer(TrailerLine::Inside) = self.state {
                if let Some(step) = self.skip_line(data) {
                    return step;
                }
                continue;
            }
            let Some(byte) = data.first().copied() else {
                return Step::Pending;
            };
            data.advance(1);
            match self.byte(byte) {
                Ok(false) => {}
                Ok(true) => return Step::Done,
                Err(remark) => return Step::Malformed(remark),
            }
        }
    }

    /// Passes over the rest of a line of which only the end matters.
    fn skip_line(&mut self, data: &mut Bytes) -> Option<Step> {
        let lf = memchr::memchr(b'\n', data);
        let taken = lf.map_or(data.len(), |i| i.saturating_add(1));
        self.overhead = self.overhead.saturating_add(taken);
        if self.overhead > MAX_OVERHEAD {
            return Some(Step::Malformed("chunk extensions or trailers above the limit"));
        }
        data.advance(taken);
        if lf.is_none() {
            return Some(Step::Pending);
        }
        self.state = match self.state {
            State::Extension { value } => after_size(value),
            _ => State::Trailer(TrailerLine::Start),
        };
        None
    }

    fn byte(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.state = match self.state {
            State::Size { value, digits } => match char::from(byte).to_digit(16) {
                Some(_) if digits >= MAX_DIGITS => return Err("chunk size above 64 bits"),
                Some(d) => State::Size {
                    value: value.wrapping_mul(16).wrapping_add(u64::from(d)),
                    digits: digits.saturating_add(1),
                },
                None if digits == 0 => return Err("no chunk size where one must be"),
                None => match byte {
                    b'\r' => State::SizeLf { value },
                    b'\n' => {
                        self.bare_lf = true;
                        after_size(value)
                    }
                    b';' | b' ' | b'\t' => State::Extension { value },
                    _ => return Err("chunk size that is not a number"),
                },
            },
            State::SizeLf { value } if byte == b'\n' => after_size(value),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataCr if byte == b'\n' => {
                self.bare_lf = true;
                State::default()
            }
            State::DataLf if byte == b'\n' => State::default(),
            State::Trailer(TrailerLine::Start) => match byte {
                b'\r' => State::Trailer(TrailerLine::StartCr),
                b'\n' => {
                    self.bare_lf = true;
                    return Ok(true);
                }
                _ => State::Trailer(TrailerLine::Inside),
            },
            State::Trailer(TrailerLine::StartCr) if byte == b'\n' => return Ok(true),
            State::Trailer(_) => State::Trailer(TrailerLine::Inside),
            _ => return Err("chunk that does not end where its size says"),
        };
        Ok(false)
    }
}

fn after_size(value: u64) -> State {
    if value == 0 {
        State::Trailer(TrailerLine::Start)
    } else {
        State::Data { left: value }
    }
}

/// Where, after lost bytes, a chunk seems to begin in `data`: the offset of its size line.
///
/// Servers write a chunk in one piece, so first the start itself is tried, then every
/// place after a CR LF. A candidate must be followed by CR LF where its size says.
pub(super) fn find_chunk(data: &[u8]) -> Option<usize> {
    if plausible_chunk(data) {
        return Some(0);
    }
    memchr::memmem::find_iter(data, b"\r\n")
        .map(|at| at.saturating_add(2))
        .find(|at| data.get(*at..).is_some_and(plausible_chunk))
}

fn plausible_chunk(data: &[u8]) -> bool {
    let mut size = 0usize;
    let mut digits = 0usize;
    for byte in data.iter().take(8) {
        let Some(d) = char::from(*byte).to_digit(16) else {
            break;
        };
        size = size
            .wrapping_mul(16)
            .wrapping_add(usize::try_from(d).unwrap_or_default());
        digits = digits.saturating_add(1);
    }
    let after = digits.saturating_add(2);
    if digits == 0 || data.get(digits..after) != Some(b"\r\n") {
        return false;
    }
    let end = after.saturating_add(size);
    match data.get(end..) {
        // The last chunk is followed by its empty line, trailers being rare.
        Some(rest) => b"\r\n".starts_with(rest.get(..2).unwrap_or(rest)) && (size > 0 || rest.len() >= 2),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&'static str]) -> (String, Option<Step>) {
        let mut chunked = Chunked::default();
        let mut text = String::new();
        for piece in pieces {
            let mut data = Bytes::from_static(piece.as_bytes());
            loop {
                match chunked.step(&mut data) {
                    Step::Data(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Step::Pending => break,
                    end => return (text, Some(end)),
                }
            }
        }
        (text, None)
    }

    #[test]
    fn decodes_extensions_and_trailers() {
        assert_eq!(
            run(&[
                "5;a=\"b\"\r\nhel",
                "lo\r",
                "\n1",
                "0\r\n0123456789abcdef\r\n",
                "000\r\nX: y\r\n\r",
                "\n"
            ]),
            ("hello0123456789abcdef".into(), Some(Step::Done))
        );
    }

    #[test]
    fn says_where_it_breaks() {
        for bad in ["x\r\n", "5\r\nhelloX", "11111111111111111\r\n", "5\rX"] {
            assert!(matches!(run(&[bad]).1, Some(Step::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn finds_the_next_chunk_after_a_loss() {
        assert_eq!(find_chunk(b"5\r\nhello\r\n"), Some(0));
        assert_eq!(find_chunk(b"tail}\r\n\r\n3\r\nabc\r\n"), Some(9));
        assert_eq!(find_chunk(b"tail}\r\n\r\n0\r\n\r\n"), Some(9));
        assert_eq!(find_chunk(b"dead\r\nbeef"), Some(0));
        assert_eq!(find_chunk(b"3\r\nwxyz\r\n"), None);
        assert_eq!(find_chunk(b"data: x\n\n"), None);
    }
}
