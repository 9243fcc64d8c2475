//! Host patterns and the `url` of an endpoint.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

use crate::mcp::context::{Origin, Scheme};

/// Which hosts a pin means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HostPattern {
    /// This name, lower case.
    Exact(Arc<str>),
    /// `*.name`: any name below it at any depth, not itself.
    Below(Arc<str>),
    /// An address literal.
    Address(IpAddr),
}

impl HostPattern {
    /// Reads a name, `*.name` or an address. `None` if it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = rest.strip_suffix('.').unwrap_or(rest);
        match Host::parse(rest).ok()? {
            Host::Ipv4(ip) if !below && rest.parse::<IpAddr>().is_ok() => Some(Self::Address(ip.into())),
            Host::Ipv6(ip) if !below => Some(Self::Address(ip.into())),
            Host::Domain(name) if !name.is_empty() && !name.contains('*') && is_host_name(&name) => {
                let name = name.to_ascii_lowercase().into();
                Some(if below {
                    Self::Below(name)
                } else {
                    Self::Exact(name)
                })
            }
            _ => None,
        }
    }

    /// `host` (lower case, no trailing dot) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(name) => host
                .strip_suffix(&**name)
                .and_then(|left| left.strip_suffix('.'))
                .is_some_and(|left| !left.is_empty()),
            Self::Address(ip) => host.parse::<IpAddr>().is_ok_and(|h| h == *ip),
        }
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, at most 253 in all.
fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// `url` of an endpoint: what of it is pinned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointUrl {
    /// Scheme.
    pub scheme: Scheme,
    /// Host.
    pub host: HostPattern,
    /// Port, the scheme's default filled in.
    pub port: u16,
    /// Path; `None` if the URL ends with the host, and then no path is pinned.
    pub path: Option<Box<str>>,
}

impl EndpointUrl {
    /// Reads it; `Err` says what was expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "http:// or https://, a host or *.host, and if needed a port and a path";
        let (scheme, rest) = match text.split_once("://") {
            Some((s, rest)) if s.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((s, rest)) if s.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ => return Err(FORM),
        };
        let below = rest.strip_prefix("*.");
        let plain = format!("{}://{}", scheme.as_str(), below.unwrap_or(rest));
        let url = Url::parse(&plain).map_err(|_| FORM)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL without user name and password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a URL without query and fragment");
        }
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let authority = rest.get(..authority_end).unwrap_or_default();
        let host = url.host_str().ok_or(FORM)?;
        let host = match below {
            Some(_) => HostPattern::parse(&format!("*.{host}")),
            None => HostPattern::parse(host),
        };
        // `127.1` or `0x7f000001` is an address to a client and a name to a reader.
        let host = match host {
            Some(HostPattern::Address(ip)) if !authority.contains(&ip.to_string()) => None,
            other => other,
        };
        Ok(Self {
            scheme,
            host: host.ok_or("a host name, or an address in its usual form")?,
            port: url.port().unwrap_or(scheme.default_port()),
            path: (authority_end < rest.len()).then(|| url.path().into()),
        })
    }

    /// `path` is the pinned one, or none is pinned.
    pub fn allows_path(&self, path: &str) -> bool {
        self.path.as_deref().is_none_or(|pinned| same_path(pinned, path))
    }

    /// The origin it pins; `None` for a wildcard, which pins many.
    pub fn origin(&self) -> Option<Origin> {
        let host = match &self.host {
            HostPattern::Exact(name) => Arc::clone(name),
            HostPattern::Address(ip) => ip.to_string().into(),
            HostPattern::Below(_) => return None,
        };
        Some(Origin {
            scheme: self.scheme,
            host,
            port: self.port,
        })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Origin {
            scheme: self.scheme,
            host: self.host.to_string().into(),
            port: self.port,
        };
        write!(f, "{origin}{}", self.path.as_deref().unwrap_or_default())
    }
}

/// `/mcp` and `/mcp/` are one path.
pub fn same_path(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_below_at_any_depth() {
        let p = HostPattern::parse("*.Example.com").unwrap();
        assert!(p.matches("a.example.com") && p.matches("a.b.example.com"));
        assert!(!p.matches("example.com") && !p.matches("badexample.com") && !p.matches(".example.com"));
    }

    #[test]
    fn urls_are_read_and_bad_ones_refused() {
        let u = EndpointUrl::parse("https://MCP.Example/mcp/").unwrap();
        assert_eq!(u.to_string(), "https://mcp.example/mcp/");
        assert!(u.allows_path("/mcp") && !u.allows_path("/other"));
        assert_eq!(
            EndpointUrl::parse("http://[::1]:3000").unwrap().to_string(),
            "http://[::1]:3000"
        );
        assert!(EndpointUrl::parse("http://h").unwrap().allows_path("/any"));
        assert_eq!(
            EndpointUrl::parse("https://*.a.example:8443/x").unwrap().port,
            8443
        );
        for bad in [
            "ftp://h/",
            "mcp.example",
            "https://",
            "https://u:p@h/",
            "https://h/?q=1",
            "http://127.1/",
            "http://2130706433/",
            "https://*.10.0.0.1/",
            "https://a.*.example/",
            "https://h:99999/",
        ] {
            assert!(EndpointUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
