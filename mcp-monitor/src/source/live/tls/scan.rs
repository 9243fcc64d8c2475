//! Which files with TLS functions are in use, as processes come and go.
//!
//! `/proc` is read on a thread of its own. Whoever holds the [`Scanner`] tells it of processes that
//! execute or connect, and takes the changes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::process::{self, FileKey, Mapping};
use crate::{
    sandbox::{self, Task},
    source::binary::{self, Plan, Unreadable},
};

/// How often all of `/proc` is gone through, for what neither executed nor connected since, and for what
/// is no longer used.
const RESCAN: Duration = Duration::from_secs(10);
/// When a process that executed is looked at: at once for the executable, then for its libraries.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(30),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// How long a file keeps its probes after it was last seen in use: programs that are run again and again are
/// then watched from their first byte. Meanwhile a deleted file keeps its room.
const GRACE: Duration = Duration::from_secs(60);
/// Processes told of and not looked at yet; of more, the next full scan takes care.
const MAX_TOLD: usize = 4096;
/// Looks that wait for their time.
const MAX_LOOKS: usize = 16_384;
/// Files with probes. The kernel's table has room for as many, see `TLS_RANDOM`.
const MAX_TARGETS: usize = 4095;
/// Files of which it is known what is in them; when full, all are forgotten and read again.
const MAX_FILES: usize = 16_384;

/// Directories in which a mount namespace keeps libraries that a process may load at any time.
const LIBRARY_DIRS: [&str; 9] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib64",
    "lib",
    "usr/local/lib64",
    "usr/local/lib",
    "usr/local/ssl/lib",
];
const LIBRARY_NAMES: [&str; 3] = ["libssl.so.3", "libssl.so.1.1", "libgnutls.so.30"];

/// A process that did something worth a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// It executed a program.
    Executed(u32),
    /// It connected a socket.
    Connected(u32),
}

/// What is to be done, or was found.
#[derive(Debug)]
pub enum Change {
    /// A file with TLS functions is in use.
    Attach(Target),
    /// It no longer is.
    Detach {
        /// Its number.
        target: u32,
    },
    /// The TLS inside a program or library of a process cannot be read. Said once for each process.
    Unreadable {
        /// The process.
        pid: u32,
        /// The file.
        path: Arc<str>,
        /// Why not.
        reason: Unreadable,
    },
    /// A process of which that was said ended, or runs another program.
    Gone {
        /// The process.
        pid: u32,
    },
}

/// A file to put probes on.
#[derive(Debug)]
pub struct Target {
    /// Its number, from 1; never that of another while this one is attached.
    pub(super) number: u32,
    /// The file itself, whatever its name became.
    pub(super) file: File,
    /// Path as the process that brought it names it.
    pub(super) path: Box<str>,
    pub(super) plans: Vec<Plan>,
}

/// The thread, and how to talk to it.
#[derive(Debug)]
pub struct Scanner {
    told: SyncSender<Subject>,
    changes: UnboundedReceiver<Change>,
    untold: u64,
}

impl Scanner {
    /// Starts it: the first scan of all processes below `cgroup` begins at once. Ends with the scanner.
    pub fn start(cgroup: Option<PathBuf>) -> std::io::Result<Self> {
        let (told, heard) = sync_channel(MAX_TOLD);
        let (send, changes) = unbounded_channel();
        sandbox::thread("tls-scan", Task::LookIntoProcesses, move || {
            Scan::new(cgroup, send).run(&heard);
        })?;
        Ok(Self {
            told,
            changes,
            untold: 0,
        })
    }

    /// A process did something. Never waits.
    pub fn tell(&mut self, subject: Subject) {
        if let Err(TrySendError::Full(_)) = self.told.try_send(subject) {
            self.untold = self.untold.saturating_add(1);
        }
    }

    /// The next change. Cancel safe. Never returns where the thread is gone.
    pub async fn change(&mut self) -> Change {
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }

    /// Processes of which the thread could not be told; the next full scan found them.
    pub fn untold(&self) -> u64 {
        self.untold
    }
}

/// A file that was looked into.
#[derive(Clone, Debug)]
enum Content {
    /// TLS functions: a target of this number.
    Target(u32),
    /// TLS that cannot be read.
    Unreadable(Unreadable),
    Nothing,
}

