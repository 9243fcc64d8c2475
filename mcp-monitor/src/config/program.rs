//! The program configuration (`--config`): how the program runs, as pins say what must hold.
//!
//! Every key is optional. docs/CONFIG.md is written by [`reference`](fn@reference).

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    limits::{Unit, read_duration},
    origin::OriginFiles,
    plaintext::Plaintext,
    quantity::{show_bytes, show_duration},
    sinks::{SinkSection, Spool},
    yaml::{MAX_FILE_BYTES, Node, Reader},
};

pub use super::{
    kubernetes::{Ask, Kubernetes},
    limits::Limits,
    sandbox::Sandbox,
    service::{Http, Log, Service},
    state::{Baseline, State},
};

/// A program configuration, checked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// Pins file, where `--pins` names none.
    pub pins: Option<PathBuf>,
    /// Worker threads of `replay`, where `--threads` says nothing.
    pub threads: Option<u16>,
    /// Key of fingerprints.
    pub fingerprint_key: Option<FingerprintKey>,
    /// Where packets come from.
    pub source: Source,
    /// Whose TLS is read, live.
    pub plaintext: Plaintext,
    /// Dedup of alerts.
    pub alerts: Alerts,
    /// What outlives the process.
    pub state: State,
    /// How it learns.
    pub baseline: Baseline,
    /// Tables of networks and countries (DST-08).
    pub origins: OriginFiles,
    /// The HTTP server; `None`: there is none.
    pub http: Option<Http>,
    /// The program's own log.
    pub log: Log,
    /// How it ends, and when it counts as stuck.
    pub service: Service,
    /// What a running monitor gives up.
    pub sandbox: Sandbox,
    /// Names of pods.
    pub kubernetes: Kubernetes,
    /// Where records go besides standard output.
    pub sinks: SinkSection,
    /// Caps and waits.
    pub limits: Limits,
}

/// Key of fingerprints. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FingerprintKey(pub [u8; 32]);

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey")
    }
}

/// Where packets come from, live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// cgroup v2 directory to watch; `None` is the root.
    pub cgroup: Option<PathBuf>,
    /// Bytes of the ring between kernel and program.
    pub ring_bytes: u32,
    /// Connections that drift may be refused, for endpoints whose pins ask for it.
    pub enforce: bool,
    /// Folder of a bpf file system in which the programs outlive the process.
    pub pin_dir: Option<PathBuf>,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            cgroup: None,
            ring_bytes: 64 << 20,
            enforce: false,
            pin_dir: None,
        }
    }
}

/// Dedup of alerts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alerts {
    /// Occurrences within this capture time of the first are one alert.
    pub window: Duration,
    /// Alerts open at a time; beyond it the oldest leaves early.
    pub max_open: u64,
    /// Packets named as evidence of one alert.
    pub max_packets: u64,
    /// Different findings of one rule on one endpoint in a minute that are alerts of their own.
    pub storm: u64,
    /// Alerts on one endpoint no further apart than this are one incident.
    pub incident_gap: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            max_open: 65_536,
            max_packets: 16,
            storm: 30,
            incident_gap: Duration::from_secs(1800),
        }
    }
}

/// A key outside `limits`, for its documentation. `read` must know each.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) form: &'static str,
    pub(super) default: fn() -> String,
    pub(super) about: &'static str,
}

const RING: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
const MOST_THREADS: u64 = 256;

