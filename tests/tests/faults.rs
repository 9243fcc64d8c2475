//! What happens when something fails around a running monitor, and what is lost by it: nothing, or counted to the
//! item. docs/OPERATIONS.md has the table. Receivers that fail are in the suite `sinks`, the Kubernetes API in
//! `kubernetes`.
#![cfg(target_os = "linux")]

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary::{self, count};
use mcp_monitor_tests::http::{get, metric};
use mcp_monitor_tests::monitor::{Monitor, Options};
use mcp_monitor_tests::privileges;
use mcp_monitor_tests::process::Process;
use mcp_monitor_tests::receivers::eventually;
use mcp_monitor_tests::scene::{APPROVED, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::{self, TempDir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// How long new connections are made at ten thousand a second; a minute is asked for with this variable.
const SECONDS: &str = "MCP_MONITOR_FAULTS_SECONDS";
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Accepts connections and reads from each what there is, in as many processes as asked for.
const ACCEPT: &str = r#"
import os, socket, sys
listener = socket.create_server(("", 8080), backlog=4096)
print("listening", flush=True)
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        break
while True:
    connection, _ = listener.accept()
    connection.close()
"#;

/// Makes connections at a rate, each with one request, and says how many.
const CONNECT: &str = r#"
import socket, struct, sys, time
host, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
reset = struct.pack("ii", 1, 0)
request = b"GET /status HTTP/1.1\r\nHost: status.example\r\n\r\n"
begin, made = time.monotonic(), 0
while (passed := time.monotonic() - begin) < seconds:
    due = int(passed * rate) - made
    if due <= 0:
        time.sleep(0.0005)
    for _ in range(due):
        connection = socket.socket()
        connection.connect((host, 8080))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        try:
            connection.send(request)
        except OSError:
            pass
        connection.close()
        made += 1
        if time.monotonic() - begin > seconds:
            break
print(made, flush=True)
"#;

/// An MCP server as far as one call goes: any request is answered with an empty result.
const ANSWER: &str = r#"
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("", 8080), Handler)
print("listening", flush=True)
server.serve_forever()
"#;

/// One call, then, when a file is there, one of many bytes over the same connection.
const CALL: &str = r#"
import http.client, json, os, sys, time
connection = http.client.HTTPConnection(sys.argv[1], 8080)
def call(n, text):
    body = json.dumps({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "note", "arguments": {"text": text}}})
    head = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request("POST", "/mcp", body, head)
    connection.getresponse().read()
call(1, "small")
print("called", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
call(2, "x" * int(sys.argv[3]))
"#;

/// An agent, the approved server at a pinned name, and a folder for the monitor's files.
struct Stage {
    scene: Scene,
    dir: TempDir,
}

impl Stage {
    fn new() -> Result<Self> {
        let stage = Self {
            scene: Scene::new()?,
            dir: TempDir::new()?,
        };
        let pins = format!(
            "version: 1\nendpoints:\n  - {{name: market-data, url: 'http://{NAME}:8080/mcp', \
             addresses: [203.0.113.0/24], mesh_encrypted: true}}\nresolvers: [10.96.0.10]\n"
        );
        std::fs::write(stage.path("pins.yaml"), pins)?;
        Ok(stage)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// How the monitor is started with this configuration.
    fn options(&self, config: &str) -> Result<Options> {
        let text = format!("http: {{listen: '127.0.0.1:0'}}\n{config}");
        std::fs::write(self.path("config.yaml"), text)?;
        Ok(Options {
            pins: Some(self.path("pins.yaml")),
            cgroup: Some(self.scene.cgroup.path().to_owned()),
            config: Some(self.path("config.yaml")),
            ..Options::default()
        })
    }

    fn agent(&self, script: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.scene.agent.command_in(self.scene.cgroup.path(), "python3");
        Process::spawn("agent", {
            command.args(["-c", script]).args(arguments);
            command
        })
    }

    fn server(&self, script: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.scene.approved.command("python3");
        command.args(["-c", script]).args(arguments);
        let server = Process::spawn("server", command)?;
        let listening = server.stdout.wait_for(SOON, |line| line == "listening");
        ensure!(listening.is_some(), "{}", server.stderr.text());
        Ok(server)
    }

    /// The name moves to an address where the pins do not have it, and the agent looks it up.
    fn drift(&self, to: &str) -> Result<()> {
        self.scene.dns.set(NAME, &[to.parse::<IpAddr>()?]);
        let look_up = format!("import socket; socket.getaddrinfo('{NAME}', 8080, socket.AF_INET)");
        let status = self.agent(&look_up, &[])?.wait(SOON)?;
        ensure!(status.success(), "the agent cannot look up {NAME}");
        Ok(())
    }

    /// Connections at ten thousand a second, as far as the machine makes them; how many, and how fast.
    fn connect(&self, seconds: u64) -> Result<(u64, f64)> {
        let begin = Instant::now();
        let arguments = [APPROVED.v4, "5000", &seconds.to_string()];
        // One interpreter alone does not make so many.
        let mut agents = [self.agent(CONNECT, &arguments)?, self.agent(CONNECT, &arguments)?];
        let mut made = 0;
        for agent in &mut agents {
            agent.wait(Duration::from_secs(seconds) + SOON)?;
            let said = agent.stdout.text();
            made += said.trim().parse::<u64>().with_context(|| agent.stderr.text())?;
        }
        Ok((made, made as f64 / begin.elapsed().as_secs_f64()))
    }
}

/// Waits for the drift alert that names this address.
fn alerted(monitor: &Monitor, address: &str) -> Result<Value> {
    let line = monitor
        .stdout()
        .wait_for(SOON, |line| line.contains("\"DNS-01\"") && line.contains(address));
    let line = line.with_context(|| format!("no alert of {address}: {}", monitor.stderr().text()))?;
    Ok(serde_json::from_str(&line)?)
}

/// The state file's alerts, as somebody asks for them.
fn kept(state: &Path) -> Result<Vec<Value>> {
    let ran = binary::run(["alerts", "--state", state.to_str().context("UTF-8")?])?;
    ensure!(ran.code == 0, "{}", ran.stderr);
    ran.records()
}

fn signal(monitor: &Monitor, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(monitor.pid())?), signal)?)
}

