//! One thing that can be learned, and whom it is about.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::mcp::{
    context::{Origin, Scheme, Target},
    target::split_authority,
};

/// Longest text kept in a subject or a fact, in bytes; longer ones are cut at a character.
pub const MAX_TEXT: usize = 512;

/// Whom a fact is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// A DNS name, lower case.
    Name(Arc<str>),
    /// A server as TLS and TCP know it: name (or address) and port.
    Server(Arc<str>, u16),
    /// Where MCP is spoken: origin and path.
    Url(Origin, Arc<str>),
}

impl Subject {
    /// A DNS name.
    pub fn name(name: &str) -> Self {
        Self::Name(cut(&name.to_ascii_lowercase()))
    }

    /// A server by its name; by its address where none is known.
    pub fn server(name: Option<&str>, address: SocketAddr) -> Self {
        let host = match name {
            Some(name) => cut(name),
            None => address.ip().to_string().into(),
        };
        Self::Server(host, address.port())
    }

    /// Where a request went.
    pub fn url(target: &Target) -> Self {
        let mut origin = target.origin.clone();
        if origin.host.len() > MAX_TEXT {
            origin.host = cut(&origin.host);
        }
        Self::Url(origin, cut(&target.path))
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Server(host, _) => host,
            Self::Url(origin, _) => &origin.host,
        }
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let scheme = match scheme {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return None,
            };
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end)?;
            let (host, port) = split_authority(authority);
            let origin = Origin {
                scheme,
                host: host.into(),
                port: port.unwrap_or(scheme.default_port()),
            };
            return Some(Self::Url(origin, path.into()));
        }
        match split_authority(text) {
            (host, Some(port)) => Some(Self::Server(host.into(), port)),
            (host, None) => Some(Self::Name(host.into())),
        }
    }
}

/// `mcp.example`, `mcp.example:443`, `https://mcp.example/mcp`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Server(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Server(host, port) => write!(f, "{host}:{port}"),
            Self::Url(origin, path) => write!(f, "{origin}{path}"),
        }
    }
}

/// What is learned. Each variant is one `kind` of observation, its fields the `value`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
pub enum Fact {
    /// A name was answered with this address.
    DnsAnswer {
        /// A or AAAA.
        address: IpAddr,
    },
    /// The chain of a name passes through this one.
    DnsCname {
        /// CNAME target.
        target: Arc<str>,
    },
    /// This resolver answered for a name.
    DnsResolver {
        /// Its address.
        resolver: IpAddr,
    },
    /// Time to live of a name's addresses; lowest and highest are on the entry.
    DnsTtl {},
    /// A connection went here.
    Address {
        /// Of the server.
        address: IpAddr,
    },
    /// What a server negotiated.
    Tls {
        /// As on the wire: 0x0304 is 1.3.
        version: u16,
        /// Cipher suite.
        cipher: u16,
        /// Group of `key_share`.
        group: Option<u16>,
        /// ALPN, where it is readable.
        alpn: Option<Arc<str>>,
        /// Extension types in the order sent, joined with `-`.
        extensions: Arc<str>,
    },
    /// How a client says hello to this server.
    ClientTls {
        /// JA4.
        ja4: Arc<str>,
        /// Its executable, where known.
        exe: Option<Arc<str>>,
    },
    /// The leaf certificate that a server showed in the clear (TLS 1.2 and below).
    Certificate {
        /// SHA-256 of the certificate, lower-case hex.
        sha256: Arc<str>,
        /// SHA-256 of each SubjectPublicKeyInfo of the chain, leaf first, base64 (RFC 7469); empty if
        /// they could not be read.
        spki_sha256: Vec<Arc<str>>,
        /// Issuer of the leaf (RFC 4514); empty if it could not be read.
        issuer: Arc<str>,
    },
    /// MCP is spoken here.
    Endpoint {
        /// Transport, once known.
        transport: Option<Arc<str>>,
    },
    /// A protocol revision that was agreed on.
    Protocol {
        /// `YYYY-MM-DD`.
        version: Arc<str>,
    },
    /// What the server calls itself.
    Server {
        /// `serverInfo.name`.
        name: Arc<str>,
        /// `serverInfo.version`.
        version: Arc<str>,
    },
    /// What the server says it can do.
    Capability {
        /// Key of `capabilities`.
        name: Arc<str>,
    },
    /// How requests that were answered had authenticated.
    Authentication {
        /// `none`, or the scheme or kind of field in lower case.
        scheme: Arc<str>,
        /// `aud` or `resource` of a JSON Web Token.
        audience: Option<Arc<str>>,
        /// `iss` of a JSON Web Token.
        issuer: Option<Arc<str>>,
    },
    /// An authorization server that the protected resource metadata names (RFC 9728).
    AuthorizationServer {
        /// Its issuer URL.
        url: Arc<str>,
    },
    /// The `resource` that the protected resource metadata names (RFC 9728).
    Resource {
        /// The URL.
        url: Arc<str>,
    },
    /// A tool of a complete listing.
    Tool {
        /// Its name.
        name: Arc<str>,
        /// `sha256:` and hex, as pins have it.
        hash: Arc<str>,
    },
    /// Whom arguments of a tool name: the host of a URL or of a mail address.
    Contact {
        /// The tool.
        tool: Arc<str>,
        /// The host.
        host: Arc<str>,
    },
}

