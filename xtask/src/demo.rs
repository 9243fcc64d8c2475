//! The demo: a real MCP session is watched while its server's name is moved to another host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use mcp_monitor_tests::paths;

#[cfg(target_os = "linux")]
use crate::build;
use crate::{bpf, sh};

/// Demo options
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Replay the shipped capture of the run instead of making a new one
    #[arg(long)]
    replay: bool,
}

/// Runs `demo`.
pub fn run(args: &Args) -> Result<()> {
    if args.replay {
        return replay_shipped();
    }
    match possible() {
        Ok(()) => live(),
        Err(reason) => {
            println!("The live demo cannot run here: {reason:#}.");
            println!("This is the shipped capture of the same run, replayed by the same engine.\n");
            replay_shipped()
        }
    }
}

fn replay_shipped() -> Result<()> {
    let dir = paths::captures().join("demo");
    let mut build = sh::cargo();
    build.args(["build", "--package", "mcp-monitor", "--profile", "e2e"]);
    // Without a BPF toolchain the replay-only half builds, on any platform.
    if !bpf::ready() {
        build.arg("--no-default-features");
    }
    sh::run(&mut build)?;
    let binary = paths::target().join("e2e/mcp-monitor");
    let mut replay = replay_command(&binary, &dir.join("pins.yaml"), &dir.join("demo.pcap"));
    println!("$ {}\n", sh::show(&replay));
    let status = replay.current_dir(paths::root()).status()?;
    anyhow::ensure!(status.success(), "replay failed: {status}");
    Ok(())
}

/// The command that replays a run, with paths as one would type them in the root.
fn replay_command(binary: &Path, pins: &Path, capture: &Path) -> Command {
    let short = |path: &Path| path.strip_prefix(paths::root()).unwrap_or(path).to_owned();
    let binary = short(binary);
    let program = if binary.is_absolute() {
        binary
    } else {
        PathBuf::from(".").join(binary)
    };
    let mut command = Command::new(program);
    command
        .args(["replay", "--format", "text", "--pins"])
        .arg(short(pins))
        .arg(short(capture));
    command
}

#[cfg(not(target_os = "linux"))]
fn possible() -> Result<()> {
    anyhow::bail!("not Linux")
}

#[cfg(not(target_os = "linux"))]
fn live() -> Result<()> {
    replay_shipped()
}

#[cfg(target_os = "linux")]
fn possible() -> Result<()> {
    if !sh::is_root() {
        anyhow::bail!("not root, and BPF programs and network namespaces need it (try sudo)");
    }
    crate::setup::run(&crate::setup::Args::default())?;
    mcp_monitor_tests::privileges::check()
}

#[cfg(target_os = "linux")]
fn live() -> Result<()> {
    let binary = build::binary("e2e")?;
    live::run(&binary)
}

#[cfg(target_os = "linux")]
mod live {
    use std::path::Path;
    use std::time::Duration;

    use anyhow::{Context, Result, ensure};
    use mcp_monitor_tests::monitor::{Monitor, Options, Watched};
    use mcp_monitor_tests::paths;
    use mcp_monitor_tests::peers::{Client, Server};
    use mcp_monitor_tests::scene::{APPROVED, Family, NAME, ROGUE, Scene};
    use serde_json::json;

    use super::{replay_command, sh};

    const LIMIT: Duration = Duration::from_secs(45);
    const PORT: u16 = 8080;
    /// Where the host that takes over sends clients on to.
    const NEXT: &str = "quotes-cdn.example";

    pub(super) fn run(binary: &Path) -> Result<()> {
        let dir = paths::target().join("demo");
        std::fs::create_dir_all(&dir)?;
        let (pins, capture) = (dir.join("pins.yaml"), dir.join("demo.pcap"));
        std::fs::copy(paths::captures().join("demo/pins.yaml"), &pins)?;

        say("Four hosts, each a network namespace: an agent, its MCP server, a resolver, a stranger.");
        let scene = Scene::new()?;
        scene.dns.set(NEXT, &[ROGUE.of(Family::V4)]);
        let dump = scene.capture(&capture)?;
        let server = Server::PythonJson.start(&scene.approved, PORT, &json!({}))?;
        let rogue = json!({"next": format!("http://{NEXT}:9090")});
        let rogue = Server::Script("rogue.mjs").start(&scene.rogue, PORT, &rogue)?;

        say("The monitor attaches to the agent's cgroup. It knows the approved server from pins.yaml.");
        let options = Options {
            pins: Some(pins.clone()),
            cgroup: Some(scene.cgroup.path().into()),
            text: true,
            ..Options::default()
        };
        let monitor = Monitor::start_at(binary, &options, |line| println!("    {line}"))?;

        say(&format!(
            "The agent (TypeScript SDK) works with http://{NAME}:{PORT}/mcp at {}.",
            APPROVED.v4
        ));
        let session = json!({
            "url": format!("http://{NAME}:{PORT}/mcp"), "sdk": "1.30", "full": false, "calls": 2,
            "sessions": 4, "pause_ms": 2000,
            "headers": {"Authorization": "Bearer demo-7f3kq9x2m5v8b1n4", "X-API-Key": "demo-key-2b9d4c7e1f8a6035"},
        });
        let mut agent = Client::TypeScript.start(&scene.agent, scene.cgroup.path(), &session)?;
        for n in 1..=2 {
            let ended = agent
                .stdout
                .wait_for_nth(LIMIT, n, |line| line.contains("\"session\""));
            ensure!(
                ended.is_some(),
                "session {n} did not end:\n{}{}",
                agent.stdout.text(),
                agent.stderr.text()
            );
        }
        say("Two sessions, and nothing to say about them.");
        say(&format!(
            "Now the name is moved: {NAME} answers with {} (the stranger).",
            ROGUE.v4
        ));
        scene.place(ROGUE, &[Family::V4]);
        agent.wait(LIMIT).context("the agent's last sessions")?;
        say(
            "The agent is done. The monitor ends, and repeats with their number the alerts that came more than once.",
        );

        let watched = monitor.stop()?;
        let capture = dump.stop()?;
        drop((rogue, server, agent, scene));
        conclude(&watched, &replay_command(binary, &pins, &capture));
        Ok(())
    }

    fn say(text: &str) {
        println!("\n== {text}");
    }

    fn conclude(watched: &Watched, replay: &std::process::Command) {
        let count = |path: &str| mcp_monitor_tests::binary::count(&watched.summary, path);
        say("Summary");
        println!(
            "   {} packets, {} MCP requests, {} responses, {} sessions",
            count("packets"),
            count("mcp.requests"),
            count("mcp.responses"),
            count("mcp.sessions"),
        );
        let alerts = watched.summary["alerts"].as_object();
        for (rule, count) in alerts.into_iter().flatten() {
            println!("   {rule}  {count}");
        }
        println!("\nThe capture of this run, replayed by the same engine, gives the same alerts:");
        println!("   {}", sh::show(replay));
    }
}