/// A metric of the running monitor; zero while it is not there.
fn asked(monitor: &Monitor, line: &str) -> Result<f64> {
    let at = monitor.addresses()?[0];
    Ok(metric(&get(at, "/metrics", &[])?.body, line).unwrap_or(0.0))
}

#[test]
fn ten_thousand_new_flows_a_second_are_seen_or_counted() {
    if !privileges::ready("ten_thousand_new_flows_a_second") {
        return;
    }
    let run = || -> Result<()> {
        let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
        let stage = Stage::new()?;
        let _server = stage.server(ACCEPT, &["2"])?;
        let monitor = Monitor::start(&stage.options("")?)?;
        let drift = std::thread::scope(|scope| {
            let flood = scope.spawn(|| stage.connect(seconds.unwrap_or(4)));
            std::thread::sleep(Duration::from_secs(1));
            let drift = stage
                .drift(ROGUE.v4)
                .and_then(|()| alerted(&monitor, ROGUE.v4))
                .map(drop);
            flood
                .join()
                .map_err(|_| anyhow::anyhow!("panicked"))?
                .and_then(|made| drift.map(|()| made))
        });
        let (made, rate) = drift?;
        let watched = monitor.stop()?;
        let summary = &watched.summary;
        let seen = count(summary, "flows.tcp");
        let lost = ["shed", "ring_full", "scratch_busy", "no_storage", "over_budget"]
            .map(|what| count(summary, &format!("kernel.{what}")));
        println!("{made} connections at {rate:.0} a second: {seen} seen, lost {lost:?}");
        ensure!(
            seen + lost.iter().sum::<u64>() >= made,
            "{made} made, {seen} seen: {summary}"
        );
        ensure!(
            lost.iter().sum::<u64>() > 0 || seen == made,
            "{made} made, {seen} seen: {summary}"
        );
        Ok(())
    };
    run().expect("a flood of connections");
}

