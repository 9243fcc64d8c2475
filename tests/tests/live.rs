//! Real MCP peers in namespaces, watched by the monitor attached to the agent's cgroup.
//!
//! Needs root, BPF and tcpdump. Where they are missing a test says so loudly and does nothing;
//! with `CI=true` that is a failure.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary;
use mcp_monitor_tests::monitor::{Monitor, Options, Watched};
use mcp_monitor_tests::peers::{self, Client, Counted, Server};
use mcp_monitor_tests::scene::{APPROVED, Family, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::TempDir;
use serde_json::{Value, json};

const PORT: u16 = 8080;
/// A scripted session takes three seconds on an idle machine.
const SESSION: Duration = Duration::from_secs(90);

/// Pins of the approved server: plain HTTP between private hosts, said to be encrypted below,
/// as in a service mesh; so that a benign session has nothing to alert on.
fn pins(server: Server) -> String {
    let transport = if server == Server::EverythingSse {
        "http-sse"
    } else {
        "streamable-http"
    };
    format!(
        "version: 1\n\
         endpoints:\n\
         \x20 - name: market-data\n\
         \x20   url: http://{NAME}:{PORT}{}\n\
         \x20   addresses: [203.0.113.0/24, \"2001:db8:113::/48\"]\n\
         \x20   mcp: {{transport: {transport}}}\n\
         \x20   mesh_encrypted: true\n\
         \x20   first_party: true\n\
         resolvers: [10.96.0.10]\n",
        server.path()
    )
}

/// A stage with the monitor attached to the agent's cgroup, and tcpdump beside it.
struct Stage {
    scene: Scene,
    monitor: Monitor,
    dir: TempDir,
    pins: PathBuf,
}

impl Stage {
    fn new(server: Server) -> Result<Self> {
        let dir = TempDir::new()?;
        let pins_file = dir.path().join("pins.yaml");
        std::fs::write(&pins_file, pins(server))?;
        let scene = Scene::new()?;
        let monitor = Monitor::start(&Options {
            pins: Some(pins_file.clone()),
            cgroup: Some(scene.cgroup.path().to_owned()),
            text: false,
            ..Options::default()
        })?;
        Ok(Self {
            scene,
            monitor,
            dir,
            pins: pins_file,
        })
    }
}

fn url(server: Server) -> String {
    format!("http://{NAME}:{PORT}{}", server.path())
}

/// What kind of alerts these are, for messages.
fn rules(alerts: &[Value]) -> Vec<String> {
    alerts
        .iter()
        .map(|alert| format!("{} {}", alert["rule"], alert["summary"]))
        .collect()
}

/// Every way in which the kernel side can lose what it should have shown.
const KERNEL_LOSSES: &[&str] = &[
    "ring_full",
    "ring_full_bytes",
    "shed",
    "shed_bytes",
    "scratch_busy",
    "unreadable",
    "too_large_bytes",
    "no_storage",
    "over_budget",
    "over_budget_bytes",
    "dns_given_up",
    "malformed_records",
];

fn assert_nothing_lost(watched: &Watched) {
    let kernel = &watched.summary["kernel"];
    assert!(
        kernel["captured"].as_u64() > Some(0),
        "the kernel side counts: {kernel}"
    );
    for loss in KERNEL_LOSSES {
        assert_eq!(kernel[loss].as_u64(), Some(0), "kernel.{loss}: {kernel}");
    }
    let dropped = watched.summary["dropped"].as_object().expect("dropped");
    let dropped: Vec<_> = dropped
        .iter()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .collect();
    assert!(dropped.is_empty(), "{dropped:?}");
    assert_eq!(binary::count(&watched.summary, "tcp.lost_bytes"), 0);
}

/// A whole session, seen message for message, with nothing to alert on.
fn benign(test: &str, server: Server, client: Client, family: Family) {
    if !peers::ready(test) {
        return;
    }
    let run = || -> Result<(Counted, Watched)> {
        let stage = Stage::new(server)?;
        stage.scene.place(APPROVED, &[family]);
        let _server = server.start(&stage.scene.approved, PORT, &json!({}))?;
        let transport = if server == Server::EverythingSse {
            "sse"
        } else {
            "streamable"
        };
        let options = json!({"url": url(server), "transport": transport});
        let mut client = client.start(&stage.scene.agent, stage.scene.cgroup.path(), &options)?;
        client.wait(SESSION)?;
        Ok((Counted::read(&client)?, stage.monitor.stop()?))
    };
    let (counted, watched) = run().expect("a session, watched");
    for (path, sdk) in &counted.0 {
        let seen = binary::count(&watched.summary, path);
        assert_eq!(seen, *sdk, "{path}: the monitor against the SDK's own log");
    }
    let methods = watched.summary["mcp"]["methods"]
        .as_object()
        .expect("mcp.methods");
    for method in methods.keys() {
        let path = format!("mcp.methods.{method}");
        assert!(
            counted.0.contains_key(&path),
            "{path} was seen, but the SDK did not log it"
        );
    }
    assert!(counted.0["mcp.requests"] > 10, "a session worth the name");
    assert_nothing_lost(&watched);
    let alerts = watched.alerts().expect("alerts");
    assert!(alerts.is_empty(), "alerts in a benign run: {:#?}", rules(&alerts));
}

#[test]
fn benign_streamable_json_ipv4() {
    benign(
        "benign_streamable_json_ipv4",
        Server::PythonJson,
        Client::Python,
        Family::V4,
    );
}

#[test]
fn benign_streamable_json_ipv6() {
    benign(
        "benign_streamable_json_ipv6",
        Server::PythonJson,
        Client::Python,
        Family::V6,
    );
}

#[test]
fn benign_streamable_sse_ipv4() {
    benign(
        "benign_streamable_sse_ipv4",
        Server::EverythingStreamable,
        Client::TypeScript,
        Family::V4,
    );
}

#[test]
fn benign_streamable_sse_ipv6() {
    benign(
        "benign_streamable_sse_ipv6",
        Server::EverythingStreamable,
        Client::TypeScript,
        Family::V6,
    );
}

#[test]
fn benign_http_sse_ipv4() {
    benign(
        "benign_http_sse_ipv4",
        Server::EverythingSse,
        Client::TypeScript,
        Family::V4,
    );
}

#[test]
fn benign_http_sse_ipv6() {
    benign(
        "benign_http_sse_ipv6",
        Server::EverythingSse,
        Client::TypeScript,
        Family::V6,
    );
}

/// What makes two alerts the same, live and in replay.
fn essence(alert: &Value) -> String {
    ["rule", "endpoint", "expected", "observed"]
        .map(|key| alert[key].to_string())
        .join(" ")
}

#[test]
fn a_moved_name_is_reported_live_and_in_replay() {
    if !peers::ready("a_moved_name_is_reported_live_and_in_replay") {
        return;
    }
    let run = || -> Result<()> {
        let server = Server::EverythingStreamable;
        let stage = Stage::new(server)?;
        let capture = stage.scene.capture(&stage.dir.path().join("agent.pcap"))?;
        let _approved = server.start(&stage.scene.approved, PORT, &json!({}))?;
        let _other = server.start(&stage.scene.rogue, PORT, &json!({}))?;
        let options = json!({"url": url(server), "full": false, "sessions": 2, "pause_ms": 2000});
        let mut client = Client::TypeScript.start(&stage.scene.agent, stage.scene.cgroup.path(), &options)?;
        let pid = client.pid();
        let first = client
            .stdout
            .wait_for(SESSION, |line| line.contains("\"session\""));
        ensure!(first.is_some(), "no first session: {}", client.stderr.text());
        stage.scene.place(ROGUE, &[Family::V4]);
        client.wait(SESSION)?;
        Counted::read(&client)?;
        let watched = stage.monitor.stop()?;
        let capture = capture.stop()?;

        let live = watched.alerts()?;
        for rule in ["DNS-01", "DST-02"] {
            let alert = live.iter().find(|alert| alert["rule"] == rule);
            let alert = alert.with_context(|| format!("{rule} was not raised: {:#?}", rules(&live)))?;
            assert_eq!(alert["endpoint"], "market-data", "{rule}");
            assert_eq!(alert["observed"], ROGUE.v4, "{rule}");
            assert_eq!(alert["process"]["pid"], pid, "{rule}: {}", alert["process"]);
            let exe = alert["process"]["exe"].as_str().unwrap_or_default();
            assert!(exe.ends_with("/node"), "{rule}: exe {exe}");
            assert!(
                alert["process"]["comm"].is_string(),
                "{rule}: {}",
                alert["process"]
            );
        }

        let path = |path: &PathBuf| path.to_str().map(str::to_owned).context("UTF-8");
        let (pins, capture) = (path(&stage.pins)?, path(&capture)?);
        let (replayed, _) = binary::replay(&["--pins", &pins, &capture])?;
        let kinds = |alerts: &[Value]| alerts.iter().map(essence).collect::<BTreeSet<_>>();
        assert_eq!(
            kinds(&replayed.records()?),
            kinds(&live),
            "replay of the same traffic against the live run"
        );
        Ok(())
    };
    run().expect("a moved name, watched");
}

/// Pins in a folder, mounted the way kubelet does it: the file is a link through `..data`, which is a
/// link that is swapped.
struct Mounted {
    dir: TempDir,
    versions: u32,
}

impl Mounted {
    fn new(text: &str) -> Result<Self> {
        let mut mounted = Self {
            dir: TempDir::new()?,
            versions: 0,
        };
        mounted.swap(text)?;
        std::os::unix::fs::symlink("..data/pins.yaml", mounted.path())?;
        Ok(mounted)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("pins.yaml")
    }

    fn swap(&mut self, text: &str) -> Result<()> {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        let folder = self.dir.path().join(&version);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("pins.yaml"), text)?;
        let new = self.dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(&version, &new)?;
        Ok(std::fs::rename(&new, self.dir.path().join("..data"))?)
    }
}

