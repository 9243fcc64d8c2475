//! Who is behind a socket: process, container, cgroup.
//!
//! Reads `/proc` at the moment of the event, while the process is still there. Not part of the core: it
//! is asked by the live source only. What the cluster says of a pod comes from [`kubernetes`], in its own
//! thread: nothing here waits for it.

mod cgroup;
mod container;
#[cfg(feature = "live")]
pub mod kubernetes;
mod listener;
mod pod_path;
mod pods;

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hashbrown::HashMap;

use self::cgroup::Cgroups;
pub use self::{
    cgroup::pod_cgroup,
    container::container_id,
    listener::find_listener,
    pod_path::pod_in,
    pods::{MAX_PODS, PodCounts, Pods},
};
use crate::types::{Pod, Process, Timestamp};

/// Processes remembered; when full, all are forgotten and asked for again.
const PROCESSES_MAX: usize = 8192;

/// What is known of processes, by pid.
#[derive(Debug)]
pub struct Attribution {
    /// The pids that the kernel tells are those of `/proc`.
    host: bool,
    cgroups: Cgroups,
    pods: Pods,
    known: HashMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    /// Clock ticks since boot at which the process began: a pid may be used again.
    started: Option<u64>,
    process: Arc<Process>,
}

impl Attribution {
    /// `cgroup2`: root of the cgroup2 file system, to turn cgroup ids into paths.
    #[must_use]
    pub fn new(cgroup2: Option<PathBuf>, pods: Pods) -> Self {
        Self {
            host: sees_host_processes(),
            cgroups: Cgroups::new(cgroup2),
            pods,
            known: HashMap::new(),
        }
    }

    /// The process `pid` (in the host's namespace) as it is now.
    ///
    /// `comm` is the thread name at the system call, zero-padded, and `cgroup` the cgroup v2 id; both
    /// come from the kernel and hold even where the process is gone already and `/proc` says nothing.
    pub fn process(&mut self, pid: u32, comm: &[u8; 16], cgroup: u64) -> Arc<Process> {
        let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        // In another pid namespace the number is somebody else's.
        let local = self.host.then_some(pid);
        let started = local.and_then(started);
        let path = self.cgroups.path(cgroup, local);
        if let Some(known) = self.known.get(&pid)
            && known.started == started
            && started.is_some()
            && *known.process.comm == *name
            && known.process.cgroup == path
            && known.process.exe.is_some()
        {
            return known.process.clone();
        }
        // On hybrid systems containers are told apart in the older hierarchies, and only there.
        let older = match path.as_deref() {
            Some(path) if pod_in(path).is_some() => None,
            _ => local.and_then(cgroup::older_path),
        };
        let place = older.as_deref().or(path.as_deref());
        let process = Arc::new(Process {
            pid,
            comm: name.into(),
            exe: local.and_then(exe),
            exe_build: local.and_then(exe_build),
            container_id: place.and_then(container_id).map(Into::into),
            started: started.and_then(began),
            pod: place.and_then(|path| self.pod(path)),
            cgroup: path,
        });
        if self.known.len() >= PROCESSES_MAX {
            self.known.clear();
        }
        let known = Known {
            started,
            process: process.clone(),
        };
        self.known.insert(pid, known);
        process
    }

    fn pod(&self, path: &str) -> Option<Arc<Pod>> {
        let (uid, qos) = pod_in(path)?;
        self.pods.of_path(&uid, qos, Instant::now())
    }
}

/// Whether `/proc` shows the processes of the host: in a container it does with `hostPID` only.
#[must_use]
pub fn sees_host_processes() -> bool {
    /// Inode of the first pid namespace, fixed in the kernel.
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == FIRST)
}