#[test]
fn a_flooded_ring_sheds_payload_counts_it_and_lets_drift_through() {
    if !privileges::ready("a_flooded_ring") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let _server = stage.server(ANSWER, &[])?;
        let monitor = Monitor::start(&stage.options("source: {ring_bytes: 256KiB}\n")?)?;
        let go = stage.path("go");
        let go_text = go.to_str().context("UTF-8")?;
        let mut agent = stage.agent(CALL, &[APPROVED.v4, go_text, "4000000"])?;
        let called = agent.stdout.wait_for(SOON, |line| line == "called");
        ensure!(called.is_some(), "{}", agent.stderr.text());
        // The call is read, and the connection known for MCP, before nobody takes records from the ring.
        eventually("the first call is seen", || {
            Ok(asked(&monitor, "mcp_monitor_mcp_requests_total")? >= 1.0)
        })?;
        signal(&monitor, Signal::SIGSTOP)?;
        std::fs::write(&go, [])?;
        agent.wait(SOON)?;
        stage.drift(ROGUE.v4)?;
        signal(&monitor, Signal::SIGCONT)?;
        alerted(&monitor, ROGUE.v4)?;
        let watched = monitor.stop()?;
        let summary = &watched.summary;
        let shed = count(summary, "kernel.shed_bytes");
        ensure!(shed > 3_000_000, "{summary}");
        ensure!(count(summary, "kernel.ring_full") == 0, "{summary}");
        ensure!(
            count(summary, "tcp.lost_bytes") == shed,
            "the flow says as much as the kernel: {summary}"
        );
        Ok(())
    };
    run().expect("a flooded ring");
}

static HELD: AtomicBool = AtomicBool::new(false);

/// Somebody who stops reading.
fn hold(_: &str) {
    while HELD.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stuck_reader_costs_records_that_are_counted_and_holds_up_nothing() {
    if !privileges::ready("a_stuck_reader") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let _server = stage.server(ACCEPT, &["2"])?;
        let mut options = stage.options("service: {grace: 2s}\n")?;
        options.arguments = ["--emit", "flows"].map(str::to_owned).to_vec();
        HELD.store(true, Ordering::Relaxed);
        let monitor = Monitor::start_at(&binary::locate()?, &options, hold)?;
        let unwritten = "mcp_monitor_dropped_total{what=\"records_unwritten\"}";
        let mut made = 0;
        for _ in 0..20 {
            made += stage.connect(2)?.0;
            if asked(&monitor, unwritten)? > 0.0 {
                break;
            }
        }
        ensure!(
            asked(&monitor, unwritten)? > 0.0,
            "nothing lost of {made} records"
        );
        // Everything else goes on.
        stage.drift(ROGUE.v4)?;
        let at = monitor.addresses()?[0];
        eventually("the alert in /alerts", || {
            Ok(get(at, "/alerts?rule=DNS-01", &[])?.body.contains(ROGUE.v4))
        })?;
        let begin = Instant::now();
        signal(&monitor, Signal::SIGTERM)?;
        let said = monitor
            .stderr()
            .wait_for(SOON, |line| line.contains("nobody reads standard output"));
        ensure!(said.is_some() && begin.elapsed() < Duration::from_secs(10));
        // Not before it has ended: what it has counted as lost would still be written.
        let status = format!("/proc/{}/status", monitor.pid());
        eventually("it ends", || {
            Ok(std::fs::read_to_string(&status)?.contains("Z (zombie)"))
        })?;
        HELD.store(false, Ordering::Relaxed);
        let watched = monitor.stop()?;
        let summary = &watched.summary;
        // The last line may have been cut by the end.
        let lines = watched
            .stdout
            .lines()
            .filter(|line| serde_json::from_str::<Value>(line).is_ok());
        let (written, lost) = (lines.count() as u64, count(summary, "dropped.records_unwritten"));
        let flows = count(summary, "flows.tcp") + count(summary, "flows.udp");
        println!("{flows} records: {written} written, {lost} lost");
        ensure!(written + lost == flows, "{written} + {lost} of {flows}");
        Ok(())
    };
    let result = run();
    HELD.store(false, Ordering::Relaxed);
    result.expect("a stuck reader");
}

