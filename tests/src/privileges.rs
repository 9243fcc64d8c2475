//! Whether this machine lets a test make namespaces and load BPF programs.

use std::io::Write as _;

use anyhow::{Result, bail};

use crate::cgroup;

/// Fails with the reason if namespaces or BPF programs are out of reach.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: network namespaces and BPF programs need it");
    }
    cgroup::mount_point()?;
    if !may_load_bpf(&std::fs::read_to_string("/proc/self/status")?) {
        bail!("no permission to load BPF programs (CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN)");
    }
    for program in ["ip", "tcpdump"] {
        if which(program).is_none() {
            bail!("{program} is not installed: run `cargo xtask setup`");
        }
    }
    if let Err(error) = crate::netns::Namespace::new("probe") {
        bail!("no network namespaces here: {error:#}");
    }
    Ok(())
}

/// Whether a live test can run here; says loudly if it cannot.
///
/// # Panics
/// As [`skip`].
pub fn ready(test: &str) -> bool {
    check().map_or_else(|reason| skip(test, &format!("{reason:#}")), |()| true)
}

/// Says loudly why a test does not run. False, which is whether it can.
///
/// # Panics
/// In CI, where nothing may be left out unseen.
pub fn skip(test: &str, reason: &str) -> bool {
    assert!(
        !must_not_skip(),
        "{test} cannot run, and CI must not skip: {reason}"
    );
    // Past the harness's capture, so that it is seen without --nocapture.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    false
}

/// Reads the effective capabilities from a process's status.
fn may_load_bpf(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| mask >> capability & 1 == 1;
    // Numbers of linux/capability.h.
    let (net_admin, sys_admin, bpf) = (12, 21, 39);
    has(sys_admin) || (has(bpf) && has(net_admin))
}

/// Looks into processes, and may do no more.
const SCAN: [&str; 3] = ["CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH"];

/// Fails unless every thread of a running monitor gave up what it should have: `kept` are the names of the capabilities
/// that its main thread may still have; all others but the one that looks into processes have none.
pub fn confined(pid: u32, kept: &[&str]) -> Result<()> {
    // Numbers of linux/capability.h.
    let number = |name: &&str| match *name {
        "CAP_SYS_ADMIN" => Ok(21),
        "CAP_DAC_READ_SEARCH" => Ok(2),
        "CAP_SYS_PTRACE" => Ok(19),
        "CAP_PERFMON" => Ok(38),
        "CAP_BPF" => Ok(39),
        "CAP_CHECKPOINT_RESTORE" => Ok(40),
        other => bail!("{other} is not known here"),
    };
    let mask = |names: &[&str]| {
        names
            .iter()
            .map(number)
            .try_fold(0_u64, |mask, number| number.map(|number| mask | 1 << number))
    };
    let (of_main, of_scan) = (mask(kept)?, mask(&SCAN)?);
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let (name, id) = (field("Name:"), field("Pid:"));
        let most = match name.as_str() {
            // Changed pins are read on a thread that the main one makes.
            _ if id == pid.to_string() || name == "tokio-rt-worker" => of_main,
            "tls-scan" => of_scan,
            _ => 0,
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            let held = u64::from_str_radix(&field(set), 16)?;
            if held & !most != 0 {
                bail!("thread {name} has {set} {held:x}, and may have {most:x}");
            }
        }
        if field("NoNewPrivs:") != "1" || field("Seccomp:") != "2" {
            bail!("thread {name} is not confined: {status}");
        }
    }
    Ok(())
}

/// The path of a program that the shell would find.
pub fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Whether a skipped test is a failure: in CI nothing may be left out unseen.
fn must_not_skip() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

#[cfg(test)]
mod tests {
    use super::may_load_bpf;

    #[test]
    fn capabilities_are_read_from_the_mask() {
        assert!(may_load_bpf("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(
            may_load_bpf("CapEff:\t0000008000001000\n"),
            "CAP_BPF with CAP_NET_ADMIN"
        );
        assert!(!may_load_bpf("CapEff:\t0000008000000000\n"), "CAP_BPF alone");
        assert!(!may_load_bpf("CapEff:\t0000000000000000\n"));
        assert!(!may_load_bpf(""));
    }
}
