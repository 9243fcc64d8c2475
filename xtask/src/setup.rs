//! Installs what is missing, and nothing else.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use mcp_monitor_tests::paths;

use crate::bpf::{self, Compiler};
use crate::sh;

/// What is needed
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Args {
    /// Only what a build needs, without the tools and peers of the tests
    #[arg(long)]
    pub build_only: bool,
}

/// What makes rsyslog speak TLS: a module, found by its path.
const LIB_OSSL: &str = "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so";

/// What makes one program see another wall clock: a library, found by its path.
const LIB_FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A program that the tests use, and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "ip",
        package: "iproute2",
    },
    Tool {
        program: "tcpdump",
        package: "tcpdump",
    },
    Tool {
        program: "openssl",
        package: "openssl",
    },
    Tool {
        program: "setpriv",
        package: "util-linux",
    },
    Tool {
        program: "node",
        package: "nodejs",
    },
    Tool {
        program: "npm",
        package: "npm",
    },
    Tool {
        program: "python3",
        package: "python3",
    },
    Tool {
        program: "curl",
        package: "curl",
    },
    Tool {
        program: "h2load",
        package: "nghttp2-client",
    },
    Tool {
        program: "bpftool",
        package: "bpftool",
    },
    Tool {
        program: "go",
        package: "golang-go",
    },
    Tool {
        program: "promtool",
        package: "prometheus",
    },
    Tool {
        program: "chromium",
        package: "chromium",
    },
    Tool {
        program: "buildah",
        package: "buildah",
    },
    Tool {
        program: "capsh",
        package: "libcap2-bin",
    },
    Tool {
        program: "ethtool",
        package: "ethtool",
    },
    Tool {
        program: "iperf3",
        package: "iperf3",
    },
    Tool {
        program: "prometheus-alertmanager",
        package: "prometheus-alertmanager",
    },
    Tool {
        program: "rsyslogd",
        package: "rsyslog",
    },
    Tool {
        program: LIB_OSSL,
        package: "rsyslog-openssl",
    },
    Tool {
        program: LIB_FAKETIME,
        package: "faketime",
    },
];

/// Runs setup.
pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    if !cfg!(target_os = "linux") {
        eprintln!(
            "setup: not Linux: nothing to install; --no-default-features builds the replay-only binary"
        );
        return Ok(());
    }
    check_c_compiler()?;
    let mut changed = bpf_toolchain()?;
    if !args.build_only {
        changed |= test_tools()?;
        changed |= peers()?;
    }
    if changed {
        eprintln!("setup: done in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn check_c_compiler() -> Result<()> {
    if ["cc", "gcc", "clang"]
        .into_iter()
        .any(|program| sh::which(program).is_some())
    {
        return Ok(());
    }
    bail!("a C compiler is needed to begin with (on Debian: apt-get install gcc)")
}

/// The compiler and the linker of the kernel program.
fn bpf_toolchain() -> Result<bool> {
    let found = Compiler::find();
    if let Some(compiler) = &found
        && bpf::linker_ready(compiler)
    {
        return Ok(false);
    }
    let compiler = match found {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    if !bpf::linker_ready(&compiler) {
        if compiler == Compiler::Distribution {
            apt(
                &bpf::linker_packages(compiler.llvm()?),
                "LLVM, to build bpf-linker with",
            )?;
        }
        eprintln!("setup: building bpf-linker, about two minutes");
        bpf::install_linker(&compiler)?;
    }
    Ok(true)
}

fn install_compiler() -> Result<Compiler> {
    let needed = "a rustc with the source of its core library, which bpfel-unknown-none is built from";
    if debian_has("rustc-web") {
        apt(&["rustc-web".into(), "rust-web-src".into()], needed)?;
    } else {
        eprintln!("setup: installing {needed}: rustup's nightly with rust-src");
        bpf::install_nightly()?;
    }
    match Compiler::find() {
        Some(compiler) => Ok(compiler),
        None => bail!("installed {needed}, but it is not where it should be"),
    }
}

fn test_tools() -> Result<bool> {
    let mut packages: Vec<String> = TOOLS
        .iter()
        .filter(|tool| sh::which(tool.program).is_none())
        .map(|tool| tool.package.to_owned())
        .collect();
    // The peers have their Python environment; only to make one is the package needed.
    if !mcp_monitor_tests_installed() && sh::output("python3", &["-c", "import venv, ensurepip"]).is_none() {
        packages.push("python3-venv".to_owned());
    }
    // The second libcurl, with GnuTLS, has no program of its own.
    let libraries = sh::output("ldconfig", &["-p"]).or_else(|| sh::output("/sbin/ldconfig", &["-p"]));
    if !libraries.is_some_and(|list| list.contains("libcurl-gnutls.so.4")) {
        packages.push("libcurl3-gnutls".to_owned());
    }
    if packages.is_empty() {
        return Ok(false);
    }
    apt(&packages, "programs that the live tests run")?;
    Ok(true)
}

#[cfg(target_os = "linux")]
fn mcp_monitor_tests_installed() -> bool {
    mcp_monitor_tests::peers::installed() && mcp_monitor_tests::receivers::installed()
}

#[cfg(not(target_os = "linux"))]
fn mcp_monitor_tests_installed() -> bool {
    true
}

/// Installs the MCP clients and servers that the tests talk to.
#[cfg(target_os = "linux")]
fn peers() -> Result<bool> {
    use mcp_monitor_tests::{peers, receivers};

    mcp_monitor_tests::cluster_tools::install()?;
    let receivers_there = receivers::installed();
    if !receivers_there {
        eprintln!("setup: installing receivers of alerts (PyPI)");
    }
    receivers::install()?;
    let there = peers::installed();
    if !there {
        let dir = peers::dir();
        let dir = dir.strip_prefix(paths::root()).unwrap_or(&dir).display();
        eprintln!("setup: installing MCP SDKs (npm, PyPI) into {dir}");
    }
    peers::install()?;
    Ok(!there || !receivers_there)
}

#[cfg(not(target_os = "linux"))]
fn peers() -> Result<bool> {
    let _ = paths::root();
    Ok(false)
}

fn debian_like() -> bool {
    sh::which("apt-get").is_some()
}

/// Whether Debian's archive has a package; looks again after refreshing the lists.
fn debian_has(package: &str) -> bool {
    if !debian_like() {
        return false;
    }
    let known = || {
        sh::output("apt-cache", &["policy", package])
            .is_some_and(|policy| policy.contains("Candidate:") && !policy.contains("Candidate: (none)"))
    };
    if !known() && sh::is_root() {
        let _ = sh::run(Command::new("apt-get").args(["update", "-q"]));
    }
    known()
}

/// Installs Debian packages; without root, says what to run and fails.
pub fn apt(packages: &[String], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if !debian_like() {
        bail!("missing: {why}; install with this system's package manager what Debian calls: {list}");
    }
    if !sh::is_root() {
        bail!(
            "missing: {why}. Run this, then again what you ran:\n  \
             sudo apt-get update && sudo apt-get install -y --no-install-recommends {list}"
        );
    }
    eprintln!("setup: installing {why}: {list}");
    let mut update = Command::new("apt-get");
    sh::run(
        update
            .args(["update", "-q"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages);
    sh::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}
