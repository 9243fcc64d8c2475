//! One entry of `endpoints`.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;

use super::{
    AuthPins, Endpoint, HostPattern, Learned, McpPins, ServerPin, TlsPins, VersionPin,
    parse::{date, missing, namespace, prefixes, rules, texts, url, word},
    rdns,
};
use crate::{
    config::{
        ConfigError,
        yaml::{Node, Reader, Value},
    },
    mcp::{Revision, TransportKind},
};

const KEYS: &[&str] = &[
    "name",
    "url",
    "addresses",
    "cnames",
    "tls",
    "mcp",
    "auth",
    "redirects",
    "cleared",
    "first_party",
    "mesh_encrypted",
    "learned",
    "rules",
    "namespaces",
    "enforce",
];

/// The endpoint and the node of its name.
pub(super) fn endpoint<'n>(r: &Reader<'_>, node: &'n Node) -> Result<(Endpoint, &'n Node), ConfigError> {
    let entries = r.map(node, "endpoint", KEYS)?;
    let get = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, v)| v);
    let name_node = get("name").ok_or_else(|| missing(r, node, "endpoint", "name"))?;
    let url_node = get("url").ok_or_else(|| missing(r, node, "endpoint", "url"))?;
    let mut endpoint = Endpoint {
        name: r.text(name_node, "name")?.into(),
        url: url(r, url_node, "url")?,
        addresses: Vec::new(),
        cnames: Vec::new(),
        tls: TlsPins::default(),
        mcp: McpPins::default(),
        auth: AuthPins::default(),
        redirects: Vec::new(),
        cleared: Vec::new(),
        first_party: false,
        mesh_encrypted: false,
        learned: None,
        rules: BTreeMap::new(),
        namespaces: Vec::new(),
        enforce: false,
    };
    for (key, value) in entries {
        match key.name.as_str() {
            "addresses" => endpoint.addresses = prefixes(r, value, "addresses")?,
            "cnames" => endpoint.cnames = cnames(r, value)?,
            "tls" => endpoint.tls = tls(r, value)?,
            "mcp" => endpoint.mcp = mcp(r, value)?,
            "auth" => endpoint.auth = auth(r, value)?,
            "redirects" => {
                for item in r.list(value, "redirects")? {
                    let origin = url(r, item, "redirects")?.origin();
                    let origin = origin.ok_or_else(|| {
                        r.at(
                            item,
                            "a wildcard in redirects",
                            "one origin such as https://mcp-eu.example",
                        )
                    })?;
                    endpoint.redirects.push(origin);
                }
            }
            "cleared" => endpoint.cleared = texts(r, value, "cleared")?,
            "first_party" => endpoint.first_party = r.bool(value, "first_party")?,
            "mesh_encrypted" => endpoint.mesh_encrypted = r.bool(value, "mesh_encrypted")?,
            "enforce" => endpoint.enforce = r.bool(value, "enforce")?,
            "learned" => endpoint.learned = Some(learned(r, value)?),
            "rules" => endpoint.rules = rules(r, value)?,
            "namespaces" => {
                for item in r.list(value, "namespaces")? {
                    endpoint.namespaces.push(namespace(r, item)?);
                }
            }
            _ => {}
        }
    }
    if let (HostPattern::Address(ip), None) = (&endpoint.url.host, get("addresses")) {
        endpoint.addresses.push(IpNet::from(*ip));
    }
    if let (true, true, Some(node)) = (endpoint.enforce, endpoint.addresses.is_empty(), get("enforce")) {
        return Err(r.at(
            node,
            format!("enforce of {:?} without addresses", endpoint.name),
            "addresses to hold connections against",
        ));
    }
    Ok((endpoint, name_node))
}

fn cnames(r: &Reader<'_>, node: &Node) -> Result<Vec<HostPattern>, ConfigError> {
    r.list(node, "cnames")?
        .iter()
        .map(|item| {
            let text = r.text(item, "cnames")?;
            HostPattern::parse(text)
                .filter(|p| !matches!(p, HostPattern::Address(_)))
                .ok_or_else(|| {
                    r.at(
                        item,
                        format!("bad name {text:?} in cnames"),
                        "a host name or *.host",
                    )
                })
        })
        .collect()
}

fn tls(r: &Reader<'_>, node: &Node) -> Result<TlsPins, ConfigError> {
    let mut tls = TlsPins::default();
    for (key, value) in r.map(node, "tls", &["min_version", "spki_sha256", "issuers"])? {
        match key.name.as_str() {
            "min_version" => tls.min_version = Some(tls_version(r, value)?),
            "spki_sha256" => {
                for item in r.list(value, "spki_sha256")? {
                    let text = r.text(item, "spki_sha256")?;
                    let hash = STANDARD.decode(text).ok().and_then(|b| b.try_into().ok());
                    tls.spki_sha256.push(hash.ok_or_else(|| {
                        let expected = "the base64 form of 32 bytes (44 characters)";
                        r.at(item, format!("bad hash {text:?} in spki_sha256"), expected)
                    })?);
                }
            }
            _ => {
                for item in r.list(value, "issuers")? {
                    let text = r.text(item, "issuers")?;
                    if !rdns(text).into_iter().all(|rdn| rdn.contains('=')) {
                        let expected = "an RFC 4514 name such as CN=Example CA,O=Example";
                        return Err(r.at(item, format!("bad name {text:?} in issuers"), expected));
                    }
                    tls.issuers.push(text.to_owned());
                }
            }
        }
    }
    Ok(tls)
}

