//! Hosts made of network namespaces, joined by veth pairs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::process::output;
use crate::undo::{self, Undo};

const PREFIX: &str = "mcpmon";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// One host: a network namespace with loopback up. Removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    etc: PathBuf,
    _undo: Undo,
}

impl Namespace {
    /// Makes a host; the name it gets is unique to this process.
    pub fn new(role: &str) -> Result<Self> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{n}-{role}", std::process::id());
        let etc = Path::new("/etc/netns").join(&name);
        ip(&["netns", "add", &name])?;
        let undo = {
            let (name, etc) = (name.clone(), etc.clone());
            undo::register(move || remove(&name, &etc))
        };
        let namespace = Self {
            name,
            etc,
            _undo: undo,
        };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Programs started with [`Self::command`] resolve names at this server, and nowhere else.
    pub fn set_resolver(&self, server: IpAddr) -> Result<()> {
        fs::create_dir_all(&self.etc)?;
        // Neither retries at once nor both families in one go: one question, one answer.
        let text = format!("nameserver {server}\noptions timeout:2 attempts:2\n");
        fs::write(self.etc.join("resolv.conf"), text)?;
        fs::write(self.etc.join("nsswitch.conf"), "hosts: files dns\n")?;
        fs::write(self.etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
        Ok(())
    }

    /// A command that runs in this host. The launcher replaces itself, so the child's process
    /// id is the program's.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// As [`Self::command`], in a cgroup as well.
    pub fn command_in(&self, cgroup: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("sh");
        // The shell moves itself into the cgroup before anything of the program runs.
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec ip netns exec \"$@\""]);
        command.arg(cgroup).arg(&self.name).arg(program);
        command
    }
}

/// The addresses of a link.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Address of the host.
    pub near: IpAddr,
    /// Address of the router on this link.
    pub far: IpAddr,
}

/// Joins a host to a router with a veth pair, point to point; the host reaches everything
/// through it. The host's device is `eth0`, the router's is named after the host's role.
pub fn join(host: &Namespace, router: &Namespace, role: &str, ends: &[Ends]) -> Result<()> {
    #[rustfmt::skip]
    ip(&["-n", &host.name, "link", "add", "eth0", "type", "veth", "peer", "name", role, "netns", &router.name])?;
    ip(&["-n", &host.name, "link", "set", "eth0", "up"])?;
    ip(&["-n", &router.name, "link", "set", role, "up"])?;
    for Ends { near, far } in ends {
        address(host, "eth0", *near, *far)?;
        address(router, role, *far, *near)?;
        let family = if near.is_ipv6() { "-6" } else { "-4" };
        let via = far.to_string();
        // `onlink`: the kernel may take a moment until the link's own route is there to find the router by.
        #[rustfmt::skip]
        ip(&["-n", &host.name, family, "route", "add", "default", "via", &via, "dev", "eth0", "onlink"])?;
    }
    Ok(())
}

/// Makes a host forward what is not for itself.
pub fn forward(router: &Namespace) -> Result<()> {
    let switches = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    let script = switches
        .map(|switch| format!("echo 1 > /proc/sys/net/{switch}"))
        .join(" && ");
    output(router.command("sh").args(["-c", &script])).map(drop)
}

fn address(host: &Namespace, device: &str, own: IpAddr, peer: IpAddr) -> Result<()> {
    let (own, net) = (
        own.to_string(),
        format!("{peer}/{}", if peer.is_ipv6() { 128 } else { 32 }),
    );
    let mut args = vec!["-n", &host.name, "addr", "add", &own, "peer", &net, "dev", device];
    // Duplicate address detection would keep an IPv6 address unusable for a second.
    args.extend(peer.is_ipv6().then_some("nodad"));
    ip(&args)
}

fn ip(args: &[&str]) -> Result<()> {
    output(Command::new("ip").args(args)).map(drop)
}

fn remove(name: &str, etc: &Path) {
    let _ = ip(&["netns", "del", name]);
    let _ = fs::remove_dir_all(etc);
    let _ = fs::remove_dir("/etc/netns");
}

/// Removes namespaces of earlier runs whose process is gone (ended by SIGKILL).
pub fn remove_stale() -> Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries {
        let name = entry
            .context("read /run/netns")?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name, &Path::new("/etc/netns").join(&name));
        }
    }
    Ok(())
}
