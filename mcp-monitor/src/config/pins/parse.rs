//! The pins file, key by key.

use std::{collections::BTreeMap, time::Duration};

use hashbrown::HashMap;
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::{
    Canary, DataClass, EncryptedDns, Endpoint, EndpointUrl, LlmPin, NamespacePins, Namespaces, Pins, Policy,
    RuleSetting, Suppression, Unpinned, canary::CanaryIndex, is_rule_id, lookup::HostIndex, parse_endpoint,
    takes_allow,
};
use crate::{
    config::{
        ConfigError,
        yaml::{Node, Reader, Value},
    },
    types::{Severity, Timestamp},
};

const TOP: &[&str] = &[
    "version",
    "endpoints",
    "resolvers",
    "gateway",
    "llm",
    "canaries",
    "feeds",
    "advisories",
    "unpinned",
    "policy",
    "rules",
    "namespaces",
    "suppress",
];

/// Shortest canary value: a shorter one would be found by chance.
const MIN_CANARY: usize = 6;

pub(super) fn parse(text: &str, file: &str) -> Result<Pins, ConfigError> {
    let r = Reader { file };
    let root = r.read(text)?;
    let entries = r.map(&root, "the pins file", TOP)?;
    let get = |name: &str| entries.iter().find(|(k, _)| k.name == name).map(|(_, v)| v);

    let Some(version) = get("version") else {
        return Err(r.at(&root, "no version", "version: 1 as a key of the file"));
    };
    if !matches!(version.value, Value::Int(1)) {
        let found = match &version.value {
            Value::Int(n) => format!("unsupported version {n}"),
            other => format!("{} for version", other.kind()),
        };
        return Err(r.at(version, found, "version: 1"));
    }

    let mut pins = Pins::default();
    if let Some(node) = get("endpoints") {
        pins.endpoints = endpoints(&r, node)?;
    }
    if let Some(node) = get("resolvers") {
        pins.resolvers = prefixes(&r, node, "resolvers")?;
    }
    if let Some(node) = get("gateway") {
        for (_, value) in r.map(node, "gateway", &["addresses"])? {
            pins.gateway = prefixes(&r, value, "gateway.addresses")?;
        }
    }
    if let Some(node) = get("llm") {
        for item in r.list(node, "llm")? {
            pins.llm.push(llm(&r, item)?);
        }
    }
    let mut canaries = Vec::new();
    if let Some(node) = get("canaries") {
        for item in r.list(node, "canaries")? {
            let (canary, value) = canary(&r, item)?;
            pins.canaries.push(canary);
            canaries.push(value);
        }
    }
    if let Some(node) = get("feeds") {
        pins.feeds = texts(&r, node, "feeds")?;
    }
    if let Some(node) = get("advisories") {
        pins.advisories = texts(&r, node, "advisories")?;
    }
    if let Some(node) = get("unpinned") {
        pins.unpinned = unpinned(&r, node)?;
    }
    if let Some(node) = get("namespaces") {
        pins.namespaces = namespaces(&r, node)?;
    }
    if let Some(node) = get("policy") {
        pins.policy = policy(&r, node)?;
    }
    if let Some(node) = get("rules") {
        pins.rules = rules(&r, node)?;
    }
    if let Some(node) = get("suppress") {
        for item in r.list(node, "suppress")? {
            pins.suppress.push(suppression(&r, item, &pins.endpoints)?);
        }
    }
    pins.index = HostIndex::new(&pins.endpoints);
    pins.canary_index = CanaryIndex::new(&canaries);
    Ok(pins)
}

fn unpinned(r: &Reader<'_>, node: &Node) -> Result<Unpinned, ConfigError> {
    let words = [
        ("alert", Unpinned::Alert),
        ("ignore", Unpinned::Ignore),
        ("learn", Unpinned::Learn),
    ];
    word(r, node, "unpinned", &words)
}

