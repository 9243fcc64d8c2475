//! Which socket of this machine listens where a client connected to, and whose it is.
//!
//! `/proc/PID/net` shows the network namespace of a process: its sockets (`tcp`, `tcp6`) and its own
//! addresses (`fib_trie`, `if_inet6`). Namespaces are found through the processes in them.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{Pods, container_id, pod_in};
use crate::types::{Listener, Process};

/// Processes and namespaces looked at in one search.
const MAX_PROCESSES: usize = 16_384;
const MAX_NAMESPACES: usize = 1024;
/// Largest file of `/proc` read, bytes.
const MAX_FILE: u64 = 4 << 20;

/// The socket that serves `server`, as a client with process `client` saw it. `None` if `server` is not on
/// this machine, if nothing listens any more, or if several network namespaces could be meant.
#[must_use]
pub fn find_listener(server: SocketAddr, client: Option<u32>, pods: &Pods) -> Option<Listener> {
    let mut listener = find(
        Path::new("/proc"),
        server,
        client.filter(|_| super::sees_host_processes()),
    )?;
    if let Some(process) = listener.process.as_mut().map(Arc::make_mut)
        && let Some((uid, qos)) = process.cgroup.as_deref().and_then(pod_in)
    {
        process.pod = pods.of_path(&uid, qos, Instant::now());
    }
    Some(listener)
}

fn find(proc: &Path, server: SocketAddr, client: Option<u32>) -> Option<Listener> {
    let server = SocketAddr::new(server.ip().to_canonical(), server.port());
    // Loopback is the client's own namespace, as long as it lives.
    let folder = client.map(|pid| proc.join(pid.to_string()));
    if let Some(folder) = folder.filter(|f| server.ip().is_loopback() && f.join("net/tcp").exists()) {
        let (address, inode) = listening(&folder, server)?;
        return Some(listener(proc, &folder, address, inode));
    }
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for folder in processes(proc) {
        let Ok(namespace) = fs::read_link(folder.join("ns/net")) else {
            continue;
        };
        if known.len() >= MAX_NAMESPACES || !known.insert(namespace) || !owns(&folder, server.ip()) {
            continue;
        }
        if let Some((address, inode)) = listening(&folder, server) {
            found.push((folder, address, inode));
        }
    }
    match found.as_slice() {
        [(folder, address, inode)] => Some(listener(proc, folder, *address, *inode)),
        _ => None,
    }
}

fn processes(proc: &Path) -> Vec<PathBuf> {
    let numbers = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MAX_PROCESSES)
        .collect();
    pids.sort_unstable();
    pids.iter().map(|pid| proc.join(pid.to_string())).collect()
}

fn read(path: PathBuf) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(MAX_FILE).read_to_string(&mut text);
    }
    text
}

/// The namespace of this process has the address.
fn owns(folder: &Path, ip: IpAddr) -> bool {
    match ip {
        _ if ip.is_loopback() => true,
        IpAddr::V4(ip) => owns_v4(&read(folder.join("net/fib_trie")), ip),
        IpAddr::V6(ip) => owns_v6(&read(folder.join("net/if_inet6")), ip),
    }
}

/// `|-- 10.1.0.5` is an own address if the line below says `/32 host LOCAL`.
fn owns_v4(trie: &str, ip: Ipv4Addr) -> bool {
    let mut leaf = false;
    for line in trie.lines() {
        match line.trim().strip_prefix("|-- ") {
            Some(address) => leaf = address.parse() == Ok(ip),
            None if leaf && line.contains("host LOCAL") => return true,
            None => {}
        }
    }
    false
}

/// Lines begin with the address as 32 hex digits.
fn owns_v6(list: &str, ip: Ipv6Addr) -> bool {
    let hex = format!("{:032x}", u128::from(ip));
    list.lines().any(|line| line.starts_with(&hex))
}

/// Where a socket of this namespace listens that takes connections to `server`, and its inode. One on the
/// very address goes before one on all addresses.
fn listening(folder: &Path, server: SocketAddr) -> Option<(SocketAddr, u64)> {
    let mut sockets = sockets(&read(folder.join("net/tcp")));
    sockets.extend(self::sockets(&read(folder.join("net/tcp6"))));
    let takes = |ip: IpAddr| match ip.to_canonical() {
        own if own == server.ip() => Some(0),
        own if own.is_unspecified() && own.is_ipv4() == server.is_ipv4() => Some(1),
        // `::` takes IPv4 as well, unless it was told not to, which /proc does not show.
        own if own.is_unspecified() && own.is_ipv6() => Some(2),
        _ => None,
    };
    sockets
        .into_iter()
        .filter(|(address, _)| address.port() == server.port())
        .filter_map(|(address, inode)| Some((takes(address.ip())?, address, inode)))
        .min_by_key(|(rank, ..)| *rank)
        .map(|(_, address, inode)| (address, inode))
}

