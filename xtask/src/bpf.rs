//! What compiles the kernel program: a compiler that has the source of its own `core`, and
//! bpf-linker built against that compiler's LLVM.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// A compiler that can build `core` for `bpfel-unknown-none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's `/usr/bin/rustc` with its source package.
    Distribution,
    /// A nightly that rustup installed, with the component rust-src.
    Nightly,
}

const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";
const CORE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

impl Compiler {
    /// The compiler that is there, if one is.
    pub fn find() -> Option<Self> {
        if Path::new("/usr").join(CORE).exists()
            && let Some(version) = sh::output(DISTRIBUTION_RUSTC, &["-vV"])
            && new_enough(&version, env!("CARGO_PKG_RUST_VERSION"))
        {
            return Some(Self::Distribution);
        }
        let sysroot = sh::output("rustup", &["run", "nightly", "rustc", "--print", "sysroot"])?;
        Path::new(&sysroot).join(CORE).exists().then_some(Self::Nightly)
    }

    /// The major version of its LLVM, which bpf-linker has to match.
    pub fn llvm(&self) -> Result<u32> {
        let text = match self {
            Self::Distribution => sh::output(DISTRIBUTION_RUSTC, &["-vV"]),
            Self::Nightly => sh::output("rustup", &["run", "nightly", "rustc", "-vV"]),
        };
        text.as_deref()
            .and_then(parse_llvm)
            .context("rustc does not say which LLVM it has")
    }
}

/// Whether the compiler that printed this is at least the one that the workspace asks for.
fn new_enough(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> { text.split('.').filter_map(|n| n.parse().ok()).collect() };
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.is_some_and(|release| numbers(release.trim()) >= numbers(wanted))
}

fn parse_llvm(version: &str) -> Option<u32> {
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

/// The record of which LLVM the linker that we installed was built with. A linker installed
/// by other hands is taken as it is.
fn stamp() -> std::path::PathBuf {
    mcp_monitor_tests::paths::target().join("xtask/bpf-linker-llvm")
}

/// Whether bpf-linker is there and not known to be of another LLVM.
pub fn linker_ready(compiler: &Compiler) -> bool {
    if sh::which("bpf-linker").is_none() {
        return false;
    }
    match std::fs::read_to_string(stamp()) {
        Ok(built) => compiler.llvm().is_ok_and(|llvm| built.trim() == llvm.to_string()),
        Err(_) => true,
    }
}

/// Whether the kernel program can be built here as things are.
pub fn ready() -> bool {
    cfg!(target_os = "linux") && Compiler::find().is_some_and(|compiler| linker_ready(&compiler))
}

/// Debian packages that bpf-linker is built with.
pub fn linker_packages(llvm: u32) -> Vec<String> {
    let mut packages = vec![format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
    packages
}

/// Installs bpf-linker for the compiler.
pub fn install_linker(compiler: &Compiler) -> Result<()> {
    let llvm = compiler.llvm()?;
    match compiler {
        Compiler::Distribution => {
            // Linked against the distribution's LLVM.
            let mut command = sh::cargo();
            command.args(["install", "bpf-linker", "--force", "--no-default-features"]);
            command.args(["--features", &format!("llvm-{llvm}")]);
            sh::run(command.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}")))?;
        }
        Compiler::Nightly => {
            // What its makers recommend beside rustup: a build that brings the nightly's LLVM.
            if sh::which("cargo-binstall").is_none() {
                sh::run(sh::cargo().args(["install", "cargo-binstall", "--locked"]))?;
            }
            sh::run(sh::cargo().args(["binstall", "--no-confirm", "--force", "bpf-linker"]))?;
        }
    }
    std::fs::create_dir_all(stamp().parent().context("stamp has a folder")?)?;
    std::fs::write(stamp(), llvm.to_string()).context("record the linker's LLVM")
}

/// Installs a nightly with rust-src by rustup.
pub fn install_nightly() -> Result<()> {
    let args = [
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ];
    sh::run(Command::new("rustup").args(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_version_is_read() {
        let text = "rustc 1.96.0 (abc 2026-06-01)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_llvm(text), Some(22));
        assert_eq!(parse_llvm("rustc 1.96.0"), None);
        assert!(new_enough(text, "1.95") && new_enough(text, "1.96"));
        assert!(!new_enough(text, "1.97") && !new_enough("release: 1.9.0", "1.95"));
    }
}
