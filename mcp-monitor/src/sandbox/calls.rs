//! System calls, by seccomp: those of which a monitor that is attached has no use and an intruder has.

use std::{collections::BTreeMap, env::consts::ARCH, path::Path};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::Layer;

/// Where the kernel says what it has.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// Answered with `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // Run something else, or be somebody else.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_personality,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    // Reach into other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts, and files past their paths.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    // The kernel and the machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Much code that attackers like, and nothing here needs.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Commands of `bpf(2)` that go on: what is done with tables (look up, update, delete, next key, with a batch each),
/// and asking about objects.
const TABLES: &[u64] = &[1, 2, 3, 4, 15, 21, 24, 25, 26, 27];

/// Whether the kernel has it for this architecture.
///
/// # Errors
///
/// Why not, for people.
pub fn available() -> Result<(), String> {
    if TargetArch::try_from(ARCH).is_err() {
        return Err(format!("not made for {ARCH}"));
    }
    if !Path::new(ACTIONS).exists() {
        return Err("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)".to_owned());
    }
    Ok(())
}

/// Restricts every thread there is, and those that they make.
pub(super) fn restrict(probes: bool) -> Layer {
    let applied = available().and_then(|()| {
        let filter = filter(probes).map_err(|error| error.to_string())?;
        seccompiler::apply_filter_all_threads(&filter).map_err(|error| error.to_string())
    });
    match applied {
        Ok(()) => Layer::On("on".to_owned()),
        Err(why) => Layer::Off(why),
    }
}

fn filter(probes: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Probes on later processes take programs, links and events.
    if !probes {
        let others = TABLES
            .iter()
            .map(|command| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *command));
        let others = SeccompRule::new(others.collect::<Result<_, _>>()?)?;
        rules.insert(libc::SYS_bpf, vec![others]);
        rules.insert(libc::SYS_perf_event_open, Vec::new());
    }
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::try_from(ARCH)?)?.try_into()
}
