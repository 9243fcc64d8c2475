//! A file system in memory that a kernel starts from, in cpio's `newc` format.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::sh;

/// Runs first and last.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs devtmpfs /dev
ip link set lo up
echo
echo KERNEL $(uname -r)
/bin/mcp-monitor check
/bin/tests --test-threads=1 --nocapture 2>&1
poweroff -f
";

/// Writes one with busybox and these programs in `/bin`, and the libraries that they are linked with.
pub(super) fn write(to: &Path, busybox: &Path, programs: &[(&str, PathBuf)]) -> Result<()> {
    let mut image = Image::default();
    for folder in ["proc", "sys", "dev", "tmp"] {
        image.folder(folder);
    }
    image.file("init", INIT.as_bytes());
    image.file("bin/busybox", &fs::read(busybox)?);
    let mut libraries = BTreeSet::new();
    for (name, program) in programs {
        let at = program.display().to_string();
        let linked = sh::output("ldd", &[&at]).with_context(|| format!("ldd {at}"))?;
        libraries.extend(
            linked
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(str::to_owned),
        );
        image.file(&format!("bin/{name}"), &without_symbols(program)?);
    }
    for library in libraries {
        image.file(library.trim_start_matches('/'), &fs::read(&library)?);
    }
    Ok(fs::write(to, image.end())?)
}

/// A program without what only debuggers read, where `strip` is there: the emulated machine reads it slowly.
fn without_symbols(program: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let smaller = folder.path().join("smaller");
    let mut strip = Command::new("strip");
    let stripped = strip.arg("-o").arg(&smaller).arg(program).status();
    let is_smaller = stripped.is_ok_and(|status| status.success());
    Ok(fs::read(if is_smaller { &smaller } else { program })?)
}

#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Image {
    fn folder(&mut self, name: &str) {
        if self.folders.insert(name.to_owned()) {
            self.entry(name, 0o040_755, &[]);
        }
    }

    fn file(&mut self, name: &str, contents: &[u8]) {
        for (end, _) in name.match_indices('/') {
            self.folder(&name[..end]);
        }
        self.entry(name, 0o100_755, contents);
    }

    /// Thirteen numbers of eight hexadecimal digits; name and contents padded to four bytes.
    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (contents.len(), name.len() + 1);
        let head = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            self.entries, 0, 0, 1, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend(head.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
