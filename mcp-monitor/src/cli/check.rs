//! `mcp-monitor check`: what this machine gives live capture, what it lacks, and what that costs.

#[cfg(feature = "live")]
use std::path::Path;
use std::{fmt, fs, time::SystemTime};

use serde::Serialize;

use crate::{
    config::{origin::OriginTables, pins::Pins},
    types::Timestamp,
};

/// Whether something is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is.
    Works,
    /// It is not, and something else does its work at a price.
    Degraded,
    /// It is not, and live capture does not work without it.
    Missing,
    /// For information.
    Info,
}

impl State {
    fn mark(self) -> &'static str {
        match self {
            Self::Works => "ok",
            Self::Degraded => "slow",
            Self::Missing => "FAIL",
            Self::Info => "info",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Item {
    /// What.
    pub what: String,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What its absence costs, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
}

impl Item {
    pub(super) fn new(what: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            state,
            found: found.into(),
            cost: None,
        }
    }

    pub(super) fn costs(mut self, cost: impl Into<String>) -> Self {
        self.cost = Some(cost.into());
        self
    }
}

/// Everything that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Whether `mcp-monitor run` can attach.
    pub live: bool,
    /// In the order to read them.
    pub items: Vec<Item>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(f, "{:>4}  {}: {}", item.state.mark(), item.what, item.found)?;
            if let Some(cost) = &item.cost {
                writeln!(f, "      {cost}")?;
            }
        }
        let verdict = if self.live {
            "live capture works"
        } else {
            "live capture does not work; replay does"
        };
        write!(f, "{verdict}")
    }
}

/// Looks at this machine. Loads nothing, changes nothing.
#[must_use]
pub fn check(origins: &OriginTables) -> Report {
    let mut items = vec![kernel()];
    items.extend(live_items());
    items.extend(plaintext());
    items.push(origin_tables(origins));
    Report {
        live: items.iter().all(|item| item.state != State::Missing),
        items,
    }
}

/// The rules that look things up, and what they have to look them up in.
#[must_use]
pub fn rule_data(pins: &Pins) -> Vec<Item> {
    let mut items = Vec::new();
    let (feeds, advisories) = (&pins.indicators, &pins.known_vulnerable);
    if !pins.feeds.is_empty() {
        let found = format!("{} entries loaded", feeds.len());
        let mut item = Item::new("rule OP-03", State::Works, found);
        if feeds.unsupported() > 0 {
            let out = format!(
                "{} STIX indicators of other kinds are left out",
                feeds.unsupported()
            );
            item = item.costs(out);
        }
        items.push(item);
    }
    if !pins.advisories.is_empty() {
        let found = format!("{} affected packages loaded", advisories.len());
        items.push(Item::new("rule OP-05", State::Works, found));
    }
    for (rule, what) in pins.without_data() {
        items.push(Item::new(format!("rule {rule}"), State::Info, what));
    }
    items
}

/// Everything that is to be said of the pins: data of rules, and what is suppressed as of now.
#[must_use]
pub fn of_pins(pins: &Pins) -> Vec<Item> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = Timestamp::default().saturating_add(now.unwrap_or_default());
    let mut items = rule_data(pins);
    items.extend(suppressions(pins, now));
    items
}

/// What the pins accept, and why. One that is over, or that has no end or no reason, says so: nobody remembers it.
#[must_use]
pub fn suppressions(pins: &Pins, now: Timestamp) -> Vec<Item> {
    let shown = pins.suppress.iter().map(|one| {
        let endpoint = pins.endpoint(one.endpoint).map(|e| format!(" on {}", e.name));
        let namespace = one.namespace.as_ref().map(|n| format!(" in namespace {n}"));
        let what = format!(
            "suppress {}{}{}",
            one.rule,
            endpoint.unwrap_or_default(),
            namespace.unwrap_or_default()
        );
        let end = one.until.map_or("without an end".to_owned(), |until| {
            format!("until {}", until.to_seconds())
        });
        let reason = one.reason.as_deref().unwrap_or("no reason given");
        let item = Item::new(what, State::Info, format!("{end}: {reason}"));
        match (one.until, &one.reason) {
            (Some(until), _) if until <= now => item.costs(
                "that time is over and its findings are alerts again: take it out, or set a later until",
            ),
            (None, _) => item.costs("its findings are never alerts again: set until"),
            (_, None) => item.costs("set reason, for those who find it later"),
            _ => item,
        }
    });
    shown.collect()
}

fn origin_tables(origins: &OriginTables) -> Item {
    match origins.describe() {
        Some(tables) => Item::new("origin tables", State::Works, tables),
        None => Item::new("origin tables", State::Info, "no data loaded")
            .costs("DST-08 says nothing: name tables under `origins` in the configuration"),
    }
}

/// The oldest kernel whose verifier and helpers the programs are written for.
const FLOOR: (u32, u32) = (5, 15);

fn kernel() -> Item {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        None => Item::new("kernel", State::Missing, "not Linux").costs("live capture is for Linux"),
        Some(version) if version < FLOOR => {
            Item::new("kernel", State::Missing, release).costs("Linux 5.15 or newer is needed")
        }
        Some(_) => Item::new("kernel", State::Works, release),
    }
}