#[test]
fn pins_are_swapped_while_watching_and_wrong_ones_are_refused() {
    if !peers::ready("pins_are_swapped_while_watching_and_wrong_ones_are_refused") {
        return;
    }
    let run = || -> Result<()> {
        let server = Server::EverythingStreamable;
        let mut mounted = Mounted::new(&pins(server))?;
        let scene = Scene::new()?;
        let monitor = Monitor::start(&Options {
            pins: Some(mounted.path()),
            cgroup: Some(scene.cgroup.path().to_owned()),
            text: false,
            ..Options::default()
        })?;
        let _approved = server.start(&scene.approved, PORT, &json!({}))?;
        let session = || -> Result<()> {
            let options = json!({"url": url(server), "full": false});
            let mut client = Client::TypeScript.start(&scene.agent, scene.cgroup.path(), &options)?;
            client.wait(SESSION)?;
            Counted::read(&client).map(drop)
        };
        let said = |what: &str| {
            let line = monitor
                .stderr()
                .wait_for(Duration::from_secs(20), |line| line.contains(what));
            ensure!(
                line.is_some(),
                "no line with {what:?}: {}",
                monitor.stderr().text()
            );
            Ok(())
        };
        session()?;
        let moved = pins(server).replace("203.0.113.0/24", "192.0.2.0/24");
        mounted.swap(&moved)?;
        said("pins reloaded")?;
        session()?;
        let wrong = moved.replace("resolvers", "resolver");
        mounted.swap(&wrong)?;
        said("pins not reloaded")?;
        // Asked for by hand the answer is the same.
        let asked = binary::run(["reload", "--pid", &monitor.pid().to_string()])?;
        ensure!(asked.code == 0, "{}", asked.stderr);
        session()?;
        let watched = monitor.stop()?;
        let alerts = watched.alerts()?;
        for rule in ["DNS-01", "DST-02"] {
            let alert = alerts.iter().find(|alert| alert["rule"] == rule);
            let alert = alert.with_context(|| format!("{rule} was not raised: {:#?}", rules(&alerts)))?;
            ensure!(
                alert["expected"] == json!(["192.0.2.0/24", "2001:db8:113::/48"]),
                "{alert}"
            );
        }
        ensure!(
            watched.summary["reloads"] == json!({"applied": 1, "refused": 2}),
            "{}",
            watched.summary["reloads"]
        );
        ensure!(
            watched.stderr.contains("pins.yaml:9:1"),
            "the place of the mistake: {}",
            watched.stderr
        );
        assert_nothing_lost(&watched);
        Ok(())
    };
    run().expect("pins, swapped");
}

#[test]
fn without_privileges_there_is_one_clear_message() {
    if !peers::ready("without_privileges_there_is_one_clear_message") {
        return;
    }
    // A copy: the target folder may lie where nobody has no way to.
    let dir = TempDir::new().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let copy = dir.path().join("mcp-monitor");
    std::fs::copy(binary::path(), &copy).expect("copy the binary");
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ]);
    let output = command.arg(&copy).arg("run").output().expect("setpriv");
    let ran = binary::finish(output).expect("output");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.is_empty(), "nothing but records on standard output");
    let lines = ran.error_lines();
    let [line] = lines.as_slice() else {
        panic!("one line, not {lines:#?}")
    };
    let line = line.to_lowercase();
    assert!(
        ["root", "cap_bpf", "privilege", "permission"]
            .iter()
            .any(|word| line.contains(word)),
        "{line}"
    );
}
