//! Message heads: start line and fields (RFC 9112 sections 2 to 5).
//!
//! Written here instead of with a strict parser because what a strict parser refuses is
//! what two readers of one stream disagree on, and that has to be told apart and reported.

use bytes::Bytes;

use crate::proto::http::{Headers, Version};

/// Finds the empty line that ends a head, however the head is split.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum EndScanner {
    #[default]
    InLine,
    AfterLf,
    AfterLfCr,
}

impl EndScanner {
    /// Looks at the next bytes; one past the end of the head if it lies in them.
    pub(super) fn scan(&mut self, data: &[u8]) -> Option<usize> {
        let mut pos = 0usize;
        loop {
            let rest = data.get(pos..)?;
            match self {
                Self::InLine => {
                    let lf = memchr::memchr(b'\n', rest)?;
                    pos = pos.saturating_add(lf).saturating_add(1);
                    *self = Self::AfterLf;
                }
                Self::AfterLf => match rest.first()? {
                    b'\n' => return pos.checked_add(1),
                    b'\r' => {
                        pos = pos.saturating_add(1);
                        *self = Self::AfterLfCr;
                    }
                    _ => *self = Self::InLine,
                },
                Self::AfterLfCr => match rest.first()? {
                    b'\n' => return pos.checked_add(1),
                    _ => *self = Self::InLine,
                },
            }
        }
    }
}

/// A first line.
#[derive(Debug)]
pub(super) enum Start {
    Request {
        method: Bytes,
        target: Bytes,
        version: Version,
    },
    Response {
        status: u16,
        version: Version,
    },
}

/// A head and what is odd about it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: Start,
    pub(super) headers: Headers,
    /// Fields above the limit, left out of `headers`.
    pub(super) left_out: usize,
    /// What two readers could take differently.
    pub(super) ambiguous: Vec<&'static str>,
}

/// Reads a whole head, its final empty line included. `Err` says what is wrong with it.
///
/// What is kept of it is copied: a head must not keep the block alive that it was captured in.
pub(super) fn parse(raw: &[u8], request: bool, max_headers: usize) -> Result<Head, &'static str> {
    let mut lines = Lines {
        raw,
        pos: 0,
        bare_lf: false,
    };
    let line = lines.next().unwrap_or_default();
    let start = if request {
        request_line(line).ok_or("not a request line")?
    } else {
        status_line(line).ok_or("not a status line")?
    };
    let mut head = Head {
        start,
        headers: Headers::with_room(raw.len()),
        left_out: 0,
        ambiguous: Vec::new(),
    };
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        field(&mut head, line, max_headers);
    }
    if lines.bare_lf {
        note(&mut head, "bare LF in a head");
    }
    Ok(head)
}

fn note(head: &mut Head, what: &'static str) {
    if !head.ambiguous.contains(&what) {
        head.ambiguous.push(what);
    }
}

/// Lines of a head without their ends; folded lines come as their own.
struct Lines<'a> {
    raw: &'a [u8],
    pos: usize,
    bare_lf: bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.raw.get(self.pos..)?;
        let lf = memchr::memchr(b'\n', rest)?;
        let end = self.pos.checked_add(lf)?;
        let has_cr = lf.checked_sub(1).and_then(|i| rest.get(i)) == Some(&b'\r');
        let stop = if has_cr { end.checked_sub(1)? } else { end };
        self.bare_lf |= !has_cr;
        let line = self.raw.get(self.pos..stop)?;
        self.pos = end.checked_add(1)?;
        Some(line)
    }
}

fn field(head: &mut Head, line: &[u8], max_headers: usize) {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        note(head, "folded field line");
        // RFC 9112 section 5.2: a fold reads as spaces.
        head.headers.fold(line.trim_ascii());
        return;
    }
    let Some((name, value)) = memchr::memchr(b':', line)
        .and_then(|colon| line.split_at_checked(colon))
        .and_then(|(name, rest)| Some((name, rest.get(1..)?)))
    else {
        note(head, "field line without colon");
        return;
    };
    if memchr::memchr2(b'\r', 0, value).is_some() {
        note(head, "CR or NUL in a field value");
    }
    if is_token(name) {
        return push(head, name, value, max_headers);
    }
    note(head, "white space or other bytes in a field name");
    let trimmed = name.trim_ascii();
    if is_token(trimmed) {
        push(head, trimmed, value, max_headers);
    }
}

