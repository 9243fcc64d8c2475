//! Where a URL from the wire leads, as a client would read it (WHATWG URL).

use std::{net::IpAddr, sync::Arc};

use url::Url;

use crate::mcp::context::{Origin, Scheme, Target};

/// The URL that a client requested.
pub(super) fn url_of(target: &Target) -> Option<Url> {
    Url::parse(&format!("{}{}", target.origin, target.path)).ok()
}

/// `reference` resolved against the request; `None` if it is no URL.
pub(super) fn resolve(target: &Target, reference: &[u8]) -> Option<Url> {
    let reference = std::str::from_utf8(reference).ok()?;
    url_of(target)?.join(reference).ok()
}

/// Origin of an http or https URL.
pub(super) fn origin_of(url: &Url) -> Option<Origin> {
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some(Origin {
        scheme,
        host: Arc::from(host.strip_suffix('.').unwrap_or(host)),
        port: url.port_or_known_default()?,
    })
}

/// As shown in `observed`: origin and path, never user name, query or fragment, which may hold secrets.
pub(super) fn bare(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    super::super::text::shown(url.as_str())
}

/// Both are one origin, `localhost` being the loopback address the client is connected to.
pub(super) fn same_origin(target: &Target, other: &Origin) -> bool {
    let own = &target.origin;
    let same_host = own.host == other.host
        || (target.address.ip().is_loopback()
            && is_localhost(&own.host, target)
            && is_localhost(&other.host, target));
    own.scheme == other.scheme && own.port == other.port && same_host
}

fn is_localhost(host: &str, target: &Target) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip == target.address.ip())
}

/// From cleartext to TLS on the default ports of the same host: nobody else gets anything.
pub(super) fn is_https_upgrade(target: &Target, other: &Origin) -> bool {
    let own = &target.origin;
    own.host == other.host
        && (own.scheme, own.port) == (Scheme::Http, 80)
        && (other.scheme, other.port) == (Scheme::Https, 443)
}

/// The status sends the client elsewhere.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}
