//! From an HTTP request to whom it addresses.

use std::{net::SocketAddr, sync::Arc};

use super::context::{Connection, EndpointIndex, Origin, Scheme, Target};
use crate::proto::http::RequestHead;

/// How the layers below look endpoints up, without knowing the pins file.
pub trait EndpointMatch: Send + Sync {
    /// By host, preferring the entry whose port and path fit.
    ///
    /// `client` is the Kubernetes namespace of the client, where it is known: an entry that is approved for it
    /// goes before one that is not.
    fn by_target(&self, host: &str, port: u16, path: &str, client: Option<&str>) -> Option<EndpointIndex>;
    /// By host alone.
    fn by_host(&self, host: &str, client: Option<&str>) -> Option<EndpointIndex>;
    /// By address, for peers whose name is unknown or an address literal.
    fn by_address(&self, address: std::net::IpAddr) -> Option<EndpointIndex>;
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; the host in lower case, without brackets or trailing dot.
/// User information before `@` is left out.
pub fn split_authority(authority: &str) -> (String, Option<u16>) {
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        (host, after.strip_prefix(':'))
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (authority, None),
        }
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (host, port.and_then(|p| p.parse().ok()))
}

/// Whom `head`, sent to `server` over `scheme`, addresses. Without `Host` the connection's name
/// stands in, then the address itself.
pub fn target(
    head: &RequestHead,
    server: SocketAddr,
    scheme: Scheme,
    connection: &Connection,
    endpoints: &dyn EndpointMatch,
) -> Target {
    let scheme = match head.scheme.as_deref() {
        Some(s) if s.eq_ignore_ascii_case(b"http") => Scheme::Http,
        Some(s) if s.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => scheme,
    };
    let named = head
        .authority
        .as_deref()
        .and_then(|a| std::str::from_utf8(a).ok())
        .filter(|a| !a.is_empty());
    let (host, port) = match named {
        Some(authority) => {
            let (host, port) = split_authority(authority);
            (host, port.unwrap_or(scheme.default_port()))
        }
        None => match connection.sni.as_deref().or(connection.resolved_as.as_deref()) {
            Some(name) => (name.to_owned(), server.port()),
            None => (server.ip().to_string(), server.port()),
        },
    };
    let path = String::from_utf8_lossy(head.path()).into_owned();
    let literal = host.parse::<std::net::IpAddr>().ok();
    let client = connection.namespace();
    let client = client.as_deref();
    let endpoint = endpoints
        .by_target(&host, port, &path, client)
        .or_else(|| {
            literal.and_then(|_| {
                connection
                    .resolved_as
                    .as_deref()
                    .and_then(|n| endpoints.by_host(n, client))
            })
        })
        .or_else(|| literal.and_then(|address| endpoints.by_address(address)));
    Target {
        origin: Origin {
            scheme,
            host: Arc::from(host),
            port,
        },
        path: path.into(),
        endpoint,
        address: server,
        moved_from: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let cases = [
            ("Example.com", ("example.com", None)),
            ("example.com.:8080", ("example.com", Some(8080))),
            ("[::1]:3000", ("::1", Some(3000))),
            ("[fd00::2]", ("fd00::2", None)),
            ("::1", ("::1", None)),
            ("user:pw@host:1", ("host", Some(1))),
            ("host:notaport", ("host", None)),
        ];
        for (text, (host, port)) in cases {
            assert_eq!(split_authority(text), (host.to_owned(), port), "{text}");
        }
    }
}
