//! JA4, the fingerprint of a TLS client (FoxIO, BSD 3-Clause; the other fingerprints of
//! the JA4+ family are under another licence and not here).

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{ClientHello, is_grease};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PADDING: u16 = 21;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;

/// What carried the hello.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Carrier {
    /// TLS over TCP.
    #[default]
    Tcp,
    /// QUIC.
    Quic,
    /// DTLS.
    Dtls,
}

/// The fingerprint, e.g. `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub fn ja4(hello: &ClientHello) -> String {
    let mut ciphers: Vec<u16> = plain(&hello.ciphers).collect();
    let mut extensions: Vec<u16> = plain(&hello.extensions).collect();
    let carrier = match hello.carrier {
        Carrier::Tcp => 't',
        Carrier::Quic => 'q',
        Carrier::Dtls => 'd',
    };
    let name = if hello.extensions.contains(&SERVER_NAME) {
        'd'
    } else {
        'i'
    };
    let counts = [ciphers.len().min(99), extensions.len().min(99)];
    ciphers.sort_unstable();
    extensions.sort_unstable();
    extensions.retain(|e| !matches!(*e, SERVER_NAME | ALPN));
    let mut hashed = hex_list(&extensions);
    if !hello.signature_algorithms.is_empty() && !hashed.is_empty() {
        hashed.push('_');
        hashed.push_str(&hex_list(&plain(&hello.signature_algorithms).collect::<Vec<_>>()));
    }
    let [c, e] = counts;
    format!(
        "{carrier}{}{name}{c:02}{e:02}{}_{}_{}",
        version(hello.max_version),
        alpn(hello),
        short_hash(&hex_list(&ciphers)),
        short_hash(&hashed),
    )
}

/// The fingerprint without what differs between a client's first connection to a server and the next:
/// padding, early data and the offer of a session to resume.
pub fn stable_ja4(hello: &ClientHello) -> String {
    let mut hello = hello.clone();
    hello
        .extensions
        .retain(|e| !matches!(*e, PADDING | EARLY_DATA | PRE_SHARED_KEY));
    ja4(&hello)
}

fn plain(values: &[u16]) -> impl Iterator<Item = u16> + '_ {
    values.iter().copied().filter(|v| !is_grease(*v))
}

fn version(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xfeff => "d1",
        0xfefd => "d2",
        0xfefc => "d3",
        _ => "00",
    }
}

/// First and last character of the first protocol; of its hexadecimal form where one of
/// the two is not alphanumeric.
fn alpn(hello: &ClientHello) -> String {
    let Some(first) = hello.alpn.first() else {
        return "00".to_owned();
    };
    let (Some(a), Some(z)) = (first.chars().next(), first.chars().last()) else {
        return "00".to_owned();
    };
    if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric() {
        return [a, z].iter().collect();
    }
    let nibble = |n: u32| char::from_digit(n & 0x0f, 16).unwrap_or('0');
    [nibble(u32::from(a).wrapping_shr(4)), nibble(u32::from(z))]
        .iter()
        .collect()
}

fn hex_list(values: &[u16]) -> String {
    let mut text = String::with_capacity(values.len().saturating_mul(5));
    for value in values {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a String does not fail.
        _ = write!(text, "{value:04x}");
    }
    text
}

fn short_hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let mut hex = String::with_capacity(12);
    for byte in Sha256::digest(text).iter().take(6) {
        _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the JA4 publication works through.
    fn published() -> ClientHello {
        ClientHello {
            legacy_version: 0x0303,
            max_version: 0x0304,
            ciphers: vec![
                0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
                0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
            ],
            extensions: vec![
                0x2a2a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
                0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0xfafa,
            ],
            signature_algorithms: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            alpn: vec!["h2".into(), "http/1.1".into()],
            ..ClientHello::default()
        }
    }

    #[test]
    fn the_published_example() {
        assert_eq!(ja4(&published()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn edge_cases_of_the_publication() {
        let empty = ClientHello {
            carrier: Carrier::Quic,
            max_version: 0x0303,
            ..ClientHello::default()
        };
        assert_eq!(ja4(&empty), "q12i000000_000000000000_000000000000");
        for (protocol, want) in [
            ("h", "hh"),
            ("http/1.1", "h1"),
            ("\u{ab}", "ab"),
            ("\u{ab}\u{cd}", "ad"),
            ("0\u{ab}", "3b"),
        ] {
            let hello = ClientHello {
                alpn: vec![protocol.into()],
                ..ClientHello::default()
            };
            assert_eq!(alpn(&hello), want);
        }
    }

    #[test]
    fn resuming_does_not_change_the_stable_form() {
        let mut again = published();
        again.extensions.extend([PRE_SHARED_KEY, EARLY_DATA]);
        assert_ne!(ja4(&again), ja4(&published()));
        assert_eq!(stable_ja4(&again), stable_ja4(&published()));
    }

    #[test]
    fn order_of_ciphers_and_extensions_does_not_count() {
        let mut other = published();
        other.ciphers.reverse();
        other.extensions.reverse();
        assert_eq!(ja4(&other), ja4(&published()));
        other.signature_algorithms.reverse();
        assert_ne!(ja4(&other), ja4(&published()));
    }
}