const KEYS: &[Key] = &[
    Key {
        section: "",
        name: "pins",
        form: "path",
        default: || "none".into(),
        about: "The pins file, where `--pins` names none. A relative path is relative to the configuration file.",
    },
    Key {
        section: "",
        name: "threads",
        form: "1 to 256",
        default: || "one per core, at most 8".into(),
        about: "Worker threads of `replay`, where `--threads` says nothing. The output does not depend on it.",
    },
    Key {
        section: "",
        name: "fingerprint_key_file",
        form: "path",
        default: || "none: a fixed key".into(),
        about: "File with the key of the fingerprints that alerts show instead of secrets: 32 bytes, or 64 hex digits. Installations with the same key can compare fingerprints. A relative path is relative to the configuration file. Without it the key is a fixed one, and who sees a fingerprint can test guesses at the secret.",
    },
    Key {
        section: "",
        name: "sinks",
        form: "list",
        default: || "none: standard output only".into(),
        about: "Where alerts and other records go besides standard output: each sink with its keys is in docs/SINKS.md.",
    },
    Key {
        section: "source",
        name: "cgroup",
        form: "path",
        default: || "the root".into(),
        about: "The cgroup v2 directory whose sockets are watched, where `--cgroup` names none. `pod:UID` stands for the cgroup of a pod of this node, wherever its driver put it.",
    },
    Key {
        section: "source",
        name: "ring_bytes",
        form: "size, 64KiB to 1GiB",
        default: || show_bytes(Source::default().ring_bytes.into()),
        about: "The ring between the kernel program and this one, rounded up to a power of two. What does not fit is lost and counted.",
    },
    Key {
        section: "source",
        name: "enforce",
        form: "true or false",
        default: || "false: nothing is ever refused".into(),
        about: "Whether connections and datagrams to a pinned name at an address outside its pins are refused, for endpoints whose pins say `enforce: true`. Takes Linux 5.17. See docs/PINS.md.",
    },
    Key {
        section: "source",
        name: "pin_dir",
        form: "path",
        default: || "none: nothing outlives the process".into(),
        about: "Folder of a bpf file system, such as /sys/fs/bpf/mcp-monitor, made if it is not there. The kernel programs stay attached when the process ends, and the next one reads what came meanwhile, as far as the ring holds it: an upgrade has no blind second. Removing the folder detaches them. See docs/OPERATIONS.md.",
    },
    Key {
        section: "alerts",
        name: "window",
        form: "time",
        default: || show_duration(Alerts::default().window),
        about: "Occurrences of one finding within this time of the first are one alert with a count.",
    },
    Key {
        section: "alerts",
        name: "max_open",
        form: "number",
        default: || Alerts::default().max_open.to_string(),
        about: "Alerts that can still collect occurrences; beyond it the oldest leaves early (counted).",
    },
    Key {
        section: "alerts",
        name: "max_packets",
        form: "number",
        default: || Alerts::default().max_packets.to_string(),
        about: "Packets that one alert names as evidence.",
    },
    Key {
        section: "alerts",
        name: "storm",
        form: "number",
        default: || Alerts::default().storm.to_string(),
        about: "Different findings of one rule on one endpoint in a minute of capture time that are alerts of their own; those above it are one alert with a count and a rate. For a rule on all servers together the number is ten times as large.",
    },
    Key {
        section: "alerts",
        name: "incident_gap",
        form: "time",
        default: || show_duration(Alerts::default().incident_gap),
        about: "Alerts on one endpoint that follow each other within this capture time are one incident.",
    },
    Key {
        section: "origins",
        name: "asn",
        form: "path",
        default: || "none".into(),
        about: "Table of autonomous systems in MaxMind's format, such as GeoLite2-ASN.mmdb. A relative path is relative to the configuration file.",
    },
    Key {
        section: "origins",
        name: "country",
        form: "path",
        default: || "none".into(),
        about: "Table of countries in MaxMind's format, such as GeoLite2-Country.mmdb. A relative path is relative to the configuration file.",
    },
];

/// Every key outside `limits`.
fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
        .chain(super::plaintext::KEYS)
        .chain(super::state::KEYS)
        .chain(super::service::KEYS)
        .chain(super::sandbox::KEYS)
        .chain(super::kubernetes::KEYS)
        .chain(super::sinks::KEYS)
}

/// Keys of a section; for the top level, the sections too.
fn keys_of(section: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = keys().filter(|k| k.section == section).map(|k| k.name).collect();
    if section.is_empty() {
        names.extend([
            "source",
            "plaintext",
            "alerts",
            "origins",
            "state",
            "baseline",
            "http",
            "log",
            "service",
            "sandbox",
            "kubernetes",
            "spool",
            "limits",
        ]);
    }
    names
}

