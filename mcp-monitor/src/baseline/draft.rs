//! From what was seen to a pins file that a person would have written.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    fact::{Fact, Subject},
    held::{same_url, tls_version},
    learned::{Entry, Row, Standing},
};
use crate::{
    config::pins::{
        EndpointUrl,
        draft::{Draft, DraftEndpoint, Line},
        rdns, same_path,
    },
    mcp::context::{Origin, Scheme},
    types::Timestamp,
};

/// Addresses of one network from which on its prefix is pinned instead of each.
const WIDEN_FROM: usize = 3;
/// Never wider than these.
const WIDEST_V4: u8 = 24;
const WIDEST_V6: u8 = 48;

/// How to draft.
#[derive(Clone, Debug, Default)]
pub struct DraftOptions {
    /// Hosts to pin although no MCP was readable there: TLS that nothing opened.
    pub hosts: Vec<String>,
    /// Also take what stands as suspect; its lines say so.
    pub suspect: bool,
}

/// Drafts pins from facts. What stands as suspect is left out, and said.
pub fn draft(rows: &[Row], options: &DraftOptions) -> Draft {
    let facts = Facts::new(rows, options);
    let mut draft = Draft::default();
    let mut names = BTreeSet::new();
    for place in facts.places(options) {
        let mut endpoint = facts.endpoint(&place);
        let wanted = endpoint.name.clone();
        let mut n = 1u32;
        while !names.insert(endpoint.name.clone()) {
            n = n.saturating_add(1);
            endpoint.name = format!("{wanted}-{n}");
        }
        draft.endpoints.push(endpoint);
    }
    draft.resolvers = facts.resolvers(&draft.endpoints);
    draft
}

/// Where one endpoint is: origin and, if MCP was readable, path.
struct Place {
    origin: Origin,
    path: Option<Box<str>>,
}

/// One value with everything seen of it.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    first: Option<Timestamp>,
    last: Timestamp,
    /// Part of it was seen while an alert was open.
    suspect: bool,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.count = self.count.saturating_add(entry.count);
        self.first = Some(self.first.map_or(entry.first, |first| first.min(entry.first)));
        self.last = self.last.max(entry.last);
        self.suspect |= entry.standing == Standing::Suspect;
    }

    /// `seen 12 times, 2026-11-22T07:12:03Z to 2026-11-22T07:14:10Z`.
    fn note(&self) -> String {
        let first = self.first.unwrap_or_default().to_seconds();
        let times = times(self.count);
        let alert = match self.suspect {
            true => ", WHILE AN ALERT WAS OPEN",
            false => "",
        };
        if self.count == 1 {
            return format!("seen {times}, {first}{alert}");
        }
        format!("seen {times}, {first} to {}{alert}", self.last.to_seconds())
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

struct Facts<'a> {
    rows: Vec<&'a Row>,
    suspect: Vec<&'a Row>,
}

impl<'a> Facts<'a> {
    fn new(rows: &'a [Row], options: &DraftOptions) -> Self {
        let (suspect, rows) = rows
            .iter()
            .partition(|row| row.entry.standing == Standing::Suspect && !options.suspect);
        Self { rows, suspect }
    }

    /// Where MCP was spoken, and the hosts asked for, in a fixed order.
    fn places(&self, options: &DraftOptions) -> Vec<Place> {
        let mut places: BTreeMap<(Origin, String), Place> = BTreeMap::new();
        for row in &self.rows {
            let (Subject::Url(origin, path), Fact::Endpoint { .. }) = (&row.subject, &row.fact) else {
                continue;
            };
            if EndpointUrl::parse(&format!("{origin}{path}")).is_err() {
                continue;
            }
            // `/mcp` and `/mcp/` are one path.
            let key = (origin.clone(), path.trim_end_matches('/').to_owned());
            places.entry(key).or_insert_with(|| Place {
                origin: origin.clone(),
                path: Some((**path).into()),
            });
        }
        let known: BTreeSet<(String, u16)> = places
            .keys()
            .map(|(origin, _)| (origin.host.to_string(), origin.port))
            .collect();
        for row in &self.rows {
            let (Subject::Server(host, port), Fact::Tls { .. }) = (&row.subject, &row.fact) else {
                continue;
            };
            let asked = options.hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
            if asked && !known.contains(&(host.to_string(), *port)) {
                let origin = Origin {
                    scheme: Scheme::Https,
                    host: host.clone(),
                    port: *port,
                };
                let key = (origin.clone(), String::new());
                places.entry(key).or_insert(Place { origin, path: None });
            }
        }
        places.into_values().collect()
    }

