//! Facts held against pins: which key a fact concerns, and whether it is what the key says.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    canonical::hex,
    fact::{Fact, Subject},
};
use crate::{
    config::pins::{Endpoint, Pins, VersionPin, rdns},
    mcp::{Revision, context::EndpointIndex},
};

/// How a fact stands to a pin. Ordered: the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Exactly what is pinned.
    Same,
    /// Something else that the pin allows: another address of a prefix, the backup key, a newer version.
    Rotated,
    /// Nothing is pinned here.
    Unpinned,
    /// Not what is pinned.
    Drifted,
}

impl Verdict {
    /// In lower case, as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Rotated => "rotated",
            Self::Unpinned => "unpinned",
            Self::Drifted => "drifted",
        }
    }
}

/// One fact held against one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// Of which endpoint; `None` for keys of the file, such as `resolvers`.
    pub endpoint: Option<EndpointIndex>,
    /// Path of the key, such as `tls.min_version`.
    pub key: &'static str,
    /// The outcome.
    pub verdict: Verdict,
    /// What was seen, as the pin would be written.
    pub observed: String,
}

/// Endpoints that a subject belongs to.
pub fn endpoints_of(pins: &Pins, subject: &Subject) -> Vec<EndpointIndex> {
    match subject {
        Subject::Name(name) => pins.endpoints_of_host(name).to_vec(),
        Subject::Server(host, port) => {
            let on_port = |i: &&EndpointIndex| pins.endpoint(Some(**i)).is_some_and(|e| e.url.port == *port);
            pins.endpoints_of_host(host)
                .iter()
                .filter(on_port)
                .copied()
                .collect()
        }
        Subject::Url(origin, path) => {
            let by_address = || pins.match_socket(origin.host.parse().ok()?, origin.port);
            pins.match_target(&origin.host, origin.port, path)
                .or_else(by_address)
                .into_iter()
                .collect()
        }
    }
}

/// Holds a fact against every key it concerns. Empty if no endpoint has its subject.
pub fn hold(pins: &Pins, subject: &Subject, fact: &Fact) -> Vec<Held> {
    let mut held = Vec::new();
    let endpoints = endpoints_of(pins, subject);
    if let (Fact::DnsResolver { resolver }, false) = (fact, endpoints.is_empty()) {
        held.push(Held {
            endpoint: None,
            key: "resolvers",
            verdict: in_list(
                pins.resolvers.is_empty(),
                pins.resolvers.iter().any(|net| net.contains(resolver)),
            ),
            observed: resolver.to_string(),
        });
        return held;
    }
    for index in endpoints {
        let Some(endpoint) = pins.endpoint(Some(index)) else {
            continue;
        };
        on_endpoint(endpoint, subject, fact, &mut |key, verdict, observed| {
            held.push(Held {
                endpoint: Some(index),
                key,
                verdict,
                observed,
            });
        });
    }
    held
}

fn in_list(unpinned: bool, found: bool) -> Verdict {
    match (unpinned, found) {
        (true, _) => Verdict::Unpinned,
        (false, true) => Verdict::Same,
        (false, false) => Verdict::Drifted,
    }
}