fn push(head: &mut Head, name: &[u8], value: &[u8], max_headers: usize) {
    if head.headers.len() < max_headers {
        return head.headers.push(name, value);
    }
    head.left_out = head.left_out.saturating_add(1);
    // The fields that frame the message count wherever they stand: a reader with a
    // larger limit sees them.
    if ["content-length", "transfer-encoding"]
        .iter()
        .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
        && head.headers.len() < max_headers.saturating_add(4)
    {
        head.headers.push(name, value);
    }
}

pub(super) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_tchar(*b))
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn version(text: &[u8]) -> Option<Version> {
    match text {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        // A higher minor version reads as the highest known one (RFC 9110 section 2.5).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', d] if d.is_ascii_digit() => Some(Version::Http11),
        _ => None,
    }
}

fn request_line(line: &[u8]) -> Option<Start> {
    let first = memchr::memchr(b' ', line)?;
    let last = memchr::memrchr(b' ', line)?;
    let method = line.get(..first)?;
    let target = line.get(first.checked_add(1)?..last)?;
    let version = version(line.get(last.checked_add(1)?..)?)?;
    let clean = !target.is_empty() && target.iter().all(|b| *b > b' ' && *b != 0x7f);
    (is_token(method) && clean).then(|| Start::Request {
        method: known_method(method),
        target: Bytes::copy_from_slice(target),
        version,
    })
}

fn known_method(method: &[u8]) -> Bytes {
    const KNOWN: [&[u8]; 4] = [b"GET", b"POST", b"DELETE", b"HEAD"];
    match KNOWN.iter().find(|known| **known == method) {
        Some(known) => Bytes::from_static(known),
        None => Bytes::copy_from_slice(method),
    }
}

fn status_line(line: &[u8]) -> Option<Start> {
    let version = version(line.get(..8)?)?;
    let [b' ', a, b, c] = line.get(8..12)? else {
        return None;
    };
    if !matches!(line.get(12), None | Some(b' ')) {
        return None;
    }
    let digit = |d: &u8| d.is_ascii_digit().then(|| u16::from(d.wrapping_sub(b'0')));
    let status = digit(a)?
        .checked_mul(100)?
        .checked_add(digit(b)?.checked_mul(10)?)?
        .checked_add(digit(c)?)?;
    (100..=999)
        .contains(&status)
        .then_some(Start::Response { status, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &'static str) -> Result<Head, &'static str> {
        parse(
            &Bytes::from_static(text.as_bytes()),
            !text.starts_with("HTTP/"),
            128,
        )
    }

    #[test]
    fn reads_start_lines() {
        let Start::Request {
            method,
            target,
            version,
        } = parsed("POST /mcp?x=1 HTTP/1.1\r\n\r\n").unwrap().start
        else {
            panic!()
        };
        assert_eq!(
            (&method[..], &target[..], version),
            (&b"POST"[..], &b"/mcp?x=1"[..], Version::Http11)
        );
        assert!(matches!(
            parsed("HTTP/1.0 404\r\n\r\n").unwrap().start,
            Start::Response {
                status: 404,
                version: Version::Http10
            }
        ));
        for bad in [
            "GET /\r\n\r\n",
            "GET  HTTP/1.1\r\n\r\n",
            "G{T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn says_what_is_ambiguous_and_reads_on() {
        let head = parsed("GET / HTTP/1.1\nA: 1\r\n b\r\nHost : h\r\nnonsense\r\n\r\n").unwrap();
        assert_eq!(head.headers.get("a"), Some(&b"1 b"[..]));
        assert_eq!(head.headers.get("host"), Some(&b"h"[..]));
        assert_eq!(
            head.ambiguous,
            [
                "folded field line",
                "white space or other bytes in a field name",
                "field line without colon",
                "bare LF in a head"
            ]
        );
    }

    #[test]
    fn the_end_is_found_across_any_split() {
        let text = b"GET / HTTP/1.1\r\nA: b\n\r\nBODY";
        for cut in 0..text.len() {
            let mut scanner = EndScanner::default();
            let (a, b) = text.split_at(cut);
            let end = scanner
                .scan(a)
                .or_else(|| scanner.scan(b).map(|e| e + cut))
                .unwrap();
            assert_eq!(&text[end..], b"BODY", "cut {cut}");
        }
    }
}