    /// Values that `pick` takes from facts of subjects that `belongs`, each with its sum.
    fn values<T: Ord>(
        &self,
        belongs: impl Fn(&Subject) -> bool,
        pick: impl Fn(&'a Fact) -> Option<T>,
    ) -> BTreeMap<T, Sum> {
        let mut found: BTreeMap<T, Sum> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| belongs(&row.subject)) {
            if let Some(value) = pick(&row.fact) {
                found.entry(value).or_default().add(&row.entry);
            }
        }
        found
    }

    fn endpoint(&self, place: &Place) -> DraftEndpoint {
        let origin = &place.origin;
        let host = &*origin.host;
        let path = place.path.as_deref();
        let at_url = |s: &Subject| matches!((s, path), (Subject::Url(o, p), Some(path)) if o == origin && same_path(p, path));
        let at_server = |s: &Subject| matches!(s, Subject::Server(h, p) if **h == *host && *p == origin.port);
        let at_name = |s: &Subject| matches!(s, Subject::Name(name) if **name == *host);
        // Metadata of a resource lies at its own path, or at the root for the whole origin.
        let of_resource = |s: &Subject| {
            at_url(s) || matches!(s, Subject::Url(o, p) if o == origin && p.trim_matches('/').is_empty())
        };
        let mut endpoint = DraftEndpoint {
            url: format!("{origin}{}", path.unwrap_or_default()),
            ..DraftEndpoint::default()
        };
        let mut whole = Sum::default();
        for row in &self.rows {
            if at_url(&row.subject) || at_server(&row.subject) || at_name(&row.subject) {
                whole.add(&row.entry);
            }
        }
        endpoint.since = whole.first.unwrap_or_default().to_seconds();
        endpoint.observations = whole.count;
        let spoken = self.values(at_url, |f| matches!(f, Fact::Endpoint { .. }).then_some(()));
        endpoint.url_note = match spoken.get(&()) {
            Some(sum) => format!("MCP {}", sum.note()),
            None => "TLS only: nothing opened it, so the path is not known".to_owned(),
        };
        self.addresses(&mut endpoint, host, |s| at_name(s) || at_server(s));
        endpoint.cnames = lines(self.values(at_name, |f| match f {
            Fact::DnsCname { target } if usable_name(target) => Some(target.to_string()),
            _ => None,
        }));
        if origin.scheme == Scheme::Https {
            self.tls(&mut endpoint, at_server);
        }
        self.mcp(&mut endpoint, at_url);
        self.auth(&mut endpoint, at_url, of_resource);
        let suspects = self
            .suspect
            .iter()
            .filter(|row| at_url(&row.subject) || at_server(&row.subject) || at_name(&row.subject))
            .count();
        if suspects > 0 {
            endpoint.remarks.push(format!(
                "{suspects} facts were seen while an alert was open on this server; they are not here (--suspect takes them)"
            ));
        }
        let called = endpoint.server_name.as_ref().map(|l| slug(&l.value));
        endpoint.name = called
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| slug(&format!("{host}-{}", origin.port)));
        endpoint
    }

    fn addresses(&self, endpoint: &mut DraftEndpoint, host: &str, of: impl Fn(&Subject) -> bool) {
        let seen = self.values(of, |f| match f {
            Fact::DnsAnswer { address } | Fact::Address { address } => Some(*address),
            _ => None,
        });
        // An address literal in the URL pins itself.
        let literal = host.parse::<IpAddr>().ok();
        if literal.is_some_and(|ip| seen.keys().all(|seen| *seen == ip)) {
            return;
        }
        endpoint.addresses = prefixes(&seen);
        if endpoint.addresses.is_empty() {
            endpoint
                .remarks
                .push("addresses: none was seen; not pinned".to_owned());
        }
    }

    fn tls(&self, endpoint: &mut DraftEndpoint, of: impl Fn(&Subject) -> bool + Copy) {
        let versions = self.values(of, |f| match f {
            Fact::Tls { version, .. } => Some(*version),
            _ => None,
        });
        if let Some((lowest, sum)) = versions.first_key_value() {
            match tls_version(*lowest) {
                text if text.starts_with("1.") => {
                    endpoint.min_tls = Some(Line {
                        value: text,
                        note: format!("the lowest negotiated, {}", sum.note()),
                    });
                }
                other => endpoint
                    .remarks
                    .push(format!("tls.min_version: {other} was negotiated; not pinned")),
            }
        }
        endpoint.spki_sha256 = lines(self.values(of, |f| match f {
            Fact::Certificate { spki_sha256, .. } => spki_sha256.first().map(ToString::to_string),
            _ => None,
        }));
        endpoint.issuers = lines(self.values(of, |f| match f {
            Fact::Certificate { issuer, .. } if rdns(issuer).iter().all(|rdn| rdn.contains('=')) => {
                Some(issuer.to_string())
            }
            _ => None,
        }));
        if endpoint.spki_sha256.is_empty() {
            endpoint.remarks.push(
                "tls.spki_sha256, tls.issuers: no certificate could be read (TLS 1.3 hides it without keys); not pinned".to_owned(),
            );
        }
    }

    fn mcp(&self, endpoint: &mut DraftEndpoint, of: impl Fn(&Subject) -> bool + Copy) {
        let transports = self.values(of, |f| match f {
            Fact::Endpoint { transport: Some(t) } if matches!(&**t, "http-sse" | "streamable-http") => {
                Some(t.to_string())
            }
            _ => None,
        });
        endpoint.transport = only(transports, "mcp.transport", &mut endpoint.remarks);
        let versions = self.values(of, |f| match f {
            Fact::Protocol { version } => Some(version.to_string()),
            _ => None,
        });
        endpoint.min_protocol_version = versions.into_iter().next().map(|(value, sum)| Line {
            value,
            note: format!("the lowest agreed on, {}", sum.note()),
        });
        let server = |pick: fn(&Fact) -> Option<String>| self.values(of, pick);
        let names = server(|f| match f {
            Fact::Server { name, .. } => Some(name.to_string()),
            _ => None,
        });
        let versions = server(|f| match f {
            Fact::Server { version, .. } => Some(version.to_string()),
            _ => None,
        });
        endpoint.server_name =
            only(names, "mcp.server.name", &mut endpoint.remarks).filter(|line| !line.value.is_empty());
        endpoint.server_version = only(versions, "mcp.server.version", &mut endpoint.remarks)
            .filter(|line| exact_version(&line.value));
        let tools = self.values(of, |f| match f {
            Fact::Tool { name, hash } => Some((name.to_string(), hash.to_string())),
            _ => None,
        });
        let names: BTreeSet<&String> = tools.keys().map(|(name, _)| name).collect();
        if names.len() < tools.len() {
            endpoint.remarks.push(
                "mcp.tools: a tool was defined in several ways (an update, or one for each kind of client); not pinned".to_owned(),
            );
        } else {
            endpoint.tools = lines(tools);
        }
    }

    fn auth(
        &self,
        endpoint: &mut DraftEndpoint,
        of: impl Fn(&Subject) -> bool + Copy,
        of_resource: impl Fn(&Subject) -> bool + Copy,
    ) {
        let required = self.values(of, |f| match f {
            Fact::Authentication { scheme, .. } => Some(&**scheme != "none"),
            _ => None,
        });
        match (required.get(&true), required.get(&false)) {
            (Some(sum), None) => {
                endpoint.auth_required = Some(Line {
                    value: "true".to_owned(),
                    note: format!("every answered request carried credentials, {}", sum.note()),
                });
            }
            (Some(_), Some(sum)) => endpoint.remarks.push(format!(
                "auth.required: requests without credentials were answered too ({}); not pinned",
                times(sum.count)
            )),
            _ => {}
        }
        let resources = self.values(of_resource, |f| match f {
            Fact::Resource { url } => Some(url.to_string()),
            _ => None,
        });
        let named = self.values(of, |f| match f {
            Fact::Authentication { audience, .. } => audience.as_ref().map(ToString::to_string),
            _ => None,
        });
        let in_all = |url: &str| named.keys().all(|n| n.split(' ').any(|a| same_url(a, url)));
        let first = named.keys().next().map(String::as_str).unwrap_or_default();
        let mut candidates = resources.keys().map(String::as_str).chain(first.split(' '));
        let chosen = candidates.find(|url| !url.is_empty() && in_all(url));
        endpoint.audience = chosen.map(|url| Line {
            value: url.to_owned(),
            note: match resources.get(url).or(named.values().next()) {
                Some(sum) => sum.note(),
                None => String::new(),
            },
        });
        if chosen.is_none() && !named.is_empty() {
            endpoint
                .remarks
                .push("auth.audience: tokens named several; not pinned".to_owned());
        }
        let mut servers = self.values(of_resource, |f| match f {
            Fact::AuthorizationServer { url } => Some(url.trim_end_matches('/').to_owned()),
            _ => None,
        });
        for (url, sum) in self.values(of, |f| match f {
            Fact::Authentication { issuer, .. } => {
                issuer.as_ref().map(|i| i.trim_end_matches('/').to_owned())
            }
            _ => None,
        }) {
            servers.entry(url).or_insert(sum);
        }
        let all = servers.len();
        servers.retain(|url, _| EndpointUrl::parse(url).is_ok());
        if servers.len() == all {
            endpoint.authorization_servers = lines(servers);
        } else {
            endpoint
                .remarks
                .push("auth.authorization_servers: one that was seen is no URL; not pinned".to_owned());
        }
    }

    /// Resolvers that answered for the endpoints' names.
    fn resolvers(&self, endpoints: &[DraftEndpoint]) -> Vec<Line<String>> {
        let hosts: BTreeSet<String> = endpoints
            .iter()
            .filter_map(|e| EndpointUrl::parse(&e.url).ok())
            .map(|url| url.host.to_string())
            .collect();
        lines(self.values(
            |s| matches!(s, Subject::Name(name) if hosts.contains(&**name)),
            |f| match f {
                Fact::DnsResolver { resolver } => Some(resolver.to_string()),
                _ => None,
            },
        ))
    }
}

