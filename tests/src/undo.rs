//! What must be undone, whatever way the program ends.
//!
//! Each helper that makes something lasting registers how to undo it. The returned guard
//! undoes it when dropped; a signal undoes everything that is still registered, newest first.
//! After a SIGKILL nothing can run: names carry the process id, so that the next run removes
//! what a dead one left ([`crate::netns::remove_stale`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::output;

type Action = Box<dyn FnOnce() + Send>;

static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// Undoes what it was registered for when dropped.
#[derive(Debug)]
pub struct Undo(u64);

/// Registers an action to be run once: on drop of the guard, or on a signal.
pub fn register(action: impl FnOnce() + Send + 'static) -> Undo {
    WATCH.call_once(watch_signals);
    let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let id = actions.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
    actions.push((id, Box::new(action)));
    Undo(id)
}

impl Drop for Undo {
    fn drop(&mut self) {
        let action = {
            let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
            actions
                .iter()
                .position(|(id, _)| *id == self.0)
                .map(|at| actions.remove(at).1)
        };
        match action {
            Some(action) => action(),
            // The signal's thread has taken it and is at it; it ends the process when it is
            // done, and a thread that went on could end the process before.
            None => loop {
                std::thread::park();
            },
        }
    }
}

/// A folder that is removed on drop, and on a signal too.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    _undo: Undo,
}

impl TempDir {
    /// Makes the folder.
    pub fn new() -> std::io::Result<Self> {
        let path = tempfile::Builder::new().prefix("mcpmon-").tempdir()?.keep();
        let removed = path.clone();
        let undo = register(move || {
            let _ = std::fs::remove_dir_all(removed);
        });
        Ok(Self { path, _undo: undo })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the folder and mounts a file system in memory there, with these options of mount(8), until the guard is dropped.
///
/// # Errors
///
/// The folder is there, or mounting is not allowed.
pub fn tmpfs(folder: &Path, options: &str) -> anyhow::Result<Undo> {
    std::fs::create_dir(folder)?;
    output(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(folder),
    )?;
    let mounted = folder.to_owned();
    Ok(register(move || {
        let _ = output(Command::new("umount").arg(mounted));
    }))
}

/// A real file system in a file that is read-only from its first error on, until the guard is dropped.
pub fn disk(folder: &Path, image: &Path) -> anyhow::Result<Undo> {
    std::fs::create_dir(folder)?;
    std::fs::File::create(image)?.set_len(16 << 20)?;
    output(Command::new("mkfs.ext4").arg("-q").arg(image))?;
    output(
        Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .args([image, folder]),
    )?;
    let mounted = folder.to_owned();
    Ok(register(move || {
        let _ = output(Command::new("umount").arg(mounted));
    }))
}

/// The disk below this folder, of [`disk`], has its first error.
pub fn fail_disk(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let device = mounts.lines().find_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        (Path::new(rest.split(' ').next()?) == folder).then(|| device.rsplit('/').next())?
    });
    let device = device.ok_or_else(|| anyhow::anyhow!("{} is not mounted", folder.display()))?;
    Ok(std::fs::write(
        format!("/sys/fs/ext4/{device}/trigger_fs_error"),
        "1",
    )?)
}

fn run_all() {
    // Taken out first: an action may drop guards of its own.
    let actions = std::mem::take(&mut *ACTIONS.lock().unwrap_or_else(PoisonError::into_inner));
    for (_, action) in actions.into_iter().rev() {
        action();
    }
}

fn watch_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            run_all();
            std::process::exit(128 + signal);
        }
    });
}
