//! Measures what the monitor costs, and writes it down in docs/PERFORMANCE.md.

mod child;
mod live;
mod peers;
mod replay;
mod report;
#[cfg(target_os = "linux")]
mod statistics;
mod stats;
mod tls;

use anyhow::Result;

/// What to measure
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Throughput of a veth pair with the monitor attached, without it, and with tcpdump
    Live(live::Args),
    /// What reading the plaintext of TLS costs the process whose library is read
    Tls(tls::Args),
    /// Speed of replay over captures
    Replay(replay::Args),
}

/// Runs `bench`.
pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Live(args) => live::run(args),
        What::Tls(args) => tls::run(args),
        What::Replay(args) => replay::run(args),
    }
}
