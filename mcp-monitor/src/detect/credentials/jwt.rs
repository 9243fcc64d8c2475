//! JSON Web Tokens: what they claim, without verifying it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};

/// Longest token looked into, bytes; longer ones are no token for us.
pub const LONGEST: usize = 24 * 1024;

/// Claims of RFC 7519 section 4.1 (and `resource`, RFC 8707) that say whom a token is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// `alg` of the header (RFC 7515 section 4.1.1).
    pub alg: String,
    /// Who issued it.
    pub iss: Option<String>,
    /// Whom it is meant for; empty when absent.
    pub aud: Vec<String>,
    /// Seconds since 1970 when it expires.
    pub exp: Option<i64>,
    /// Seconds since 1970 when it was issued.
    pub iat: Option<i64>,
    /// What it is meant for; empty when absent.
    pub resource: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default, deserialize_with = "text_or_nothing")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "texts")]
    aud: Vec<String>,
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<i64>,
    #[serde(default, deserialize_with = "seconds")]
    iat: Option<i64>,
    #[serde(default, deserialize_with = "texts")]
    resource: Vec<String>,
}

/// Any JSON, of which only simple kinds matter here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Float(f64),
    Other(serde::de::IgnoredAny),
}

fn text_or_nothing<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(match Loose::deserialize(d)? {
        Loose::Text(text) => Some(text),
        _ => None,
    })
}

fn texts<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(match Loose::deserialize(d)? {
        Loose::Text(text) => vec![text],
        Loose::Texts(texts) => texts,
        _ => Vec::new(),
    })
}

fn seconds<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    Ok(match Loose::deserialize(d)? {
        Loose::Integer(seconds) => Some(seconds),
        // NumericDate may have a fraction; `as` saturates and takes NaN to 0.
        Loose::Float(seconds) => Some(seconds as i64),
        _ => None,
    })
}

/// The claims of a token in compact form; `None` if it is none: three parts, the first two JSON
/// objects in base64url, the header with `alg`. The signature is not looked at.
pub fn decode_claims(token: &[u8]) -> Option<Claims> {
    if token.len() > LONGEST {
        return None;
    }
    let mut parts = token.split(|b| *b == b'.');
    let (header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    // A struct also reads from an array; a claims set is an object.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    Some(Claims {
        alg: header.alg,
        iss: payload.iss,
        aud: payload.aud,
        exp: payload.exp,
        iat: payload.iat,
        resource: payload.resource,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> Vec<u8> {
        let parts = [
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload),
            "c2ln".into(),
        ];
        parts.join(".").into_bytes()
    }

    #[test]
    fn reads_claims() {
        let t = token(
            r#"{"typ":"JWT","alg":"RS256"}"#,
            r#"{"iss":"https://as.example","aud":["a","b"],"exp":1800000000.5,"iat":1700000000,"resource":"https://r.example"}"#,
        );
        let c = decode_claims(&t).unwrap();
        assert_eq!(c.alg, "RS256");
        assert_eq!(c.iss.as_deref(), Some("https://as.example"));
        assert_eq!(c.aud, ["a", "b"]);
        assert_eq!((c.exp, c.iat), (Some(1_800_000_000), Some(1_700_000_000)));
        assert_eq!(c.resource, ["https://r.example"]);
    }

    #[test]
    fn odd_claims_do_not_hide_the_rest() {
        let c = decode_claims(&token(r#"{"alg":"none"}"#, r#"{"aud":"x","exp":"soon","iss":7}"#)).unwrap();
        assert_eq!((c.alg.as_str(), c.exp, c.iss), ("none", None, None));
        assert_eq!(c.aud, ["x"]);
    }

    #[test]
    fn refuses_what_is_no_token() {
        assert_eq!(decode_claims(&token(r#"{"typ":"JWT"}"#, "{}")), None);
        assert_eq!(decode_claims(&token(r#"{"alg":"none"}"#, "[]")), None);
        assert_eq!(decode_claims(b"a.b.c"), None);
        assert_eq!(decode_claims(b""), None);
        let mut four = token(r#"{"alg":"none"}"#, "{}");
        four.extend_from_slice(b".x");
        assert_eq!(decode_claims(&four), None);
    }
}