fn tls_version(r: &Reader<'_>, node: &Node) -> Result<u16, ConfigError> {
    let text = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Float(number) => format!("{number:.1}"),
        other => other.kind().to_owned(),
    };
    match text.as_str() {
        "1.0" => Ok(0x0301),
        "1.1" => Ok(0x0302),
        "1.2" => Ok(0x0303),
        "1.3" => Ok(0x0304),
        _ => Err(r.at(
            node,
            format!("min_version {text:?}"),
            "one of \"1.0\", \"1.1\", \"1.2\", \"1.3\"",
        )),
    }
}

fn mcp(r: &Reader<'_>, node: &Node) -> Result<McpPins, ConfigError> {
    let mut mcp = McpPins::default();
    for (key, value) in r.map(
        node,
        "mcp",
        &["transport", "min_protocol_version", "server", "tools"],
    )? {
        match key.name.as_str() {
            "transport" => {
                let words = [
                    ("streamable-http", TransportKind::StreamableHttp),
                    ("http-sse", TransportKind::HttpSse),
                ];
                mcp.transport = Some(word(r, value, "transport", &words)?);
            }
            "min_protocol_version" => {
                let text = r.text(value, "min_protocol_version")?;
                mcp.min_protocol_version = Some(Revision::parse(text).ok_or_else(|| {
                    let expected = "a revision such as \"2025-11-25\"";
                    r.at(value, format!("bad min_protocol_version {text:?}"), expected)
                })?);
            }
            "server" => mcp.server = Some(server(r, value)?),
            _ => mcp.tools = Some(tools(r, value)?),
        }
    }
    Ok(mcp)
}

fn server(r: &Reader<'_>, node: &Node) -> Result<ServerPin, ConfigError> {
    let mut pin = ServerPin {
        name: None,
        version: None,
    };
    for (key, value) in r.map(node, "mcp.server", &["name", "version"])? {
        let text = r.text(value, &key.name)?;
        if key.name == "name" {
            pin.name = Some(text.to_owned());
        } else if text.starts_with(['<', '>', '=', '~', '^']) || text.contains([',', '*']) {
            let range = semver::VersionReq::parse(text).map_err(|_| {
                let expected = "a version such as 4.2.0 or a range such as >=4.2, <5";
                r.at(value, format!("bad version {text:?}"), expected)
            })?;
            pin.version = Some(VersionPin::Range(range));
        } else {
            pin.version = Some(VersionPin::Exact(text.to_owned()));
        }
    }
    Ok(pin)
}

fn tools(r: &Reader<'_>, node: &Node) -> Result<BTreeMap<String, [u8; 32]>, ConfigError> {
    let mut tools = BTreeMap::new();
    for (key, value) in r.any_map(node, "tools")? {
        let text = r.text(value, "a tool's hash")?;
        let hash = text.strip_prefix("sha256:").and_then(unhex).ok_or_else(|| {
            let expected = "sha256: and 64 lower-case hex digits";
            r.at(
                value,
                format!("bad hash {text:?} of tool {:?}", key.name),
                expected,
            )
        })?;
        tools.insert(key.name.clone(), hash);
    }
    Ok(tools)
}

/// 64 lower-case hex digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: &u8| match b {
        b'0'..=b'9' => Some(b.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(b.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let bytes: Vec<u8> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some((digit(high)? << 4) | digit(low)?),
            _ => None,
        })
        .collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn auth(r: &Reader<'_>, node: &Node) -> Result<AuthPins, ConfigError> {
    let mut auth = AuthPins::default();
    for (key, value) in r.map(node, "auth", &["required", "audience", "authorization_servers"])? {
        match key.name.as_str() {
            "required" => auth.required = Some(r.bool(value, "required")?),
            "audience" => auth.audience = Some(r.text(value, "audience")?.to_owned()),
            _ => {
                for item in r.list(value, "authorization_servers")? {
                    url(r, item, "authorization_servers")?;
                    let text = r.text(item, "authorization_servers")?;
                    auth.authorization_servers.push(text.to_owned());
                }
            }
        }
    }
    Ok(auth)
}

fn learned(r: &Reader<'_>, node: &Node) -> Result<Learned, ConfigError> {
    let mut learned = Learned {
        since: None,
        observations: 0,
    };
    for (key, value) in r.map(node, "learned", &["since", "observations"])? {
        match key.name.as_str() {
            "since" => learned.since = Some(date(r, value, "since")?),
            _ => learned.observations = r.whole(value, "observations", 0)?,
        }
    }
    Ok(learned)
}