struct Scan {
    /// Only processes below it, as `/proc/PID/cgroup` writes it.
    cgroup: Option<String>,
    send: UnboundedSender<Change>,
    files: HashMap<FileKey, Content>,
    /// By device and inode as maps write them and mount namespace, so that a file is opened once.
    places: HashMap<(u64, Box<str>), FileKey>,
    namespaces: HashSet<u64>,
    targets: BTreeMap<u32, FileKey>,
    free: Vec<u32>,
    looks: VecDeque<(Instant, usize, u32)>,
    /// Targets found in use since the last full scan.
    used: BTreeSet<u32>,
    /// When the full scan last found them in use.
    seen: HashMap<u32, Instant>,
    /// Processes that were said to be unreadable.
    said: HashSet<u32>,
}

impl Scan {
    fn new(cgroup: Option<PathBuf>, send: UnboundedSender<Change>) -> Self {
        Self {
            cgroup: cgroup.and_then(|dir| below_root(&dir)),
            send,
            files: HashMap::new(),
            places: HashMap::new(),
            namespaces: HashSet::new(),
            targets: BTreeMap::new(),
            free: Vec::new(),
            looks: VecDeque::new(),
            used: BTreeSet::new(),
            seen: HashMap::new(),
            said: HashSet::new(),
        }
    }

    fn run(mut self, heard: &Receiver<Subject>) {
        self.all();
        let mut next = later(Instant::now(), RESCAN);
        loop {
            let now = Instant::now();
            while let Some((due, index, pid)) = self.looks.front().copied() {
                if due > now {
                    break;
                }
                self.looks.pop_front();
                self.process(pid);
                self.plan_look(pid, index.saturating_add(1));
            }
            if now >= next {
                self.all();
                next = later(Instant::now(), RESCAN);
            }
            let wake = self.looks.front().map_or(next, |(due, ..)| next.min(*due));
            match heard.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Subject::Executed(pid)) => {
                    self.gone(pid);
                    self.process(pid);
                    self.plan_look(pid, 0);
                }
                Ok(Subject::Connected(pid)) => self.process(pid),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks are due in order of their plan only within one delay; a front that is due later than one
    /// behind it costs that one some milliseconds.
    fn plan_look(&mut self, pid: u32, index: usize) {
        let Some(delay) = LOOKS.get(index) else { return };
        if self.looks.len() >= MAX_LOOKS {
            return;
        }
        let due = later(Instant::now(), *delay);
        let at = self.looks.partition_point(|(other, ..)| *other <= due);
        self.looks.insert(at, (due, index, pid));
    }

    /// Everything there is; what nobody uses any more is let go.
    fn all(&mut self) {
        self.namespaces.clear();
        self.places.clear();
        // The machine's own, whether or not a process below the cgroup runs yet: the first may be over
        // before it was looked at.
        self.lying_ready(std::process::id());
        let all: HashSet<u32> = process::all().into_iter().collect();
        let over: Vec<u32> = self.said.difference(&all).copied().collect();
        for pid in over {
            self.gone(pid);
        }
        // This process talks to sinks, not to MCP servers: it is no blind spot.
        for pid in all.into_iter().filter(|pid| *pid != std::process::id()) {
            self.process(pid);
        }
        let now = Instant::now();
        for number in std::mem::take(&mut self.used) {
            self.seen.insert(number, now);
        }
        let unused: Vec<u32> = self
            .targets
            .keys()
            .filter(|number| {
                self.seen
                    .get(*number)
                    .is_none_or(|seen| later(*seen, GRACE) < now)
            })
            .copied()
            .collect();
        for number in unused {
            self.seen.remove(&number);
            if let Some(key) = self.targets.remove(&number) {
                self.files.remove(&key);
                self.free.push(number);
                self.say(Change::Detach { target: number });
            }
        }
    }

    /// A process, with the libraries that lie ready for it.
    fn process(&mut self, pid: u32) {
        if let Some(wanted) = &self.cgroup
            && !process::cgroup(pid).is_some_and(|path| is_below(&path, wanted))
        {
            return;
        }
        let Some(namespace) = process::mount_namespace(pid) else {
            return;
        };
        if self.namespaces.insert(namespace) {
            self.lying_ready(pid);
        }
        let Ok(candidates) = process::candidates(pid) else {
            return;
        };
        for mapping in candidates {
            self.mapping(pid, namespace, &mapping);
        }
    }

    fn mapping(&mut self, pid: u32, namespace: u64, mapping: &Mapping) {
        let place = (namespace, mapping.place.clone());
        if let Some(content) = self.places.get(&place).and_then(|key| self.files.get(key)) {
            match content {
                Content::Target(number) => {
                    self.used.insert(*number);
                }
                Content::Unreadable(reason) => {
                    let reason = reason.clone();
                    self.unreadable(pid, &mapping.path, reason);
                }
                Content::Nothing => {}
            }
            return;
        }
        let Ok(file) = process::open(pid, mapping) else {
            return;
        };
        if let Some((key, reason)) = self.file(file, &mapping.path) {
            if self.places.len() < MAX_FILES {
                self.places.insert(place, key);
            }
            if let Some(reason) = reason {
                self.unreadable(pid, &mapping.path, reason);
            }
        }
    }

    fn unreadable(&mut self, pid: u32, path: &str, reason: Unreadable) {
        if self.said.len() < MAX_FILES && self.said.insert(pid) {
            self.say(Change::Unreadable {
                pid,
                path: path.into(),
                reason,
            });
        }
    }

    fn gone(&mut self, pid: u32) {
        if self.said.remove(&pid) {
            self.say(Change::Gone { pid });
        }
    }

    fn lying_ready(&mut self, pid: u32) {
        let root = process::root(pid);
        for dir in LIBRARY_DIRS {
            for name in LIBRARY_NAMES {
                let path = Path::new(dir).join(name);
                if let Ok(file) = binary::open(&root.join(&path)) {
                    let path = format!("/{}", path.display());
                    self.file(file, &path);
                }
            }
        }
    }

    /// Looks into a file, once. Its key, and why its TLS cannot be read although there is some.
    fn file(&mut self, file: File, path: &str) -> Option<(FileKey, Option<Unreadable>)> {
        let key = FileKey::of(&file).ok()?;
        if let Some(content) = self.files.get(&key) {
            let reason = match content {
                Content::Target(number) => {
                    self.used.insert(*number);
                    None
                }
                Content::Unreadable(reason) => Some(reason.clone()),
                Content::Nothing => None,
            };
            return Some((key, reason));
        }
        if self.files.len() >= MAX_FILES {
            self.files
                .retain(|_, content| matches!(content, Content::Target(_)));
        }
        let Ok(examined) = binary::examine(&file) else {
            self.files.insert(key, Content::Nothing);
            return Some((key, None));
        };
        if examined.plans.is_empty() {
            let reason = examined.unreadable.into_iter().next();
            let content = reason.clone().map_or(Content::Nothing, Content::Unreadable);
            self.files.insert(key, content);
            return Some((key, reason));
        }
        let number = self.number()?;
        self.files.insert(key, Content::Target(number));
        self.targets.insert(number, key);
        self.used.insert(number);
        self.say(Change::Attach(Target {
            number,
            file,
            path: path.into(),
            plans: examined.plans,
        }));
        Some((key, None))
    }

    fn number(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let next = self.targets.len().checked_add(1)?;
            (next <= MAX_TARGETS).then(|| u32::try_from(next).ok())?
        })
    }

    fn say(&self, change: Change) {
        // Nobody listens any more: the run is over.
        let _ = self.send.send(change);
    }
}

fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

/// The path of a cgroup directory below the root of its hierarchy; `None` for the root.
fn below_root(dir: &Path) -> Option<String> {
    let root = super::super::cgroup2_root().ok()?;
    let dir = dir.canonicalize().ok()?;
    let path = dir.strip_prefix(root.canonicalize().ok()?).ok()?;
    let path = path.to_str()?;
    (!path.is_empty()).then(|| format!("/{path}"))
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_holds_itself_and_its_children() {
        assert!(is_below("/a/b", "/a/b"));
        assert!(is_below("/a/b/c", "/a/b"));
        assert!(!is_below("/a/bc", "/a/b"));
        assert!(!is_below("/a", "/a/b"));
    }

    #[test]
    fn finds_the_tls_library_of_this_machine_once() {
        let (send, mut changes) = unbounded_channel();
        let mut scan = Scan::new(None, send);
        scan.process(std::process::id());
        scan.process(std::process::id());
        let mut paths = Vec::new();
        while let Ok(change) = changes.try_recv() {
            if let Change::Attach(target) = change {
                assert!(!target.plans.is_empty());
                paths.push(target.path);
            }
        }
        let openssl = paths.iter().filter(|path| path.ends_with("libssl.so.3")).count();
        assert_eq!(openssl, 1, "{paths:?}");
    }
}
