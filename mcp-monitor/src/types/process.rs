//! Who is behind a socket of this machine.

use std::{net::SocketAddr, sync::Arc};

use super::{Pod, Timestamp};

/// A process on this machine, live only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Thread name at the time of the system call.
    pub comm: Box<str>,
    /// Executable, if it could still be read.
    pub exe: Option<Box<str>>,
    /// Which build of the executable: changes when the file is replaced or written. Of the file's
    /// metadata, since hashing it would cost more than watching its traffic.
    pub exe_build: Option<u64>,
    /// Container id found in the cgroup path.
    pub container_id: Option<Box<str>>,
    /// cgroup v2 path.
    pub cgroup: Option<Box<str>>,
    /// When it began, to a hundredth of a second.
    pub started: Option<Timestamp>,
    /// The pod that the cgroup path names.
    pub pod: Option<Arc<Pod>>,
}

impl Process {
    /// The Kubernetes namespace of its pod, if the cluster has told it.
    pub fn namespace(&self) -> Option<Arc<str>> {
        Some(self.pod.as_ref()?.facts()?.namespace.clone())
    }
}

/// A listening socket of this machine that serves MCP, live only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where it listens; the unspecified address means all.
    pub address: SocketAddr,
    /// Whose it is, if that could be found.
    pub process: Option<Arc<Process>>,
    /// It is in the network namespace of the monitor, as a rule the machine's. Elsewhere, as in a pod, all
    /// addresses are the namespace's own.
    pub own_network: bool,
}
