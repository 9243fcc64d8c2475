//! Whether a file is still the one that was read.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// What changes when a file is written or replaced, also through a symbolic link, as a kubelet does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Mark {
    /// Of what is there now; `None` if nothing is.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            size: meta.size(),
        })
    }
}
