//! What a running monitor gives up. It reads bytes of attackers and is allowed much: so it keeps, once it is attached,
//! no more than it goes on to need.
//!
//! - [`Sandbox::begin`], before any other thread runs: which files threads may go on to use (landlock).
//! - [`Sandbox::finish`], once the programs are attached: capabilities, and system calls (seccomp).
//! - [`thread`]: every other thread has no capability at all and those files alone, but for the one that looks into
//!   processes, which landlock would forbid.
//!
//! A kernel that lacks one of these is no reason not to watch: it is said.

mod calls;
mod capabilities;
mod files;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use caps::Capability;

pub use self::{calls::available as seccomp_available, files::available as landlock_abi};

/// Threads give up their capabilities.
static ON: AtomicBool = AtomicBool::new(false);
/// Files that threads may go on to use.
static ACCESS: OnceLock<Access> = OnceLock::new();

/// What is done with files from here on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Read, with everything below.
    pub read: Vec<PathBuf>,
    /// Written, with everything below; made and removed there too. Of those that are not there, the folder in which
    /// they would be made.
    pub write: Vec<PathBuf>,
}

/// One of the layers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layer {
    /// In force; how far.
    On(String),
    /// The kernel lacks it, or it failed; which of the two.
    Off(String),
}

impl Layer {
    /// It is in force.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(how) => f.write_str(how),
            Self::Off(why) => write!(f, "off, {why}"),
        }
    }
}

/// What is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confinement {
    /// Capabilities that the packet loop kept.
    pub capabilities: Layer,
    /// Files.
    pub landlock: Layer,
    /// System calls.
    pub seccomp: Layer,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "capabilities kept: {}; landlock: {}; seccomp: {}",
            self.capabilities, self.landlock, self.seccomp
        )
    }
}

/// See the module.
#[derive(Debug)]
pub struct Sandbox {
    /// Probes are put on the TLS libraries of later processes.
    probes: bool,
    landlock: Layer,
    state: Arc<OnceLock<Confinement>>,
}

impl Sandbox {
    /// Says which files threads made later may use. `probes`: the TLS of processes that come later is to be read.
    pub fn begin(access: &Access, probes: bool) -> Self {
        ON.store(true, Ordering::Relaxed);
        let _ = ACCESS.set(access.clone());
        let landlock = match files::available() {
            Ok(abi) => Layer::On(format!("ABI {abi}, but for threads that look into processes")),
            Err(why) => Layer::Off(why),
        };
        Self {
            probes,
            landlock,
            state: Arc::default(),
        }
    }

    /// Gives up the capabilities of this thread and system calls of all. The programs must be attached.
    pub fn finish(&self) -> Confinement {
        let confinement = Confinement {
            capabilities: capabilities::keep(&capabilities::of_loop(self.probes)),
            landlock: self.landlock.clone(),
            seccomp: calls::restrict(self.probes),
        };
        // Called once; of a second time the first answer holds.
        let _ = self.state.set(confinement.clone());
        confinement
    }

    /// What is in force, once it is.
    pub fn state(&self) -> Arc<OnceLock<Confinement>> {
        self.state.clone()
    }
}

/// What a thread beside the packet loop does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Nothing that takes a capability.
    Serve,
    /// Looks into other processes.
    LookIntoProcesses,
}

/// Makes a thread that has no more capabilities than its task needs, if there is a sandbox.
///
/// # Errors
///
/// No thread can be had.
pub fn thread<T: Send + 'static>(
    name: impl Into<String>,
    task: Task,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(move || {
        if ON.load(Ordering::Relaxed) {
            let wanted: &[Capability] = match task {
                Task::Serve => &[],
                Task::LookIntoProcesses => capabilities::OF_SCAN,
            };
            if let Layer::Off(why) = capabilities::keep(wanted) {
                tracing::warn!("this thread keeps its capabilities: {why}");
            }
            // Landlock forbids to look into any process outside, executables and memory maps included.
            if task == Task::Serve
                && let Some(access) = ACCESS.get()
                && let Layer::Off(why) = files::restrict(access)
            {
                tracing::warn!("this thread keeps its files: {why}");
            }
        }
        work()
    })
}
