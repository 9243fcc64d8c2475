//! Credentials of a request: in headers, in the URL, in JSON.

use super::super::{
    World,
    credentials::{self, Hit},
};
use crate::proto::http::RequestHead;

/// A credential header of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'a> {
    /// Lower-case name of the header.
    pub header: &'static str,
    /// Scheme of `Authorization`, e.g. `Bearer`.
    pub scheme: Option<&'a str>,
    /// The credential itself. Never shown.
    pub secret: &'a [u8],
}

/// Headers that carry a credential.
const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-goog-api-key",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "private-token",
    "x-gitlab-token",
    "x-vault-token",
    "x-amz-security-token",
    "cookie",
];

/// Authentication schemes, which alone are no credential.
const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "token", "dpop"];

/// Every credential that the headers of a request carry.
pub(super) fn presented(head: &RequestHead) -> impl Iterator<Item = Presented<'_>> {
    head.headers.iter().filter_map(|(name, value)| {
        let header = HEADERS.iter().find(|h| name.eq_ignore_ascii_case(h.as_bytes()))?;
        if value.is_empty() {
            return None;
        }
        let mut presented = Presented {
            header,
            scheme: None,
            secret: value,
        };
        if header.ends_with("authorization")
            && let Some(space) = memchr::memchr(b' ', value)
        {
            let (scheme, rest) = value.split_at(space);
            presented.scheme = std::str::from_utf8(scheme).ok();
            presented.secret = rest.trim_ascii();
        }
        let bare_scheme = header.ends_with("authorization")
            && presented.scheme.is_none()
            && SCHEMES.iter().any(|s| value.eq_ignore_ascii_case(s.as_bytes()));
        (!presented.secret.is_empty() && !bare_scheme).then_some(presented)
    })
}

impl Presented<'_> {
    /// Kind, place and length.
    pub(super) fn describe(&self) -> String {
        let kind = match (self.header, self.scheme) {
            ("cookie", _) => "cookie".to_owned(),
            (_, Some(scheme)) => format!("{} credential", super::super::text::shown(scheme)),
            _ => "API key".to_owned(),
        };
        format!("{kind} in {} header, {} bytes", self.header, self.secret.len())
    }

    /// As [`Presented::describe`], with the fingerprint.
    pub(super) fn describe_with(&self, world: &World<'_>) -> String {
        format!(
            "{}, fingerprint {}",
            self.describe(),
            world.fingerprints.fingerprint(self.secret)
        )
    }
}

/// What is found in a text, described with its fingerprint; each secret once, at most 8.
pub(super) fn found_in(text: &[u8], world: &World<'_>) -> Vec<String> {
    let mut hits: Vec<Hit> = Vec::new();
    credentials::scan(text, &mut hits);
    let mut found: Vec<String> = Vec::new();
    for hit in hits {
        let Some(secret) = hit
            .start
            .checked_add(hit.len)
            .and_then(|end| text.get(hit.start..end))
        else {
            continue;
        };
        let one = format!(
            "{}, {} bytes, fingerprint {}",
            hit.kind,
            hit.len,
            world.fingerprints.fingerprint(secret)
        );
        if !found.contains(&one) {
            found.push(one);
        }
        if found.len() >= 8 {
            break;
        }
    }
    found
}
