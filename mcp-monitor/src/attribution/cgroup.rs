//! Paths of cgroups by their id.

use std::{fs, path::PathBuf};

use hashbrown::HashMap;

/// Paths remembered; when full, all are forgotten and found again.
const PATHS_MAX: usize = 8192;
/// Directories looked at in one search.
const SEARCH_MAX: usize = 65_536;

/// Paths, relative to the root of the cgroup2 file system and beginning with `/`.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: Option<PathBuf>,
    paths: HashMap<u64, Option<Box<str>>>,
}

impl Cgroups {
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            paths: HashMap::new(),
        }
    }

    /// Of the cgroup `id`, which is the inode number of its directory; `pid` lives there, which is the
    /// shorter way while it lives.
    pub(super) fn path(&mut self, id: u64, pid: Option<u32>) -> Option<Box<str>> {
        if let Some(path) = self.paths.get(&id) {
            return path.clone();
        }
        let near = pid.and_then(|pid| self.of_process(id, pid));
        let path = near.or_else(|| self.search(id));
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        self.paths.insert(id, path.clone());
        path
    }

    /// Line `0::PATH` of `/proc/PID/cgroup`, if that is indeed the cgroup asked for.
    fn of_process(&self, id: u64, pid: u32) -> Option<Box<str>> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let directory = self.root.as_ref()?.join(path.trim_start_matches('/'));
        (inode(&directory)? == id).then(|| path.into())
    }

    /// Looks through the whole tree: the process is gone, or sees another root.
    fn search(&self, id: u64) -> Option<Box<str>> {
        let root = self.root.as_ref()?;
        if inode(root) == Some(id) {
            return Some("/".into());
        }
        let mut open = vec![root.clone()];
        for _ in 0..SEARCH_MAX {
            let directory = open.pop()?;
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let path = entry.path();
                if inode(&path) == Some(id) {
                    let relative = path.strip_prefix(root).ok()?;
                    return Some(format!("/{}", relative.display()).into());
                }
                open.push(path);
            }
        }
        None
    }
}

/// The cgroup of a pod below `root`, whatever driver made it and whatever its class.
pub fn pod_cgroup(root: &std::path::Path, uid: &str) -> Option<PathBuf> {
    let mut open = vec![root.to_path_buf()];
    for _ in 0..SEARCH_MAX {
        let directory = open.pop()?;
        let path = directory.strip_prefix(root).ok()?.display().to_string();
        match super::pod_in(&path) {
            Some((found, _)) if found == uid => return Some(directory),
            Some(_) => continue,
            None => {}
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(folders.map(|entry| entry.path()));
    }
    None
}

/// The path of a process in the older hierarchies (cgroup v1), if they put it in a pod.
pub(super) fn older_path(pid: u32) -> Option<Box<str>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    pod_path(&text).map(Into::into)
}

/// Of lines `NUMBER:CONTROLLERS:PATH`, the first path that names a pod.
fn pod_path(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .find(|path| super::pod_in(path).is_some())
}

#[cfg(unix)]
fn inode(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

#[cfg(not(unix))]
fn inode(_: &std::path::Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn hybrid_systems_tell_pods_apart_in_the_older_hierarchies() {
        let path = "/kubepods/burstable/pod6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60/0f6d";
        let text = format!("12:pids:/user.slice\n11:memory:{path}\n0::/\n");
        assert_eq!(pod_path(&text), Some(path));
        assert_eq!(pod_path("1:name=systemd:/init.scope\n0::/\n"), None);
    }

    #[test]
    fn finds_the_cgroup_of_a_pod() {
        const UID: &str = "6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60";
        let root = tempfile::tempdir().unwrap();
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let pod = root
            .path()
            .join("kubepods.slice/kubepods-burstable.slice")
            .join(slice);
        fs::create_dir_all(pod.join("cri-containerd-1.scope")).unwrap();
        assert_eq!(pod_cgroup(root.path(), UID), Some(pod));
        assert_eq!(pod_cgroup(root.path(), &UID.replace('6', "7")), None);
    }

    #[test]
    fn finds_a_directory_by_its_inode() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("kubepods.slice/pod1.slice");
        fs::create_dir_all(&deep).unwrap();
        let mut cgroups = Cgroups::new(Some(root.path().to_path_buf()));
        let id = inode(&deep).unwrap();
        assert_eq!(
            cgroups.path(id, None).as_deref(),
            Some("/kubepods.slice/pod1.slice")
        );
        assert_eq!(
            cgroups.path(inode(root.path()).unwrap(), None).as_deref(),
            Some("/")
        );
    }
}
