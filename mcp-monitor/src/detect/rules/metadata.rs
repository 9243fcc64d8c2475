//! The metadata services of clouds, which hand out a machine's credentials, as addresses and as names in texts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use aho_corasick::{AhoCorasick, MatchKind};
use url::Host;

/// Where they answer, each with the name that alerts show.
const ADDRESSES: &[(IpAddr, &str)] = &[
    (v4(169, 254, 169, 254), "169.254.169.254"),
    (v4(169, 254, 170, 2), "169.254.170.2"),
    (v4(100, 100, 100, 200), "100.100.100.200"),
    (v4(192, 0, 0, 192), "192.0.0.192"),
    (
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        "fd00:ec2::254",
    ),
];
/// What is looked for in texts as it is written. 192.0.0.192 is left to URLs: as a version or a sample it is common.
const NAMES: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "100.100.100.200",
    HOST,
];
/// Name of the service where it has one.
pub(super) const HOST: &str = "metadata.google.internal";
/// URLs of one text whose host is read.
const MAX_URLS: usize = 64;
/// Longest host that is read, bytes: the forms that hide an address are short.
const MAX_HOST: usize = 64;

static FIND: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostFirst)
        .build(NAMES)
        .ok()
});

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The service at an address; an IPv4 address inside an IPv6 one is itself.
pub(super) fn at(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    ADDRESSES.iter().find(|(a, _)| *a == ip).map(|(_, name)| *name)
}

/// The service that a text names: as it is written, or as the host of a URL in any form that clients take for an
/// address (`http://2852039166/`, `http://0xa9fe.0xa9fe/`, `[::ffff:a9fe:a9fe]`: WHATWG URL, host parsing).
///
/// `text` may be JSON with escaped slashes.
pub(super) fn named(text: &[u8]) -> Option<&'static str> {
    let written = FIND.as_ref().and_then(|find| find.find(text));
    if let Some(hit) = written {
        return NAMES.get(hit.pattern().as_usize()).copied();
    }
    memchr::memchr_iter(b':', text)
        .filter_map(|colon| host(text.get(colon.saturating_add(1)..)?))
        .take(MAX_URLS)
        .find_map(|host| match Host::parse(host).ok()? {
            Host::Ipv4(ip) => at(ip.into()),
            Host::Ipv6(ip) => at(ip.into()),
            Host::Domain(_) => None,
        })
}

/// The host behind the colon of a scheme, if it may be an address.
fn host(rest: &[u8]) -> Option<&str> {
    let slashes = rest.iter().take_while(|b| matches!(b, b'/' | b'\\')).count();
    if slashes < 2 {
        return None;
    }
    let rest = rest.get(slashes..)?;
    let end = rest
        .iter()
        .take(MAX_HOST)
        .position(|b| matches!(b, b'/' | b'\\' | b'?' | b'#' | b'"' | b' '))
        .unwrap_or(rest.len().min(MAX_HOST));
    let authority = rest.get(..end)?;
    let at = memchr::memrchr(b'@', authority).map_or(0, |at| at.saturating_add(1));
    let host = authority.get(at..)?;
    let end = if host.first() == Some(&b'[') {
        memchr::memchr(b']', host)?.saturating_add(1)
    } else if host.first()?.is_ascii_digit() {
        memchr::memchr(b':', host).unwrap_or(host.len())
    } else {
        return None;
    };
    std::str::from_utf8(host.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_each_form_that_clients_take_for_an_address() {
        for text in [
            "http://169.254.169.254/latest/",
            "http://2852039166/latest/",
            "http://0xa9fea9fe",
            "http://0xA9.0xFE.0xA9.0xFE:80/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://x@2852039166:80/",
            r"http:\/\/2852039166\/latest",
            r"http:\\2852039166",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]/",
        ] {
            assert!(named(text.as_bytes()).is_some(), "{text}");
        }
        assert_eq!(named(b"http://[fd00:0ec2:0:0::254]/"), Some("fd00:ec2::254"));
        assert_eq!(named(b"http://192.0.0.192/opc/v2"), Some("192.0.0.192"));
        assert_eq!(named(b"Metadata.Google.Internal"), Some(HOST));
    }

    #[test]
    fn other_hosts_and_numbers_are_not_it() {
        for text in [
            "http://2852039167/",
            "2852039166",
            r#"{"id": 2852039166}"#,
            "https://169.254.example/",
            "http://[fd00:ec2::253]/",
            "C:\\2852039166",
            "version 192.0.0.192",
        ] {
            assert_eq!(named(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_bytes(text in prop::collection::vec(any::<u8>(), 0..200)) {
            named(&text);
        }

        #[test]
        fn finds_it_among_anything(before in "[ -~]{0,40}", after in "[/?#\" ][ -~]{0,40}") {
            let text = format!("{before} http://2852039166{after}");
            prop_assert_eq!(named(text.as_bytes()), Some("169.254.169.254"));
        }
    }
}