fn namespaces(r: &Reader<'_>, node: &Node) -> Result<Namespaces, ConfigError> {
    let mut read = Namespaces::default();
    for (key, value) in r.any_map(node, "namespaces")? {
        if !is_namespace(&key.name) {
            let found = format!("bad namespace {:?}", key.name);
            return Err(r.error(Some(key.at), found, NAMESPACE));
        }
        let mut pins = NamespacePins::default();
        for (inner, item) in r.map(value, &key.name, &["unpinned", "rules"])? {
            if inner.name == "unpinned" {
                pins.unpinned = Some(unpinned(r, item)?);
                continue;
            }
            pins.rules = rules(r, item)?;
            // Rules read these themselves, and do not know whose client it is.
            let more = |s: &RuleSetting| !s.allow.is_empty() || !s.classes.is_empty();
            if let Some((rule, _)) = pins.rules.iter().find(|(_, setting)| more(setting)) {
                let found = format!("allow or classes of {rule} in a namespace");
                return Err(r.at(
                    item,
                    found,
                    "severity or enabled; allow stands under the rules of the file or of an endpoint",
                ));
            }
        }
        read.0.push((key.name.clone(), pins));
    }
    Ok(read)
}

const NAMESPACE: &str = "a Kubernetes namespace such as team-a, or with * at one end";

/// RFC 1123 label, or one with `*` at either end.
fn is_namespace(text: &str) -> bool {
    let name = text.strip_prefix('*').unwrap_or(text);
    let name = name.strip_suffix('*').unwrap_or(name);
    let letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && name.len() <= 63 && name.bytes().all(letter)
}

pub(super) fn namespace(r: &Reader<'_>, node: &Node) -> Result<String, ConfigError> {
    let text = r.text(node, "namespace")?;
    let read = is_namespace(text).then(|| text.to_owned());
    read.ok_or_else(|| r.at(node, format!("bad namespace {text:?}"), NAMESPACE))
}

fn endpoints(r: &Reader<'_>, node: &Node) -> Result<Vec<Endpoint>, ConfigError> {
    let mut found = Vec::new();
    let mut lines: HashMap<String, u64> = HashMap::new();
    for item in r.list(node, "endpoints")? {
        let (endpoint, name_node) = parse_endpoint::endpoint(r, item)?;
        if let Some(line) = lines.insert(endpoint.name.to_string(), name_node.at.line()) {
            return Err(r.at(
                name_node,
                format!(
                    "duplicate endpoint name {:?} (first on line {line})",
                    endpoint.name
                ),
                "a name of its own for each endpoint",
            ));
        }
        found.push(endpoint);
    }
    Ok(found)
}

fn llm(r: &Reader<'_>, node: &Node) -> Result<LlmPin, ConfigError> {
    let entries = r.map(node, "llm", &["name", "url"])?;
    let (mut name, mut address) = (None, None);
    for (key, value) in entries {
        match key.name.as_str() {
            "name" => name = Some(r.text(value, "name")?.into()),
            _ => address = Some(url(r, value, "url")?),
        }
    }
    Ok(LlmPin {
        name: name.ok_or_else(|| missing(r, node, "llm", "name"))?,
        url: address.ok_or_else(|| missing(r, node, "llm", "url"))?,
    })
}

fn canary(r: &Reader<'_>, node: &Node) -> Result<(Canary, Zeroizing<String>), ConfigError> {
    let (mut name, mut value) = (None, None);
    for (key, item) in r.map(node, "canary", &["name", "value"])? {
        match key.name.as_str() {
            "name" => name = Some(r.text(item, "name")?.into()),
            _ => {
                let text = r.text(item, "value")?;
                if text.len() < MIN_CANARY {
                    let expected = format!("at least {MIN_CANARY} bytes");
                    return Err(r.at(item, "a canary value that short is found by chance", expected));
                }
                value = Some(Zeroizing::new(text.to_owned()));
            }
        }
    }
    let canary = Canary {
        name: name.ok_or_else(|| missing(r, node, "canary", "name"))?,
    };
    let value = value.ok_or_else(|| missing(r, node, "canary", "value"))?;
    Ok((canary, value))
}

