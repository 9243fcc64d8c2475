//! A child of the cgroup2 root, for the programs that are to be watched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::undo::{self, Undo};

/// Where cgroup2 is mounted: on hybrid systems not at /sys/fs/cgroup itself.
pub fn mount_point() -> Result<PathBuf> {
    fs::read_to_string("/proc/mounts")?
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        })
        .next()
        .context("cgroup2 is not mounted")
}

/// Removes cgroups of earlier runs whose process is gone.
pub fn remove_stale() -> Result<()> {
    for entry in fs::read_dir(mount_point()?)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("mcpmon-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

/// Removes the cgroups below one, the deepest first, as far as they are empty.
fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A cgroup of its own; removed when dropped, after the programs in it have ended.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    _undo: Undo,
}

impl Cgroup {
    /// Makes a cgroup under the root.
    pub fn new(role: &str) -> Result<Self> {
        let path = mount_point()?.join(format!("mcpmon-{}-{role}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let removed = path.clone();
        let undo = undo::register(move || {
            // The kernel lets go of a cgroup a moment after its last program ended.
            for _ in 0..200 {
                remove_below(&removed);
                if fs::remove_dir(&removed).is_ok() || !removed.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Ok(Self { path, _undo: undo })
    }

    /// A cgroup below it, as a kubelet makes them for a pod and its container; removed with it.
    pub fn child(&self, path: &str) -> Result<PathBuf> {
        let child = self.path.join(path);
        fs::create_dir_all(&child).with_context(|| format!("make {}", child.display()))?;
        Ok(child)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
