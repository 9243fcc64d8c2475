//! `/metrics`: the counts of `--summary` under the same names, and how the monitor itself fares.
//!
//! A count at `tcp.lost_bytes` of the summary is `mcp_monitor_tcp_lost_bytes_total` here. So there is one
//! list of counts, and a new one needs a line in [`HELP`] and no more. docs/METRICS.md is written by
//! [`reference`](fn@reference).

use std::fs;

use serde_json::Value;

pub use super::exposition::{Family, Kind, Sample};
use super::{board::Board, health, parts};
use crate::{
    pipeline::{status::Status, summary::Summary},
    types::Severity,
};

const PREFIX: &str = "mcp_monitor_";

/// Objects of the summary whose keys are data: they become a label.
const LABELLED: &[(&str, &str)] = &[
    ("mcp.methods", "method"),
    ("anomalies", "kind"),
    ("dropped", "what"),
    ("plaintext.unreadable_by", "reason"),
];

/// Paths of the summary that say the same as a metric of their own.
const ELSEWHERE: &[&str] = &["alerts", "seconds", "identity", "sinks"];

/// What each count means. Those of the kernel count packets unless they say otherwise.
const HELP: &[(&str, &str)] = &[
    ("packets", "Records from the kernel that carried a packet."),
    ("bytes", "Payload bytes of these packets."),
    ("capture_errors", "Always 0 live."),
    ("flows.tcp", "TCP connections begun."),
    ("flows.udp", "UDP flows begun."),
    ("tcp.segments", "TCP segments."),
    (
        "tcp.retransmitted",
        "Segments that brought only bytes already seen.",
    ),
    ("tcp.reordered", "Segments that came before bytes preceding them."),
    ("tcp.gaps", "Holes in streams that were given up."),
    (
        "tcp.lost_bytes",
        "Bytes in these holes: what rules could not see.",
    ),
    ("dns.queries", "DNS queries."),
    ("dns.responses", "DNS responses."),
    (
        "dns.nxdomain",
        "DNS responses that say that there is no such name.",
    ),
    ("dns.unmatched", "DNS responses without a query that was seen."),
    ("dns.mdns", "Multicast DNS messages."),
    ("dns.llmnr", "Link-local multicast name resolution messages."),
    ("tls.client_hellos", "TLS ClientHellos."),
    ("tls.server_hellos", "TLS ServerHellos."),
    ("tls.decrypted_flows", "TLS connections whose plaintext was seen."),
    ("tls.quic_flows", "QUIC flows whose start could be read."),
    ("tls.dtls_flows", "DTLS flows, which are not read."),
    ("http.requests", "HTTP requests."),
    ("http.responses", "Final HTTP responses."),
    ("sse.streams", "Responses of type text/event-stream."),
    ("sse.events", "Server-sent events."),
    ("mcp.requests", "MCP requests."),
    ("mcp.responses", "MCP responses, errors included."),
    ("mcp.notifications", "MCP notifications."),
    ("mcp.errors", "MCP error responses."),
    ("mcp.sessions", "MCP sessions begun."),
    ("mcp.unmatched", "MCP responses whose request was not seen."),
    (
        "mcp.methods",
        "MCP requests and notifications by method; beyond a bound, `other`.",
    ),
    ("anomalies", "Contradictions in what was sent, by kind."),
    (
        "dropped",
        "What was let go, by table or limit: docs/LIMITS.md. Nothing is lost while all are 0.",
    ),
    (
        "rules.disabled",
        "Rules that failed and are off since; OP-06 says which.",
    ),
    ("rules.findings_off", "Findings of rules that the pins turn off."),
    ("rules.findings_suppressed", "Findings that the pins accept."),
    (
        "rules.findings_stormed",
        "Findings that are part of a storm, which is one alert.",
    ),
    ("kernel.seen", "Packets of sockets below the watched cgroup."),
    (
        "kernel.captured",
        "Packets of which a record went up, or should have.",
    ),
    ("kernel.ignored", "Packets of flows that are of no interest."),
    (
        "kernel.duplicates",
        "Packets captured at their other, also local, end.",
    ),
    (
        "kernel.acknowledgements",
        "Acknowledgements without payload, which never go up.",
    ),
    (
        "kernel.watched",
        "Packets of HTTP connections without MCP that begin no request.",
    ),
    ("kernel.other_udp", "UDP packets other than DNS."),
    (
        "kernel.undecoded",
        "Packets that are neither TCP nor UDP, fragments, or contradict themselves.",
    ),
    ("kernel.no_socket", "Packets without a socket."),
    (
        "kernel.over_budget",
        "Packets of undecided flows past their budget: not seen.",
    ),
    ("kernel.over_budget_bytes", "Payload bytes of these."),
    ("kernel.records", "Records that went up through the ring."),
    (
        "kernel.ring_full",
        "Records lost because the ring was full. Raise source.ring_bytes or the CPU limit.",
    ),
    ("kernel.ring_full_bytes", "Payload bytes lost with them."),
    (
        "kernel.shed",
        "Records with payload given up while the ring was nearly full, so that drift and processes get through.",
    ),
    ("kernel.shed_bytes", "Payload bytes lost with them."),
    (
        "kernel.scratch_busy",
        "Packets lost because every scratch buffer of a CPU was in use.",
    ),
    (
        "kernel.unreadable",
        "Packets lost because their payload could not be read.",
    ),
    (
        "kernel.too_large_bytes",
        "Payload bytes lost past the chunks of one packet.",
    ),
    (
        "kernel.no_storage",
        "Packets lost because the kernel had no memory for their socket.",
    ),
    ("kernel.resumed", "Watched connections taken up again."),
    ("kernel.dns_walked", "DNS answers judged in the kernel."),
    (
        "kernel.dns_given_up",
        "DNS answers given up after too many steps.",
    ),
    ("kernel.hellos_walked", "ClientHellos judged in the kernel."),
    ("kernel.connects", "Connections and sends judged."),
    ("kernel.drifts", "Drift verdicts of the kernel."),
    (
        "kernel.refused",
        "Connections and sends that were refused, because the pins ask for it.",
    ),
    ("kernel.malformed_records", "Records that could not be read."),
    (
        "kernel.stale_drifts",
        "Drift verdicts on hosts that a swap of pins had just removed.",
    ),
    (
        "kernel.handed_over",
        "Records read that came between the process before and this one (source.pin_dir).",
    ),
    (
        "kernel.handed_over_lost",
        "Records and packets lost between them.",
    ),
    (
        "kernel.encrypted",
        "Packets of TLS connections whose plaintext comes from the process: their payload is not copied.",
    ),
    (
        "kernel.tls_calls",
        "Calls of TLS libraries that carried plaintext.",
    ),
    (
        "kernel.tls_objects",
        "TLS objects of processes that were met first.",
    ),
    (
        "kernel.tls_lost_bytes",
        "Plaintext bytes of TLS libraries that could not be read or found no room in the ring.",
    ),
    (
        "kernel.tls_no_room",
        "TLS objects and calls for which a table of the kernel had no room.",
    ),
    ("plaintext.targets", "Files with probes on them now."),
    ("plaintext.attached", "Files that probes were put on."),
    (
        "plaintext.detached",
        "Files that probes were taken off again, because no process uses them.",
    ),
    ("plaintext.refused", "Files that the kernel refused probes on."),
    ("plaintext.unreadable", "Processes met whose TLS cannot be read."),
    (
        "plaintext.unreadable_by",
        "Processes that run now whose TLS cannot be read, by reason.",
    ),
    (
        "plaintext.unreadable_untold",
        "Processes whose TLS cannot be read and of which only the number is known, because there are too many.",
    ),
    (
        "plaintext.untold",
        "Processes of which the scan was not told in time.",
    ),
    (
        "plaintext.linked",
        "TLS objects that were matched with the packets of their connection.",
    ),
    (
        "plaintext.unlinked",
        "TLS objects that were not: their plaintext is a flow without addresses.",
    ),
    (
        "plaintext.second_ends",
        "Second ends of connections both of whose ends are on this machine.",
    ),
    ("plaintext.second_end_bytes", "Plaintext bytes of second ends."),
    (
        "plaintext.late_bytes",
        "Plaintext bytes that came after the end of their flow.",
    ),
    (
        "plaintext.lost_bytes",
        "Plaintext bytes lost between the process and the engine.",
    ),
    (
        "plaintext.unclaimed_bytes",
        "Plaintext bytes of processes whose plaintext is off, or of TLS objects that are not known.",
    ),
    (
        "plaintext.forgotten",
        "TLS objects forgotten because the table was full.",
    ),
    (
        "plaintext.orphaned",
        "TLS objects whose process ended without freeing them.",
    ),
    ("reloads.applied", "Changes of the pins that came into force."),
    (
        "reloads.refused",
        "Changes of the pins that were refused; those before stayed in force.",
    ),
];

