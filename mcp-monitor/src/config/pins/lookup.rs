//! From a host, a target or an address to the endpoint that pins it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use ipnet::IpNet;

use super::{Endpoint, HostPattern, Pins};
use crate::mcp::context::EndpointIndex;

/// Endpoints by host, each list in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct HostIndex {
    exact: HashMap<Arc<str>, Vec<EndpointIndex>>,
    below: HashMap<Arc<str>, Vec<EndpointIndex>>,
    address: HashMap<IpAddr, Vec<EndpointIndex>>,
}

impl HostIndex {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        let mut index = Self::default();
        for (i, endpoint) in endpoints.iter().enumerate() {
            match &endpoint.url.host {
                HostPattern::Exact(name) => index.exact.entry(Arc::clone(name)).or_default().push(i),
                HostPattern::Below(name) => index.below.entry(Arc::clone(name)).or_default().push(i),
                HostPattern::Address(ip) => index.address.entry(*ip).or_default().push(i),
            }
        }
        index
    }

    /// Endpoints that name `host`: exactly, else by the longest wildcard.
    fn find(&self, host: &str) -> &[EndpointIndex] {
        let host = normal(host);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.address.get(&ip).map_or(&[], Vec::as_slice);
        }
        if let Some(found) = self.exact.get(&*host) {
            return found;
        }
        let mut rest: &str = &host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.below.get(parent) {
                return found;
            }
            rest = parent;
        }
        &[]
    }
}

/// Lower case, no brackets, no trailing dot.
fn normal(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// One pinned name (exact or wildcard) with what its addresses must lie in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinnedHost {
    /// The name, or `*.name`.
    pub pattern: String,
    /// Prefixes of all endpoints on this host. Empty: its addresses are not pinned.
    pub prefixes: Vec<IpNet>,
    /// The first endpoint that names it.
    pub endpoint: EndpointIndex,
    /// One of its endpoints asks that connections which drift be refused.
    pub enforce: bool,
}

impl Pins {
    /// The first endpoint that pins this host name or address literal (any case, brackets and
    /// trailing dot allowed). An exact name goes before a wildcard, a longer wildcard before a shorter.
    pub fn match_host(&self, host: &str) -> Option<EndpointIndex> {
        self.index.find(host).first().copied()
    }

    /// All endpoints that pin this host, in the order of the file; by the longest wildcard where none names it.
    pub fn endpoints_of_host(&self, host: &str) -> &[EndpointIndex] {
        self.index.find(host)
    }

    /// The endpoint a request belongs to: of those that pin the host, one with this port and
    /// path, else one with this port, else the first.
    pub fn match_target(&self, host: &str, port: u16, path: &str) -> Option<EndpointIndex> {
        self.match_target_in(host, port, path, None)
    }

    /// As [`Pins::match_target`], for a client of this Kubernetes namespace: an endpoint that is approved for it
    /// goes before one that is not.
    pub fn match_target_in(
        &self,
        host: &str,
        port: u16,
        path: &str,
        namespace: Option<&str>,
    ) -> Option<EndpointIndex> {
        let found = self.for_client(host, namespace);
        let by = |test: &dyn Fn(&Endpoint) -> bool| {
            found
                .iter()
                .copied()
                .find(|i| self.endpoints.get(*i).is_some_and(test))
        };
        // A path that is written out says more than one left open.
        by(&|e| e.url.port == port && e.url.path.is_some() && e.url.allows_path(path))
            .or_else(|| by(&|e| e.url.port == port && e.url.allows_path(path)))
            .or_else(|| by(&|e| e.url.port == port))
            .or_else(|| found.first().copied())
    }

    /// The first endpoint of [`Pins::endpoints_of_host`], one that is approved for clients of this namespace
    /// before one that is not.
    pub fn match_host_in(&self, host: &str, namespace: Option<&str>) -> Option<EndpointIndex> {
        self.for_client(host, namespace).first().copied()
    }

