//! The pins file: which servers are approved, and what must hold of them.
//!
//! Every key but an endpoint's `name` and `url` is optional: what is not pinned is not
//! checked against a pin.

mod canary;
pub mod draft;
pub mod edit;
mod endpoint_match;
mod host;
mod lookup;
mod namespaces;
mod parse;
mod parse_endpoint;
mod rule_ids;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use self::{
    host::{EndpointUrl, HostPattern, same_path},
    lookup::PinnedHost,
    namespaces::{NamespacePins, Namespaces},
    rule_ids::{all_rule_ids, is_rule_id, takes_allow},
};
use super::{
    ConfigError,
    data::{Advisories, Indicators},
};
use crate::{
    mcp::{
        Revision, TransportKind,
        context::{EndpointIndex, Origin},
    },
    types::{Severity, Timestamp},
};

/// A pins file, checked. The default is no pins at all.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    /// Approved servers, in the order of the file.
    pub endpoints: Vec<Endpoint>,
    /// Resolvers whose answers are trusted (DNS-03). Empty: not pinned.
    pub resolvers: Vec<IpNet>,
    /// Prefixes of the mandated gateway (OP-04, DST-05). Empty: none.
    pub gateway: Vec<IpNet>,
    /// LLM APIs whose base URL must not move (DST-09).
    pub llm: Vec<LlmPin>,
    /// Values that must never be seen (CR-12).
    pub canaries: Vec<Canary>,
    /// Files or folders of threat feeds (OP-03).
    pub feeds: Vec<String>,
    /// Files or folders of advisories (OP-05).
    pub advisories: Vec<String>,
    /// What MCP with a server that no pin names means.
    pub unpinned: Unpinned,
    /// Numbers of rules marked "policy".
    pub policy: Policy,
    /// Settings by rule id.
    pub rules: BTreeMap<String, RuleSetting>,
    /// What holds for clients of one Kubernetes namespace.
    pub namespaces: Namespaces,
    /// Findings that are known and accepted.
    pub suppress: Vec<Suppression>,
    /// What the files under `feeds` list (OP-03). Loaded by [`Pins::load`] only.
    pub indicators: Arc<Indicators>,
    /// What the files under `advisories` say (OP-05). Loaded by [`Pins::load`] only.
    pub known_vulnerable: Arc<Advisories>,
    index: lookup::HostIndex,
    canary_index: canary::CanaryIndex,
}

/// One approved server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name in alerts; unique in the file.
    pub name: Arc<str>,
    /// Where it is.
    pub url: EndpointUrl,
    /// Prefixes its addresses must lie in. Empty: not pinned. For a `url` with an address
    /// literal and no `addresses`: that address.
    pub addresses: Vec<IpNet>,
    /// Allowed CNAME targets, lower case; `*.host` allowed. Empty: not pinned.
    pub cnames: Vec<HostPattern>,
    /// `tls`.
    pub tls: TlsPins,
    /// `mcp`.
    pub mcp: McpPins,
    /// `auth`.
    pub auth: AuthPins,
    /// Origins it may redirect to.
    pub redirects: Vec<Origin>,
    /// Data classes this server may see (CR-13).
    pub cleared: Vec<String>,
    /// Run by the same organisation (SS-06).
    pub first_party: bool,
    /// A service mesh encrypts what looks like cleartext here (CR-01, DG-01).
    pub mesh_encrypted: bool,
    /// Written by `pin learn`.
    pub learned: Option<Learned>,
    /// Settings by rule id that hold on this endpoint, before those of the whole file.
    pub rules: BTreeMap<String, RuleSetting>,
    /// Connections to its name at an address outside `addresses` are to be refused, where the program may.
    pub enforce: bool,
    /// Kubernetes namespaces whose clients it is approved for, `*` allowed at either end. Empty: all.
    pub namespaces: Vec<String>,
}

/// `tls` of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct TlsPins {
    /// Lowest version, as on the wire: 0x0303 is 1.2.
    pub min_version: Option<u16>,
    /// SHA-256 of SubjectPublicKeyInfo; one of the chain must match (RFC 7469). Empty: not pinned.
    pub spki_sha256: Vec<[u8; 32]>,
    /// RFC 4514 names; every RDN of an entry must be in the issuer. Empty: not pinned.
    pub issuers: Vec<String>,
}

/// The relative names of an RFC 4514 name: what lies between commas that are not escaped.
pub fn rdns(name: &str) -> Vec<&str> {
    let mut rdns = Vec::new();
    let (mut from, mut escaped) = (0, false);
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b',' if !escaped => {
                rdns.extend(name.get(from..at));
                from = at.saturating_add(1);
            }
            _ => escaped = false,
        }
    }
    rdns.extend(name.get(from..));
    rdns
}

/// `mcp` of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct McpPins {
    /// Transport.
    pub transport: Option<TransportKind>,
    /// Lowest protocol revision.
    pub min_protocol_version: Option<Revision>,
    /// `serverInfo`.
    pub server: Option<ServerPin>,
    /// SHA-256 of each tool's definition in RFC 8785 form, by name. `None`: not pinned.
    pub tools: Option<BTreeMap<String, [u8; 32]>>,
}