/// Listening sockets of a `tcp` or `tcp6` file: state 0A, local address as hexadecimal words in the byte
/// order of the machine, port in network order, inode in column 10.
fn sockets(text: &str) -> Vec<(SocketAddr, u64)> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        (words.nth(1)? == "0A").then_some(())?;
        let inode = words.nth(5)?.parse().ok()?;
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some((SocketAddr::new(address(ip)?, port), inode))
    };
    text.lines().skip(1).filter_map(line).collect()
}

fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

/// With its process, if one of the same namespace can be seen to hold the socket.
fn listener(proc: &Path, folder: &Path, address: SocketAddr, inode: u64) -> Listener {
    let namespace = fs::read_link(folder.join("ns/net")).ok();
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let holds = |folder: &PathBuf| {
        fs::read_link(folder.join("ns/net")).ok() == namespace
            && fs::read_dir(folder.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == socket))
    };
    Listener {
        address,
        process: processes(proc).iter().find(|f| holds(f)).and_then(|f| process(f)),
        own_network: fs::read_link(proc.join("self/ns/net")).ok() == namespace,
    }
}

fn process(folder: &Path) -> Option<Arc<Process>> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let exe = fs::read_link(folder.join("exe")).ok();
    let cgroup = read(folder.join("cgroup"));
    let cgroup: Option<Box<str>> = cgroup.lines().find_map(|l| l.strip_prefix("0::")).map(Into::into);
    Some(Arc::new(Process {
        pid,
        comm: read(folder.join("comm")).trim_end().into(),
        exe: exe.map(|exe| exe.to_string_lossy().as_ref().into()),
        exe_build: super::exe_build(pid),
        container_id: cgroup.as_deref().and_then(container_id).map(Into::into),
        started: super::started(pid).and_then(super::began),
        pod: None,
        cgroup,
    }))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pods() -> Pods {
        Pods::new(std::time::Duration::from_secs(60))
    }

    #[test]
    fn finds_the_listeners_of_this_process() {
        let pid = std::process::id();
        for bind in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0"] {
            let Ok(socket) = TcpListener::bind(bind) else {
                continue;
            };
            let bound = socket.local_addr().unwrap();
            let server = SocketAddr::new("127.0.0.1".parse().unwrap(), bound.port());
            let found = find_listener(server, Some(pid), &pods()).unwrap();
            assert_eq!(found.address, bound);
            assert_eq!(found.process.unwrap().pid, pid);
            drop(socket);
            assert!(
                find_listener(server, Some(pid), &pods()).is_none(),
                "{bind} is closed"
            );
        }
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = find_listener(gone.local_addr().unwrap(), Some(u32::MAX), &pods());
        assert!(found.is_some(), "the client has ended already");
        assert!(
            find_listener("203.0.113.5:443".parse().unwrap(), None, &pods()).is_none(),
            "another machine's"
        );
    }

    #[test]
    fn reads_the_tables_of_proc() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n   1: 0100007F:0BB9 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1\n";
        if cfg!(target_endian = "little") {
            assert_eq!(sockets(tcp), [("127.0.0.1:3001".parse().unwrap(), 4242)]);
            let v6 = "00000000000000000000000001000000";
            assert_eq!(address(v6), Some("::1".parse().unwrap()));
        }
        assert!(sockets("head\n nonsense\n 0: XX:1 0 0A\n").is_empty());
        let trie = "Local:\n  +-- 10.1.0.0/24 2 0 2\n     |-- 10.1.0.0\n        /24 link UNICAST\n     |-- 10.1.0.5\n        /32 host LOCAL\n";
        assert!(owns_v4(trie, "10.1.0.5".parse().unwrap()));
        assert!(!owns_v4(trie, "10.1.0.0".parse().unwrap()));
        let list = "20010db8000000000000000000000001 02 40 00 80 eth0\n";
        assert!(owns_v6(list, "2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn two_namespaces_that_fit_are_none() {
        let proc = tempfile::tempdir().unwrap();
        let tcp = "head\n 0: 00000000:0BB9 00000000:0000 0A 0:0 0:0 0 0 0 42 1\n";
        for (pid, namespace) in [("1", "net:[1]"), ("2", "net:[2]")] {
            let folder = proc.path().join(pid);
            fs::create_dir_all(folder.join("net")).unwrap();
            fs::create_dir_all(folder.join("ns")).unwrap();
            std::os::unix::fs::symlink(namespace, folder.join("ns/net")).unwrap();
            fs::write(folder.join("net/tcp"), tcp).unwrap();
            let server = "127.0.0.1:3001".parse().unwrap();
            assert_eq!(find(proc.path(), server, None).is_some(), pid == "1");
        }
    }
}