/// Every number there is now.
pub fn families(board: &Board) -> Vec<Family> {
    let mut families = own(board);
    if let Some(status) = board.status() {
        families.extend(of_status(&status));
        families.extend(of_summary(&status.summary));
    }
    if let Some(status) = board.status() {
        families.extend(parts::identity(&status.summary));
        families.extend(parts::sinks(&status.summary));
    }
    families.extend(of_alerts(board));
    families.extend(process());
    families.extend(board.gauges());
    families
}

/// The counts of a summary.
fn of_summary(summary: &Summary) -> Vec<Family> {
    let mut families = Vec::new();
    if let Ok(value) = serde_json::to_value(summary) {
        walk(&value, String::new(), &mut families);
    }
    families
}

fn walk(value: &Value, path: String, families: &mut Vec<Family>) {
    if ELSEWHERE.contains(&path.as_str()) {
        return;
    }
    let family = |path: &str| {
        let help = HELP.iter().find(|(key, _)| *key == path).map(|(_, help)| *help);
        let name = format!("{PREFIX}{}", path.replace('.', "_"));
        Family::new(name, Kind::Counter, help.unwrap_or("See the summary."))
    };
    match value {
        Value::Object(entries) => {
            if let Some((_, label)) = LABELLED.iter().find(|(labelled, _)| *labelled == path) {
                let mut labelled = family(&path);
                for (key, value) in entries {
                    labelled = labelled.with(vec![(*label, key.clone())], value.as_f64().unwrap_or(0.0));
                }
                families.push(labelled);
                return;
            }
            for (key, value) in entries {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(value, path, families);
            }
        }
        Value::Number(number) => {
            families.push(family(&path).with(Vec::new(), number.as_f64().unwrap_or(0.0)));
        }
        _ => {}
    }
}

