//! Credentials in HTTP header fields.

use std::ops::Range;

use super::{Hit, scan};

/// A credential in a header field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialUse {
    /// How it is presented: `bearer`, `basic`, `digest`, `authorization` (another scheme),
    /// `proxy-…` likewise, `api-key`, `cookie`.
    pub kind: String,
    /// Its format, where the value is one of the known ones.
    pub format: Option<&'static str>,
    /// Who has this text can use it; false for schemes that only prove possession of a key
    /// (Digest, AWS4-HMAC-SHA256, HTTP signatures).
    pub reusable: bool,
    /// Where the secret lies in the field value.
    pub secret: Range<usize>,
}

/// Fields that carry an API key, beside those that end in `-api-key`, `-auth-token` and the like.
const KEY_FIELDS: [&str; 8] = [
    "api-key",
    "apikey",
    "x-apikey",
    "x-auth",
    "x-token",
    "x-goog-api-key",
    "private-token",
    "x-vault-token",
];
const KEY_ENDINGS: [&str; 6] = [
    "api-key",
    "auth-token",
    "access-token",
    "-secret",
    "auth-key",
    "api-token",
];

/// Schemes that sign and do not reveal.
const SIGNING: [&str; 6] = [
    "digest",
    "aws4-hmac-sha256",
    "hawk",
    "signature",
    "mac",
    "scram-sha-256",
];

/// The credential that a field of a request carries, if it is one that carries credentials and
/// its value is not empty. A session id of MCP is none: it is judged by its own rule.
pub fn header_credential(name: &[u8], value: &[u8]) -> Option<CredentialUse> {
    // Most fields carry none; to see that costs no copy of the name.
    let name = std::str::from_utf8(name).ok().filter(|name| may_carry(name))?;
    let name = name.to_ascii_lowercase();
    let start = value.len().saturating_sub(value.trim_ascii_start().len());
    let whole = start..start.saturating_add(value.trim_ascii().len());
    if whole.is_empty() {
        return None;
    }
    let (kind, reusable, secret) = match name.as_str() {
        "authorization" => authorization("", value, whole)?,
        "proxy-authorization" => authorization("proxy-", value, whole)?,
        "cookie" => ("cookie".to_owned(), true, whole),
        other if is_key_field(other) => ("api-key".to_owned(), true, whole),
        _ => return None,
    };
    let mut hits: Vec<Hit> = Vec::new();
    if kind != "cookie" {
        scan(value, &mut hits);
    }
    let format = hits
        .iter()
        .find(|hit| hit.start >= secret.start)
        .map(|hit| hit.kind);
    Some(CredentialUse {
        kind,
        format,
        reusable,
        secret,
    })
}

/// How the names below end, in lower case: four bytes tell nearly every other field apart.
const ENDS: [[u8; 4]; 7] = [
    *b"tion", *b"okie", *b"-key", *b"ikey", *b"oken", *b"cret", *b"auth",
];

/// As the names below, in any case.
fn may_carry(name: &str) -> bool {
    let end = name
        .as_bytes()
        .last_chunk::<4>()
        .map(|end| u32::from_le_bytes(*end) | 0x2020_2020);
    let known = ENDS.iter().any(|known| end == Some(u32::from_le_bytes(*known)));
    if !known {
        return false;
    }
    let whole = ["authorization", "proxy-authorization", "cookie"];
    whole
        .iter()
        .chain(&KEY_FIELDS)
        .any(|known| name.eq_ignore_ascii_case(known))
        || KEY_ENDINGS.iter().any(|end| {
            let from = name.len().checked_sub(end.len());
            from.and_then(|from| name.get(from..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        })
}

fn is_key_field(name: &str) -> bool {
    KEY_FIELDS.contains(&name) || KEY_ENDINGS.iter().any(|end| name.ends_with(end))
}

/// RFC 9110 section 11.4: scheme, space, token or parameters.
fn authorization(prefix: &str, value: &[u8], whole: Range<usize>) -> Option<(String, bool, Range<usize>)> {
    let text = value.get(whole.clone())?;
    let Some(space) = text.iter().position(|b| matches!(b, b' ' | b'\t')) else {
        // A bare token: against the grammar, and seen.
        return Some((format!("{prefix}authorization"), true, whole));
    };
    let scheme = String::from_utf8_lossy(text.get(..space)?).to_ascii_lowercase();
    let rest = text.get(space..)?;
    let blanks = rest.len().saturating_sub(rest.trim_ascii_start().len());
    let from = whole.start.saturating_add(space).saturating_add(blanks);
    let known = matches!(
        scheme.as_str(),
        "bearer" | "basic" | "digest" | "dpop" | "negotiate" | "token"
    );
    let kind = if known { scheme.as_str() } else { "authorization" };
    let reusable = !SIGNING.contains(&scheme.as_str());
    (from < whole.end).then(|| (format!("{prefix}{kind}"), reusable, from..whole.end))
}

#[cfg(test)]
#[allow(clippy::string_slice, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Option<(String, bool, String)> {
        let found = header_credential(name.as_bytes(), value.as_bytes())?;
        Some((found.kind, found.reusable, value[found.secret].to_owned()))
    }

    #[test]
    fn schemes() {
        let some = |k: &str, r, s: &str| Some((k.to_owned(), r, s.to_owned()));
        assert_eq!(of("Authorization", " Bearer  abc "), some("bearer", true, "abc"));
        assert_eq!(of("authorization", "basic dTpw"), some("basic", true, "dTpw"));
        assert_eq!(
            of("Proxy-Authorization", "Basic dTpw"),
            some("proxy-basic", true, "dTpw")
        );
        assert_eq!(of("Authorization", "Digest a=b"), some("digest", false, "a=b"));
        assert_eq!(of("Authorization", "abc"), some("authorization", true, "abc"));
        assert_eq!(of("X-API-Key", "k"), some("api-key", true, "k"));
        assert_eq!(of("ocp-x-auth-token", "k"), some("api-key", true, "k"));
        assert_eq!(of("Cookie", "a=b; c=d"), some("cookie", true, "a=b; c=d"));
    }

    #[test]
    fn silent_fields() {
        assert_eq!(of("Mcp-Session-Id", "abc"), None);
        assert_eq!(of("Authorization", "  "), None);
        assert_eq!(of("Authorization", "Bearer "), some_bare("Bearer"));
        assert_eq!(of("Accept", "text/html"), None);
        assert_eq!(of("Set-Cookie", "a=b"), None);
    }

    fn some_bare(text: &str) -> Option<(String, bool, String)> {
        Some(("authorization".to_owned(), true, text.to_owned()))
    }

    #[test]
    fn tells_the_format() {
        let token = super::super::example("github-pat").unwrap();
        let found = header_credential(b"authorization", format!("Bearer {token}").as_bytes()).unwrap();
        assert_eq!(found.format, Some("github-pat"));
    }
}