/// The first two numbers of a release such as `6.1.0-28-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(not(feature = "live"))]
fn live_items() -> Vec<Item> {
    vec![
        Item::new("program", State::Missing, "built without live capture")
            .costs("build with the default features"),
    ]
}

#[cfg(feature = "live")]
fn live_items() -> Vec<Item> {
    let privileges = privileges();
    let privileged = privileges.state == State::Works;
    let mut items = vec![privileges, cgroup2(), btf(), landlock(), seccomp()];
    if privileged {
        items.extend(kernel_features());
    } else {
        items.push(Item::new(
            "kernel features",
            State::Info,
            "not probed: that takes the privileges",
        ));
    }
    items
}

#[cfg(feature = "live")]
fn privileges() -> Item {
    let missing = crate::source::live::missing_capabilities();
    if missing.is_empty() {
        Item::new("privileges", State::Works, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON")
    } else {
        Item::new("privileges", State::Missing, format!("no {}", missing.join(", ")))
            .costs("run as root, or grant them (setcap, or capabilities.add in Kubernetes)")
    }
}

#[cfg(feature = "live")]
fn cgroup2() -> Item {
    match crate::source::live::cgroup2_root() {
        Ok(root) => Item::new("cgroup2", State::Works, root.display().to_string()),
        Err(_) => Item::new("cgroup2", State::Missing, "not mounted")
            .costs("mount it: mount -t cgroup2 none /sys/fs/cgroup/unified"),
    }
}

#[cfg(feature = "live")]
fn btf() -> Item {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        Item::new("BTF", State::Works, path)
    } else {
        Item::new("BTF", State::Info, "the kernel shows none")
            .costs("nothing: the programs use no kernel structures")
    }
}

/// What a run gives up once it is attached. Its own capabilities it can always give up.
#[cfg(feature = "live")]
fn landlock() -> Item {
    const WHAT: &str = "sandbox: files (landlock)";
    match crate::sandbox::landlock_abi() {
        Ok(abi) => Item::new(WHAT, State::Works, format!("ABI {abi}")),
        Err(why) => Item::new(WHAT, State::Info, why)
            .costs("a run keeps the rights on files that its user and its container give it"),
    }
}

#[cfg(feature = "live")]
fn seccomp() -> Item {
    const WHAT: &str = "sandbox: system calls (seccomp)";
    match crate::sandbox::seccomp_available() {
        Ok(()) => Item::new(WHAT, State::Works, "there"),
        Err(why) => Item::new(WHAT, State::Info, why)
            .costs("a run keeps the system calls that its container gives it"),
    }
}

#[cfg(feature = "live")]
fn kernel_features() -> Vec<Item> {
    use aya::{
        maps::MapType,
        programs::{CgroupSkb, CgroupSockAddr},
        sys::{is_map_supported, is_program_supported},
    };

    use crate::source::live::Features;

    let needed = |what: &str, supported: Option<bool>| match supported {
        Some(true) => Item::new(what, State::Works, "there"),
        Some(false) => Item::new(what, State::Missing, "not there")
            .costs("the kernel was built without it (CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF)"),
        None => Item::new(what, State::Info, "cannot be probed here"),
    };
    let mut items = vec![
        needed(
            "packet programs (cgroup_skb)",
            is_program_supported(CgroupSkb::PROGRAM_TYPE).ok(),
        ),
        needed(
            "connect programs (cgroup_sock_addr)",
            is_program_supported(CgroupSockAddr::PROGRAM_TYPE).ok(),
        ),
        needed("ring buffer", is_map_supported(MapType::RingBuf).ok()),
        needed("socket storage", is_map_supported(MapType::SkStorage).ok()),
        needed(
            "prefix tables (LPM trie)",
            is_map_supported(MapType::LpmTrie).ok(),
        ),
        needed("LRU tables", is_map_supported(MapType::LruHash).ok()),
    ];
    if let Ok(features) = Features::probe() {
        items.push(if features.bpf_loop {
            Item::new(
                "verdicts on DNS and TLS in the kernel (bpf_loop)",
                State::Works,
                "there",
            )
        } else {
            Item::new(
                "verdicts on DNS and TLS in the kernel (bpf_loop)",
                State::Degraded,
                "not there",
            )
            .costs("drift is judged in userspace from the same packets, some milliseconds later")
        });
        items.push(if features.packet_netns {
            Item::new("network namespace of a packet", State::Works, "there")
        } else {
            Item::new("network namespace of a packet", State::Degraded, "not there").costs(
                "flows are kept apart by cgroup; of two pods whose loopback connections have the same ports at the same time, one may go unseen",
            )
        });
    }
    items
}

/// What would be read in the clear on this machine now, what not and why, and what that needs.
#[cfg(feature = "live")]
fn plaintext() -> Vec<Item> {
    plaintext_of(&crate::source::live::tls::survey())
}

