//! `mcp-monitor pin diff`: a pins file against what is seen, key by key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use super::{
    FAIL_ON, Failure,
    args::{DiffArgs, Format},
    pin,
};
use crate::{
    baseline::{
        Fact, Row, Subject, Verdict,
        held::{endpoints_of, hold},
    },
    config::pins::{
        Endpoint, HostPattern, Pins, Unpinned,
        edit::{Change, change},
    },
    detect::text::shown,
    types::Timestamp,
};

/// Keys of an endpoint in the order to show them.
const KEYS: &[&str] = &[
    "url",
    "addresses",
    "cnames",
    "tls.min_version",
    "tls.spki_sha256",
    "tls.issuers",
    "mcp.transport",
    "mcp.min_protocol_version",
    "mcp.server.name",
    "mcp.server.version",
    "mcp.tools",
    "auth.required",
    "auth.audience",
    "auth.authorization_servers",
];

/// One key and what was seen of it.
#[derive(Debug, Serialize)]
struct Item {
    schema: &'static str,
    /// `null` for keys of the file.
    endpoint: Option<String>,
    key: String,
    verdict: &'static str,
    pinned: Vec<String>,
    observed: Vec<Observed>,
}

/// One value that was seen.
#[derive(Clone, Debug, Serialize)]
struct Observed {
    value: String,
    verdict: Verdict,
    count: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

pub(super) fn run(args: &DiffArgs) -> Result<ExitCode, Failure> {
    let mut pins = Pins::load(&args.pins)?;
    let rows = pin::facts(&args.facts, pins.clone())?;
    if !args.accept.is_empty() {
        accept(&args.pins, &pins, &rows, &args.accept)?;
        pins = Pins::load(&args.pins)?;
    }
    let items = compare(&pins, &rows);
    let mut text = String::new();
    for item in &items {
        match args.format {
            Format::Json => {
                let line = serde_json::to_string(item).map_err(Failure::work)?;
                let _ = writeln!(text, "{line}");
            }
            Format::Text => item.write(&mut text),
        }
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    let drifted = items.iter().any(|item| item.verdict == "drifted");
    Ok(if drifted {
        ExitCode::from(FAIL_ON)
    } else {
        ExitCode::SUCCESS
    })
}

/// Values seen, by endpoint and key.
type Seen = BTreeMap<(Option<usize>, &'static str), BTreeMap<String, Observed>>;

fn observe(pins: &Pins, rows: &[Row]) -> Seen {
    let mut seen = Seen::new();
    for row in rows {
        for held in hold(pins, &row.subject, &row.fact) {
            let values = seen.entry((held.endpoint, held.key)).or_default();
            let observed = values.entry(held.observed.clone()).or_insert(Observed {
                value: held.observed,
                verdict: held.verdict,
                count: 0,
                first_seen: row.entry.first,
                last_seen: row.entry.last,
            });
            observed.verdict = observed.verdict.max(held.verdict);
            observed.count = observed.count.saturating_add(row.entry.count);
            observed.first_seen = observed.first_seen.min(row.entry.first);
            observed.last_seen = observed.last_seen.max(row.entry.last);
        }
    }
    seen
}

fn compare(pins: &Pins, rows: &[Row]) -> Vec<Item> {
    let mut seen = observe(pins, rows);
    let mut items = Vec::new();
    let mut item =
        |name: Option<&str>, key: &str, pinned: Vec<String>, found: Option<BTreeMap<String, Observed>>| {
            let observed: Vec<Observed> = found.into_iter().flat_map(BTreeMap::into_values).collect();
            let verdict = match observed.iter().map(|o| o.verdict).max() {
                Some(worst) => worst.as_str(),
                None if pinned.is_empty() => return,
                None => "unseen",
            };
            items.push(Item {
                schema: "mcp-monitor.pin-diff/1",
                endpoint: name.map(str::to_owned),
                key: key.to_owned(),
                verdict,
                pinned,
                observed,
            });
        };
    for (index, endpoint) in pins.endpoints.iter().enumerate() {
        for key in KEYS {
            let found = seen.remove(&(Some(index), *key));
            item(Some(&endpoint.name), key, pinned(endpoint, key), found);
        }
    }
    let resolvers = pins.resolvers.iter().map(ToString::to_string).collect();
    item(None, "resolvers", resolvers, seen.remove(&(None, "resolvers")));
    let strangers = strangers(pins, rows);
    if !strangers.is_empty() {
        item(None, "endpoints", Vec::new(), Some(strangers));
    }
    items
}

/// Servers that MCP was spoken with and no pin names.
fn strangers(pins: &Pins, rows: &[Row]) -> BTreeMap<String, Observed> {
    let mut found: BTreeMap<String, Observed> = BTreeMap::new();
    for row in rows {
        let (Subject::Url(..), Fact::Endpoint { .. }) = (&row.subject, &row.fact) else {
            continue;
        };
        if !endpoints_of(pins, &row.subject).is_empty() {
            continue;
        }
        let value = row.subject.to_string();
        let observed = found.entry(value.clone()).or_insert(Observed {
            value,
            verdict: match pins.unpinned {
                Unpinned::Alert => Verdict::Drifted,
                Unpinned::Ignore | Unpinned::Learn => Verdict::Unpinned,
            },
            count: 0,
            first_seen: row.entry.first,
            last_seen: row.entry.last,
        });
        observed.count = observed.count.saturating_add(row.entry.count);
        observed.last_seen = observed.last_seen.max(row.entry.last);
    }
    found
}

/// What a key is pinned to, as the file would have it.
fn pinned(endpoint: &Endpoint, key: &str) -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use crate::baseline::{canonical::hex, held::tls_version};

    let (tls, mcp, auth) = (&endpoint.tls, &endpoint.mcp, &endpoint.auth);
    let server = mcp.server.as_ref();
    match key {
        "url" => vec![endpoint.url.to_string()],
        "addresses" => endpoint.address_texts(),
        "cnames" => endpoint.cnames.iter().map(ToString::to_string).collect(),
        "tls.min_version" => tls.min_version.map(tls_version).into_iter().collect(),
        "tls.spki_sha256" => tls.spki_sha256.iter().map(|hash| STANDARD.encode(hash)).collect(),
        "tls.issuers" => tls.issuers.clone(),
        "mcp.transport" => mcp.transport.map(|t| t.slug().to_owned()).into_iter().collect(),
        "mcp.min_protocol_version" => mcp
            .min_protocol_version
            .iter()
            .map(|v| v.as_str().to_owned())
            .collect(),
        "mcp.server.name" => server.and_then(|s| s.name.clone()).into_iter().collect(),
        "mcp.server.version" => server
            .and_then(|s| s.version.as_ref())
            .map(ToString::to_string)
            .into_iter()
            .collect(),
        "mcp.tools" => mcp
            .tools
            .iter()
            .flatten()
            .map(|(name, hash)| format!("{name} {}", hex(hash)))
            .collect(),
        "auth.required" => auth.required.map(|r| r.to_string()).into_iter().collect(),
        "auth.audience" => auth.audience.clone().into_iter().collect(),
        "auth.authorization_servers" => auth.authorization_servers.clone(),
        _ => Vec::new(),
    }
}

impl Item {
    fn write(&self, out: &mut String) {
        let name = match &self.endpoint {
            Some(name) => format!("{}.{}", shown(name), self.key),
            None => self.key.clone(),
        };
        let _ = writeln!(out, "{:<8}  {name}", self.verdict);
        if matches!(self.verdict, "same" | "unseen") {
            return;
        }
        for pinned in &self.pinned {
            let _ = writeln!(out, "            pinned    {}", shown(pinned));
        }
        for observed in &self.observed {
            let _ = writeln!(
                out,
                "            {:<8}  {}  ×{}, {} to {}",
                observed.verdict.as_str(),
                shown(&observed.value),
                observed.count,
                observed.first_seen.to_seconds(),
                observed.last_seen.to_seconds()
            );
        }
    }
}

/// Changes the pins file so that what was seen of these keys is allowed.
fn accept(path: &Path, pins: &Pins, rows: &[Row], wanted: &[String]) -> Result<(), Failure> {
    let file = path.display().to_string();
    let before = std::fs::read_to_string(path)
        .map_err(|error| Failure::Work(format!("cannot read {file}: {error}")))?;
    let seen = observe(pins, rows);
    let mut text = before.clone();
    for argument in wanted {
        let (index, key) = key_of(pins, argument)?;
        let values: Vec<&Observed> = seen
            .get(&(index, key))
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|o| matches!(o.verdict, Verdict::Drifted | Verdict::Unpinned))
            .collect();
        if values.is_empty() {
            let _ = writeln!(
                std::io::stderr(),
                "mcp-monitor: {argument}: nothing to accept, all that was seen is allowed"
            );
            continue;
        }
        let endpoint = pins.endpoint(index);
        let what = change_for(endpoint, key, &values, argument)?;
        text = change(&text, &file, endpoint.map(|e| &*e.name), key, &what)?;
    }
    if text == before {
        return Ok(());
    }
    let now = Pins::parse(&text, &file)?;
    untouched(pins, &now, wanted).map_err(|name| {
        Failure::Work(format!(
            "{file} is written in a way that cannot be changed safely (endpoint {name:?} would change too); change it by hand"
        ))
    })?;
    replace(path, &text)
}

/// Endpoint and key of `NAME.KEY`, or of a key of the file.
fn key_of(pins: &Pins, argument: &str) -> Result<(Option<usize>, &'static str), Failure> {
    if argument == "resolvers" {
        return Ok((None, "resolvers"));
    }
    for (index, endpoint) in pins.endpoints.iter().enumerate() {
        let rest = argument
            .strip_prefix(&*endpoint.name)
            .and_then(|rest| rest.strip_prefix('.'));
        if let Some(key) = rest.and_then(|rest| KEYS.iter().find(|key| **key == rest)) {
            return Ok((Some(index), key));
        }
    }
    Err(Failure::Usage(format!(
        "--accept {argument:?} names no key; expected resolvers, or the name of an endpoint of the file, a dot, and one of {}",
        KEYS.join(", ")
    )))
}

fn change_for(
    endpoint: Option<&Endpoint>,
    key: &str,
    values: &[&Observed],
    argument: &str,
) -> Result<Change, Failure> {
    let texts = || values.iter().map(|o| o.value.clone());
    let one = || match values {
        [only] => Ok(only.value.clone()),
        _ => Err(Failure::Usage(format!(
            "--accept {argument}: {} different values were seen, expected one; choose it by hand",
            values.len()
        ))),
    };
    Ok(match key {
        "addresses" => {
            let mut items: Vec<String> = texts().collect();
            // The address of the URL is pinned as long as no others are written.
            if let Some(endpoint) = endpoint
                && let HostPattern::Address(ip) = endpoint.url.host
                && endpoint.address_texts() == [ipnet::IpNet::from(ip).to_string()]
            {
                items.insert(0, ip.to_string());
            }
            Change::Add(items)
        }
        "mcp.tools" => {
            let mut tools: BTreeMap<String, &Observed> = BTreeMap::new();
            for observed in values {
                let Some((name, _)) = observed.value.rsplit_once(' ') else {
                    continue;
                };
                // Of several definitions, the latest.
                let known = tools.entry(name.to_owned()).or_insert(observed);
                if known.last_seen < observed.last_seen {
                    *known = observed;
                }
            }
            Change::Entries(
                tools
                    .into_iter()
                    .filter_map(|(name, o)| Some((name, o.value.rsplit_once(' ')?.1.to_owned())))
                    .collect(),
            )
        }
        // A floor is lowered to the lowest that was seen.
        "tls.min_version" | "mcp.min_protocol_version" => Change::Set(texts().min().unwrap_or_default()),
        "auth.required" => Change::SetBool(values.iter().all(|o| o.value == "true")),
        "cnames" | "tls.spki_sha256" | "tls.issuers" | "auth.authorization_servers" | "resolvers" => {
            let items: BTreeSet<String> = texts().collect();
            Change::Add(items.into_iter().collect())
        }
        _ => Change::Set(one()?),
    })
}

/// `Err` names an endpoint that changed although nothing of it was accepted.
fn untouched(before: &Pins, now: &Pins, wanted: &[String]) -> Result<(), String> {
    for (index, endpoint) in before.endpoints.iter().enumerate() {
        let accepted = wanted.iter().any(|w| {
            w.strip_prefix(&*endpoint.name)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        let same = now.endpoints.get(index).is_some_and(|other| {
            accepted && other.name == endpoint.name || format!("{other:?}") == format!("{endpoint:?}")
        });
        if !same {
            return Err(endpoint.name.to_string());
        }
    }
    match now.endpoints.get(before.endpoints.len()) {
        Some(extra) => Err(extra.name.to_string()),
        None => Ok(()),
    }
}

/// Writes beside the file and renames, so that nobody reads half of it. Through a link to what it leads to.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> std::io::Result<()> {
        let target = std::fs::canonicalize(path)?;
        let mut name = target.as_os_str().to_owned();
        name.push(".new");
        let beside = Path::new(&name);
        std::fs::write(beside, text)?;
        std::fs::set_permissions(beside, std::fs::metadata(&target)?.permissions())?;
        std::fs::rename(beside, &target)
    };
    write().map_err(|error| Failure::Work(format!("cannot write {}: {error}", path.display())))
}