fn policy(r: &Reader<'_>, node: &Node) -> Result<Policy, ConfigError> {
    const KEYS: &[&str] = &[
        "sampling",
        "token_lifetime",
        "encrypted_dns",
        "stale_after",
        "concentration_share",
    ];
    let mut policy = Policy::default();
    for (key, value) in r.map(node, "policy", KEYS)? {
        match key.name.as_str() {
            "sampling" => {
                for (key, value) in r.map(value, "policy.sampling", &["per_minute", "max_tokens"])? {
                    let number = r.whole(value, &key.name, 1)?;
                    match key.name.as_str() {
                        "per_minute" => policy.sampling_per_minute = number,
                        _ => policy.sampling_max_tokens = number,
                    }
                }
            }
            "token_lifetime" => policy.token_lifetime = duration(r, value, &key.name)?,
            "stale_after" => policy.stale_after = duration(r, value, &key.name)?,
            "encrypted_dns" => {
                let words = [("alert", EncryptedDns::Alert), ("allow", EncryptedDns::Allow)];
                policy.encrypted_dns = word(r, value, &key.name, &words)?;
            }
            _ => {
                policy.concentration_share = match value.value {
                    Value::Float(share) if share > 0.0 && share <= 1.0 => share,
                    Value::Int(1) => 1.0,
                    _ => {
                        let found = format!("{} for concentration_share", value.value.kind());
                        return Err(r.at(value, found, "a share above 0 and up to 1"));
                    }
                };
            }
        }
    }
    Ok(policy)
}

/// Settings by rule id, of the whole file or of one endpoint.
pub(super) fn rules(r: &Reader<'_>, node: &Node) -> Result<BTreeMap<String, RuleSetting>, ConfigError> {
    let mut settings = BTreeMap::new();
    for (key, value) in r.any_map(node, "rules")? {
        if !is_rule_id(&key.name) {
            return Err(r.error(
                Some(key.at),
                format!("unknown rule {:?}", key.name),
                "a rule id such as DST-01 (mcp-monitor rules list shows all)",
            ));
        }
        let mut setting = RuleSetting::default();
        let mut keys = vec!["severity", "enabled"];
        if takes_allow(&key.name) {
            keys.push("allow");
        }
        if key.name == "CR-13" {
            keys.push("classes");
        }
        for (inner, item) in r.map(value, &key.name, &keys)? {
            match inner.name.as_str() {
                "severity" => {
                    let words = Severity::ALL.map(|s| (s.as_str(), s));
                    setting.severity = Some(word(r, item, "severity", &words)?);
                }
                "allow" => setting.allow = texts(r, item, "allow")?,
                "classes" => setting.classes = classes(r, item)?,
                _ => setting.enabled = Some(r.bool(item, "enabled")?),
            }
        }
        settings.insert(key.name.clone(), setting);
    }
    Ok(settings)
}

/// Most memory of one class's automaton, bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Classes of data by name, each with a regular expression (the syntax of the `regex` crate).
fn classes(r: &Reader<'_>, node: &Node) -> Result<Vec<DataClass>, ConfigError> {
    let mut found = Vec::new();
    for (key, value) in r.any_map(node, "classes")? {
        let text = r.text(value, "a class")?;
        let pattern = regex::bytes::RegexBuilder::new(text)
            .size_limit(MAX_PATTERN)
            .build()
            .ok()
            .filter(|pattern| !pattern.is_match(b""));
        found.push(DataClass {
            name: key.name.clone(),
            pattern: pattern.ok_or_else(|| {
                let expected = "a regular expression such as EMP-[0-9]{6} that does not match nothing";
                r.at(
                    value,
                    format!("bad pattern {text:?} of class {:?}", key.name),
                    expected,
                )
            })?,
        });
    }
    Ok(found)
}

fn suppression(r: &Reader<'_>, node: &Node, endpoints: &[Endpoint]) -> Result<Suppression, ConfigError> {
    let mut rule = None;
    let (mut endpoint, mut until, mut reason) = (None, None, None);
    let mut client = None;
    let keys = ["rule", "endpoint", "namespace", "until", "reason"];
    for (key, value) in r.map(node, "suppress", &keys)? {
        let text = r.text(value, &key.name)?;
        match key.name.as_str() {
            "rule" if is_rule_id(text) => rule = Some(text.to_owned()),
            "rule" => {
                let expected = "a rule id such as DST-01 (mcp-monitor rules list shows all)";
                return Err(r.at(value, format!("unknown rule {text:?}"), expected));
            }
            "endpoint" => {
                let index = endpoints.iter().position(|e| *e.name == *text);
                endpoint = Some(index.ok_or_else(|| {
                    let expected = "the name of an endpoint of this file";
                    r.at(value, format!("unknown endpoint {text:?}"), expected)
                })?);
            }
            "namespace" => client = Some(namespace(r, value)?),
            "until" => until = Some(date(r, value, "until")?),
            _ => reason = Some(text.to_owned()),
        }
    }
    Ok(Suppression {
        rule: rule.ok_or_else(|| missing(r, node, "suppress", "rule"))?,
        endpoint,
        namespace: client,
        until,
        reason,
    })
}

