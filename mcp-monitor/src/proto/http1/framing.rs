//! How long a body is (RFC 9112 section 6.3).

use super::chunked::Chunked;
use crate::proto::http::{Headers, Version};

/// How the end of a body is known.
#[derive(Debug)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// The chunked transfer coding.
    Chunked(Chunked),
    /// Until the connection closes.
    UntilClose,
    /// The rules give no answer; the message may not be read.
    Unknown,
}

impl Framing {
    /// Of a request.
    pub(super) fn of_request(headers: &Headers, version: Version, notes: &mut Vec<&'static str>) -> Self {
        match declared(headers, version, notes) {
            Declared::Nothing => Self::Empty,
            Declared::Length(0) => Self::Empty,
            Declared::Length(n) => Self::Length(n),
            Declared::Chunked => Self::Chunked(Chunked::default()),
            Declared::OtherCoding | Declared::Conflict => Self::Unknown,
        }
    }

    /// Of a final response that may have a body.
    pub(super) fn of_response(headers: &Headers, version: Version, notes: &mut Vec<&'static str>) -> Self {
        match declared(headers, version, notes) {
            Declared::Nothing | Declared::OtherCoding => Self::UntilClose,
            Declared::Length(0) => Self::Empty,
            Declared::Length(n) => Self::Length(n),
            Declared::Chunked => Self::Chunked(Chunked::default()),
            Declared::Conflict => Self::Unknown,
        }
    }
}

enum Declared {
    Nothing,
    Length(u64),
    Chunked,
    /// Transfer-Encoding whose last coding is not chunked.
    OtherCoding,
    /// Content-Length that contradicts itself.
    Conflict,
}

fn declared(headers: &Headers, version: Version, notes: &mut Vec<&'static str>) -> Declared {
    let length = content_length(headers);
    let transfer = transfer_coding(headers);
    match length {
        ContentLength::Repeated(_) => notes.push("Content-Length repeated"),
        ContentLength::Conflict => notes.push("Content-Length values that differ or are not numbers"),
        ContentLength::Absent | ContentLength::Once(_) => {}
    }
    if !matches!(transfer, Transfer::Absent) {
        if !matches!(length, ContentLength::Absent) {
            notes.push("Content-Length together with Transfer-Encoding");
        }
        if version == Version::Http10 {
            notes.push("Transfer-Encoding in HTTP/1.0");
        }
    }
    match (transfer, length) {
        (Transfer::Chunked { others }, _) => {
            if others {
                notes.push("transfer coding besides chunked, left in the body");
            }
            Declared::Chunked
        }
        (Transfer::Odd(what), _) => {
            notes.push(what);
            Declared::OtherCoding
        }
        (Transfer::Absent, ContentLength::Absent) => Declared::Nothing,
        (Transfer::Absent, ContentLength::Once(n) | ContentLength::Repeated(n)) => Declared::Length(n),
        (Transfer::Absent, ContentLength::Conflict) => Declared::Conflict,
    }
}

#[derive(Clone, Copy)]
enum ContentLength {
    Absent,
    Once(u64),
    /// The same value more than once.
    Repeated(u64),
    Conflict,
}

fn content_length(headers: &Headers) -> ContentLength {
    let mut seen = ContentLength::Absent;
    for value in headers.get_all("content-length") {
        for item in value.split(|b| *b == b',') {
            let Some(n) = decimal(item.trim_ascii()) else {
                return ContentLength::Conflict;
            };
            seen = match seen {
                ContentLength::Absent => ContentLength::Once(n),
                ContentLength::Once(m) | ContentLength::Repeated(m) if m == n => ContentLength::Repeated(n),
                _ => return ContentLength::Conflict,
            };
        }
    }
    seen
}

/// Digits only: `+5`, ` 5`, `0x5` are what readers disagree on.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| {
        b.is_ascii_digit().then_some(())?;
        n.checked_mul(10)?.checked_add(u64::from(b.wrapping_sub(b'0')))
    })
}

enum Transfer {
    Absent,
    /// `chunked` is the last coding.
    Chunked {
        /// Others come before it; they are not removed from the body.
        others: bool,
    },
    Odd(&'static str),
}

fn transfer_coding(headers: &Headers) -> Transfer {
    let mut last = None;
    let mut chunked = 0usize;
    let mut others = false;
    for value in headers.get_all("transfer-encoding") {
        for item in value.split(|b| *b == b',') {
            let item = item.trim_ascii();
            if item.eq_ignore_ascii_case(b"chunked") {
                chunked = chunked.saturating_add(1);
            } else {
                others = true;
            }
            last = Some(item);
        }
    }
    match last {
        None => Transfer::Absent,
        Some(_) if chunked > 1 => Transfer::Odd("chunked applied twice"),
        Some(item) if item.eq_ignore_ascii_case(b"chunked") => Transfer::Chunked { others },
        Some(_) => Transfer::Odd("Transfer-Encoding that does not end in chunked"),
    }
}
