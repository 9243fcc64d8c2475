//! Every flag, defined once with its documentation.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::types::Severity;

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
  3  done, and an alert reached --fail-on";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch live traffic from the kernel until SIGTERM
    #[cfg(feature = "live")]
    Run(RunArgs),
    /// Run the same engine over capture files
    Replay(ReplayArgs),
    /// Work with pins files
    Pin {
        /// What to do with them.
        #[command(subcommand)]
        command: PinCommand,
    },
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

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Output.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Secrets of TLS connections, as written to SSLKEYLOGFILE: opens TLS 1.2 and 1.3. Repeatable;
    /// secrets inside a pcapng file are used without it
    #[arg(long, value_name = "FILE")]
    pub keylog: Vec<PathBuf>,
    /// Exit with 3 if an alert is at least this severe
    #[arg(long, value_parser = parse_severity, value_name = "SEVERITY")]
    pub fail_on: Option<Severity>,
    /// Worker threads; the output does not depend on it [default: one per core, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Captures (pcap or pcapng, plain, gzip or zstd); `-` is standard input. Several are one timeline
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
    /// cgroup v2 directory to watch [default: the root, found through /proc/mounts]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Detection.
    #[command(flatten)]
    pub policy: PolicyArgs,
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
}

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