pub(super) fn missing(r: &Reader<'_>, node: &Node, what: &str, key: &str) -> ConfigError {
    r.at(node, format!("no {key} in {what}"), format!("the key {key}"))
}

pub(super) fn texts(r: &Reader<'_>, node: &Node, what: &str) -> Result<Vec<String>, ConfigError> {
    r.list(node, what)?
        .iter()
        .map(|item| r.text(item, what).map(str::to_owned))
        .collect()
}

pub(super) fn url(r: &Reader<'_>, node: &Node, what: &str) -> Result<EndpointUrl, ConfigError> {
    let text = r.text(node, what)?;
    EndpointUrl::parse(text).map_err(|expected| r.at(node, format!("bad {what} {text:?}"), expected))
}

/// One of several words.
pub(super) fn word<T: Copy>(
    r: &Reader<'_>,
    node: &Node,
    what: &str,
    words: &[(&str, T)],
) -> Result<T, ConfigError> {
    let text = r.text(node, what)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            r.at(
                node,
                format!("{what} {text:?}"),
                format!("one of {}", all.join(", ")),
            )
        })
}

/// CIDR prefixes; an address without length is itself alone.
pub(super) fn prefixes(r: &Reader<'_>, node: &Node, what: &str) -> Result<Vec<IpNet>, ConfigError> {
    const FORM: &str = "a CIDR prefix such as 203.0.113.0/24 or 2001:db8::/32";
    r.list(node, what)?
        .iter()
        .map(|item| {
            let text = r.text(item, what)?;
            if let Ok(ip) = text.parse::<std::net::IpAddr>() {
                return Ok(IpNet::from(ip));
            }
            let net: IpNet = text.parse().map_err(|_| {
                let kind = if text.contains('/') {
                    "bad prefix"
                } else {
                    "no address prefix"
                };
                r.at(item, format!("{kind} {text:?} in {what}"), FORM)
            })?;
            if net != net.trunc() {
                return Err(r.at(
                    item,
                    format!("{text:?} in {what} is a host, not a prefix: bits below the length are set"),
                    format!(
                        "{} for the network or {} for the host",
                        net.trunc(),
                        IpNet::from(net.addr())
                    ),
                ));
            }
            Ok(net)
        })
        .collect()
}

/// RFC 3339 time, or a date alone (its midnight, UTC).
pub(super) fn date(r: &Reader<'_>, node: &Node, what: &str) -> Result<Timestamp, ConfigError> {
    let text = r.text(node, what)?;
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .ok_or_else(|| {
            let expected = "a time such as 2026-12-01T00:00:00Z or a date such as 2026-12-01";
            r.at(node, format!("bad date {text:?} for {what}"), expected)
        })
}

