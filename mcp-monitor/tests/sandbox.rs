//! A process in the sandbox tries what it must not do. One test, in a process of its own: there is no way back.
#![cfg(all(target_os = "linux", feature = "live"))]
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
    process::Command,
    thread,
};

use mcp_monitor::sandbox::{Access, Sandbox, Task, landlock_abi, seccomp_available};

/// The thread's capabilities, as a number in hexadecimal digits.
fn effective() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.unwrap_or_default().trim().to_owned()
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// What a thread beside the packet loop can still do with files.
fn files(own: &Path, others: &Path) {
    let refused = Some(ErrorKind::PermissionDenied);
    if landlock_abi().is_ok() {
        assert_eq!(kind(fs::read(others.join("secret"))), refused, "read elsewhere");
        assert_eq!(
            kind(fs::write(others.join("new"), "x")),
            refused,
            "written elsewhere"
        );
        assert_eq!(
            kind(fs::remove_file(others.join("secret"))),
            refused,
            "removed elsewhere"
        );
    }
    assert_eq!(
        fs::read_to_string(own.join("pins.yaml")).expect("pins"),
        "version: 1\n"
    );
    // The nearest folder that was there: the spool's own is made later.
    fs::create_dir(own.join("spool")).expect("a folder");
    fs::write(own.join("spool/alerts"), "x").expect("a file");
    fs::rename(own.join("spool/alerts"), own.join("spool/alerts.1")).expect("rotated");
}

/// On a thread of its own, as the program's main thread: files and capabilities are a thread's.
fn confined(own: &Path, others: &Path) {
    let access = Access {
        read: vec!["/proc".into(), own.to_owned()],
        write: vec![own.join("spool/alerts")],
    };
    let sandbox = Sandbox::begin(&access, false);
    let refused = Some(ErrorKind::PermissionDenied);
    let (here, there) = (own.to_owned(), others.to_owned());
    let tried = mcp_monitor::sandbox::thread("files", Task::Serve, move || files(&here, &there));
    tried.expect("a thread").join().expect("files as they should be");

    // Until now calls are free, for attaching takes them.
    assert_eq!(
        aya::sys::enable_stats(aya::sys::Stats::RunTime).map(drop).is_ok(),
        is_root()
    );
    let confinement = sandbox.finish();
    assert_eq!(sandbox.state().get(), Some(&confinement));
    assert!(confinement.capabilities.is_on(), "{confinement}");
    assert_eq!(
        confinement.landlock.is_on(),
        landlock_abi().is_ok(),
        "{confinement}"
    );
    assert_eq!(
        confinement.seccomp.is_on(),
        seccomp_available().is_ok(),
        "{confinement}"
    );
    let allowed = (1_u64 << 39) | (1 << 19); // CAP_BPF, CAP_SYS_PTRACE
    let held = u64::from_str_radix(&effective(), 16).expect("a number");
    assert_eq!(held & !allowed, 0, "{confinement}");
    let status = fs::read_to_string("/proc/thread-self/status").expect("status");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    if confinement.seccomp.is_on() {
        assert!(status.contains("Seccomp:\t2"), "{status}");
        // More BPF than tables, and another program.
        assert!(aya::sys::enable_stats(aya::sys::Stats::RunTime).is_err());
        assert_eq!(kind(Command::new("/proc/self/exe").spawn()), refused);
    }
    let helper = mcp_monitor::sandbox::thread("helper", Task::Serve, effective).expect("a thread");
    assert_eq!(helper.join().expect("joined"), "0000000000000000");
}

fn is_root() -> bool {
    u64::from_str_radix(&effective(), 16).is_ok_and(|held| held >> 21 & 1 == 1)
}

#[test]
fn what_was_given_up_is_gone() {
    let (own, others) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    fs::write(own.path().join("pins.yaml"), "version: 1\n").expect("pins");
    fs::write(others.path().join("secret"), "x").expect("a file");
    thread::scope(|scope| {
        let tried = scope.spawn(|| confined(own.path(), others.path()));
        tried.join().expect("everything as it should be");
    });
    // This thread kept its files; system calls are the process's.
    assert!(fs::read(others.path().join("secret")).is_ok());
    if seccomp_available().is_ok() {
        assert_eq!(
            kind(Command::new("true").spawn()),
            Some(ErrorKind::PermissionDenied)
        );
    }
}