/// How the monitor fares.
fn own(board: &Board) -> Vec<Family> {
    let gauge = |name: &'static str, help: &'static str| Family::new(name, Kind::Gauge, help);
    let readiness = health::readiness(board);
    let health = health::health(board);
    let mut conditions = gauge("mcp_monitor_condition", "1 where a condition of /readyz holds.");
    for condition in &readiness.conditions {
        conditions = conditions.with(vec![("name", condition.name.to_owned())], flag(condition.ok));
    }
    vec![
        gauge("mcp_monitor_build_info", "Always 1; what is running.").with(
            vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("arch", std::env::consts::ARCH.to_owned()),
            ],
            1.0,
        ),
        gauge("mcp_monitor_start_time_seconds", "When it began, Unix time.")
            .with(Vec::new(), seconds(board.started.0)),
        gauge("mcp_monitor_ready", "1 if /readyz says that it is ready.")
            .with(Vec::new(), flag(readiness.ready)),
        conditions,
        gauge(
            "mcp_monitor_loop_stage_seconds",
            "How long the packet loop has been in its stage; it changes every second.",
        )
        .with(vec![("stage", health.stage.to_owned())], health.stage_seconds),
        Family::new(
            "mcp_monitor_loop_stuck",
            Kind::Counter,
            "Stages of the packet loop that took longer than service.stuck_after.",
        )
        .with(
            Vec::new(),
            number(board.stuck.load(std::sync::atomic::Ordering::Relaxed)),
        ),
    ]
}

fn of_status(status: &Status) -> Vec<Family> {
    let gauge = |name: &'static str, help: &'static str| Family::new(name, Kind::Gauge, help);
    let mut open = gauge(
        "mcp_monitor_endpoint_connections_open",
        "Connections open now, by pinned endpoint; at most 1000 endpoints.",
    );
    for endpoint in &status.endpoints {
        open = open.with(
            vec![("endpoint", endpoint.name.to_string())],
            number(endpoint.open),
        );
    }
    vec![
        gauge("mcp_monitor_connections_open", "Connections open now.")
            .with(vec![("kind", "all".into())], number(status.open_connections))
            .with(vec![("kind", "mcp".into())], number(status.open_mcp)),
        gauge("mcp_monitor_facts", "Facts of the baseline that are remembered.")
            .with(Vec::new(), number(status.facts)),
        gauge("mcp_monitor_pinned_endpoints", "Endpoints of the pins in force.")
            .with(Vec::new(), number(status.pinned)),
        gauge(
            "mcp_monitor_pins_since_seconds",
            "When the pins in force came into force, Unix time.",
        )
        .with(Vec::new(), seconds(status.pins_since.0)),
        open,
    ]
}