impl Program {
    /// Reads a file and the key file it names.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is too large, or the first mistake in it, with its place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let reader = Reader { file: &file };
        let text = read_file(path, MAX_FILE_BYTES).map_err(|e| reader.error(None, e, "a readable file"))?;
        let text = String::from_utf8(text).map_err(|_| reader.error(None, "no UTF-8", "YAML"))?;
        Self::read(&text, &file, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a text; `file` names it in errors, relative paths are relative to `folder`.
    ///
    /// # Errors
    ///
    /// The first mistake, with its place.
    pub fn read(text: &str, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let r = Reader { file };
        let mut program = Self::default();
        let root = r.read(text)?;
        for (key, node) in r.map(&root, "the configuration", &keys_of(""))? {
            match key.name.as_str() {
                "pins" => program.pins = Some(folder.join(r.text(node, "pins")?)),
                "threads" => program.threads = Some(threads(&r, node)?),
                "fingerprint_key_file" => program.fingerprint_key = Some(fingerprint_key(&r, node, folder)?),
                "source" => program.source = source(&r, node)?,
                "plaintext" => program.plaintext = Plaintext::read(&r, node)?,
                "alerts" => program.alerts = alerts(&r, node)?,
                "state" => program.state = State::read(&r, node, folder)?,
                "baseline" => program.baseline = Baseline::read(&r, node)?,
                "origins" => program.origins = origins(&r, node, folder)?,
                "http" => program.http = Some(Http::read(&r, node, folder)?),
                "log" => program.log = Log::read(&r, node)?,
                "service" => program.service = Service::read(&r, node)?,
                "sandbox" => program.sandbox = Sandbox::read(&r, node, folder)?,
                "kubernetes" => program.kubernetes = Kubernetes::read(&r, node, folder)?,
                "spool" => program.sinks.spool = Spool::read(&r, node, folder)?,
                "sinks" => {
                    r.list(node, "sinks")?;
                    program.sinks.node = Some(node.clone());
                    program.sinks.file = file.to_owned();
                    program.sinks.folder = folder.to_owned();
                }
                "limits" => program.limits = Limits::read(&r, node)?,
                _ => {}
            }
        }
        Ok(program)
    }
}

fn threads(r: &Reader<'_>, node: &Node) -> Result<u16, ConfigError> {
    let threads = r.whole(node, "threads", 1)?;
    let fits = u16::try_from(threads).ok().filter(|_| threads <= MOST_THREADS);
    fits.ok_or_else(|| {
        r.at(
            node,
            format!("{threads} for threads"),
            format!("1 to {MOST_THREADS}"),
        )
    })
}

fn source(r: &Reader<'_>, node: &Node) -> Result<Source, ConfigError> {
    let mut source = Source::default();
    for (key, node) in r.map(node, "source", &keys_of("source"))? {
        match key.name.as_str() {
            "cgroup" => source.cgroup = Some(r.text(node, "cgroup")?.into()),
            "ring_bytes" => {
                let bytes = node.bytes();
                let fits = bytes
                    .filter(|b| RING.contains(b))
                    .and_then(|b| u32::try_from(b).ok());
                source.ring_bytes = fits.ok_or_else(|| {
                    r.at(
                        node,
                        "bad size for ring_bytes",
                        "a size from 64KiB to 1GiB, such as 64MiB",
                    )
                })?;
            }
            "pin_dir" => source.pin_dir = Some(r.text(node, "pin_dir")?.into()),
            "enforce" => source.enforce = r.bool(node, "enforce")?,
            _ => {}
        }
    }
    Ok(source)
}

fn alerts(r: &Reader<'_>, node: &Node) -> Result<Alerts, ConfigError> {
    let mut alerts = Alerts::default();
    for (key, node) in r.map(node, "alerts", &keys_of("alerts"))? {
        match key.name.as_str() {
            "window" => alerts.window = read_duration(r, node, "window")?,
            "max_open" => alerts.max_open = r.whole(node, "max_open", 1)?,
            "max_packets" => alerts.max_packets = r.whole(node, "max_packets", 1)?,
            "storm" => alerts.storm = r.whole(node, "storm", 1)?,
            "incident_gap" => alerts.incident_gap = read_duration(r, node, "incident_gap")?,
            _ => {}
        }
    }
    Ok(alerts)
}

fn origins(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<OriginFiles, ConfigError> {
    let mut files = OriginFiles::default();
    for (key, node) in r.map(node, "origins", &keys_of("origins"))? {
        let path = Some(folder.join(r.text(node, &key.name)?));
        match key.name.as_str() {
            "asn" => files.asn = path,
            _ => files.country = path,
        }
    }
    Ok(files)
}

/// Never says what the file holds.
fn fingerprint_key(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<FingerprintKey, ConfigError> {
    const FORM: &str = "a file of 32 bytes or 64 hex digits";
    let path = folder.join(r.text(node, "fingerprint_key_file")?);
    let wrong = |found: String| {
        r.at(
            node,
            format!("fingerprint_key_file {}: {found}", path.display()),
            FORM,
        )
    };
    let bytes = read_file(&path, 1024).map_err(&wrong)?;
    if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(FingerprintKey(key));
    }
    let hex = bytes.trim_ascii();
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| Some((digit(pair.first()?)? << 4) | digit(pair.get(1)?)?);
    let key: Option<Vec<u8>> = hex.chunks(2).map(pair).collect();
    let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.map(FingerprintKey)
        .ok_or_else(|| wrong(format!("{} bytes that are no key", bytes.len())))
}

fn read_file(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(len) if len > most => Err(format!("more than {most} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// docs/CONFIG.md: every key with its form, default and meaning.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    let sections = [
        ("", "Top level", ""),
        ("source", "source", "Live only.\n\n"),
        (
            "plaintext",
            "plaintext",
            "Live only. [PLAINTEXT.md](PLAINTEXT.md) says how the plaintext of TLS is read. It never leaves the process.\n\n",
        ),
        ("alerts", "alerts", ""),
        ("state", "state", ""),
        ("baseline", "baseline", "Times are capture time.\n\n"),
        (
            "spool",
            "spool",
            "Records that wait for a sink's receiver. See docs/SINKS.md.\n\n",
        ),
        (
            "origins",
            "origins",
            "Offline tables of where addresses are announced from, for DST-08. `mcp-monitor check` says whether\nthey are loaded; they are read at the start.\n\n",
        ),
        ("kubernetes", "kubernetes", "Live only.\n\n"),
    ];
    let sections = sections.into_iter().chain([
        (
            "http",
            "http",
            "Live only. Without this section there is no server: on a machine that several people use, all of them could read\nits alerts. `http: {}` or `--http` turns it on, on loopback. What it serves: docs/OPERATIONS.md.\n\n",
        ),
        ("log", "log", ""),
        ("service", "service", "Live only.\n\n"),
        ("sandbox", "sandbox", "Live only.\n\n"),
    ]);
    let row = |text: &mut String, name: &str, form: &str, default: &str, about: &str| {
        text.push_str(&format!("| `{name}` | {form} | {default} | {about} |\n"));
    };
    for (section, title, note) in sections {
        text.push_str(&format!("\n## {title}\n\n{note}{TABLE}"));
        for key in keys().filter(|k| k.section == section) {
            row(&mut text, key.name, key.form, &(key.default)(), key.about);
        }
    }
    text.push_str(&format!("\n## limits\n\n{LIMITS}{TABLE}"));
    for limit in Limits::documented() {
        let form = match limit.unit {
            Unit::Count => "number",
            Unit::Bytes => "size",
            Unit::Time => "time",
        };
        row(&mut text, limit.key, form, &limit.default, limit.about);
    }
    text
}

const HEAD: &str = "\
# The program configuration

`mcp-monitor run --config FILE` and `mcp-monitor replay --config FILE` read a YAML file that says how
the program runs; the pins file says what must hold. Every key is optional. An unknown key or a bad
value ends the program with exit code 2 and a line such as
`config.yaml:3:5: unknown key \"flow\" in limits; expected one of …`.

```yaml
pins: pins.yaml
source:
  cgroup: /sys/fs/cgroup/kubepods.slice
  ring_bytes: 128MiB
alerts:
  window: 10m
state:
  file: /var/lib/mcp-monitor/state.sqlite
limits:
  flows: 200000
  idle_open: 12h
```

A size is a whole number of bytes or one with `KiB`, `MiB`, `GiB`. A time is a whole number with `ms`,
`s`, `m`, `h` or `d`; several add up (`1h30m`).

This page is generated from the types that read the file.
";

const TABLE: &str = "| key | form | default | meaning |\n|---|---|---|---|\n";

const LIMITS: &str = "\
What the program keeps is bounded. Reaching a limit is counted, and visible on the flow or alert it
touched. Times are capture time.

";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Program, String> {
        Program::read(text, "config.yaml", Path::new("/etc/m")).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(read(""), Ok(Program::default()));
        assert_eq!(read("limits:\n"), Ok(Program::default()));
    }

    #[test]
    fn every_kind_of_value() {
        let program = read(
            "pins: pins.yaml\nthreads: 4\nsource: {cgroup: /sys/fs/cgroup/a, ring_bytes: 1MiB, enforce: true, pin_dir: /sys/fs/bpf/m}\nalerts: {window: 1m, max_open: 5, max_packets: 2}\norigins: {asn: asn.mmdb}\nlimits: {flows: 10, message_bytes: 1 MiB, fragment_bytes: 4096, idle_open: 1h30m}\n",
        )
        .unwrap();
        assert_eq!(program.pins.as_deref(), Some(Path::new("/etc/m/pins.yaml")));
        assert_eq!(program.threads, Some(4));
        assert_eq!(
            program.source,
            Source {
                cgroup: Some("/sys/fs/cgroup/a".into()),
                ring_bytes: 1 << 20,
                enforce: true,
                pin_dir: Some("/sys/fs/bpf/m".into()),
            }
        );
        assert_eq!(
            program.alerts,
            Alerts {
                window: Duration::from_secs(60),
                max_open: 5,
                max_packets: 2,
                ..Alerts::default()
            }
        );
        assert_eq!(program.origins.asn.as_deref(), Some(Path::new("/etc/m/asn.mmdb")));
        assert_eq!(program.origins.country, None);
        let limits = Limits {
            flows: 10,
            message_bytes: 1 << 20,
            fragment_bytes: 4096,
            idle_open: Duration::from_secs(5400),
            ..Limits::default()
        };
        assert_eq!(program.limits, limits);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (text, message) in [
            (
                "flows: 3\n",
                "config.yaml:1:1: unknown key \"flows\" in the configuration; expected one of pins, threads",
            ),
            (
                "limits:\n  flow: 3\n",
                "config.yaml:2:3: unknown key \"flow\" in limits; expected one of fragmented_datagrams",
            ),
            (
                "limits:\n  flows: many\n",
                "config.yaml:2:10: text for flows; expected a whole number from 1 up",
            ),
            (
                "limits: {message_bytes: 1MB}\n",
                "config.yaml:1:25: bad size for message_bytes; expected bytes",
            ),
            (
                "limits: {idle_open: 5}\n",
                "config.yaml:1:21: a whole number for idle_open; expected a time",
            ),
            (
                "source: {ring_bytes: 1KiB}\n",
                "config.yaml:1:22: bad size for ring_bytes; expected a size from 64KiB",
            ),
            (
                "threads: 0\n",
                "config.yaml:1:10: a whole number for threads; expected a whole number from 1 up",
            ),
            (
                "threads: 300\n",
                "config.yaml:1:10: 300 for threads; expected 1 to 256",
            ),
            (
                "alerts: [1]\n",
                "config.yaml:1:9: a list for alerts; expected a mapping",
            ),
            (
                "fingerprint_key_file: gone\n",
                "config.yaml:1:23: fingerprint_key_file /etc/m/gone: ",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
        assert!(Program::load(Path::new("/nowhere/config.yaml")).is_err());
    }

    #[test]
    fn key_file() {
        let dir = tempfile::tempdir().unwrap();
        let load = |bytes: &[u8]| {
            std::fs::write(dir.path().join("key"), bytes).unwrap();
            let read = Program::read("fingerprint_key_file: key", "c", dir.path());
            read.map(|p| p.fingerprint_key).map_err(|e| e.to_string())
        };
        assert_eq!(load(&[7; 32]), Ok(Some(FingerprintKey([7; 32]))));
        assert_eq!(
            load(format!("{}\n", "0A".repeat(32)).as_bytes()),
            Ok(Some(FingerprintKey([10; 32])))
        );
        let error = load(b"a secret phrase").unwrap_err();
        assert!(
            error.contains("32 bytes or 64 hex digits") && !error.contains("phrase"),
            "{error}"
        );
        assert!(load(&[b'a'; 2000]).is_err());
    }

    #[test]
    fn docs_are_those_of_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, reference()).unwrap();
        }
        let docs = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            docs,
            reference(),
            "run the tests with UPDATE_DOCS=1 to write docs/CONFIG.md anew"
        );
        // What is documented is also read.
        for key in keys() {
            let text = match key.section {
                "" => format!("{}: {{a: [[]]}}", key.name),
                section => format!("{section}: {{{}: [[]]}}", key.name),
            };
            let error = read(&text).unwrap_err();
            assert!(!error.contains("unknown key"), "{error}");
        }
    }
}