/// Kinds that are learned over one period.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Group {
    /// Answers, aliases, resolvers, times to live.
    Dns,
    /// Addresses that connections went to.
    Network,
    /// Versions, ciphers, certificates, fingerprints.
    Tls,
    /// Paths, transports, revisions, identity, capabilities.
    Mcp,
    /// Tools and whom their arguments name.
    Tools,
    /// Credentials and who issues them.
    Auth,
}

impl Fact {
    /// Which period it is learned over.
    pub fn group(&self) -> Group {
        match self {
            Self::DnsAnswer { .. } | Self::DnsCname { .. } | Self::DnsResolver { .. } | Self::DnsTtl {} => {
                Group::Dns
            }
            Self::Address { .. } => Group::Network,
            Self::Tls { .. } | Self::ClientTls { .. } | Self::Certificate { .. } => Group::Tls,
            Self::Endpoint { .. } | Self::Protocol { .. } | Self::Server { .. } | Self::Capability { .. } => {
                Group::Mcp
            }
            Self::Tool { .. } | Self::Contact { .. } => Group::Tools,
            Self::Authentication { .. } | Self::AuthorizationServer { .. } | Self::Resource { .. } => {
                Group::Auth
            }
        }
    }

    /// Kind and value as records and the state file have them.
    pub fn parts(&self) -> (String, serde_json::Value) {
        let mut whole = serde_json::to_value(self).unwrap_or_default();
        let kind = whole.get("kind").and_then(|k| k.as_str()).unwrap_or_default();
        let kind = kind.to_owned();
        let value = whole.get_mut("value").map(serde_json::Value::take);
        (kind, value.unwrap_or_default())
    }

    /// From what [`Fact::parts`] gave; `None` if it is of another version of this program.
    pub fn from_parts(kind: &str, value: serde_json::Value) -> Option<Self> {
        serde_json::from_value(serde_json::json!({"kind": kind, "value": value})).ok()
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
pub fn cut(text: &str) -> Arc<str> {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_read_back() {
        for text in [
            "mcp.example",
            "mcp.example:443",
            "[::1]:3000",
            "https://mcp.example/mcp",
            "http://[::1]:3000/a/b",
            "http://10.0.0.1:8080",
        ] {
            assert_eq!(Subject::parse(text).map(|s| s.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Subject::parse("ftp://x/"), None);
    }

    #[test]
    fn facts_are_read_back() {
        let fact = Fact::Tls {
            version: 0x0304,
            cipher: 0x1301,
            group: Some(29),
            alpn: None,
            extensions: "43-51".into(),
        };
        let (kind, value) = fact.parts();
        assert_eq!((kind.as_str(), &value["cipher"]), ("tls", &0x1301.into()));
        assert_eq!(Fact::from_parts(&kind, value), Some(fact));
        let (kind, value) = Fact::DnsTtl {}.parts();
        assert_eq!(Fact::from_parts(&kind, value), Some(Fact::DnsTtl {}));
        assert_eq!(Fact::from_parts("of-tomorrow", serde_json::json!({})), None);
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,60}") {
            if let Some(subject) = Subject::parse(&text) {
                let _ = subject.to_string();
            }
            prop_assert!(cut(&text.repeat(40)).len() <= MAX_TEXT);
        }
    }
}
