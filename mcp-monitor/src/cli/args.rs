//! Every flag, defined once with its documentation.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::captures::Share;
use crate::{
    config::quantity::parse_duration,
    types::{Severity, Timestamp},
};

/// Watches what AI agents say to MCP servers and alerts when a server is no longer the one approved.
///
/// Alerts go to standard output, one JSON object a line; logs and progress go to standard error.
#[derive(Debug, Parser)]
#[command(name = "mcp-monitor", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work could not be done (unreadable capture, cannot attach)
  2  wrong usage, or a bad configuration or pins file
  3  done, and an alert reached --fail-on, or `pin diff` found drift";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch live traffic from the kernel until SIGTERM
    #[cfg(feature = "live")]
    Run(RunArgs),
    /// Ask a running monitor to read its pins again; wrong pins are refused and the old ones stay
    #[cfg(feature = "live")]
    Reload(ReloadArgs),
    /// Run the same engine over capture files
    Replay(ReplayArgs),
    /// Work with pins files
    Pin {
        /// What to do with them.
        #[command(subcommand)]
        command: PinCommand,
    },
    /// Ask the state file for alerts
    Alerts(AlertsArgs),
    /// State, per endpoint and agent, what was positively verified
    Attest(AttestArgs),
    /// Show the detections and their documentation, offline
    Rules {
        /// Which.
        #[command(subcommand)]
        command: Option<RulesCommand>,
    },
    /// Say what works on this machine, what does not, and why
    Check(CheckArgs),
}

/// Records on standard output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Emit {
    /// Alerts
    Alerts,
    /// Every MCP message
    Messages,
    /// One record per connection, at its end
    Flows,
    /// What was learned: answers of names, server identities, tool hashes
    Observations,
}

/// How records look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Text,
}

/// What goes out, common to live and replay.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Records to write to standard output
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "alerts",
        value_name = "WHAT,..."
    )]
    pub emit: Vec<Emit>,
    /// With --emit messages: include each body, secrets masked
    #[arg(long)]
    pub bodies: bool,
    /// How records look
    #[arg(long, value_enum, default_value = "json")]
    pub format: Format,
    /// Write one JSON object of counts at the end; `-` is standard error
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// What governs detection, common to live and replay.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Pins: which servers are approved and what must hold of them (YAML)
    #[arg(long, value_name = "FILE")]
    pub pins: Option<PathBuf>,
    /// How the program runs: limits, sources, outputs (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What opens TLS in captures.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Secrets of TLS connections, as written to SSLKEYLOGFILE: opens TLS 1.2 and 1.3. Repeatable;
    /// secrets inside a pcapng file are used without it
    #[arg(long, value_name = "FILE")]
    pub keylog: Vec<PathBuf>,
    /// Private key of a server (PEM): opens connections of TLS 1.2 whose key exchange was RSA, not
    /// those with forward secrecy. Repeatable
    #[arg(long, value_name = "FILE")]
    pub rsa_key: Vec<PathBuf>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What opens TLS.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Exit with 3 if an alert is at least this severe
    #[arg(long, value_parser = parse_severity, value_name = "SEVERITY")]
    pub fail_on: Option<Severity>,
    /// Worker threads; the output does not depend on it [default: one per core, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Begin with what this state file remembers, and write to it what was learned and alerted
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Deliver to the sinks of --config too, as `run` does; without it a replay wakes nobody
    #[cfg(feature = "live")]
    #[arg(long, requires = "config")]
    pub deliver: bool,
    /// Only share I of N of the captures, I from 0: of the files named, or of what is in the folders named,
    /// by name. Folders in those stay whole
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Share>,
    /// Read one capture that is still being written, from standard input or a pipe: alerts leave as they happen,
    /// like those of `run`. `tcpdump -i any -U -w - | mcp-monitor replay --follow -` watches where there is no BPF
    #[arg(long, conflicts_with_all = ["shard", "threads"])]
    pub follow: bool,
    /// Captures (pcap or pcapng, plain, gzip or zstd), or folders of them; `-` is standard input. Several
    /// are one timeline
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `run`.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
    /// cgroup v2 directory to watch, or pod:UID for a pod of this node [default: the root, found through /proc/mounts]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Begin with what this state file remembers, and keep in it alerts and what is learned
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Serve the page, metrics, health and alerts over HTTP here [default: `http` of --config, else
    /// not at all]. Other than on loopback it wants `http.token` or `http.client_ca`
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, require_equals = true,
        default_missing_value = "127.0.0.1:9464")]
    pub http: Option<std::net::SocketAddr>,
}

/// `reload`.
#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Process to ask [default: the only `mcp-monitor run` of this machine]
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
}

/// `alerts`.
#[derive(Debug, Args)]
#[command(after_help = ALERTS_HELP)]
pub struct AlertsArgs {
    /// The state file that `run` or `replay` wrote [default: `state.file` of --config]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// The program configuration that names the state file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Of this rule; may be given several times
    #[arg(long, value_name = "ID")]
    pub rule: Vec<String>,
    /// On this endpoint
    #[arg(long, value_name = "NAME")]
    pub endpoint: Option<String>,
    /// At least this severe
    #[arg(long, value_parser = parse_severity, value_name = "SEVERITY")]
    pub severity: Option<Severity>,
    /// Last seen at this time or later: RFC 3339, a date, or how long ago (24h)
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// First seen before this time
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// Of this incident
    #[arg(long, value_name = "ID")]
    pub incident: Option<String>,
    /// With this id, or one that begins so
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// At most this many, the latest; 0 for all
    #[arg(long, default_value = "100", value_name = "N")]
    pub limit: u64,
    /// How they look
    #[arg(long, value_enum, default_value = "json")]
    pub format: Format,
}

