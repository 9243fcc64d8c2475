//! Does a stream begin like HTTP/1?

use super::head::is_tchar;
use crate::{proto::Probe, types::Direction};

/// How far the first line is looked at before an unknown method is given up.
const MAX_FIRST_LINE: usize = 512;
const MAX_METHOD: usize = 24;
const METHODS: [&[u8]; 9] = [
    b"GET", b"POST", b"DELETE", b"OPTIONS", b"HEAD", b"PUT", b"PATCH", b"CONNECT", b"TRACE",
];

/// Judges the first bytes of a direction: requests to the server, responses to the client.
///
/// Looks at no more than 512 bytes; empty lines before the first are passed over.
pub fn probe(first_bytes: &[u8], direction: Direction) -> Probe {
    let skip = first_bytes
        .iter()
        .take(MAX_FIRST_LINE)
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let bytes = first_bytes.get(skip..).unwrap_or_default();
    match direction {
        Direction::ToServer => request(bytes),
        Direction::ToClient => response(bytes),
    }
}

fn prefix(bytes: &[u8], pattern: &[u8]) -> Probe {
    if bytes.starts_with(pattern) {
        Probe::Certain
    } else if pattern.starts_with(bytes) {
        Probe::Unsure
    } else {
        Probe::NotForUs
    }
}

fn response(bytes: &[u8]) -> Probe {
    match prefix(bytes, b"HTTP/1.") {
        Probe::Certain => {
            // "HTTP/1.1 200": as much of it as is there.
            let rest = bytes.get(7..12).or_else(|| bytes.get(7..)).unwrap_or_default();
            let fits = rest.iter().zip(b"0 000").all(|(b, p)| {
                if *p == b' ' {
                    *b == b' '
                } else {
                    b.is_ascii_digit()
                }
            });
            match (fits, rest.is_empty()) {
                (false, _) => Probe::NotForUs,
                (true, true) => Probe::Unsure,
                (true, false) => Probe::Certain,
            }
        }
        other => other,
    }
}

fn request(bytes: &[u8]) -> Probe {
    let window = bytes.get(..MAX_FIRST_LINE).unwrap_or(bytes);
    let method = window.iter().take_while(|b| is_tchar(**b)).count();
    if method > MAX_METHOD {
        return Probe::NotForUs;
    }
    let (name, rest) = window.split_at_checked(method).unwrap_or_default();
    let Some(target) = rest.strip_prefix(b" ") else {
        return if rest.is_empty() {
            Probe::Unsure
        } else {
            Probe::NotForUs
        };
    };
    if name.is_empty()
        || (name == b"PRI" && b"* HTTP/2.0\r\n".starts_with(target.get(..12).unwrap_or(target)))
    {
        return Probe::NotForUs;
    }
    if METHODS.contains(&name) {
        match target.first() {
            None => return Probe::Unsure,
            Some(b'/' | b'*') => return Probe::Certain,
            Some(b) if *b <= b' ' || *b >= 0x7f => return Probe::NotForUs,
            Some(_) => {}
        }
    }
    // Absolute and authority forms and other methods: the version must follow.
    let length = target.iter().take_while(|b| **b > b' ' && **b < 0x7f).count();
    match target.get(length..).unwrap_or_default() {
        [] if bytes.len() < MAX_FIRST_LINE => Probe::Unsure,
        [] if METHODS.contains(&name) => Probe::Certain,
        [b' ', version @ ..] if length > 0 => prefix(version, b"HTTP/1."),
        _ => Probe::NotForUs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_requests_from_other_text() {
        let long = format!("GET http://h/{} HTTP/1.1\r\n", "a".repeat(600));
        for (text, want) in [
            ("GET / HTTP/1.1\r\n", Probe::Certain),
            ("\r\nPOST /m", Probe::Certain),
            ("OPTIONS * H", Probe::Certain),
            ("CONNECT a.b:443 HTTP/1.1\r\n", Probe::Certain),
            ("GET http://a/ HTTP/1.1\n", Probe::Certain),
            ("QUERY /x HTTP/1.1\r\n", Probe::Certain),
            (long.as_str(), Probe::Certain),
            ("QUERY /x HTT", Probe::Unsure),
            ("PO", Probe::Unsure),
            ("", Probe::Unsure),
            ("PRI * HTTP/2.0\r\n\r\n", Probe::NotForUs),
            ("SSH-2.0-OpenSSH_9\r\n", Probe::NotForUs),
            ("HELO there\r\n", Probe::NotForUs),
            ("of a body", Probe::NotForUs),
            ("{\"jsonrpc\"", Probe::NotForUs),
            ("GET key\r\n", Probe::NotForUs),
            ("\x16\x03\x01", Probe::NotForUs),
        ] {
            assert_eq!(probe(text.as_bytes(), Direction::ToServer), want, "{text:?}");
        }
    }

    #[test]
    fn tells_responses_from_other_text() {
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\n", Probe::Certain),
            ("HTTP/1.", Probe::Unsure),
            ("H", Probe::Unsure),
            ("HTTP/1.x", Probe::NotForUs),
            ("HTTP/2 200", Probe::NotForUs),
            ("220 mail", Probe::NotForUs),
        ] {
            assert_eq!(probe(text.as_bytes(), Direction::ToClient), want, "{text:?}");
        }
    }
}