/// `mcp.server`.
#[derive(Clone, Debug)]
pub struct ServerPin {
    /// `serverInfo.name`.
    pub name: Option<String>,
    /// `serverInfo.version`.
    pub version: Option<VersionPin>,
}

/// A version or a range of them.
#[derive(Clone, Debug)]
pub enum VersionPin {
    /// This one, compared as text.
    Exact(String),
    /// A semantic version range such as `>=4.2, <5`.
    Range(semver::VersionReq),
}

impl VersionPin {
    /// `version` satisfies it. A version that is not semantic satisfies no range.
    pub fn allows(&self, version: &str) -> bool {
        match self {
            Self::Exact(text) => text == version,
            Self::Range(range) => semver::Version::parse(version.trim_start_matches('v'))
                .is_ok_and(|version| range.matches(&version)),
        }
    }
}

impl fmt::Display for VersionPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Range(range) => range.fmt(f),
        }
    }
}

/// `auth` of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct AuthPins {
    /// Requests must carry credentials.
    pub required: Option<bool>,
    /// What tokens for it must name as their audience.
    pub audience: Option<String>,
    /// Issuers of its tokens. Empty: not pinned.
    pub authorization_servers: Vec<String>,
}

/// `learned` of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// First observation.
    pub since: Option<Timestamp>,
    /// How many.
    pub observations: u64,
}

/// An LLM API.
#[derive(Clone, Debug)]
pub struct LlmPin {
    /// Its name.
    pub name: Arc<str>,
    /// Its base URL.
    pub url: EndpointUrl,
}

/// A value that must never be seen on the wire. Only keyed digests of it are kept.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Its name in alerts.
    pub name: Arc<str>,
}

/// `unpinned`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unpinned {
    /// An alert (DST-01).
    #[default]
    Alert,
    /// Nothing.
    Ignore,
    /// Nothing; the server goes into the baseline.
    Learn,
}

/// `policy.encrypted_dns`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EncryptedDns {
    /// An alert (DNS-06).
    #[default]
    Alert,
    /// Nothing.
    Allow,
}

/// `policy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Sampling requests of one server in one minute (CP-03).
    pub sampling_per_minute: u64,
    /// `maxTokens` of one sampling request (CP-03).
    pub sampling_max_tokens: u64,
    /// Longest life of a token (CR-10).
    pub token_lifetime: Duration,
    /// DoH, DoT, DoQ (DNS-06).
    pub encrypted_dns: EncryptedDns,
    /// Age at which data in a result counts as stale (DP-04).
    pub stale_after: Duration,
    /// Share of all calls that one server may carry, 0 to 1 (OP-01).
    pub concentration_share: f64,
}

impl Default for Policy {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            sampling_per_minute: 10,
            sampling_max_tokens: 8192,
            token_lifetime: day,
            encrypted_dns: EncryptedDns::default(),
            stale_after: day,
            concentration_share: 0.8,
        }
    }
}

/// Settings of one rule, for all servers or for one endpoint.
#[derive(Clone, Debug, Default)]
pub struct RuleSetting {
    /// Instead of the rule's own.
    pub severity: Option<Severity>,
    /// False turns it off; `None` says nothing.
    pub enabled: Option<bool>,
    /// What the rule accepts: tools, hosts, origins, addresses, containers, as its page says. A `*` at
    /// either end stands for any text.
    pub allow: Vec<String>,
    /// Further data classes (CR-13): name, and what their values look like.
    pub classes: Vec<DataClass>,
}

/// A class of personal data that the operator described.
#[derive(Clone, Debug)]
pub struct DataClass {
    /// As `cleared` of an endpoint names it.
    pub name: String,
    /// What a value looks like.
    pub pattern: regex::bytes::Regex,
}

/// One accepted finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// Rule id.
    pub rule: String,
    /// Only on this endpoint; `None` means everywhere.
    pub endpoint: Option<EndpointIndex>,
    /// Only for clients of this Kubernetes namespace; `None` means for all.
    pub namespace: Option<String>,
    /// Until this capture time; `None` means for good.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