fn on_endpoint(
    endpoint: &Endpoint,
    subject: &Subject,
    fact: &Fact,
    say: &mut dyn FnMut(&'static str, Verdict, String),
) {
    match fact {
        Fact::DnsAnswer { address } | Fact::Address { address } => {
            let nets = &endpoint.addresses;
            let found = nets.iter().find(|net| net.contains(address));
            let verdict = match found {
                Some(net) if net.prefix_len() < net.max_prefix_len() => Verdict::Rotated,
                other => in_list(nets.is_empty(), other.is_some()),
            };
            say("addresses", verdict, address.to_string());
        }
        Fact::DnsCname { target } => {
            let own = endpoint.url.host.matches(target);
            let found = own || endpoint.cnames.iter().any(|p| p.matches(target));
            say(
                "cnames",
                in_list(endpoint.cnames.is_empty(), found),
                target.to_string(),
            );
        }
        Fact::Tls { version, .. } => {
            let verdict = match endpoint.tls.min_version {
                None => Verdict::Unpinned,
                Some(min) if *version == min => Verdict::Same,
                Some(min) if *version > min => Verdict::Rotated,
                Some(_) => Verdict::Drifted,
            };
            say("tls.min_version", verdict, tls_version(*version));
        }
        Fact::Certificate {
            spki_sha256, issuer, ..
        } => certificate(endpoint, spki_sha256, issuer, say),
        Fact::Endpoint { transport } => {
            if let Subject::Url(origin, path) = subject {
                let url = &endpoint.url;
                let same = url.scheme == origin.scheme && url.port == origin.port && url.allows_path(path);
                say("url", in_list(false, same), subject.to_string());
            }
            if let Some(transport) = transport {
                let pinned = endpoint.mcp.transport;
                let same = pinned.is_some_and(|p| p.slug() == &**transport);
                say(
                    "mcp.transport",
                    in_list(pinned.is_none(), same),
                    transport.to_string(),
                );
            }
        }
        Fact::Protocol { version } => {
            let verdict = match (&endpoint.mcp.min_protocol_version, Revision::parse(version)) {
                (None, _) => Verdict::Unpinned,
                (Some(min), _) if min.as_str() == &**version => Verdict::Same,
                (Some(min), Some(now)) if now.at_least(min.as_str()) => Verdict::Rotated,
                _ => Verdict::Drifted,
            };
            say("mcp.min_protocol_version", verdict, version.to_string());
        }
        Fact::Server { name, version } => {
            let pin = endpoint.mcp.server.as_ref();
            let pinned = pin.and_then(|p| p.name.as_ref());
            let same = pinned.is_some_and(|p| **p == **name);
            say(
                "mcp.server.name",
                in_list(pinned.is_none(), same),
                name.to_string(),
            );
            let verdict = match pin.and_then(|p| p.version.as_ref()) {
                None => Verdict::Unpinned,
                Some(pinned) if !pinned.allows(version) => Verdict::Drifted,
                Some(VersionPin::Exact(_)) => Verdict::Same,
                Some(VersionPin::Range(_)) => Verdict::Rotated,
            };
            say("mcp.server.version", verdict, version.to_string());
        }
        Fact::Tool { name, hash } => {
            let pinned = endpoint.mcp.tools.as_ref();
            let found = pinned
                .and_then(|tools| tools.get(&**name))
                .is_some_and(|pin| hex(pin) == **hash);
            say(
                "mcp.tools",
                in_list(pinned.is_none(), found),
                format!("{name} {hash}"),
            );
        }
        Fact::Authentication {
            scheme,
            audience,
            issuer,
        } => {
            let required = endpoint.auth.required;
            let absent = &**scheme == "none";
            let verdict = match required {
                Some(true) => in_list(false, !absent),
                Some(false) if absent => Verdict::Same,
                Some(false) => Verdict::Rotated,
                None => Verdict::Unpinned,
            };
            say("auth.required", verdict, (!absent).to_string());
            if let Some(audience) = audience {
                let pinned = endpoint.auth.audience.as_deref();
                let same = pinned.is_some_and(|p| audience.split(' ').any(|a| same_url(a, p)));
                say(
                    "auth.audience",
                    in_list(pinned.is_none(), same),
                    audience.to_string(),
                );
            }
            if let Some(issuer) = issuer {
                authorization_server(endpoint, issuer, say);
            }
        }
        Fact::AuthorizationServer { url } => authorization_server(endpoint, url, say),
        Fact::Resource { url } => {
            let pinned = endpoint.auth.audience.as_deref();
            let same = pinned.is_some_and(|p| same_url(url, p));
            say("auth.audience", in_list(pinned.is_none(), same), url.to_string());
        }
        Fact::DnsResolver { .. }
        | Fact::DnsTtl {}
        | Fact::ClientTls { .. }
        | Fact::Capability { .. }
        | Fact::Contact { .. } => {}
    }
}

fn certificate(
    endpoint: &Endpoint,
    chain: &[std::sync::Arc<str>],
    issuer: &str,
    say: &mut dyn FnMut(&'static str, Verdict, String),
) {
    if let Some(leaf) = chain.first() {
        let pins = &endpoint.tls.spki_sha256;
        let matched = pins
            .iter()
            .position(|pin| chain.iter().any(|hash| **hash == STANDARD.encode(pin)));
        let verdict = match matched {
            Some(at) if at > 0 => Verdict::Rotated,
            other => in_list(pins.is_empty(), other.is_some()),
        };
        say("tls.spki_sha256", verdict, leaf.to_string());
    }
    if !issuer.is_empty() {
        let pins = &endpoint.tls.issuers;
        let same = pins.iter().any(|pin| names_issuer(pin, issuer));
        say("tls.issuers", in_list(pins.is_empty(), same), issuer.to_owned());
    }
}

fn authorization_server(endpoint: &Endpoint, url: &str, say: &mut dyn FnMut(&'static str, Verdict, String)) {
    let pins = &endpoint.auth.authorization_servers;
    let same = pins.iter().any(|pin| same_url(pin, url));
    say(
        "auth.authorization_servers",
        in_list(pins.is_empty(), same),
        url.to_owned(),
    );
}

/// Equal but for a slash at the end.
pub fn same_url(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// Every RDN of the pin is in the issuer (RFC 4514). Case and the space around `=` make no difference
/// (RFC 5280 section 7.1).
pub fn names_issuer(pin: &str, issuer: &str) -> bool {
    let normal = |rdn: &str| {
        let (kind, value) = rdn.split_once('=').unwrap_or((rdn, ""));
        format!("{}={}", kind.trim(), value.trim()).to_lowercase()
    };
    let found: Vec<String> = rdns(issuer).into_iter().map(normal).collect();
    rdns(pin).into_iter().all(|rdn| found.contains(&normal(rdn)))
}

/// `1.3` for 0x0304; hex for what has no such name.
pub fn tls_version(version: u16) -> String {
    match version {
        0x0301 => "1.0".to_owned(),
        0x0302 => "1.1".to_owned(),
        0x0303 => "1.2".to_owned(),
        0x0304 => "1.3".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = include_str!("../config/pins/testdata/whole.yaml");

    fn verdicts(subject: &str, fact: &Fact) -> Vec<(&'static str, Verdict)> {
        let pins = Pins::parse(PINS, "p").unwrap();
        hold(&pins, &Subject::parse(subject).unwrap(), fact)
            .into_iter()
            .map(|held| (held.key, held.verdict))
            .collect()
    }

    const NAME: &str = "mcp.marketdata.example";
    const URL: &str = "https://mcp.marketdata.example/mcp";

    fn answer(address: &str) -> Fact {
        Fact::DnsAnswer {
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn addresses_names_and_resolvers() {
        use Verdict::{Drifted, Rotated, Same};
        assert_eq!(verdicts(NAME, &answer("203.0.113.7")), [("addresses", Rotated)]);
        assert_eq!(verdicts(NAME, &answer("198.51.100.7")), [("addresses", Drifted)]);
        assert_eq!(verdicts("other.example", &answer("198.51.100.7")), []);
        let cname = |t: &str| Fact::DnsCname { target: t.into() };
        assert_eq!(
            verdicts(NAME, &cname("edge.marketdata.example")),
            [("cnames", Same)]
        );
        assert_eq!(verdicts(NAME, &cname("evil.example")), [("cnames", Drifted)]);
        let resolver = Fact::DnsResolver {
            resolver: "8.8.8.8".parse().unwrap(),
        };
        assert_eq!(verdicts(NAME, &resolver), [("resolvers", Drifted)]);
    }

    #[test]
    fn what_the_server_says() {
        use Verdict::{Drifted, Rotated, Same};
        let protocol = |v: &str| Fact::Protocol { version: v.into() };
        for (version, verdict) in [
            ("2025-11-25", Same),
            ("2026-07-28", Rotated),
            ("2025-06-18", Drifted),
        ] {
            assert_eq!(
                verdicts(URL, &protocol(version)),
                [("mcp.min_protocol_version", verdict)]
            );
        }
        let server = Fact::Server {
            name: "market-data".into(),
            version: "4.1.9".into(),
        };
        assert_eq!(
            verdicts(URL, &server),
            [("mcp.server.name", Same), ("mcp.server.version", Drifted)]
        );
        let tool = |name: &str| Fact::Tool {
            name: name.into(),
            hash: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
        };
        assert_eq!(verdicts(URL, &tool("get_quote")), [("mcp.tools", Same)]);
        assert_eq!(verdicts(URL, &tool("buy")), [("mcp.tools", Drifted)]);
        let other = "https://mcp.marketdata.example:8443/mcp";
        let endpoint = Fact::Endpoint {
            transport: Some("http-sse".into()),
        };
        assert_eq!(
            verdicts(other, &endpoint),
            [("url", Drifted), ("mcp.transport", Drifted)]
        );
    }

    #[test]
    fn certificates_and_credentials() {
        use Verdict::{Drifted, Same};
        let certificate = Fact::Certificate {
            sha256: "".into(),
            spki_sha256: vec!["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into()],
            issuer: "CN=example ca,O=Example\\, Inc,C=DE".into(),
        };
        assert_eq!(
            verdicts("mcp.marketdata.example:443", &certificate),
            [("tls.spki_sha256", Same), ("tls.issuers", Same)]
        );
        assert!(!names_issuer("CN=Example CA", "CN=Example CA 2"));
        let auth = Fact::Authentication {
            scheme: "none".into(),
            audience: None,
            issuer: Some("https://login.evil.example".into()),
        };
        assert_eq!(
            verdicts(URL, &auth),
            [
                ("auth.required", Drifted),
                ("auth.authorization_servers", Drifted)
            ]
        );
    }
}