    /// Endpoints of a host that are approved for a client; all of them where none is.
    fn for_client(&self, host: &str, namespace: Option<&str>) -> Cow<'_, [EndpointIndex]> {
        let found = self.index.find(host);
        let serves = |i: &EndpointIndex| self.endpoints.get(*i).is_some_and(|e| e.serves(namespace));
        if namespace.is_none() || found.iter().all(serves) {
            return Cow::Borrowed(found);
        }
        let serving: Vec<EndpointIndex> = found.iter().copied().filter(serves).collect();
        if serving.is_empty() {
            return Cow::Borrowed(found);
        }
        Cow::Owned(serving)
    }

    /// The endpoint whose prefixes hold `ip`, the longest prefix first. Only for flows whose
    /// name is unknown or an address literal: many names can share an address.
    pub fn match_address(&self, ip: IpAddr) -> Option<EndpointIndex> {
        self.longest(ip, |_| true)
    }

    /// As [`Pins::match_address`], an endpoint on this port preferred.
    pub fn match_socket(&self, ip: IpAddr, port: u16) -> Option<EndpointIndex> {
        self.longest(ip, |e| e.url.port == port)
            .or_else(|| self.match_address(ip))
    }

    fn longest(&self, ip: IpAddr, test: impl Fn(&Endpoint) -> bool) -> Option<EndpointIndex> {
        let mut best: Option<(u8, EndpointIndex)> = None;
        for (i, endpoint) in self.endpoints.iter().enumerate().filter(|(_, e)| test(e)) {
            for net in endpoint.addresses.iter().filter(|net| net.contains(&ip)) {
                if best.is_none_or(|(len, _)| net.prefix_len() > len) {
                    best = Some((net.prefix_len(), i));
                }
            }
        }
        best.map(|(_, i)| i)
    }

    /// Every pinned name once, in the order of the file. Address literals are not names.
    pub fn pinned_hosts(&self) -> Vec<PinnedHost> {
        let mut hosts: Vec<PinnedHost> = Vec::new();
        let mut known: HashMap<&HostPattern, usize> = HashMap::new();
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            let host = &endpoint.url.host;
            if matches!(host, HostPattern::Address(_)) {
                continue;
            }
            let place = *known.entry(host).or_insert_with(|| {
                hosts.push(PinnedHost {
                    pattern: host.to_string(),
                    prefixes: Vec::new(),
                    endpoint: i,
                    enforce: false,
                });
                hosts.len().saturating_sub(1)
            });
            if let Some(entry) = hosts.get_mut(place) {
                entry.enforce |= endpoint.enforce;
                for net in &endpoint.addresses {
                    if !entry.prefixes.contains(net) {
                        entry.prefixes.push(*net);
                    }
                }
            }
        }
        hosts
    }

    /// What addresses of this name must lie in: of all endpoints that pin the host. Empty: not pinned.
    pub fn prefixes_of_host(&self, host: &str) -> Vec<IpNet> {
        let mut prefixes: Vec<IpNet> = Vec::new();
        for i in self.index.find(host) {
            for net in self.endpoints.get(*i).map_or(&[][..], |e| &e.addresses) {
                if !prefixes.contains(net) {
                    prefixes.push(*net);
                }
            }
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(endpoints: &str) -> Pins {
        Pins::parse(&format!("version: 1\nendpoints:\n{endpoints}"), "t").unwrap()
    }

    #[test]
    fn prefers_port_and_path_then_port_then_the_first() {
        let p = pins(
            "  - {name: a, url: 'https://h.example/a'}\n  - {name: b, url: 'https://h.example/b'}\n  - {name: c, url: 'https://h.example:8443/a'}\n  - {name: w, url: 'https://*.example'}\n",
        );
        assert_eq!(p.match_target("h.example", 443, "/b/"), Some(1));
        assert_eq!(p.match_target("H.Example.", 8443, "/zzz"), Some(2));
        assert_eq!(p.match_target("h.example", 99, "/a"), Some(0));
        assert_eq!(p.match_target("x.y.example", 443, "/"), Some(3));
        assert_eq!(p.match_host("example"), None);
    }

    #[test]
    fn an_endpoint_of_the_clients_namespace_goes_first() {
        let p = pins(
            "  - {name: a, url: 'https://h.example/mcp', namespaces: [team-a]}\n  - {name: b, url: 'https://h.example/mcp', namespaces: ['batch-*']}\n",
        );
        let of = |namespace| p.match_target_in("h.example", 443, "/mcp", namespace);
        assert_eq!(of(Some("team-a")), Some(0));
        assert_eq!(of(Some("batch-7")), Some(1));
        assert_eq!(of(Some("team-c")), Some(0), "pinned, though not for it");
        assert_eq!(of(None), Some(0));
        assert_eq!(p.match_host_in("h.example", Some("batch-7")), Some(1));
        let serves = |i: usize, namespace| p.endpoints[i].serves(namespace);
        assert!(serves(0, Some("team-a")) && !serves(0, Some("team-c")) && serves(0, None));
    }

    #[test]
    fn what_a_namespace_sets_goes_before_the_rest() {
        let p = Pins::parse(
            "version: 1\nendpoints:\n  - {name: a, url: 'https://h/', rules: {DST-01: {severity: low}}}\nrules: {DST-01: {severity: medium}}\nnamespaces:\n  team-a: {unpinned: ignore, rules: {DST-01: {severity: critical}}}\n  'team-*': {rules: {DST-01: {enabled: false}}}\n",
            "t",
        )
        .unwrap();
        use crate::{config::pins::Unpinned, types::Severity};
        assert_eq!(
            p.severity("DST-01", Some(0), Some("team-a")),
            Some(Severity::Critical)
        );
        assert_eq!(p.severity("DST-01", Some(0), Some("other")), Some(Severity::Low));
        assert_eq!(p.severity("DST-01", Some(0), None), Some(Severity::Low));
        assert!(p.enables("DST-01", None, Some("team-a")) && !p.enables("DST-01", None, Some("team-b")));
        assert_eq!(p.unpinned_in(Some("team-a")), Unpinned::Ignore);
        assert_eq!(p.unpinned_in(Some("team-b")), Unpinned::Alert);
        for (text, wrong) in [
            ("namespaces: {Team_A: {}}", "1:14: bad namespace \"Team_A\""),
            ("namespaces: {a: {rule: {}}}", "unknown key \"rule\""),
            (
                "namespaces: {a: {rules: {PV-05: {allow: [x]}}}}",
                "allow or classes of PV-05 in a namespace",
            ),
        ] {
            let error = Pins::parse(&format!("{text}\nversion: 1\n"), "t")
                .unwrap_err()
                .to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn an_address_literal_pins_itself() {
        let p = pins(
            "  - {name: a, url: 'http://127.0.0.1:3001/mcp'}\n  - {name: b, url: 'http://127.0.0.1:3002/mcp'}\n  - {name: s, url: 'http://[::1]:1/'}\n",
        );
        assert_eq!(p.match_socket("127.0.0.1".parse().unwrap(), 3002), Some(1));
        assert_eq!(p.match_target("[::1]", 1, "/"), Some(2));
        assert!(p.pinned_hosts().is_empty());
    }

    #[test]
    fn one_host_has_the_union_of_its_prefixes() {
        let p = pins(
            "  - {name: a, url: 'https://h/a', addresses: [10.0.0.0/8]}\n  - {name: b, url: 'https://h/b', addresses: [192.0.2.0/24, 10.0.0.0/8]}\n",
        );
        let hosts = p.pinned_hosts();
        assert_eq!(
            (hosts.len(), hosts[0].prefixes.len(), hosts[0].endpoint),
            (1, 2, 0)
        );
        assert_eq!(p.match_address("192.0.2.9".parse().unwrap()), Some(1));
    }
}