#[test]
fn a_full_disk_delays_the_state_file_and_loses_nothing() {
    if !privileges::ready("a_full_disk") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let disk = stage.path("disk");
        let _undo = undo::tmpfs(&disk, "size=1m")?;
        let state = disk.join("state.sqlite");
        let monitor = Monitor::start(&stage.options(&format!("state: {{file: {}}}\n", state.display()))?)?;
        let filler = disk.join("filler");
        let _ = std::fs::write(&filler, vec![0; 2 << 20]);
        stage.drift(ROGUE.v4)?;
        alerted(&monitor, ROGUE.v4)?;
        let failed = "mcp_monitor_state_writes_failed_total";
        eventually("writes fail", || Ok(asked(&monitor, failed)? > 0.0))?;
        let at = monitor.addresses()?[0];
        eventually("the condition `state` is not met", || {
            let metrics = get(at, "/metrics", &[])?.body;
            Ok(metric(&metrics, "mcp_monitor_condition{name=\"state\"}") == Some(0.0))
        })?;
        ensure!(asked(&monitor, "mcp_monitor_state_rows_waiting")? > 0.0);
        std::fs::remove_file(&filler)?;
        let again = monitor
            .stderr()
            .wait_for(SOON, |line| line.contains("the state file is written again"));
        ensure!(again.is_some(), "{}", monitor.stderr().text());
        eventually("no row waits", || {
            Ok(asked(&monitor, "mcp_monitor_state_rows_waiting")? == 0.0)
        })?;
        ensure!(asked(&monitor, "mcp_monitor_state_rows_lost_total")? == 0.0);
        let watched = monitor.stop()?;
        let raised = watched.alerts()?;
        let kept = kept(&state)?;
        let ids = |alerts: &[Value]| {
            alerts
                .iter()
                .map(|alert| alert["id"].to_string())
                .collect::<std::collections::BTreeSet<_>>()
        };
        ensure!(ids(&kept) == ids(&raised), "{kept:?} of {raised:?}");
        Ok(())
    };
    run().expect("a full disk");
}

#[test]
fn killed_it_has_what_it_wrote_and_begins_again() {
    if !privileges::ready("killed") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let state = stage.path("state.sqlite");
        let options = stage.options(&format!("state: {{file: {}}}\n", state.display()))?;
        let monitor = Monitor::start(&options)?;
        stage.drift(ROGUE.v4)?;
        let alert = alerted(&monitor, ROGUE.v4)?;
        monitor.kill()?;
        for entry in std::fs::read_dir(stage.dir.path())? {
            let entry = entry?;
            let mode = entry.metadata()?.permissions().mode() & 0o777;
            let own = entry.file_name().to_string_lossy().starts_with("state.");
            ensure!(!own || mode == 0o600, "{:?} has mode {mode:o}", entry.path());
        }
        let monitor = Monitor::start(&options)?;
        stage.drift("198.51.100.67")?;
        alerted(&monitor, "198.51.100.67")?;
        let watched = monitor.stop()?;
        ensure!(!watched.stderr.contains("set aside"), "{}", watched.stderr);
        let kept = kept(&state)?;
        let has = |alert: &Value| kept.iter().any(|one| one["id"] == alert["id"]);
        ensure!(has(&alert), "{kept:?}");
        ensure!(watched.alerts()?.iter().all(has), "{kept:?}");
        Ok(())
    };
    run().expect("killed and begun again");
}

#[test]
fn a_disk_that_turns_read_only_costs_rows_that_are_counted() {
    if !privileges::ready("a_read_only_disk") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let disk = stage.path("disk");
        let _undo = undo::disk(&disk, &stage.path("disk.img"))?;
        let state = disk.join("state.sqlite");
        let monitor = Monitor::start(&stage.options(&format!("state: {{file: {}}}\n", state.display()))?)?;
        stage.drift(ROGUE.v4)?;
        let first = alerted(&monitor, ROGUE.v4)?;
        undo::fail_disk(&disk)?;
        stage.drift("198.51.100.67")?;
        let second = alerted(&monitor, "198.51.100.67")?;
        eventually("writes fail", || {
            Ok(asked(&monitor, "mcp_monitor_state_writes_failed_total")? > 0.0)
        })?;
        ensure!(asked(&monitor, "mcp_monitor_condition{name=\"state\"}")? == 0.0);
        let watched = monitor.stop()?;
        let (alerts, kept) = (watched.alerts()?, kept(&state)?);
        ensure!(
            [&first, &second].iter().all(|one| alerts.contains(one)),
            "{alerts:?}"
        );
        ensure!(kept.iter().any(|one| one["id"] == first["id"]), "{kept:?}");
        ensure!(kept.iter().all(|one| one["id"] != second["id"]), "{kept:?}");
        ensure!(
            count(&watched.summary, "dropped.state_rows_lost") > 0,
            "{}",
            watched.summary
        );
        ensure!(watched.stderr.contains("they are lost"), "{}", watched.stderr);
        Ok(())
    };
    run().expect("a disk that turns read-only");
}

