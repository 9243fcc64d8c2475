//! The whole path. The image, started with exactly what the chart gives it, on this kernel: a real MCP session in an
//! imitated pod, its drift at a real Alertmanager and on the page in Chromium, and pins as a mounted ConfigMap that is
//! swapped the way a kubelet swaps it.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::browser::{dom, screenshot};
use mcp_monitor_tests::kube_api::KubeApi;
use mcp_monitor_tests::monitor::addresses;
use mcp_monitor_tests::peers::{self, Client, Server};
use mcp_monitor_tests::process::{Process, output};
use mcp_monitor_tests::receivers::{Alertmanager, eventually};
use mcp_monitor_tests::scene::{Family, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::TempDir;
use mcp_monitor_tests::{binary, cgroup, paths, privileges};
use serde_json::{Value, json};

const PORT: u16 = 8080;
const SESSION: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
const UID: &str = "6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60";
const CONTAINER: &str = "0f6dbd6a3a4b9f5d9d9e6a0b7f4e1c2d3b4a5968778695a4b3c2d1e0f1e2d3c4";

/// The image's file system: of the archive that `cargo xtask image` built, else that cannot be tested.
fn image(into: &Path) -> Result<()> {
    let archive = match std::env::var_os("MCP_MONITOR_IMAGE") {
        Some(archive) => PathBuf::from(archive),
        None => paths::target().join("image/mcp-monitor.tar"),
    };
    ensure!(
        archive.exists(),
        "no image: run `cargo xtask image`, or `cargo xtask test deploy`"
    );
    let oci = TempDir::new()?;
    output(
        Command::new("tar")
            .arg("xf")
            .arg(&archive)
            .arg("-C")
            .arg(oci.path()),
    )?;
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |digest: &Value| -> Result<PathBuf> {
        let digest = digest.as_str().context("no digest")?;
        Ok(oci.path().join("blobs").join(digest.replace(':', "/")))
    };
    let index = read(&oci.path().join("index.json"))?;
    let manifest = read(&blob(&index["manifests"][0]["digest"])?)?;
    let config = read(&blob(&manifest["config"]["digest"])?)?;
    assert_eq!(config["config"]["Entrypoint"], json!(["/mcp-monitor"]));
    for layer in manifest["layers"].as_array().context("no layers")? {
        let layer = blob(&layer["digest"])?;
        output(Command::new("tar").arg("xf").arg(layer).arg("-C").arg(into))?;
    }
    Ok(())
}

/// The container as the plain manifests have it.
fn manifest() -> Result<Value> {
    let text = fs::read_to_string(paths::root().join("deploy/manifests/mcp-monitor.yaml"))?;
    for document in text.split("\n---\n") {
        let document: Value = serde_saphyr::from_str(document)?;
        if document["kind"] == "DaemonSet" {
            return Ok(document["spec"]["template"]["spec"]["containers"][0].clone());
        }
    }
    anyhow::bail!("no DaemonSet")
}

/// A folder as a kubelet mounts a ConfigMap: files are links through `..data`, which is swapped.
struct ConfigMap {
    dir: PathBuf,
    generation: u32,
}

impl ConfigMap {
    fn new(dir: PathBuf, name: &str, text: &str) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut map = Self { dir, generation: 0 };
        map.swap(name, text)?;
        symlink(format!("..data/{name}"), map.dir.join(name))?;
        Ok(map)
    }

    fn swap(&mut self, name: &str, text: &str) -> Result<()> {
        self.generation += 1;
        let data = format!("..2026_11_28_{}", self.generation);
        fs::create_dir(self.dir.join(&data))?;
        fs::write(self.dir.join(&data).join(name), text)?;
        symlink(&data, self.dir.join("..data_tmp"))?;
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data"))?;
        Ok(())
    }
}

fn pins(address: &str) -> String {
    format!(
        "version: 1\nendpoints:\n  - name: market-data\n    url: http://{NAME}:{PORT}/mcp\n    addresses: [{address}]\n"
    )
}

