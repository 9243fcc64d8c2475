//! Secrets in text: where they are and of which kind, never what they are.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// One secret found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Its kind, e.g. `github-pat`.
    pub kind: &'static str,
    /// Where it begins in the text.
    pub start: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// Prefix, kind, least and most characters after the prefix.
const FORMATS: &[(&[u8], &str, usize, usize)] = &[
    (b"ghp_", "github-pat", 36, 36),
    (b"AKIA", "aws-access-key-id", 16, 16),
    (b"sk-ant-api03-", "anthropic-api-key", 80, 120),
];

/// Appends what `text` holds, in order of place.
pub fn scan(text: &[u8], out: &mut Vec<Hit>) {
    let from = out.len();
    for (prefix, kind, least, most) in FORMATS {
        for start in memchr::memmem::find_iter(text, prefix) {
            let rest = start
                .checked_add(prefix.len())
                .and_then(|s| text.get(s..))
                .unwrap_or_default();
            let tail = rest
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b == b'-')
                .count();
            let sample = text
                .get(start..)
                .is_some_and(|t| t.starts_with(b"AKIAIOSFODNN7EXAMPLE"));
            if (*least..=*most).contains(&tail) && !sample {
                out.push(Hit {
                    kind,
                    start,
                    len: prefix.len().saturating_add(tail),
                });
            }
        }
    }
    if let Some(new) = out.get_mut(from..) {
        new.sort_by_key(|hit| hit.start);
    }
}

/// Keyed fingerprints of secrets: equal secrets have equal ones, and nothing else can be read from them.
#[derive(Clone)]
pub struct Fingerprinter {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprinter")
    }
}

impl Fingerprinter {
    /// With the key of this installation.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        Self {
            mac: Hmac::<Sha256>::new(&block),
        }
    }

    /// The first 16 hex digits of the HMAC-SHA-256.
    pub fn fingerprint(&self, secret: &[u8]) -> String {
        use std::fmt::Write as _;
        let mut mac = self.mac.clone();
        mac.update(secret);
        let mut text = String::with_capacity(16);
        for byte in mac.finalize().into_bytes().iter().take(8) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_token_and_not_the_documentation_sample() {
        let mut hits = Vec::new();
        let token = format!("x ghp_{} AKIAIOSFODNN7EXAMPLE", "a1B2".repeat(9));
        scan(token.as_bytes(), &mut hits);
        assert_eq!(hits.len(), 1);
        assert_eq!((hits[0].kind, hits[0].start, hits[0].len), ("github-pat", 2, 40));
    }

    #[test]
    fn fingerprints_depend_on_the_key() {
        let (a, b) = (Fingerprinter::new(&[1; 32]), Fingerprinter::new(&[2; 32]));
        assert_eq!(a.fingerprint(b"s"), a.fingerprint(b"s"));
        assert_ne!(a.fingerprint(b"s"), b.fingerprint(b"s"));
    }
}

/// tmp
pub fn mask(text: &[u8]) -> String { String::from_utf8_lossy(text).into_owned() }