#[test]
fn a_state_file_that_is_removed_is_begun_anew() {
    if !privileges::ready("a_state_file_removed") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let state = stage.path("state.sqlite");
        let monitor = Monitor::start(&stage.options(&format!("state: {{file: {}}}\n", state.display()))?)?;
        stage.drift(ROGUE.v4)?;
        let first = alerted(&monitor, ROGUE.v4)?;
        let has =
            |alert: &Value| -> Result<bool> { Ok(kept(&state)?.iter().any(|one| one["id"] == alert["id"])) };
        ensure!(has(&first)?, "an alert is in the file when it goes out");
        for companion in ["", "-wal", "-shm"] {
            std::fs::remove_file(stage.path(&format!("state.sqlite{companion}")))?;
        }
        stage.drift("198.51.100.67")?;
        let second = alerted(&monitor, "198.51.100.67")?;
        ensure!(has(&second)? && !has(&first)?);
        eventually("counted", || {
            Ok(asked(&monitor, "mcp_monitor_state_begun_anew_total")? == 1.0)
        })?;
        let watched = monitor.stop()?;
        ensure!(
            watched.stderr.contains("was removed or replaced"),
            "{}",
            watched.stderr
        );
        ensure!(count(&watched.summary, "dropped.state_rows_lost") == 0);
        Ok(())
    };
    run().expect("a state file that is removed");
}

#[test]
fn asked_to_end_it_takes_what_is_left_in_the_ring() {
    if !privileges::ready("asked_to_end") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let monitor = Monitor::start(&stage.options("")?)?;
        signal(&monitor, Signal::SIGSTOP)?;
        stage.drift(ROGUE.v4)?;
        signal(&monitor, Signal::SIGTERM)?;
        signal(&monitor, Signal::SIGCONT)?;
        let begin = Instant::now();
        let watched = monitor.stop()?;
        ensure!(
            begin.elapsed() < Duration::from_secs(10),
            "longer than service.grace"
        );
        let alerts = watched.alerts()?;
        let drift = alerts.iter().any(|alert| alert["observed"] == ROGUE.v4);
        ensure!(drift, "{alerts:?}");
        Ok(())
    };
    run().expect("a drained ring");
}

/// The wall clock as only the monitor sees it, of libfaketime.
#[test]
fn a_stepped_clock_turns_no_time_back() {
    if !privileges::ready("a_stepped_clock") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let by = stage.path("faketime");
        let mut options = stage.options("")?;
        let offset = |seconds: &str| std::fs::write(&by, format!("{seconds}\n"));
        offset("+0")?;
        options.env = vec![
            ("LD_PRELOAD".into(), FAKETIME.into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), by.clone().into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("FAKETIME_CACHE_DURATION".into(), "1".into()),
        ];
        let monitor = Monitor::start(&options)?;
        let time = |address: &str| -> Result<String> {
            stage.drift(address)?;
            let alert = alerted(&monitor, address)?;
            Ok(alert["time"].as_str().context("time")?.to_owned())
        };
        let first = time("198.51.100.66")?;
        offset("-7200")?;
        let back = monitor.stderr().wait_for(SOON, |line| line.contains("set back"));
        ensure!(back.is_some(), "{}", monitor.stderr().text());
        let second = time("198.51.100.67")?;
        std::thread::sleep(Duration::from_secs(2));
        let third = time("198.51.100.68")?;
        offset("+7200")?;
        let forward = monitor
            .stderr()
            .wait_for(SOON, |line| line.contains("set forward"));
        ensure!(forward.is_some(), "{}", monitor.stderr().text());
        let fourth = time("198.51.100.69")?;
        println!("{first} {second} {third} {fourth}");
        ensure!(
            first < second && second < third && third < fourth,
            "{first} {second} {third} {fourth}"
        );
        monitor.stop()?;
        Ok(())
    };
    run().expect("a stepped clock");
}

/// What cannot be written at all is refused at the start, with what to do: nothing would outlive the process.
#[test]
fn a_state_file_that_cannot_be_written_is_refused() {
    if !privileges::ready("a_state_file_that_cannot_be_written") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new()?;
        let disk = stage.path("disk");
        let _undo = undo::tmpfs(&disk, "ro")?;
        let state = disk.join("state.sqlite");
        let state = state.to_str().context("UTF-8")?;
        let ran = binary::run(["run", "--state", state])?;
        ensure!(
            ran.code != 0 && ran.stderr.contains(state),
            "{}: {}",
            ran.code,
            ran.stderr
        );
        ensure!(ran.error_lines().len() == 1, "{}", ran.stderr);
        Ok(())
    };
    run().expect("a refusal");
}