const ALERTS_HELP: &str = "\
Examples:
  mcp-monitor alerts --state /var/lib/mcp-monitor/state.sqlite --since 24h --severity high --format text
  mcp-monitor alerts --state s.sqlite --rule DNS-01 --rule DST-02 --endpoint market-data";

/// `attest`.
#[derive(Debug, Args)]
#[command(after_help = ATTEST_HELP)]
pub struct AttestArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The state file that `run` or `replay` wrote [default: `state.file` of --config]
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub state: Option<PathBuf>,
    /// From this time on, by whole hours: RFC 3339, a date, or how long ago (24h, 30d)
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub since: Option<Timestamp>,
    /// Up to before this time
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// JSON, or text for an auditor
    #[arg(long, value_enum, default_value = "json")]
    pub format: Format,
    /// What opens TLS.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Captures to attest instead of a state file; needs --pins
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

const ATTEST_HELP: &str = "\
A check is `held` if it was seen and is what the pins allow, `broken` if it was seen and is not, `unpinned` if
nothing is pinned, `unseen` if the traffic did not show it. What was not seen is said, never taken for good.

Examples:
  mcp-monitor attest --state /var/lib/mcp-monitor/state.sqlite --since 30d --format text
  mcp-monitor attest --pins pins.yaml capture.pcap";

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Send a test alert (rule TEST-00, severity info) through every sink of --config
    #[cfg(feature = "live")]
    #[arg(long, requires = "config")]
    pub send_test: bool,
    /// How the report looks
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `pin`.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Validate a pins file
    Check {
        /// Pins files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write a pins file from what is seen
    Learn(LearnArgs),
    /// Compare a pins file with what is seen; exit code 3 on drift
    Diff(DiffArgs),
}

/// Where facts come from, for `pin learn` and `pin diff`.
#[derive(Debug, Args)]
pub struct FactArgs {
    /// How the program runs: limits, sources, outputs (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What a state file learned, instead of captures
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub state: Option<PathBuf>,
    /// Live traffic, instead of captures
    #[cfg(feature = "live")]
    #[arg(long, conflicts_with_all = ["files", "state"])]
    pub live: bool,
    /// With --live: how long to watch
    #[cfg(feature = "live")]
    #[arg(long = "for", default_value = "10m", value_parser = parse_span, value_name = "TIME", requires = "live")]
    pub span: std::time::Duration,
    /// What opens TLS.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Captures (pcap or pcapng, plain, gzip or zstd); `-` is standard input. Several are one timeline
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `pin learn`.
#[derive(Debug, Args)]
#[command(after_help = LEARN_HELP)]
pub struct LearnArgs {
    /// Facts.
    #[command(flatten)]
    pub facts: FactArgs,
    /// Also pin this host, although no MCP can be read there (TLS that nothing opens); may be given several times
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Also take what was seen while an alert was open on its server; such lines say so
    #[arg(long)]
    pub suspect: bool,
    /// Write here instead of to standard output; a file that exists is not overwritten
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

const LEARN_HELP: &str = "\
Every server that MCP was spoken with becomes an endpoint. Each line says from how many observations over which
time it was learned; what was ambiguous or could not be seen is left out, and a comment says so. What appeared
while an alert was open on a server is left out too. Read the file before you rely on it.

Examples:
  mcp-monitor pin learn --out pins.yaml monday.pcap tuesday.pcap
  mcp-monitor pin learn --state /var/lib/mcp-monitor/state.sqlite";

/// `pin diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_HELP)]
pub struct DiffArgs {
    /// The pins file to compare
    #[arg(long, value_name = "FILE")]
    pub pins: PathBuf,
    /// Facts.
    #[command(flatten)]
    pub facts: FactArgs,
    /// Change the pins file so that what was seen of this key is allowed; may be given several times
    #[arg(long, value_name = "NAME.KEY")]
    pub accept: Vec<String>,
    /// How the comparison looks
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const DIFF_HELP: &str = "\
Per key: `same`, `rotated` (another value that the pin allows), `drifted`, `unpinned` (seen, but no pin says
anything), `unseen` (pinned, but the traffic did not show it). Exit code 3 if anything drifted.

--accept adds what was seen to lists (addresses, cnames, tls.spki_sha256, tls.issuers, mcp.tools,
auth.authorization_servers, resolvers) and replaces single values; nothing is removed, comments and order stay.

Examples:
  mcp-monitor pin diff --pins pins.yaml last-night.pcap
  mcp-monitor pin diff --pins pins.yaml --accept market-data.mcp.tools last-night.pcap";

/// `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// One line per detection
    List {
        /// How the list looks
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
    /// The page of one detection
    Show {
        /// Its id, e.g. DNS-01
        #[arg(value_name = "ID")]
        id: String,
    },
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    [
        Severity::Info,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ]
    .into_iter()
    .find(|s| s.as_str() == text)
    .ok_or_else(|| "expected info, low, medium, high or critical".to_owned())
}

#[cfg(feature = "live")]
fn parse_span(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a time such as 90s, 10m or 1h30m".to_owned())
}

/// A moment: RFC 3339, a date (its midnight, UTC), or how long ago.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let ago = || {
        let now = std::time::SystemTime::now().checked_sub(parse_duration(text)?)?;
        let since = now.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_nanos()).ok().map(Timestamp)
    };
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .or_else(ago)
        .ok_or_else(|| {
            "expected a time such as 2026-12-01T00:00:00Z, a date, or how long ago (24h, 7d)".to_owned()
        })
}
