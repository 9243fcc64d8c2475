//! Who operates a host, as far as its name says: registrable domains of the Public Suffix List.

/// `mcp.example.co.uk` → `example.co.uk`; the host itself where it is an address or has one label.
pub(super) fn site(host: &str) -> &str {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    psl::domain_str(host).unwrap_or(host)
}

/// Both hosts belong to one registrable domain, or both are this machine.
pub(super) fn same_site(a: &str, b: &str) -> bool {
    site(a) == site(b) || (is_loopback(a) && is_loopback(b))
}

/// `localhost` or a loopback address.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// `host` is `name` or below it.
pub(super) fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name)
        .is_some_and(|left| left.is_empty() || left.ends_with('.'))
}

/// What stands before the registrable domain, without its dot.
pub(super) fn below<'a>(name: &'a str, site: &str) -> &'a str {
    name.strip_suffix(site)
        .map_or("", |rest| rest.strip_suffix('.').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites() {
        assert!(same_site("login.example.co.uk", "api.example.co.uk"));
        assert!(!same_site("a.co.uk", "b.co.uk"));
        assert!(!same_site("a.github.io", "b.github.io"));
        assert!(same_site("login.example", "login.example") && !same_site("a.example", "b.example"));
        assert!(same_site("localhost", "127.0.0.1") && !same_site("203.0.113.5", "203.0.113.6"));
        assert_eq!(
            (site("x.shop.co.uk"), site("localhost"), site("")),
            ("shop.co.uk", "localhost", "")
        );
        assert_eq!(
            (
                below("a.b.example.com", "example.com"),
                below("example.com", "example.com")
            ),
            ("a.b", "")
        );
        assert!(is_below("a.b.example", "b.example") && !is_below("ab.example", "b.example"));
    }
}
