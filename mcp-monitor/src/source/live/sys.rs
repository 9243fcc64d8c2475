//! The two system calls that aya does not offer for programs on sockets: links that can be pinned.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_LINK_CREATE: libc::c_int = 28;

/// Where programs sit, by the kernel's numbers (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Hook {
    /// `BPF_CGROUP_INET_INGRESS`
    Ingress = 0,
    /// `BPF_CGROUP_INET_EGRESS`
    Egress = 1,
    /// `BPF_CGROUP_INET4_CONNECT`
    Connect4 = 10,
    /// `BPF_CGROUP_INET6_CONNECT`
    Connect6 = 11,
    /// `BPF_CGROUP_UDP4_SENDMSG`
    Sendmsg4 = 14,
    /// `BPF_CGROUP_UDP6_SENDMSG`
    Sendmsg6 = 15,
}

/// `union bpf_attr` for `BPF_LINK_CREATE`, as far as it is used.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    hook: u32,
    flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_PIN`, as far as it is used.
#[repr(C)]
struct ObjectPin {
    path: u64,
    object: u32,
    flags: u32,
}

/// Attaches a loaded program to a cgroup; it stays until the descriptor, and its pin, are gone.
pub(super) fn link(program: impl AsFd, cgroup: impl AsFd, hook: Hook) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        program: number(program.as_fd().as_raw_fd()),
        target: number(cgroup.as_fd().as_raw_fd()),
        hook: hook as u32,
        flags: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &attr)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    #[expect(unsafe_code, reason = "the call returns a descriptor as a number")]
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(fd)
}

/// Gives an object a name in a bpf file system.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = ObjectPin {
        path: path.as_ptr().expose_provenance() as u64,
        object: number(object.as_fd().as_raw_fd()),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &attr).map(|_| ())
}

fn number(fd: i32) -> u32 {
    u32::try_from(fd).unwrap_or(u32::MAX)
}

fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is the beginning of the union that the command reads, readable for its size, and what it points
    // to lives for the call.
    #[expect(unsafe_code, reason = "a system call")]
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}
