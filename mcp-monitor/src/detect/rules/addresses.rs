//! Which addresses are public.

use std::net::IpAddr;

/// What kind of not-public address it is; `None` for one that the Internet routes.
pub(super) fn local_kind(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return Some("loopback");
    }
    if ip.is_unspecified() {
        return Some("unspecified");
    }
    match ip {
        IpAddr::V4(v4) if v4.is_private() => Some("private"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        // RFC 6598: carrier-grade NAT, also used by overlay networks.
        IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64 => Some("shared"),
        IpAddr::V6(v6) if v6.is_unique_local() => Some("private"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        _ => None,
    }
}

/// A name that only means something inside one network, for which local answers are ordinary.
pub(super) fn is_internal_name(name: &str) -> bool {
    const SUFFIXES: &[&str] = &[
        "local",
        "internal",
        "test",
        "localhost",
        "localdomain",
        "home.arpa",
        "in-addr.arpa",
        "ip6.arpa",
        "svc",
        "cluster.local",
        "lan",
        "intranet",
        "corp",
        "home",
        "private",
        "invalid",
    ];
    !name.contains('.')
        || SUFFIXES.iter().any(|suffix| {
            name.strip_suffix(suffix)
                .is_some_and(|left| left.is_empty() || left.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_addresses_and_names() {
        let kind = |ip: &str| local_kind(ip.parse().unwrap());
        assert_eq!(kind("10.0.0.1"), Some("private"));
        assert_eq!(kind("169.254.169.254"), Some("link-local"));
        assert_eq!(kind("::ffff:127.0.0.1"), Some("loopback"));
        assert_eq!(kind("fd00::1"), Some("private"));
        assert_eq!(kind("203.0.113.5"), None);
        assert!(
            is_internal_name("db") && is_internal_name("a.svc.cluster.local") && is_internal_name("x.test")
        );
        assert!(!is_internal_name("mcp.example.com") && !is_internal_name("latest.example"));
    }
}