impl Pins {
    /// Reads a pins file. `file` is how errors name it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        parse::parse(text, file)
    }

    /// Reads a pins file from disk.
    pub fn load(path: &std::path::Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| ConfigError {
            file: file.clone(),
            line: 0,
            column: 0,
            found: format!("cannot be read: {error}"),
            expected: String::new(),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let good = error.as_bytes().get(..valid).unwrap_or_default();
            let line = memchr::memchr_iter(b'\n', good).count().saturating_add(1);
            ConfigError {
                file: file.clone(),
                line: line as u64,
                column: 1,
                found: "bytes that are not UTF-8".to_owned(),
                expected: "a YAML text file".to_owned(),
            }
        })?;
        let mut pins = Self::parse(&text, &file)?;
        let folder = path.parent().unwrap_or(std::path::Path::new(""));
        pins.indicators = Arc::new(Indicators::load(&pins.feeds, folder)?);
        pins.known_vulnerable = Arc::new(Advisories::load(&pins.advisories, folder)?);
        Ok(pins)
    }

    /// Rules that need data which these pins name none of, and what they then do not see.
    pub fn without_data(&self) -> Vec<(&'static str, &'static str)> {
        let mut rules = Vec::new();
        if self.feeds.is_empty() {
            rules.push((
                "OP-03",
                "no data loaded: list threat feeds (STIX 2.1 or plain lists) under feeds",
            ));
        }
        if self.advisories.is_empty() {
            rules.push((
                "OP-05",
                "no data loaded: list advisories (OSV JSON) under advisories",
            ));
        }
        rules
    }

    /// What is set for a rule on an endpoint: the endpoint's own word first, then that of the whole file.
    fn settings<'s>(
        &'s self,
        rule: &str,
        endpoint: Option<EndpointIndex>,
    ) -> impl Iterator<Item = &'s RuleSetting> + use<'s> {
        let own = self.endpoint(endpoint).and_then(|e| e.rules.get(rule));
        own.into_iter().chain(self.rules.get(rule))
    }

    /// What is set for clients of a namespace goes before [`Self::settings`].
    fn settings_in<'s>(
        &'s self,
        rule: &str,
        endpoint: Option<EndpointIndex>,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'s RuleSetting> + use<'s> {
        let own = self.namespaces.of(namespace).and_then(|n| n.rules.get(rule));
        own.into_iter().chain(self.settings(rule, endpoint))
    }

    /// The rule is not turned off on this endpoint for clients of this namespace.
    pub fn enables(&self, rule: &str, endpoint: Option<EndpointIndex>, namespace: Option<&str>) -> bool {
        self.settings_in(rule, endpoint, namespace)
            .find_map(|s| s.enabled)
            .unwrap_or(true)
    }

    /// The severity set for the rule on this endpoint for clients of this namespace.
    pub fn severity(
        &self,
        rule: &str,
        endpoint: Option<EndpointIndex>,
        namespace: Option<&str>,
    ) -> Option<Severity> {
        self.settings_in(rule, endpoint, namespace)
            .find_map(|s| s.severity)
    }

    /// What MCP with a server that no pin names means for clients of this namespace.
    pub fn unpinned_in(&self, namespace: Option<&str>) -> Unpinned {
        let own = self.namespaces.of(namespace).and_then(|n| n.unpinned);
        own.unwrap_or(self.unpinned)
    }

    /// `value` is listed under the rule's `allow`, for this endpoint or for all. Case does not count.
    pub fn accepts(&self, rule: &str, endpoint: Option<EndpointIndex>, value: &str) -> bool {
        self.settings(rule, endpoint)
            .flat_map(|s| &s.allow)
            .any(|entry| matches_entry(entry, value))
    }

    /// Every `allow` entry of the rule on this endpoint, for rules that read them as prefixes.
    pub fn allowed(&self, rule: &str, endpoint: Option<EndpointIndex>) -> impl Iterator<Item = &str> {
        self.settings(rule, endpoint)
            .flat_map(|s| &s.allow)
            .map(String::as_str)
    }

    /// No server is pinned.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The endpoint, if the index is of these pins.
    pub fn endpoint(&self, index: Option<EndpointIndex>) -> Option<&Endpoint> {
        self.endpoints.get(index?)
    }

    /// The canaries that stand in `text`, as they are or in base64 or hex.
    pub fn canaries_in(&self, text: &[u8]) -> impl Iterator<Item = &Canary> {
        self.canary_index
            .find(text)
            .into_iter()
            .filter_map(|i| self.canaries.get(i))
    }

    /// `ip` belongs to the mandated gateway.
    pub fn is_gateway(&self, ip: IpAddr) -> bool {
        self.gateway.iter().any(|net| net.contains(&ip))
    }
}

/// `*` at either end of `entry` stands for any text.
fn matches_entry(entry: &str, value: &str) -> bool {
    let (entry, value) = (entry.to_ascii_lowercase(), value.to_ascii_lowercase());
    match (entry.strip_prefix('*'), entry.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(rest), Some(_)) => value.contains(rest.trim_end_matches('*')),
        (Some(end), None) => value.ends_with(end),
        (None, Some(start)) => value.starts_with(start),
        (None, None) => value == entry,
    }
}

impl Endpoint {
    /// It is approved for clients of this Kubernetes namespace; for one that is not known in any case.
    pub fn serves(&self, namespace: Option<&str>) -> bool {
        namespaces::holds(&self.namespaces, namespace)
    }

    /// `ip` lies in the pinned prefixes, or none are pinned.
    pub fn allows_address(&self, ip: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&ip))
    }

    /// The pinned prefixes as text, for `expected`.
    pub fn address_texts(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }
}