/// The time that a number of clock ticks after boot was, to a hundredth of a second.
fn began(ticks: u64) -> Option<Timestamp> {
    // USER_HZ, 100 on every architecture that Linux has.
    let since_boot = Duration::from_millis(ticks.checked_mul(10)?);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let uptime = Duration::try_from_secs_f64(uptime).ok()?;
    let boot = SystemTime::now()
        .checked_sub(uptime)?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    let began = boot.checked_add(since_boot)?.as_millis().checked_div(10)?;
    Some(Timestamp(u64::try_from(began.checked_mul(10_000_000)?).ok()?))
}

/// Path of the executable, as its own mount namespace names it; without the mark of a deleted file.
fn exe(pid: u32) -> Option<Box<str>> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.to_string_lossy();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).into())
}

/// Device, inode, size and time of change of the executable, as one number.
#[cfg(unix)]
fn exe_build(pid: u32) -> Option<u64> {
    use std::{hash::Hasher as _, os::unix::fs::MetadataExt as _};
    let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let mut hash = std::hash::DefaultHasher::new();
    for part in [metadata.dev(), metadata.ino(), metadata.size()] {
        hash.write_u64(part);
    }
    hash.write_i64(metadata.mtime());
    hash.write_i64(metadata.mtime_nsec());
    Some(hash.finish())
}

#[cfg(not(unix))]
fn exe_build(_: u32) -> Option<u64> {
    None
}

/// Field 22 of `/proc/PID/stat`.
fn started(pid: u32) -> Option<u64> {
    stat(pid)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// `/proc/PID/stat` from the third field on; the second one, in parentheses, may hold anything.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.to_owned())
}

/// Whether the process that had this number at a time, in nanoseconds since boot, runs still. True where nothing
/// can be said: in a container `/proc` shows other processes.
#[must_use]
pub fn is_there(pid: u32, at: u64) -> bool {
    if !sees_host_processes() {
        return true;
    }
    let Some(stat) = stat(pid) else { return false };
    let mut fields = stat.split_ascii_whitespace();
    // What ended and was not waited for has no memory left.
    let ended = matches!(fields.next(), Some("Z" | "X"));
    let started: Option<u64> = fields.nth(18).and_then(|ticks| ticks.parse().ok());
    // A hundredth of a second each, rounded down.
    !ended && started.is_none_or(|ticks| ticks.saturating_mul(10_000_000) <= at)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn knows_this_process() {
        let mut attribution = Attribution::new(None, Pods::new(Duration::from_secs(60)));
        let pid = std::process::id();
        let process = attribution.process(pid, b"worker\0\0\0\0\0\0\0\0\0\0", 0);
        assert_eq!(process.pid, pid);
        assert_eq!(&*process.comm, "worker");
        let exe = std::env::current_exe().unwrap();
        assert_eq!(process.exe.as_deref(), exe.to_str());
        assert!(process.exe_build.is_some());
        let now = Timestamp(u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap());
        let age = now.since(process.started.unwrap());
        assert!(
            age < Duration::from_secs(3600) && process.started < Some(now),
            "{age:?}"
        );
        let again = attribution.process(pid, b"worker\0\0\0\0\0\0\0\0\0\0", 0);
        assert!(Arc::ptr_eq(&process, &again));
        let renamed = attribution.process(pid, b"other\0\0\0\0\0\0\0\0\0\0\0", 0);
        assert_eq!(&*renamed.comm, "other");
    }

    #[test]
    fn a_number_that_another_process_has_now_is_not_the_same() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ticks = started(child.id()).unwrap();
        assert!(is_there(child.id(), ticks * 10_000_000));
        if sees_host_processes() {
            assert!(!is_there(child.id(), ticks * 10_000_000 - 1));
            child.kill().unwrap();
            // Until it is waited for it keeps its number.
            while is_there(child.id(), u64::MAX) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = (child.kill(), child.wait());
    }

    #[test]
    fn a_process_that_is_gone_keeps_what_the_kernel_said() {
        let process = Attribution::new(None, Pods::new(Duration::from_secs(60))).process(
            u32::MAX,
            b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            0,
        );
        assert_eq!(&*process.comm, "curl");
        assert_eq!(process.exe, None);
        assert_eq!(process.cgroup, None);
    }
}