/// `24h`, `90s`, `1h30m`, `7d`.
fn duration(r: &Reader<'_>, node: &Node, what: &str) -> Result<Duration, ConfigError> {
    const FORM: &str = "a duration such as 24h, 90s, 1h30m or 7d";
    let Value::Text(text) = &node.value else {
        return Err(r.at(node, format!("{} for {what}", node.value.kind()), FORM));
    };
    parse_duration(text).ok_or_else(|| r.at(node, format!("bad duration {text:?} for {what}"), FORM))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0u64;
    let mut number: Option<u64> = None;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit.into())?);
        } else {
            let unit = match c {
                's' => 1,
                'm' => 60,
                'h' => 60 * 60,
                'd' => 24 * 60 * 60,
                _ => return None,
            };
            total = total.checked_add(number.take()?.checked_mul(unit)?)?;
        }
    }
    (number.is_none() && total > 0).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = include_str!("testdata/whole.yaml");

    fn fails(text: &str) -> String {
        parse(text, "pins.yaml").unwrap_err().to_string()
    }

    #[test]
    fn reads_every_key_of_the_contract() {
        let pins = parse(WHOLE, "pins.yaml").unwrap();
        let e = &pins.endpoints[0];
        assert_eq!(e.url.to_string(), "https://mcp.marketdata.example/mcp");
        assert_eq!(e.addresses.len(), 2);
        assert_eq!(e.tls.min_version, Some(0x0304));
        assert_eq!(e.tls.spki_sha256.len(), 1);
        assert_eq!(
            e.mcp.min_protocol_version.as_ref().unwrap().as_str(),
            "2025-11-25"
        );
        assert!(
            e.mcp
                .server
                .as_ref()
                .unwrap()
                .version
                .as_ref()
                .unwrap()
                .allows("4.2.0")
        );
        assert_eq!(e.mcp.tools.as_ref().unwrap().len(), 1);
        assert_eq!(e.auth.required, Some(true));
        assert_eq!(e.redirects[0].to_string(), "https://mcp-eu.marketdata.example");
        assert_eq!(e.learned.unwrap().observations, 42);
        assert!(e.first_party && e.mesh_encrypted);
        assert_eq!(pins.resolvers[0].to_string(), "10.96.0.10/32");
        assert_eq!(pins.policy, Policy::default());
        assert_eq!(pins.rules["DST-01"].severity, Some(Severity::Medium));
        assert_eq!(pins.rules["DP-02"].enabled, Some(false));
        assert_eq!(pins.suppress[0].endpoint, Some(0));
        assert!(pins.suppress[0].until.is_some());
        assert!(!format!("{pins:?}").contains("CANARY-7f3a"));
    }

    #[test]
    fn refusing_drift_takes_addresses_to_hold_it_against() {
        let with = "version: 1\nendpoints: [{name: a, url: 'https://a.example/', addresses: [192.0.2.0/24], enforce: true}, {name: b, url: 'https://a.example/b'}]\n";
        let pins = parse(with, "pins.yaml").unwrap();
        assert!(pins.endpoints[0].enforce && !pins.endpoints[1].enforce);
        assert!(
            pins.pinned_hosts()[0].enforce,
            "the host's connections cannot be told apart"
        );
        let without = "version: 1\nendpoints:\n  - name: a\n    url: https://a.example/\n    enforce: true\n";
        let without = parse(without, "pins.yaml");
        let error = without.unwrap_err().to_string();
        assert!(
            error.contains(":5:") && error.contains("without addresses"),
            "{error}"
        );
    }

    #[test]
    fn an_endpoint_has_the_first_word_on_a_rule() {
        let pins = parse(
            "version: 1\nendpoints:\n  - {name: a, url: 'https://a.example/', rules: {DP-02: {enabled: true, allow: ['doc_*']}}}\n  - {name: b, url: 'https://b.example/'}\nrules: {DP-02: {enabled: false, severity: low, allow: [help]}}\n",
            "p",
        )
        .unwrap();
        assert!(pins.enables("DP-02", Some(0), None) && !pins.enables("DP-02", Some(1), None));
        assert!(!pins.enables("DP-02", None, None) && pins.enables("DP-01", None, None));
        assert_eq!(pins.severity("DP-02", Some(0), None), Some(Severity::Low));
        assert!(pins.accepts("DP-02", Some(0), "DOC_search") && pins.accepts("DP-02", Some(0), "help"));
        assert!(!pins.accepts("DP-02", Some(1), "doc_search") && pins.accepts("DP-02", None, "help"));
        let bad = fails("version: 1\nendpoints: [{name: a, url: 'https://a/', rules: {DP-99: {}}}]");
        assert!(bad.contains("unknown rule \"DP-99\""), "{bad}");
    }

    #[test]
    fn names_line_column_found_and_expected() {
        let text =
            "version: 1\nendpoints:\n  - name: a\n    url: https://a.example/\n    adresses: [10.0.0.0/8]\n";
        let message = fails(text);
        assert!(
            message.starts_with(
                "pins.yaml:5:5: unknown key \"adresses\" in endpoint; expected one of name, url, addresses"
            ),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }

    #[test]
    fn refuses_what_is_wrong_in_one_line() {
        let e = |body: &str| {
            format!("version: 1\nendpoints:\n  - {{name: a, url: 'https://a.example/', {body}}}\n")
        };
        let cases = [
            ("version: 2".to_owned(), "unsupported version 2"),
            ("endpoints: []".to_owned(), "no version"),
            ("".to_owned(), "no version"),
            ("version: 1\nendpoint: []".to_owned(), "unknown key \"endpoint\""),
            ("version: 1\nversion: 1".to_owned(), "duplicate"),
            (
                "version: 1\nendpoints: [{name: a}]".to_owned(),
                "no url in endpoint",
            ),
            (
                "version: 1\nendpoints: [{name: a, url: 'a.example'}]".to_owned(),
                "bad url",
            ),
            (
                "version: 1\nendpoints: [{name: a, url: 'http://127.1/'}]".to_owned(),
                "bad url",
            ),
            (
                "version: 1\nendpoints: [{name: a, url: 'http://a/'}, {name: a, url: 'http://b/'}]"
                    .to_owned(),
                "duplicate endpoint name \"a\" (first on line 2)",
            ),
            (e("addresses: [203.0.113.0/33]"), "bad prefix"),
            (e("addresses: [mcp.example]"), "no address prefix \"mcp.example\""),
            (e("addresses: [203.0.113.7/24]"), "is a host, not a prefix"),
            (e("addresses: 10.0.0.0/8"), "expected a list"),
            (e("tls: {min_version: '1.4'}"), "min_version"),
            (e("tls: {spki_sha256: ['AAAA']}"), "spki_sha256"),
            (e("tls: {issuers: ['Example CA']}"), "issuers"),
            (e("mcp: {transport: sse}"), "one of streamable-http, http-sse"),
            (e("mcp: {min_protocol_version: 'new'}"), "min_protocol_version"),
            (e("mcp: {tools: {t: 'sha256:ABC'}}"), "sha256:"),
            (e("mcp: {server: {version: '>=x'}}"), "version"),
            (e("redirects: ['ftp://x/']"), "redirects"),
            (e("learned: {since: soon}"), "bad date"),
            (
                "version: 1\nrules: {DST-99: {enabled: false}}".to_owned(),
                "unknown rule \"DST-99\"",
            ),
            (
                "version: 1\nrules: {DST-01: {severity: loud}}".to_owned(),
                "one of info, low, medium, high, critical",
            ),
            (
                "version: 1\npolicy: {token_lifetime: 1y}".to_owned(),
                "bad duration",
            ),
            (
                "version: 1\npolicy: {concentration_share: 2}".to_owned(),
                "concentration_share",
            ),
            (
                "version: 1\nsuppress: [{rule: DST-01, endpoint: nobody}]".to_owned(),
                "unknown endpoint",
            ),
            (
                "version: 1\nsuppress: [{rule: DST-01, until: tomorrow}]".to_owned(),
                "bad date",
            ),
            (
                "version: 1\nunpinned: maybe".to_owned(),
                "one of alert, ignore, learn",
            ),
            (
                "version: 1\ncanaries: [{name: a, value: abc}]".to_owned(),
                "found by chance",
            ),
            (
                "version: 1\nrules: {DST-01: {allow: [x]}}".to_owned(),
                "unknown key \"allow\" in DST-01",
            ),
            (
                "version: 1\nrules: {CR-13: {classes: {a: '('}}}".to_owned(),
                "bad pattern",
            ),
            (
                "version: 1\nrules: {CR-13: {classes: {a: 'x*'}}}".to_owned(),
                "bad pattern",
            ),
            ("version: [1".to_owned(), "pins.yaml:"),
        ];
        for (text, wanted) in cases {
            let message = fails(&text);
            assert!(message.contains(wanted), "{text}\n→ {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_rule_lets_pass_what_is_listed() {
        let text = "version: 1\nrules: {RED-09: {allow: [Login.Example, '*.ok.example', 'a*']}}";
        let pins = parse(text, "pins.yaml").unwrap();
        for name in ["login.example", "LOGIN.example", "x.ok.example", "abc"] {
            assert!(pins.accepts("RED-09", None, name), "{name}");
        }
        assert!(!pins.accepts("RED-09", None, "ok.example"));
        assert!(!pins.accepts("RED-11", None, "abc"));
    }

    #[test]
    fn an_error_does_not_show_a_canary() {
        let message =
            fails("version: 1\ncanaries:\n  - {name: a, value: [CANARY-7f3a]}\n  - {name: b, value: 'x\n");
        assert!(!message.contains("7f3a"), "{message}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = parse(&text, "x");
            let _ = parse(&format!("version: 1\nendpoints:\n - {text}"), "x");
        }

        #[test]
        fn durations_add_up(h in 0u64..1000, m in 1u64..1000) {
            prop_assert_eq!(parse_duration(&format!("{h}h{m}m")), Some(Duration::from_secs(h.saturating_mul(3600).saturating_add(m.saturating_mul(60)))));
        }
    }
}
