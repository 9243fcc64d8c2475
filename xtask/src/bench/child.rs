//! Runs a child to its end and says what it took.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::sh;

/// What a child took.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads, seconds.
    pub cpu: f64,
    /// From start to end, seconds.
    pub wall: f64,
    /// Most memory resident at once, MiB.
    pub peak: f64,
}

/// Runs a command that must succeed; what it says goes nowhere.
#[cfg(unix)]
#[allow(unsafe_code)]
pub fn measure(command: &mut Command) -> Result<Usage> {
    let show = sh::show(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = std::time::Instant::now();
    let child = command.spawn().with_context(|| format!("start {show}"))?;
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: a zeroed rusage is a valid one, being integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables; the child is ours and was not waited for.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let wall = start.elapsed().as_secs_f64();
    ensure!(
        waited == pid,
        "wait for {show}: {}",
        std::io::Error::last_os_error()
    );
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "`{show}` failed (status {status})"
    );
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    // Linux counts the peak in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") {
        1048576.0
    } else {
        1024.0
    };
    Ok(Usage {
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        wall,
        peak: usage.ru_maxrss as f64 / unit,
    })
}

/// Not here.
#[cfg(not(unix))]
pub fn measure(_: &mut Command) -> Result<Usage> {
    anyhow::bail!("measuring a child needs wait4")
}
