//! Why the kernel programs could not be attached, and what to do.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use thiserror::Error;

/// Why live capture does not work.
#[derive(Debug, Error)]
pub enum LiveError {
    /// Capabilities are missing.
    #[error(
        "live capture needs {missing}: run as root, or grant the capabilities (setcap cap_bpf,cap_net_admin,cap_perfmon+ep, or securityContext.capabilities.add in Kubernetes)"
    )]
    Privileges {
        /// Names of what is missing.
        missing: String,
    },
    /// No cgroup2 file system.
    #[error(
        "no cgroup2 file system is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or name a directory in one"
    )]
    NoCgroup2,
    /// The cgroup cannot be opened.
    #[error("cannot open the cgroup {}: {source}; it must be a directory of a cgroup2 file system", path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel lacks something that nothing replaces.
    #[error(
        "the kernel ({release}) lacks {missing}; Linux 5.15 or newer has it. `mcp-monitor check` says more"
    )]
    Kernel {
        /// Its release.
        release: String,
        /// What it lacks.
        missing: String,
    },
    /// The object was refused.
    #[error("the kernel refused the programs: {}", chain(.0))]
    Load(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the program {name}: {}", chain(.source))]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error(
        "cannot attach the program {name}: {}; another program may hold the cgroup exclusively (bpftool cgroup tree shows it)",
        chain(.source)
    )]
    Attach {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A map could not be used.
    #[error("kernel table {name}: {}", chain(.source))]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// The folder for links and tables cannot be used.
    #[error("cannot keep the kernel programs in {} (source.pin_dir): {source}", path.display())]
    Pinning {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The object lacks a part: it was built from other sources.
    #[error("the kernel object lacks {0}: it belongs to another version; build again")]
    Object(&'static str),
    /// The ring cannot be waited on.
    #[error("cannot wait for the kernel's ring: {0}")]
    Ring(io::Error),
}

impl LiveError {
    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map {
            name,
            source: Box::new(source),
        }
    }
}

/// An error with everything beneath it, in one line; of a verifier's log the last lines.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        next = error.source();
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > 12 {
        let tail = lines.get(lines.len().saturating_sub(11)..).unwrap_or_default();
        return format!("{}\n…\n{}", lines.first().unwrap_or(&""), tail.join("\n"));
    }
    text
}
