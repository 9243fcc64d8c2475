//! `state` and `baseline` of the program configuration: what outlives the process, and how it learns.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    limits::read_duration,
    program::Key,
    quantity::{show_bytes, show_duration},
    section::{key, names},
    yaml::{Node, Reader},
};

const DAY: Duration = Duration::from_secs(86_400);
const SMALLEST: u64 = 1 << 20;

/// The state file and its bounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Where it is; `None`: nothing is kept.
    pub file: Option<PathBuf>,
    /// Bytes of it; beyond it the oldest alerts go first, then the facts longest unseen.
    pub max_bytes: u64,
    /// Alerts in it.
    pub max_alerts: u64,
    /// How long an alert is kept.
    pub keep_alerts: Duration,
    /// How long what was verified is kept.
    pub keep_verified: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            file: None,
            max_bytes: 256 << 20,
            max_alerts: 100_000,
            keep_alerts: DAY.saturating_mul(90),
            keep_verified: DAY.saturating_mul(400),
        }
    }
}

/// How the baseline learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Baseline {
    /// DNS.
    pub learn_dns: Duration,
    /// Addresses of connections.
    pub learn_network: Duration,
    /// TLS.
    pub learn_tls: Duration,
    /// Identity, transports, revisions, capabilities.
    pub learn_mcp: Duration,
    /// Tools and contacts.
    pub learn_tools: Duration,
    /// Credentials.
    pub learn_auth: Duration,
    /// How long an alert keeps its server from teaching.
    pub quarantine: Duration,
    /// Facts remembered.
    pub max_facts: u64,
}

impl Default for Baseline {
    fn default() -> Self {
        let week = DAY.saturating_mul(7);
        Self {
            learn_dns: week,
            learn_network: week,
            learn_tls: week,
            learn_mcp: DAY,
            learn_tools: DAY,
            learn_auth: DAY,
            quarantine: DAY,
            max_facts: 65_536,
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "state",
        "file",
        "path",
        "none: nothing is kept".into(),
        "SQLite file for alerts, the baseline and what was verified, where `--state` names none. Made with mode 0600, its folder with 0700. A relative path is relative to the configuration file. See docs/BASELINE.md."
    ),
    key!(
        "state",
        "max_bytes",
        "size, from 1MiB",
        show_bytes(State::default().max_bytes),
        "Size of the file; beyond it the oldest alerts go first, then the facts longest unseen (counted)."
    ),
    key!(
        "state",
        "max_alerts",
        "number",
        State::default().max_alerts.to_string(),
        "Alerts kept; beyond it the oldest go (counted)."
    ),
    key!(
        "state",
        "keep_alerts",
        "time",
        show_duration(State::default().keep_alerts),
        "How long an alert is kept, in capture time before the newest one."
    ),
    key!(
        "state",
        "keep_verified",
        "time",
        show_duration(State::default().keep_verified),
        "How long the hourly counts for `attest` are kept."
    ),
    key!(
        "baseline",
        "learn_dns",
        "time",
        show_duration(Baseline::default().learn_dns),
        "How long a name's answers, aliases, resolvers and times to live are learned in silence, from its first sight on. What comes later is `new` until it is as old."
    ),
    key!(
        "baseline",
        "learn_network",
        "time",
        show_duration(Baseline::default().learn_network),
        "The same for addresses that connections went to."
    ),
    key!(
        "baseline",
        "learn_tls",
        "time",
        show_duration(Baseline::default().learn_tls),
        "The same for TLS versions, ciphers, certificates and fingerprints."
    ),
    key!(
        "baseline",
        "learn_mcp",
        "time",
        show_duration(Baseline::default().learn_mcp),
        "The same for transports, revisions, server identity and capabilities."
    ),
    key!(
        "baseline",
        "learn_tools",
        "time",
        show_duration(Baseline::default().learn_tools),
        "The same for tools and for whom their arguments name."
    ),
    key!(
        "baseline",
        "learn_auth",
        "time",
        show_duration(Baseline::default().learn_auth),
        "The same for how requests authenticate and who issues their tokens."
    ),
    key!(
        "baseline",
        "quarantine",
        "time",
        show_duration(Baseline::default().quarantine),
        "After an alert that questions a server's identity, nothing new is learned of that server for this long."
    ),
    key!(
        "baseline",
        "max_facts",
        "number",
        Baseline::default().max_facts.to_string(),
        "Facts remembered; the one longest unseen makes room (counted)."
    ),
];

impl State {
    pub(super) fn read(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let mut state = Self::default();
        for (key, node) in r.map(node, "state", &names(KEYS, "state"))? {
            match key.name.as_str() {
                "file" => state.file = Some(folder.join(r.text(node, "file")?)),
                "max_bytes" => {
                    let bytes = node.bytes();
                    state.max_bytes = bytes.filter(|b| *b >= SMALLEST).ok_or_else(|| {
                        r.at(node, "bad size for max_bytes", "a size from 1MiB, such as 256MiB")
                    })?;
                }
                "max_alerts" => state.max_alerts = r.whole(node, "max_alerts", 1)?,
                "keep_alerts" => state.keep_alerts = read_duration(r, node, "keep_alerts")?,
                "keep_verified" => state.keep_verified = read_duration(r, node, "keep_verified")?,
                _ => {}
            }
        }
        Ok(state)
    }
}

impl Baseline {
    pub(super) fn read(r: &Reader<'_>, node: &Node) -> Result<Self, ConfigError> {
        let mut baseline = Self::default();
        for (key, node) in r.map(node, "baseline", &names(KEYS, "baseline"))? {
            let name = key.name.as_str();
            let time = match name {
                "learn_dns" => &mut baseline.learn_dns,
                "learn_network" => &mut baseline.learn_network,
                "learn_tls" => &mut baseline.learn_tls,
                "learn_mcp" => &mut baseline.learn_mcp,
                "learn_tools" => &mut baseline.learn_tools,
                "learn_auth" => &mut baseline.learn_auth,
                "quarantine" => &mut baseline.quarantine,
                _ => {
                    baseline.max_facts = r.whole(node, "max_facts", 1)?;
                    continue;
                }
            };
            *time = read_duration(r, node, name)?;
        }
        Ok(baseline)
    }
}
