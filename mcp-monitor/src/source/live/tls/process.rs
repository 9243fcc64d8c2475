//! Which files a process maps as code.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::source::binary::{self, BinaryError};

/// A file, whatever its name: device and inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
}

impl FileKey {
    pub(super) fn parts(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// A file that is mapped executable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Mapping {
    /// Addresses, as the name of the link in `map_files`.
    range: Box<str>,
    /// Device and inode, as the kernel writes them.
    pub(super) place: Box<str>,
    /// Path in the process's own mount namespace.
    pub(super) path: Box<str>,
}

/// Longest `/proc/PID/maps` that is read, bytes: 100,000 mappings.
const MAX_MAPS: u64 = 16 << 20;

/// Mapped files that may hold a TLS library: the executable, and libraries by their usual names.
pub(super) fn candidates(pid: u32) -> io::Result<Vec<Mapping>> {
    use io::Read as _;
    let mut maps = String::new();
    File::open(format!("/proc/{pid}/maps"))?
        .take(MAX_MAPS)
        .read_to_string(&mut maps)?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let exe = exe.as_deref().and_then(Path::to_str);
    Ok(mappings(&maps, exe))
}

fn mappings(maps: &str, exe: Option<&str>) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(range), Some(rights), Some(_), Some(device), Some(inode), Some(path)) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        let path = path.trim_start();
        if !rights.contains('x') || !path.starts_with('/') {
            continue;
        }
        if exe != Some(path) && !is_library(path) {
            continue;
        }
        let place = format!("{device} {inode}");
        if found.iter().all(|other| *other.place != *place) {
            found.push(Mapping {
                range: range.into(),
                place: place.into(),
                path: path.strip_suffix(" (deleted)").unwrap_or(path).into(),
            });
        }
    }
    found
}

/// Whether a file of this path is a TLS library by its name.
pub(super) fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [
        "libssl.so",
        "libssl-",
        "libssl3.so",
        "libgnutls.so",
        "libgnutls-",
        "libboringssl",
    ]
    .iter()
    .any(|known| name.starts_with(known))
}

/// Opens the very file that is mapped, even where it was deleted or replaced since.
pub(super) fn open(pid: u32, mapping: &Mapping) -> Result<File, BinaryError> {
    let mapped = PathBuf::from(format!("/proc/{pid}/map_files/{}", mapping.range));
    binary::open(&mapped).or_else(|_| {
        let path = mapping.path.trim_start_matches('/');
        binary::open(&root(pid).join(path))
    })
}

/// The file system as the process sees it.
pub(super) fn root(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// Number of its mount namespace.
pub(super) fn mount_namespace(pid: u32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/mnt")).ok()?.ino())
}

/// cgroup v2 path below the root of the hierarchy.
pub(super) fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// All processes there are.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00401000 r-xp 00000000 08:01 7                          /usr/bin/python3.11
7f0000000000-7f0000001000 r--p 00000000 08:01 9                  /usr/lib/libssl.so.3
7f0000001000-7f0000002000 r-xp 00001000 08:01 9                  /usr/lib/libssl.so.3
7f0000002000-7f0000003000 r-xp 00001000 08:01 11                 /usr/lib/libc.so.6
7f0000003000-7f0000004000 r-xp 00001000 08:01 12                 /opt/my app/libssl.so.1.1 (deleted)
7f0000004000-7f0000005000 r-xp 00000000 00:00 0 
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                  [vdso]
garbage
";

    #[test]
    fn finds_the_executable_and_tls_libraries() {
        let found = mappings(MAPS, Some("/usr/bin/python3.11"));
        let paths: Vec<&str> = found.iter().map(|mapping| &*mapping.path).collect();
        assert_eq!(
            paths,
            [
                "/usr/bin/python3.11",
                "/usr/lib/libssl.so.3",
                "/opt/my app/libssl.so.1.1"
            ]
        );
        assert_eq!(&*found[1].range, "7f0000001000-7f0000002000");
        assert_eq!(&*found[1].place, "08:01 9");
    }

    #[test]
    fn other_libraries_are_left_alone() {
        assert!(is_library("/lib/x86_64-linux-gnu/libgnutls.so.30.34.3"));
        assert!(!is_library("/lib/libsslpolicy.so.1"));
        assert!(!is_library("/libssl.so.3/readme"));
    }
}