fn lines<T>(values: BTreeMap<T, Sum>) -> Vec<Line<T>> {
    values
        .into_iter()
        .map(|(value, sum)| Line {
            value,
            note: sum.note(),
        })
        .collect()
}

/// The value if there is only one.
fn only(mut values: BTreeMap<String, Sum>, key: &str, remarks: &mut Vec<String>) -> Option<Line<String>> {
    if values.len() > 1 {
        remarks.push(format!(
            "{key}: {} different ones were seen; not pinned",
            values.len()
        ));
        return None;
    }
    values.pop_first().map(|(value, sum)| Line {
        value,
        note: sum.note(),
    })
}

/// A version that the pins file reads as exactly this one.
fn exact_version(version: &str) -> bool {
    !version.is_empty() && !version.starts_with(['<', '>', '=', '~', '^']) && !version.contains([',', '*'])
}

/// A name that `cnames` takes.
fn usable_name(name: &str) -> bool {
    use crate::config::pins::HostPattern;
    matches!(HostPattern::parse(name), Some(HostPattern::Exact(_)))
}

/// Addresses as a person would pin them: each alone, or the prefix that holds three or more of one
/// network, at the widest a /24 or a /48. Loopback and link-local addresses are never widened.
fn prefixes(seen: &BTreeMap<IpAddr, Sum>) -> Vec<Line<String>> {
    let mut networks: BTreeMap<IpNet, Vec<(IpAddr, Sum)>> = BTreeMap::new();
    for (ip, sum) in seen {
        let network = match ip {
            IpAddr::V4(ip) => Ipv4Net::new(*ip, WIDEST_V4).map(IpNet::V4),
            IpAddr::V6(ip) => Ipv6Net::new(*ip, WIDEST_V6).map(IpNet::V6),
        };
        if let Ok(network) = network {
            networks.entry(network.trunc()).or_default().push((*ip, *sum));
        }
    }
    let mut found = Vec::new();
    for (network, members) in networks {
        if members.len() < WIDEN_FROM || local(network.addr()) {
            found.extend(members.iter().map(|(ip, sum)| Line {
                value: ip.to_string(),
                note: sum.note(),
            }));
            continue;
        }
        let ips: Vec<IpAddr> = members.iter().map(|(ip, _)| *ip).collect();
        let prefix = narrowest(network, &ips);
        let mut whole = Sum::default();
        for (_, sum) in &members {
            whole.count = whole.count.saturating_add(sum.count);
            whole.first = whole.first.min(sum.first).or(sum.first);
            whole.last = whole.last.max(sum.last);
            whole.suspect |= sum.suspect;
        }
        found.push(Line {
            value: prefix.to_string(),
            note: format!(
                "widened to hold the {} addresses seen in it, {}",
                ips.len(),
                whole.note()
            ),
        });
    }
    found
}

/// The longest prefix inside `network` that holds all.
fn narrowest(network: IpNet, ips: &[IpAddr]) -> IpNet {
    let mut best = network;
    for len in network.prefix_len()..=network.max_prefix_len() {
        let Some(first) = ips.first() else { break };
        let Ok(candidate) = IpNet::new(*first, len) else {
            break;
        };
        let candidate = candidate.trunc();
        if !ips.iter().all(|ip| candidate.contains(ip)) {
            break;
        }
        best = candidate;
    }
    best
}

fn local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.segments().starts_with(&[0; 5])
        }
    }
}

/// Lower-case letters, digits and `-`, at most 48.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() >= 48 {
            break;
        }
    }
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests;