fn of_alerts(board: &Board) -> Vec<Family> {
    let mut alerts = Family::new(
        "mcp_monitor_alerts",
        Kind::Counter,
        "Alerts, each counted once however often it occurs. By rule the same as `alerts` of the summary.",
    );
    for ((rule, name, severity), count) in board.recent.counts() {
        let labels = vec![
            ("rule", rule.to_owned()),
            ("name", name.to_owned()),
            ("severity", severity.as_str().to_owned()),
        ];
        alerts = alerts.with(labels, number(count));
    }
    let mut by_endpoint = Family::new(
        "mcp_monitor_endpoint_alerts",
        Kind::Counter,
        "Alerts on a pinned endpoint; at most 1000 endpoints.",
    );
    for (endpoint, trust) in board.recent.trust() {
        for (severity, count) in Severity::ALL.into_iter().zip(trust.alerts) {
            if count > 0 {
                let labels = vec![
                    ("endpoint", endpoint.clone()),
                    ("severity", severity.as_str().to_owned()),
                ];
                by_endpoint = by_endpoint.with(labels, number(count));
            }
        }
    }
    vec![alerts, by_endpoint]
}

/// The numbers that every Prometheus client exports of its process.
fn process() -> Vec<Family> {
    /// Of `/proc/self/stat`, the same on every Linux.
    const TICKS: f64 = 100.0;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':')
            .trim()
            .split(' ')
            .next()?
            .parse::<f64>()
            .ok()
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let cpu = stat.rsplit(')').next().and_then(|rest| {
        let mut fields = rest.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<f64>().ok();
        Some((ticks()? + ticks()?) / TICKS)
    });
    let files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let mut families = Vec::new();
    let mut push = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            families.push(Family::new(name, kind, help).with(Vec::new(), value));
        }
    };
    push(
        "process_cpu_seconds",
        Kind::Counter,
        "CPU time, user and system.",
        cpu,
    );
    push(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory.",
        kilobytes("VmRSS").map(|k| k * 1024.0),
    );
    push(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory.",
        kilobytes("VmSize").map(|k| k * 1024.0),
    );
    push(
        "process_open_fds",
        Kind::Gauge,
        "Open file descriptors.",
        files.and_then(|n| u32::try_from(n).ok()).map(f64::from),
    );
    families
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a float; counts above 2^53 lose their last digit"
)]
fn number(count: u64) -> f64 {
    count as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    number(nanoseconds) / 1e9
}

/// docs/METRICS.md: every name with its kind, labels and meaning.
pub fn reference(families: &[Family]) -> String {
    let mut text = String::from(HEAD);
    for family in families {
        let labels: Vec<String> = family
            .samples
            .first()
            .map(|sample| {
                sample
                    .labels
                    .iter()
                    .map(|(name, _)| format!("`{name}`"))
                    .collect()
            })
            .unwrap_or_default();
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        text.push_str(&format!(
            "| `{}` | {kind} | {} | {} |\n",
            family.full_name(),
            labels.join(", "),
            family.help
        ));
    }
    text
}

const HEAD: &str = "\
# Metrics

`GET /metrics` of a running monitor (see [OPERATIONS.md](OPERATIONS.md)) gives these in the Prometheus text format, or
in OpenMetrics where `Accept` asks for it. Every count of `--summary` is here: `tcp.lost_bytes` of the summary is
`mcp_monitor_tcp_lost_bytes_total`. They are those of the last whole second.

Labels are bounded: rules, severities, kinds and limits are fixed sets, methods beyond a bound are `other`, and of
pinned endpoints the first 1000 are shown one by one. No label holds an address, a name from the wire other than an MCP
method, or anything of a client.

What to do when one rises: [OPERATIONS.md](OPERATIONS.md).

This page is generated from the program.

