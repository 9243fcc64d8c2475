//! `mcp-monitor check`: what this machine gives live capture, what it lacks, and what that costs.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::Serialize;

use crate::config::{origin::OriginTables, pins::Pins};

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
    items.extend(tls_libraries(Path::new("/proc")));
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
    let mut items = vec![privileges, cgroup2(), btf()];
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

/// Processes looked into.
const PROCESSES_MAX: usize = 16_384;

/// Libraries that encrypt what the processes here say.
fn tls_libraries(proc: &Path) -> Vec<Item> {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    let Ok(entries) = fs::read_dir(proc) else {
        return Vec::new();
    };
    for entry in entries.flatten().take(PROCESSES_MAX) {
        let Ok(maps) = fs::read_to_string(entry.path().join("maps")) else {
            continue;
        };
        let mut libraries: Vec<&str> = maps.lines().filter_map(tls_library).collect();
        libraries.sort_unstable();
        libraries.dedup();
        for library in libraries {
            let count = users.entry(library.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }
    if users.is_empty() {
        return vec![Item::new(
            "TLS libraries",
            State::Info,
            "no process here has one loaded that could be read",
        )];
    }
    users
        .into_iter()
        .map(|(path, count)| {
            let plural = if count == 1 { "" } else { "es" };
            Item::new(
                "TLS library",
                State::Info,
                format!("{path}, {count} process{plural}"),
            )
        })
        .collect()
}

/// Path of the TLS library that a line of `/proc/PID/maps` maps.
fn tls_library(line: &str) -> Option<&str> {
    let path = line.get(line.find('/')?..)?;
    let name = path.rsplit('/').next()?;
    let known = [
        "libssl.so",
        "libssl3.so",
        "libgnutls.so",
        "libmbedtls.so",
        "libwolfssl.so",
        "libboringssl.so",
    ];
    // Python wheels and the like carry copies such as libssl-81ffa89e.so.3.
    let bundled = name.starts_with("libssl-") && name.contains(".so");
    (bundled || known.iter().any(|library| name.starts_with(library))).then_some(path)
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
    fn knows_tls_libraries() {
        let line = "7f00-7f01 r-xp 00000000 08:01 42   /usr/lib/x86_64-linux-gnu/libssl.so.3";
        assert_eq!(tls_library(line), Some("/usr/lib/x86_64-linux-gnu/libssl.so.3"));
        assert!(tls_library("7f00-7f01 r-xp 0 08:01 42 /a/_ssl.libs/libssl-81ffa89e.so.3").is_some());
        assert_eq!(
            tls_library("7f00-7f01 r-xp 0 08:01 42 /usr/lib/libssh.so.4"),
            None
        );
        assert_eq!(tls_library("7f00-7f01 rw-p 00000000 00:00 0 [heap]"), None);
    }

    #[test]
    fn counts_the_processes_of_a_library() {
        let proc = tempfile::tempdir().unwrap();
        for pid in ["1", "2"] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            let maps =
                "7f00-7f01 r--p 0 08:01 42 /lib/libssl.so.3\n7f01-7f02 r-xp 0 08:01 42 /lib/libssl.so.3\n";
            fs::write(proc.path().join(pid).join("maps"), maps).unwrap();
        }
        let items = tls_libraries(proc.path());
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].found, "/lib/libssl.so.3, 2 processes");
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