#[cfg(feature = "live")]
fn plaintext_of(survey: &crate::source::live::tls::Survey) -> Vec<Item> {
    const WHAT: &str = "TLS plaintext";
    let mut items = vec![ptrace()];
    for file in &survey.files {
        let plural = if file.processes == 1 { "" } else { "es" };
        let used = format!("{}, {} process{plural}", file.path, file.processes);
        if !file.libraries.is_empty() {
            let libraries = file.libraries.join(", ");
            items.push(Item::new(WHAT, State::Works, format!("{used}: {libraries}")));
        }
        for why in &file.unreadable {
            let item = Item::new(WHAT, State::Info, format!("{used}: not read"));
            items.push(item.costs(format!(
                "{why}; its messages stay unseen, OP-06 says so for pinned servers"
            )));
        }
    }
    if survey.files.is_empty() {
        let found = "no process here has a TLS library inside that is known";
        items.push(Item::new(WHAT, State::Info, found));
    }
    if survey.closed > 0 {
        let found = format!("{} processes could not be looked into", survey.closed);
        let item = Item::new(WHAT, State::Info, found);
        items.push(
            item.costs(
                "their TLS is not listed: they ended meanwhile, or are another user's (CAP_SYS_PTRACE)",
            ),
        );
    }
    items
}

#[cfg(not(feature = "live"))]
fn plaintext() -> Vec<Item> {
    Vec::new()
}

#[cfg(feature = "live")]
fn ptrace() -> Item {
    let there = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_PTRACE);
    if there.unwrap_or(false) {
        Item::new("looking into processes", State::Works, "CAP_SYS_PTRACE")
    } else {
        Item::new("looking into processes", State::Degraded, "no CAP_SYS_PTRACE")
            .costs("TLS libraries are found only in processes of the same user; others stay encrypted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_releases() {
        assert_eq!(version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.18.44"), Some((6, 18)));
        assert_eq!(version(""), None);
    }

    #[test]
    fn rules_without_data_say_so() {
        let items = rule_data(&Pins::default());
        assert!(
            items
                .iter()
                .any(|i| i.what == "rule OP-03" && i.found.starts_with("no data loaded"))
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("feed.txt"), "evil.example\n").unwrap();
        let pins = dir.path().join("pins.yaml");
        fs::write(&pins, "version: 1\nfeeds: [feed.txt]\n").unwrap();
        let items = rule_data(&Pins::load(&pins).unwrap());
        assert!(
            items
                .iter()
                .any(|i| i.what == "rule OP-03" && i.found == "1 entries loaded")
        );
        fs::write(dir.path().join("feed.txt"), "no host\n").unwrap();
        let error = Pins::load(&pins).unwrap_err().to_string();
        assert!(error.contains("feed.txt:1:1: "), "{error}");
    }

    #[test]
    fn what_is_suppressed_is_said_with_its_end_and_reason() {
        let pins = "version: 1\nendpoints: [{name: market, url: 'https://a.example/mcp'}]\nsuppress:\n\
            - {rule: DNS-01, endpoint: market, until: 2026-12-01T00:00:00Z, reason: CDN move}\n\
            - {rule: CR-01, namespace: legacy}\n";
        let pins = Pins::parse(pins, "p").unwrap();
        let said = |now: &str| {
            let items = suppressions(&pins, Timestamp::parse_rfc3339(now).unwrap());
            let line = |i: Item| (format!("{}: {}", i.what, i.found), i.cost.is_some());
            items.into_iter().map(line).collect::<Vec<_>>()
        };
        let before = said("2026-11-28T00:00:00Z");
        let first = "suppress DNS-01 on market: until 2026-12-01T00:00:00Z: CDN move".to_owned();
        assert_eq!(before[0], (first.clone(), false));
        let second = "suppress CR-01 in namespace legacy: without an end: no reason given".to_owned();
        assert_eq!(before[1], (second, true));
        assert_eq!(said("2026-12-01T00:00:00Z")[0], (first, true), "it is over");
    }

    #[cfg(feature = "live")]
    #[test]
    fn says_which_programs_here_cannot_be_read() {
        // This test has rustls inside, and the names of other libraries among its constants.
        let own = std::env::current_exe().unwrap().display().to_string();
        let items = plaintext_of(&crate::source::live::tls::survey_without(0));
        let item = items.iter().find(|item| item.found.starts_with(&own)).unwrap();
        assert!(item.found.ends_with("not read"), "{item:?}");
        assert!(item.cost.as_deref().unwrap().contains(" is inside"), "{item:?}");
    }

    #[test]
    fn says_whether_origin_tables_are_loaded() {
        assert_eq!(origin_tables(&OriginTables::default()).found, "no data loaded");
        let loaded = origin_tables(&crate::config::origin::testing::tables());
        assert_eq!(loaded.state, State::Works);
    }

    #[test]
    fn a_missing_part_decides() {
        let mut report = Report {
            live: false,
            items: vec![Item::new("cgroup2", State::Missing, "not mounted").costs("mount it")],
        };
        let text = report.to_string();
        assert!(text.contains("FAIL  cgroup2: not mounted\n      mount it\n"));
        assert!(text.ends_with("live capture does not work; replay does"));
        report.live = true;
        assert!(report.to_string().ends_with("live capture works"));
    }
}