| name | kind | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        attribution::kubernetes::{IdentityStatus, State},
        pipeline::{
            progress::Progress,
            status::EndpointStatus,
            summary::{PlaintextCounts, Reloads},
        },
        sink::delivery::SinkCounters,
        source::live::{Features, KernelCounters, tls::UnreadableProgram},
        types::Timestamp,
    };

    /// A board on which everything has a number.
    fn board() -> Board {
        let board = Board::new(None, Arc::new(Progress::default()), Duration::from_secs(30), true);
        let mut summary = Summary {
            kernel: Some(KernelCounters::default()),
            reloads: Some(Reloads::default()),
            plaintext: Some(PlaintextCounts::default()),
            sinks: Some([("oncall".to_owned(), SinkCounters::default())].into()),
            identity: Some(IdentityStatus {
                state: State::Current,
                node: "n1".into(),
                age_seconds: 1.0,
                pods: 3,
                pods_gone: 0,
                pods_untold: 0,
                pods_refused: 0,
                lists: 1,
                watches: 1,
                events: 0,
                errors: 0,
                error: None,
            }),
            ..Summary::default()
        };
        let state = super::super::state_health::StateHealth::default();
        board.connect(
            Vec::new(),
            vec![
                Box::new(move || state.families()),
                Box::new(|| super::super::confinement::families(None)),
            ],
        );
        summary.tcp.lost_bytes = 7;
        summary.mcp.methods.insert("tools/call".into(), 3);
        summary.anomalies.insert("tcp-overlap", 1);
        summary.dropped.insert("flows_evicted", 0);
        board.publish(Status {
            at: Timestamp::default(),
            summary,
            open_connections: 2,
            open_mcp: 1,
            facts: 5,
            pins_since: Timestamp::default(),
            pinned: 1,
            endpoints: vec![EndpointStatus {
                name: "market-data".into(),
                url: "https://m.example".into(),
                open: 1,
                mcp: 1,
            }],
            features: Features {
                bpf_loop: true,
                packet_netns: true,
            },
            unreadable: vec![UnreadableProgram {
                path: "/opt/agent".into(),
                reason: "rustls is inside".into(),
                processes: 2,
            }],
        });
        board.take(&[crate::pipeline::record::Record::Alert(Box::new(
            super::super::query::testing::alert(),
        ))]);
        board
    }

    #[test]
    fn every_count_of_the_summary_is_exported_and_explained() {
        let board = board();
        let families = families(&board);
        let status = board.status().unwrap();
        let summary = serde_json::to_value(&status.summary).unwrap();
        fn leaves(value: &Value, path: &str, out: &mut BTreeSet<String>) {
            match value {
                Value::Object(entries) if !LABELLED.iter().any(|(l, _)| *l == path) => {
                    for (key, value) in entries {
                        leaves(value, format!("{path}.{key}").trim_start_matches('.'), out);
                    }
                }
                _ => drop(out.insert(path.to_owned())),
            }
        }
        let mut paths = BTreeSet::new();
        leaves(&summary, "", &mut paths);
        assert!(paths.len() > 60);
        let elsewhere = |path: &str| {
            path.split('.')
                .next()
                .is_some_and(|first| ELSEWHERE.contains(&first))
        };
        for path in paths.iter().filter(|path| !elsewhere(path)) {
            let name = format!("{PREFIX}{}", path.replace('.', "_"));
            let family = families.iter().find(|f| f.name == name);
            assert!(
                family.is_some_and(|f| f.help != "See the summary."),
                "{path} needs a line in HELP"
            );
        }
        for (path, _) in HELP {
            assert!(paths.contains(*path), "{path} of HELP is no count of the summary");
        }
        let lost = families
            .iter()
            .find(|f| f.name == "mcp_monitor_tcp_lost_bytes")
            .unwrap();
        assert_eq!(lost.samples[0].value, 7.0);
    }

    #[test]
    fn names_are_unique_and_labels_constant() {
        let mut names = BTreeSet::new();
        for family in families(&board()) {
            assert!(names.insert(family.full_name()), "{} twice", family.name);
            assert!(
                family
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
            );
            let labels = |sample: &Sample| sample.labels.iter().map(|(name, _)| *name).collect::<Vec<_>>();
            assert!(
                family
                    .samples
                    .windows(2)
                    .all(|pair| labels(&pair[0]) == labels(&pair[1]))
            );
        }
    }

    #[test]
    fn docs_are_those_of_the_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
        let text = reference(&families(&board()));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let docs = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            docs, text,
            "run the tests with UPDATE_DOCS=1 to write docs/METRICS.md anew"
        );
    }
}
