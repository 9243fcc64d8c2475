//! What looks like a secret and is none: documentation samples, placeholders, low entropy.

/// Values that providers and specifications print in their documentation. In pieces, so that
/// scanners of this source do not take them for a leak.
const DOCUMENTED: &[&str] = &[
    concat!("AKIAIOSFODNN7", "EXAMPLE"),
    concat!("AKIAI44QH8DHB", "EXAMPLE"),
    concat!("ASIAIOSFODNN7", "EXAMPLE"),
    concat!("wJalrXUtnFEMI/K7MDENG", "/bPxRfiCYEXAMPLEKEY"),
    concat!("je7MtGbClwBF/2Zp9Utk", "/h3yCo8nvbEXAMPLEKEY"),
    concat!("sk_test_4eC39HqLyjW", "DarjtT1zdp7dc"),
    concat!("sk_test_BQokikJOvBiI2", "HlWgH4olfQ2"),
    concat!("sk_test_26PHem9AhJZvU", "623DfE1x4sd"),
    concat!("rk_test_4eC39HqLyjW", "DarjtT1zdp7dc"),
    concat!("npm_qkJaB6MffYVzZXWqmcoF49", "yrUxP3wf0LsakP"),
    concat!("ghp_16C7e42F292c6912E7710c838347Ae", "178B4a"),
    concat!("gho_16C7e42F292c6912E7710c838347Ae", "178B4a"),
    concat!("ghu_16C7e42F292c6912E7710c838347Ae", "178B4a"),
    concat!("ghs_16C7e42F292c6912E7710c838347Ae", "178B4a"),
    concat!("xoxb-17653672481-", "19874698323-pdFZKVeTuE8sk7oOcBrzOqgy"),
    concat!("GOCSPX-1r0aNcG8gddWyEgR6RWaAiJKr2S", "W"),
    // jwt.io, the old and the present sample, and RFC 7519 section 3.1.
    concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.",
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
    ),
    concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiYWRtaW4iOnRydWV9.",
        "TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ"
    ),
    concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.",
        "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiYWRtaW4iOnRydWUsImlhdCI6MTUxNjIzOTAyMn0.",
        "KMUFsIDTnFmyG3nMiGM6H9FNFUROf3wh7SmqJp-QV30"
    ),
    concat!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    ),
    // RFC 7617 section 2 and the "Aladdin" pair of older RFCs; RFC 6750 section 2.1.
    concat!("QWxhZGRpbjpvcGVuIHN", "lc2FtZQ=="),
    concat!("QWxhZGRpbjpPcGVuU2V", "zYW1l"),
    concat!("dGVzdDoxMjPC", "ow=="),
    concat!("mF_9.B5f-4.", "1JqM"),
];

/// Words that no random secret has and that placeholders do.
const WORDS: &[&str] = &[
    "example",
    // What masked text has in place of a secret.
    "‹",
    "›",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your_",
    "your-",
    "yourtoken",
    "yourkey",
    "yoursecret",
    "yourpassword",
    "yourapi",
    "redacted",
    "dummy",
    "sample",
    "insert",
    "replace",
    "xxxx",
    "****",
    "....",
    "<",
    "${",
    "{{",
    "$(",
    "%s",
    "fake",
    "foobar",
    "test_token",
    "test-token",
    "notreal",
    "not_real",
    "not-real",
    "secret_here",
    "token_here",
    "key_here",
    "token-here",
    "key-here",
    "-here",
    "my-secret",
    "mysecret",
    "my_secret",
    "hunter2",
    "process.env",
    "os.environ",
    "getenv",
    "undefined",
    "lorem",
];

/// Longest text whose placeholder words are looked for: longer ones (certificates, JWTs) would
/// have such words by chance.
const WORDS_WITHIN: usize = 512;

/// Longest run of one byte, or of bytes that follow each other (`0123`, `abcd`), that a real
/// secret is believed to have.
const RUN: usize = 7;

/// The value is one that documentation prints, or plainly stands for one.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    if DOCUMENTED.iter().any(|d| d.as_bytes() == value) {
        return true;
    }
    let Some(text) = value.get(..value.len().min(WORDS_WITHIN)) else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    WORDS
        .iter()
        .any(|word| memchr::memmem::find(&text, word.as_bytes()).is_some())
}

/// The variable part is too regular to be a secret: `minimum` is in hundredths of a bit per byte.
pub(super) fn is_regular(body: &[u8], minimum: u16) -> bool {
    minimum > 0 && (longest_run(body) > RUN || entropy(body) < f32::from(minimum) / 100.0)
}

/// Default minimum for a text of `len` bytes over an alphabet of `size`: six tenths of what a
/// random one can have, in hundredths of a bit per byte.
pub(super) fn default_minimum(len: usize, size: u32) -> u16 {
    let len = u32::try_from(len.clamp(1, 65_536)).unwrap_or(65_536);
    let most = f64::from(len.min(size)).log2();
    (most * 60.0) as u16
}

/// Shannon entropy of the bytes, bits per byte.
pub(super) fn entropy(text: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    for b in text {
        if let Some(count) = counts.get_mut(usize::from(*b)) {
            *count = count.saturating_add(1);
        }
    }
    let total = text.len().max(1) as f32;
    let bits = counts.iter().filter(|c| **c > 0).map(|c| {
        let p = *c as f32 / total;
        -p * p.log2()
    });
    bits.sum()
}

fn longest_run(text: &[u8]) -> usize {
    let (mut longest, mut same, mut up) = (0usize, 1usize, 1usize);
    let mut last = None::<u8>;
    for b in text {
        match last {
            Some(l) if l == *b => (same, up) = (same.saturating_add(1), 1),
            Some(l) if l.wrapping_add(1) == *b || (l == b'9' && *b == b'0') => {
                (same, up) = (1, up.saturating_add(1))
            }
            _ => (same, up) = (1, 1),
        }
        longest = longest.max(same).max(up);
        last = Some(*b);
    }
    longest
}

/// Every documented sample, for tests.
#[cfg(test)]
pub(super) fn documented() -> &'static [&'static str] {
    DOCUMENTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        for text in [
            "your-token-here",
            "<TOKEN>",
            "${TOKEN}",
            "EXAMPLEKEY",
            "xxxxxxxxxxxx",
            "changeme123",
            "{{ secret }}",
        ] {
            assert!(is_placeholder(text.as_bytes()), "{text}");
        }
        assert!(!is_placeholder(b"q7Zt9LmPw2Xc4VbN8sRd"));
    }

    #[test]
    fn regular_texts() {
        for text in [
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "12345678901234567890",
            "abcdefghijklmnopqrstuvwx",
            "abababababababababababab",
        ] {
            assert!(
                is_regular(text.as_bytes(), default_minimum(text.len(), 62)),
                "{text}"
            );
        }
        let random = b"q7Zt9LmPw2Xc4VbN8sRd";
        assert!(!is_regular(random, default_minimum(random.len(), 62)));
    }

    #[test]
    fn entropy_is_shannon() {
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-6);
        assert!(entropy(b"aaaa").abs() < 1e-6);
        assert!(entropy(b"").abs() < 1e-6);
    }
}
