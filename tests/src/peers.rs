//! Real MCP clients and servers, from the registries: installed once into `target/peers`,
//! used again from there without a network.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::netns::Namespace;
use crate::paths;
use crate::privileges;
use crate::process::{Process, output};

/// How long a server may take to listen; Python's imports alone take seconds on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Where the peers live.
pub fn dir() -> PathBuf {
    paths::target().join("peers")
}

fn sources() -> PathBuf {
    paths::root().join("tests/peers")
}

/// What was asked for, as one text: the peers are installed if the same text is on record.
fn wanted() -> Result<String> {
    let files = ["package.json", "package-lock.json", "requirements.txt"];
    let read = |file| fs::read_to_string(sources().join(file)).with_context(|| format!("read {file}"));
    files.into_iter().map(read).collect()
}

/// Whether everything that the peers need is there in the wanted versions.
pub fn installed() -> bool {
    let record = fs::read_to_string(dir().join("installed")).ok();
    record.is_some() && record == wanted().ok()
}

/// Whether a live test with peers can run here; then they are installed. Says loudly if it cannot.
///
/// # Panics
/// As [`privileges::skip`], and if the peers cannot be installed.
pub fn ready(test: &str) -> bool {
    let ready = privileges::ready(test);
    if ready {
        install().expect("the MCP peers");
    }
    ready
}

/// Installs the peers if they are not there, and refreshes the scripts beside them.
pub fn install() -> Result<()> {
    fs::create_dir_all(dir())?;
    // Node resolves imports from where a script lies, so the scripts go where the packages are.
    for entry in fs::read_dir(sources())? {
        let entry = entry?;
        fs::copy(entry.path(), dir().join(entry.file_name()))?;
    }
    if installed() {
        return Ok(());
    }
    let npm = ["ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"];
    output(Command::new("npm").args(npm).current_dir(dir())).context("install the npm peers")?;
    let venv = dir().join("venv");
    output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .context("make a Python environment (package python3-venv)")?;
    let requirements = sources().join("requirements.txt");
    let pip = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    output(Command::new(venv.join("bin/pip")).args(pip).arg(requirements))
        .context("install the Python peers")?;
    fs::write(dir().join("installed"), wanted()?)?;
    Ok(())
}

/// A server that the tests talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// TypeScript reference server, Streamable HTTP with event streams, path /mcp.
    EverythingStreamable,
    /// TypeScript reference server, HTTP+SSE, path /sse.
    EverythingSse,
    /// Python SDK, Streamable HTTP answering with JSON, path /mcp.
    PythonJson,
    /// `server.go`: HTTPS in HTTP/1.1 and HTTP/2, and fast.
    Go,
    /// A script of ours under `tests/peers`, for Node; gets its options as JSON.
    Script(&'static str),
}

/// A toolchain for Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The distribution's: years old on Debian.
    Distribution,
    /// A current one, from the registry.
    Current,
}

/// Builds a program of `tests/peers` in Go; what is there already is not built again. A stripped one has no
/// symbols.
pub fn go(toolchain: Toolchain, program: &str, stripped: bool) -> Result<PathBuf> {
    let compiler = match toolchain {
        Toolchain::Distribution => PathBuf::from("go"),
        Toolchain::Current => dir().join("venv/bin/go"),
    };
    let out = dir()
        .join("go")
        .join(format!("{program}-{toolchain:?}-{stripped}"));
    let mut build = Command::new(compiler);
    build.args(["build", "-o"]).arg(&out);
    if stripped {
        build.args(["-ldflags", "-s -w"]);
    }
    build.arg(format!("{program}.go")).current_dir(dir());
    build
        .env("GOCACHE", dir().join("go/cache"))
        .env("GOPATH", dir().join("go/path"));
    build.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    output(&mut build).with_context(|| format!("build {program}.go with {toolchain:?}"))?;
    Ok(out)
}

