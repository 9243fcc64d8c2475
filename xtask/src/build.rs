//! Builds the binary; its build script builds the kernel program.

use std::path::PathBuf;

use anyhow::Result;
use mcp_monitor_tests::paths;

use crate::{setup, sh};

/// Build options
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Args {
    /// Optimised, as it is shipped
    #[arg(long)]
    pub release: bool,
}

/// Runs `build`.
pub fn run(args: &Args) -> Result<()> {
    let binary = binary(if args.release { "release" } else { "dev" })?;
    eprintln!(
        "built {}",
        binary.strip_prefix(paths::root()).unwrap_or(&binary).display()
    );
    Ok(())
}

/// Builds the binary in one of cargo's profiles and returns where it lies. `e2e` is what the
/// tests and the demo run: nearly as fast as a release, and quicker to build.
pub fn binary(profile: &str) -> Result<PathBuf> {
    setup::run(&setup::Args { build_only: true })?;
    sh::run(sh::cargo().args(["build", "--package", "mcp-monitor", "--profile", profile]))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(paths::target().join(folder).join("mcp-monitor"))
}
