//! Credentials in request targets and URLs.

use std::ops::Range;

use super::{Hit, assignment, placeholder, scan_deep};

/// A credential in a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlCredential {
    /// Its format; `url-parameter` for one known by the parameter's name alone.
    pub kind: &'static str,
    /// Name of the query parameter, as sent, where it is in one.
    pub parameter: Option<Range<usize>>,
    /// Where the secret lies.
    pub secret: Range<usize>,
}

/// Parameters that carry secrets.
const SECRET: [&str; 24] = [
    "token",
    "access_token",
    "accesstoken",
    "access-token",
    "auth_token",
    "authtoken",
    "refresh_token",
    "id_token",
    "api_key",
    "apikey",
    "api-key",
    "api_token",
    "apitoken",
    "password",
    "passwd",
    "pwd",
    "pass",
    "secret",
    "client_secret",
    "auth",
    "authorization",
    "bearer",
    "jwt",
    "private_token",
];

/// `key` is as often a name as a secret.
const AMBIGUOUS: [&str; 3] = ["key", "k", "t"];

/// The session of HTTP+SSE, and what signed URLs consist of: they are made to be in URLs.
const SILENT: [&str; 17] = [
    "sessionid",
    "session_id",
    "session",
    "sig",
    "signature",
    "se",
    "sp",
    "sv",
    "sr",
    "st",
    "skoid",
    "key-pair-id",
    "policy",
    "expires",
    "googleaccessid",
    "awsaccesskeyid",
    "state",
];
const SILENT_PREFIXES: [&str; 2] = ["x-amz-", "x-goog-"];

/// Shortest value that is taken for a secret because of its parameter's name.
const SHORTEST: usize = 6;

/// The credentials in a request target or URL: in user information, path and query; in order.
pub fn url_credentials(target: &[u8]) -> Vec<UrlCredential> {
    let query = memchr::memchr(b'?', target).map_or(target.len(), |at| at.saturating_add(1));
    let mut found = Vec::new();
    let mut silent: Vec<Range<usize>> = Vec::new();
    let mut at = query;
    while at < target.len() {
        let rest = target.get(at..).unwrap_or_default();
        let len = memchr::memchr3(b'&', b';', b'#', rest).unwrap_or(rest.len());
        parameter(target, at..at.saturating_add(len), &mut found, &mut silent);
        at = at.saturating_add(len).saturating_add(1);
    }
    let mut hits: Vec<Hit> = Vec::new();
    scan_deep(target, &mut hits);
    let inside = |outer: &Range<usize>, hit: &Hit| outer.start < hit.range().end && hit.start < outer.end;
    let mut next_silent = silent.iter().peekable();
    for hit in hits {
        while next_silent.next_if(|s| s.end <= hit.start).is_some() {}
        if next_silent.peek().is_some_and(|s| inside(s, &hit)) {
            continue;
        }
        match found.binary_search_by(|f: &UrlCredential| order(&f.secret, &hit.range())) {
            // The format tells more than the name of the parameter.
            Ok(same) => {
                if let Some(same) = found.get_mut(same) {
                    same.kind = hit.kind;
                }
            }
            Err(place) => found.insert(
                place,
                UrlCredential {
                    kind: hit.kind,
                    parameter: None,
                    secret: hit.range(),
                },
            ),
        }
    }
    found
}

/// Before, after, or overlapping.
fn order(a: &Range<usize>, b: &Range<usize>) -> std::cmp::Ordering {
    match (a.end <= b.start, b.end <= a.start) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ => std::cmp::Ordering::Equal,
    }
}

fn parameter(
    target: &[u8],
    range: Range<usize>,
    found: &mut Vec<UrlCredential>,
    silent: &mut Vec<Range<usize>>,
) {
    let Some(pair) = target.get(range.clone()) else {
        return;
    };
    let Some(equals) = memchr::memchr(b'=', pair) else {
        return;
    };
    let name = String::from_utf8_lossy(pair.get(..equals).unwrap_or_default()).to_ascii_lowercase();
    let from = range.start.saturating_add(equals).saturating_add(1);
    let value = target.get(from..range.end).unwrap_or_default();
    if SILENT.contains(&name.as_str()) || SILENT_PREFIXES.iter().any(|p| name.starts_with(p)) {
        silent.push(range);
        return;
    }
    let secret = match name.as_str() {
        n if SECRET.contains(&n) => true,
        n if AMBIGUOUS.contains(&n) => value.len() >= 16 && assignment::is_random(value),
        _ => false,
    };
    if secret && value.len() >= SHORTEST && !placeholder::is_placeholder(value) {
        found.push(UrlCredential {
            kind: "url-parameter",
            parameter: Some(range.start..range.start.saturating_add(equals)),
            secret: from..range.end,
        });
    }
}

#[cfg(test)]
#[allow(clippy::string_slice, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn of(target: &str) -> Vec<(&'static str, String)> {
        let found = url_credentials(target.as_bytes());
        found
            .iter()
            .map(|f| (f.kind, target[f.secret.clone()].to_owned()))
            .collect()
    }

    #[test]
    fn parameters() {
        assert_eq!(
            of("/mcp?a=b&token=s3cr3tvalue"),
            [("url-parameter", "s3cr3tvalue".to_owned())]
        );
        assert_eq!(
            of("/mcp?API_KEY=s3cr3tvalue&x"),
            [("url-parameter", "s3cr3tvalue".to_owned())]
        );
        assert_eq!(
            of("/mcp?key=q7Zt9LmPw2Xc4VbN8sRd"),
            [("url-parameter", "q7Zt9LmPw2Xc4VbN8sRd".to_owned())]
        );
        assert_eq!(of("/mcp?key=name"), []);
    }

    #[test]
    fn formats_anywhere() {
        let token = super::super::example("github-pat").unwrap();
        assert_eq!(of(&format!("/x/{token}/mcp")), [("github-pat", token.clone())]);
        assert_eq!(
            of(&format!("/mcp?token={token}&q=1")),
            [("github-pat", token.clone())]
        );
        assert_eq!(
            of("https://agent:q7Zt9LmPw2Xc@h.test/mcp"),
            [("url-password", "q7Zt9LmPw2Xc".to_owned())]
        );
    }

    #[test]
    fn silent_ones() {
        let key = super::super::example("aws-access-key-id").unwrap();
        for target in [
            "/message?sessionId=q7Zt9LmPw2Xc4VbN8sRd".to_owned(),
            format!(
                "/o?X-Amz-Credential={key}%2F20260101&X-Amz-Signature=0f3a&X-Amz-Security-Token=IQoJb3JpZ2luX2VjE"
            ),
            "/c/b?sv=2024-01-01&se=2027&sp=r&sig=q7Zt9LmPw2Xc4VbN8sRd%3D".to_owned(),
            "/mcp?token=<TOKEN>&password=${PASSWORD}".to_owned(),
            "/mcp".to_owned(),
            "/mcp?".to_owned(),
        ] {
            assert_eq!(of(&target), [], "{target}");
        }
    }
}