fn run() -> Result<()> {
    let dir = TempDir::new()?;
    let root = dir.path().join("root");
    fs::create_dir_all(&root)?;
    image(&root)?;
    let container = manifest()?;
    let capabilities: Vec<String> = container["securityContext"]["capabilities"]["add"]
        .as_array()
        .context("capabilities")?
        .iter()
        .map(|name| format!("cap_{}", name.as_str().unwrap_or_default().to_lowercase()))
        .collect();

    let scene = Scene::new()?;
    scene.place(ROGUE, &[Family::V4]);
    let api = KubeApi::start("node-7", "token")?;
    api.put(json!({
        "metadata": {"uid": UID, "namespace": "team-a", "name": "agent-0", "labels": {"app": "agent"}},
        "spec": {"nodeName": "node-7", "containers": [{"name": "main"}]}, "status": {},
    }));
    let mut map = ConfigMap::new(dir.path().join("pins"), "pins.yaml", &pins("203.0.113.0/24"))?;
    let watched = scene.cgroup.path().strip_prefix(cgroup::mount_point()?)?;
    let alertmanager = Alertmanager::start(dir.path())?;
    let config = json!({
        // Other tests run beside this one; a node's monitor watches the root.
        "source": {"cgroup": Path::new("/sys/fs/cgroup").join(watched)},
        "kubernetes": {"identity": "always", "kubeconfig": "kubeconfig"},
        // As the chart has it where it does not grant what probes take.
        "plaintext": {"mode": "off"},
        "state": {"file": "/var/lib/mcp-monitor/state.sqlite"},
        "http": {"listen": "127.0.0.1:0"},
        "spool": {"dir": "/var/lib/mcp-monitor/spool"},
        "sinks": [{"type": "alertmanager", "url": format!("http://127.0.0.1:{}", alertmanager.port)}],
    });
    let _config = ConfigMap::new(dir.path().join("config"), "config.yaml", &config.to_string())?;
    fs::write(dir.path().join("config/kubeconfig"), api.kubeconfig())?;
    fs::create_dir_all(dir.path().join("state"))?;

    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--ipc", "sh"]);
    command.arg(paths::root().join("tests/deploy/start.sh"));
    command
        .arg(&root)
        .arg(capabilities.join(","))
        .arg(cgroup::mount_point()?);
    for folder in ["pins", "config", "state"] {
        command.arg(dir.path().join(folder));
    }
    for argument in container["args"].as_array().context("args")? {
        command.arg(argument.as_str().unwrap_or_default());
    }
    command.env_remove("RUST_LOG").env("NODE_NAME", "node-7");
    let mut monitor = Process::spawn("image", command)?;
    let ready = monitor.stderr.wait_for(SOON, |line| line.contains("watching"));
    ensure!(ready.is_some(), "not attached: {}", monitor.stderr.text());
    ensure!(api.wait_answered(1, 1, SOON), "the API was not asked");
    confined(monitor.pid(), capabilities.len())?;

    let _server = Server::PythonJson.start(&scene.rogue, PORT, &json!({}))?;
    let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let place = scene.cgroup.child(&format!(
        "kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{CONTAINER}.scope"
    ))?;
    let session = || -> Result<()> {
        let options = json!({"url": format!("http://{NAME}:{PORT}/mcp"), "full": false});
        Client::Python
            .start(&scene.agent, &place, &options)?
            .wait(SESSION)?;
        Ok(())
    };
    let drifts = |monitor: &Process| -> Result<Vec<Value>> {
        let records = binary::records(&monitor.stdout.text())?;
        Ok(records.into_iter().filter(|r| r["rule"] == "DST-02").collect())
    };
    session()?;
    monitor.stdout.wait_for(SOON, |line| line.contains("DST-02"));
    let said = monitor.stderr.wait_for(SOON, |line| {
        line.contains("capabilities kept: CAP_BPF, CAP_SYS_PTRACE")
    });
    ensure!(said.is_some(), "{}", monitor.stderr.text());
    let alerts = drifts(&monitor)?;
    ensure!(alerts.len() == 1, "{alerts:?}");
    let pod = &alerts[0]["kubernetes"];
    assert_eq!(
        (
            &pod["node"],
            &pod["namespace"],
            &pod["pod"],
            &pod["container"],
            &pod["labels"]["app"]
        ),
        (
            &json!("node-7"),
            &json!("team-a"),
            &json!("agent-0"),
            &json!("main"),
            &json!("agent")
        ),
        "{pod}"
    );

    // Whoever is paged sees which pod it is, at Alertmanager and on the page.
    let pages = || -> Result<bool> {
        let held = alertmanager.alerts()?;
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let labels = |alert: &Value| ["rule", "endpoint", "namespace", "pod"].map(|name| label(alert, name));
        let wanted = ["DST-02", "market-data", "team-a", "agent-0"].map(str::to_owned);
        Ok(held.iter().any(|alert| labels(alert) == wanted))
    };
    eventually("the drift at Alertmanager", pages)?;
    let page = format!(
        "http://{}/",
        addresses(&monitor.stderr)?.first().context("no address")?
    );
    let shown = || Ok(dom(&page)?.contains("team-a/agent-0"));
    eventually("the pod on the page", shown)?;
    let shown = dom(&page)?;
    for text in ["node-7", "market-data", "in question", "address-drift", ROGUE.v4] {
        ensure!(shown.contains(text), "{text} is not on the page: {shown}");
    }
    let kept = paths::target().join("observe");
    fs::create_dir_all(&kept)?;
    screenshot(&page, &kept.join("container.png"), false)?;

    // Wrong pins are refused as a whole, with the place; watching goes on with those before.
    map.swap("pins.yaml", "version: 1\nendpoints:\n  - nam: x\n")?;
    let refused = monitor
        .stderr
        .wait_for(SOON, |line| line.contains("pins not reloaded"));
    let refused = refused.with_context(|| format!("not refused: {}", monitor.stderr.text()))?;
    ensure!(refused.contains("pins.yaml:3"), "{refused}");
    // The address is approved: the next session is none of its business.
    map.swap("pins.yaml", &pins("198.51.100.0/24"))?;
    let reloaded = monitor
        .stderr
        .wait_for(SOON, |line| line.contains("pins reloaded"));
    ensure!(reloaded.is_some(), "not reloaded: {}", monitor.stderr.text());
    session()?;
    let status = monitor.stop(SOON)?;
    ensure!(status.success(), "{status}: {}", monitor.stderr.text());
    let again: Vec<Value> = drifts(&monitor)?
        .into_iter()
        .filter(|a| a["count"] == 1)
        .collect();
    assert_eq!(again.len(), 1, "after the swap nothing drifts: {again:?}");
    ensure!(dir.path().join("state/state.sqlite").exists(), "no state file");
    Ok(())
}

/// It was started with the capabilities of the chart, gave up those that only attaching takes, has no way to more, and a
/// root that it cannot write to.
fn confined(pid: u32, capabilities: usize) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim_start_matches(':').trim().to_owned()
    };
    privileges::confined(pid, &["CAP_BPF", "CAP_SYS_PTRACE"])?;
    let bound = u64::from_str_radix(&field("CapBnd"), 16)?;
    assert_eq!(usize::try_from(bound.count_ones())?, capabilities);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
    let root = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(1) == Some("/"))
        .context("no root")?;
    ensure!(
        root.split(' ').nth(3).is_some_and(|o| o.starts_with("ro")),
        "{root}"
    );
    Ok(())
}

#[test]
fn a_drift_in_a_pod_pages_somebody_from_the_image_with_the_charts_capabilities() {
    const TEST: &str = "a_drift_in_a_pod_pages_somebody_from_the_image_with_the_charts_capabilities";
    if !peers::ready(TEST) {
        return;
    }
    run().expect("the image, watching");
}
