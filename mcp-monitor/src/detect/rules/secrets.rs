//! Credentials of a request: in headers, in JSON.

use super::super::{
    World,
    credentials::{Hit, header_credential, scan_deep},
};
use crate::proto::http::RequestHead;

/// A credential header of a request.
#[derive(Clone, Debug)]
pub(super) struct Presented<'a> {
    /// Lower-case name of the header.
    pub header: String,
    /// How it is presented: `bearer`, `basic`, `api-key`, `cookie` and so on.
    pub kind: String,
    /// Format of the secret, if it is a known one.
    pub format: Option<&'static str>,
    /// Who has it can use it; false for proofs of possession such as Digest.
    pub reusable: bool,
    /// The credential itself. Never shown.
    pub secret: &'a [u8],
}

/// Authentication schemes, which alone are no credential.
const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "token", "dpop"];

/// Every credential that the headers of a request carry.
pub(super) fn presented(head: &RequestHead) -> impl Iterator<Item = Presented<'_>> {
    head.headers.iter().filter_map(|(name, value)| {
        let credential = header_credential(name, value)?;
        let secret = value.get(credential.secret)?;
        if SCHEMES.iter().any(|s| secret.eq_ignore_ascii_case(s.as_bytes())) {
            return None;
        }
        Some(Presented {
            header: String::from_utf8_lossy(name).to_ascii_lowercase(),
            kind: credential.kind,
            format: credential.format,
            reusable: credential.reusable,
            secret,
        })
    })
}

impl Presented<'_> {
    /// Kind, place and length.
    pub(super) fn describe(&self) -> String {
        let format = self.format.map_or_else(String::new, |f| format!(" ({f})"));
        format!(
            "{} credential{format} in {} header, {} bytes",
            self.kind,
            self.header,
            self.secret.len()
        )
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
    scan_deep(text, &mut hits);
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
