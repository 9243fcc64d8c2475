//! The programs that replay is compared with. Each is optional; what is missing is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use mcp_monitor_tests::paths;

use crate::{setup, sh};

/// One of them.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name, and what it was asked for.
    pub name: &'static str,
    /// It takes so long that it runs once.
    pub slow: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcpdump,
    Tcpflow,
    Tshark,
    Zeek,
    /// With the root that it was installed into, if not this one.
    Suricata(Option<PathBuf>),
}

/// Debian's release that has a Suricata.
const RELEASE: &str = "trixie";

/// HTTP, DNS, TLS and flow logs, no rules, memory enough to drop nothing.
const SURICATA: &str = "%YAML 1.1
---
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types: [http, dns, tls, flow]
app-layer:
  protocols:
    http: {enabled: yes}
    dns: {udp: {enabled: yes}, tcp: {enabled: yes}}
    tls: {enabled: yes, detection-ports: {dp: 443}}
flow: {memcap: 512mb}
stream:
  memcap: 1gb
  reassembly: {memcap: 1gb, depth: 0}
";

/// All that can be run. Installs those of the distribution where that is allowed; Suricata in a
/// root of its own only if asked. The second list names what is missing.
pub fn find(with_suricata: bool) -> (Vec<Peer>, Vec<&'static str>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut offer = |name, slow, kind: Kind, program: &str, package: Option<&str>| {
        if sh::which(program).is_none()
            && let Some(package) = package
            && let Err(error) = setup::apt(&[package.to_owned()], "a program to compare with")
        {
            eprintln!("{error:#}");
        }
        if sh::which(program).is_some() {
            found.push(Peer { name, slow, kind });
        } else {
            missing.push(name);
        }
    };
    offer(
        "tcpdump, copies only",
        false,
        Kind::Tcpdump,
        "tcpdump",
        Some("tcpdump"),
    );
    offer(
        "tcpflow, writes streams",
        true,
        Kind::Tcpflow,
        "tcpflow",
        Some("tcpflow"),
    );
    offer(
        "tshark, http and json fields",
        true,
        Kind::Tshark,
        "tshark",
        Some("tshark"),
    );
    offer("Zeek", true, Kind::Zeek, "zeek", None);
    let name = "Suricata, http dns tls flow logs, no rules";
    let root = paths::target().join("bench").join(RELEASE);
    if sh::which("suricata").is_some() {
        found.push(Peer {
            name,
            slow: false,
            kind: Kind::Suricata(None),
        });
    } else if with_suricata && let Err(error) = install_suricata(&root) {
        eprintln!("{error:#}");
    }
    if sh::is_root() && root.join("usr/bin/suricata").exists() {
        found.push(Peer {
            name,
            slow: false,
            kind: Kind::Suricata(Some(root)),
        });
    } else if !found.iter().any(Peer::is_suricata) {
        missing.push("Suricata (fetched as root, without --quick)");
    }
    (found, missing)
}

/// Debian's Suricata with all it needs, in a folder of its own.
fn install_suricata(root: &Path) -> Result<()> {
    if root.join("usr/bin/suricata").exists() {
        return Ok(());
    }
    if sh::which("debootstrap").is_none() {
        setup::apt(&["debootstrap".to_owned()], "what fetches Suricata")?;
    }
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", "--include=suricata", RELEASE]);
    sh::run(command.arg(root))
}

impl Peer {
    /// The one with a number to beat.
    pub fn is_suricata(&self) -> bool {
        matches!(self.kind, Kind::Suricata(_))
    }

    /// The one that sets the floor.
    pub fn is_tcpdump(&self) -> bool {
        matches!(self.kind, Kind::Tcpdump)
    }

    /// What it calls itself.
    pub fn version(&self) -> Option<String> {
        let (program, flag) = match &self.kind {
            Kind::Tcpdump => ("tcpdump", "--version"),
            Kind::Tcpflow => ("tcpflow", "--version"),
            Kind::Tshark => ("tshark", "--version"),
            Kind::Zeek => ("zeek", "--version"),
            Kind::Suricata(None) => ("suricata", "-V"),
            Kind::Suricata(Some(root)) => {
                let root = root.to_str()?;
                return sh::output("chroot", &[root, "suricata", "-V"]);
            }
        };
        let text = sh::output(program, &[flag])?;
        Some(text.lines().next().unwrap_or_default().to_owned())
    }

    /// What runs it over a capture; it may write into `scratch`, which is empty.
    pub fn command(&self, capture: &Path, scratch: &Path) -> Result<Command> {
        let name = capture.file_name().context("a capture has a name")?;
        Ok(match &self.kind {
            Kind::Tcpdump => {
                let mut command = Command::new("tcpdump");
                command.arg("-r").arg(capture).args(["-w", "/dev/null"]);
                if sh::is_root() {
                    // Else it becomes a user that may not read the capture.
                    command.args(["-Z", "root"]);
                }
                command
            }
            Kind::Tcpflow => {
                let mut command = Command::new("tcpflow");
                command.arg("-q").arg("-r").arg(capture).arg("-o").arg(scratch);
                command
            }
            Kind::Tshark => {
                let mut command = Command::new("tshark");
                command
                    .arg("-r")
                    .arg(capture)
                    .args(["-n", "-Y", "http || json", "-T", "fields"]);
                for field in [
                    "frame.number",
                    "http.request.method",
                    "http.response.code",
                    "json.value.string",
                ] {
                    command.args(["-e", field]);
                }
                command
            }
            Kind::Zeek => {
                let mut command = Command::new("zeek");
                command.current_dir(scratch).args(["-C", "-r"]).arg(capture);
                command
            }
            Kind::Suricata(None) => {
                let config = scratch.join("suricata.yaml");
                std::fs::write(&config, SURICATA)?;
                suricata(Command::new("suricata"), capture, &config, scratch)
            }
            Kind::Suricata(Some(root)) => {
                let inside = root.join("bench");
                let _ = std::fs::remove_dir_all(&inside);
                std::fs::create_dir_all(inside.join("log"))?;
                std::fs::hard_link(capture, inside.join(name)).context("link the capture into the root")?;
                std::fs::write(inside.join("suricata.yaml"), SURICATA)?;
                let mut command = Command::new("chroot");
                command.arg(root).arg("suricata");
                let bench = Path::new("/bench");
                suricata(
                    command,
                    &bench.join(name),
                    &bench.join("suricata.yaml"),
                    &bench.join("log"),
                )
            }
        })
    }
}

fn suricata(mut command: Command, capture: &Path, config: &Path, log: &Path) -> Command {
    command
        .arg("-r")
        .arg(capture)
        .arg("-c")
        .arg(config)
        .arg("-l")
        .arg(log);
    command.args(["-S", "/dev/null", "-k", "none", "--runmode", "single"]);
    command
}