impl Server {
    /// The path of the MCP endpoint.
    pub fn path(self) -> &'static str {
        if self == Self::EverythingSse {
            "/sse"
        } else {
            "/mcp"
        }
    }

    /// Starts the server in a host, on all its addresses, and returns once it listens.
    pub fn start(self, host: &Namespace, port: u16, options: &Value) -> Result<Process> {
        let mut command;
        match self {
            Self::EverythingStreamable | Self::EverythingSse => {
                command = host.command("node");
                command.arg("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
                command.arg(if self == Self::EverythingSse {
                    "sse"
                } else {
                    "streamableHttp"
                });
                command.env("PORT", port.to_string());
            }
            Self::PythonJson => {
                command = host.command(dir().join("venv/bin/python"));
                let base = json!({"port": port, "json_response": true});
                command.arg("server.py").arg(merge(base, options).to_string());
            }
            Self::Go => {
                command = host.command(go(Toolchain::Current, "server", false)?);
                command.arg(merge(json!({"port": port}), options).to_string());
            }
            Self::Script(file) => {
                command = host.command("node");
                command
                    .arg(file)
                    .arg(merge(json!({"port": port}), options).to_string());
            }
        }
        command.current_dir(dir());
        let process = Process::spawn(&format!("{self:?}"), command)?;
        wait_listening(host, port)
            .with_context(|| format!("{self:?} does not listen: {}", process.stderr.text()))?;
        Ok(process)
    }
}

/// Waits until something listens on a TCP port of the host.
fn wait_listening(host: &Namespace, port: u16) -> Result<()> {
    // As in /proc/net/tcp: local address, colon, port in hex; state 0A is LISTEN.
    let script = format!("cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{port:04X} .* 0A '");
    let deadline = std::time::Instant::now() + START;
    while output(host.command("sh").args(["-c", &script])).is_err() {
        ensure!(
            std::time::Instant::now() < deadline,
            "nothing listens on port {port}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A client that plays a scripted session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `client.mjs`.
    TypeScript,
    /// `client.py`.
    Python,
    /// `client.go`, built with a toolchain, stripped or not.
    Go(Toolchain, bool),
}

impl Client {
    /// Starts the client in a host and a cgroup, with the options its script documents.
    pub fn start(self, host: &Namespace, cgroup: &Path, options: &Value) -> Result<Process> {
        self.start_with(host, cgroup, options, &[])
    }

    /// As [`Self::start`], with files that its environment names.
    pub fn start_with(
        self,
        host: &Namespace,
        cgroup: &Path,
        options: &Value,
        files: &[(&str, &Path)],
    ) -> Result<Process> {
        let (program, script) = match self {
            Self::TypeScript => (PathBuf::from("node"), Some("client.mjs")),
            Self::Python => (dir().join("venv/bin/python"), Some("client.py")),
            Self::Go(toolchain, stripped) => (go(toolchain, "client", stripped)?, None),
        };
        let mut command = host.command_in(cgroup, program);
        command.args(script).arg(options.to_string()).current_dir(dir());
        command.envs(files.iter().copied());
        Process::spawn(script.unwrap_or("client.go"), command)
    }
}

/// What the SDK itself counted: every JSON-RPC message that its transport sent or received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted(pub BTreeMap<String, u64>);

impl Counted {
    /// Reads a client's log; fails unless it came to its end without a broken session.
    pub fn read(client: &Process) -> Result<Self> {
        let lines = client.stdout.all();
        let events: Vec<Value> = lines
            .iter()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        let broken = events.iter().find(|event| event["event"] == "error");
        ensure!(broken.is_none(), "the client's session broke off: {broken:?}");
        let done = events.iter().find(|event| event["event"] == "done");
        let done = done.with_context(|| format!("the client did not end: {}", client.stderr.text()))?;
        let mut counts = BTreeMap::new();
        for kind in ["requests", "responses", "notifications", "errors"] {
            counts.insert(format!("mcp.{kind}"), done[kind].as_u64().unwrap_or(0));
        }
        for (method, count) in done["methods"].as_object().into_iter().flatten() {
            counts.insert(format!("mcp.methods.{method}"), count.as_u64().unwrap_or(0));
        }
        Ok(Self(counts))
    }
}

fn merge(mut base: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
    base
}
