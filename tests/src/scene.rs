//! The stage that live tests and the demo share: an agent, the approved server, another host
//! and a resolver, each a namespace, joined by a router, with a name that can be moved.
//!
//! ```text
//! agent 10.1.0.5 ── router ──┬── approved 203.0.113.10
//!                            ├── rogue    198.51.100.66
//!                            └── resolver 10.96.0.10
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cgroup::{self, Cgroup};
use crate::dns::DnsServer;
use crate::netns::{self, Ends, Namespace};
use crate::process::Process;

/// The name that is pinned.
pub const NAME: &str = "mcp.marketdata.example";

/// The addresses of one host.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// IPv4.
    pub v4: &'static str,
    /// IPv6.
    pub v6: &'static str,
}

impl Addresses {
    /// The address of one family.
    pub fn of(self, family: Family) -> IpAddr {
        let text = if family == Family::V4 { self.v4 } else { self.v6 };
        text.parse()
            .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    fn both(self) -> [IpAddr; 2] {
        [self.of(Family::V4), self.of(Family::V6)]
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The agent.
pub const AGENT: Addresses = Addresses {
    v4: "10.1.0.5",
    v6: "fd00:1::5",
};
/// The server that the pins approve.
pub const APPROVED: Addresses = Addresses {
    v4: "203.0.113.10",
    v6: "2001:db8:113::10",
};
/// The host to which the name is moved.
pub const ROGUE: Addresses = Addresses {
    v4: "198.51.100.66",
    v6: "2001:db8:51::66",
};
/// The resolver.
pub const RESOLVER: Addresses = Addresses {
    v4: "10.96.0.10",
    v6: "fd00:96::10",
};

/// The stage. Everything on it goes away when it is dropped.
#[derive(Debug)]
pub struct Scene {
    /// Answers for [`NAME`].
    pub dns: DnsServer,
    /// Where the agent's programs run, so that only they are watched.
    pub cgroup: Cgroup,
    /// The agent's host.
    pub agent: Namespace,
    /// The approved server's host.
    pub approved: Namespace,
    /// The other host.
    pub rogue: Namespace,
    _resolver: Namespace,
    _router: Namespace,
}

impl Scene {
    /// Builds the stage; [`NAME`] is at the approved server.
    pub fn new() -> Result<Self> {
        netns::remove_stale()?;
        cgroup::remove_stale()?;
        let router = Namespace::new("router")?;
        netns::forward(&router)?;
        let mut hosts = Vec::new();
        let roles = [
            ("agent", AGENT),
            ("approved", APPROVED),
            ("rogue", ROGUE),
            ("resolver", RESOLVER),
        ];
        for (n, (role, addresses)) in (1u8..).zip(roles) {
            let host = Namespace::new(role)?;
            let far = [IpAddr::from([10, 0, n, 1]), format!("fd00:0:{n}::1").parse()?];
            let ends = addresses
                .both()
                .into_iter()
                .zip(far)
                .map(|(near, far)| Ends { near, far });
            netns::join(&host, &router, role, &ends.collect::<Vec<_>>())?;
            hosts.push(host);
        }
        let mut hosts = hosts.into_iter();
        let mut next = || hosts.next().context("four hosts");
        let (agent, approved, rogue, resolver) = (next()?, next()?, next()?, next()?);
        agent.set_resolver(RESOLVER.of(Family::V4))?;
        let dns = DnsServer::start(&resolver, RESOLVER.of(Family::V4))?;
        let scene = Self {
            dns,
            cgroup: Cgroup::new("agent")?,
            agent,
            approved,
            rogue,
            _resolver: resolver,
            _router: router,
        };
        scene.place(APPROVED, &[Family::V4]);
        Ok(scene)
    }

    /// Moves [`NAME`] to a host, with addresses of these families.
    pub fn place(&self, host: Addresses, families: &[Family]) {
        let addresses: Vec<_> = families.iter().map(|family| host.of(*family)).collect();
        self.dns.set(NAME, &addresses);
    }

    /// Starts tcpdump on the agent's interface, and returns once it captures.
    pub fn capture(&self, file: &Path) -> Result<Capture> {
        let mut command: Command = self.agent.command("tcpdump");
        command.args([
            "-i",
            "eth0",
            "-s",
            "0",
            "-U",
            "--immediate-mode",
            "-B",
            "65536",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(file);
        let process = Process::spawn("tcpdump", command)?;
        let listening = process
            .stderr
            .wait_for(Duration::from_secs(10), |l| l.contains("listening on"));
        ensure!(
            listening.is_some(),
            "tcpdump does not capture: {}",
            process.stderr.text()
        );
        Ok(Capture {
            process,
            file: file.to_owned(),
        })
    }
}

/// A capture being written.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Ends the capture; fails if tcpdump lost packets.
    pub fn stop(mut self) -> Result<PathBuf> {
        // What was sent just now is still on its way to tcpdump.
        std::thread::sleep(Duration::from_millis(300));
        self.process.signal(nix::sys::signal::Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(10))?;
        let said = self.process.stderr.text();
        ensure!(
            said.contains("\n0 packets dropped by kernel"),
            "tcpdump lost packets: {said}"
        );
        Ok(self.file)
    }
}
