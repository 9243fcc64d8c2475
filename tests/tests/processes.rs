//! What only a live run can tell: the executable behind a fingerprint (TLS-05), the socket that listens (PV-06).
//!
//! Needs root and BPF. Where they are missing a test says so loudly and does nothing; with `CI=true` that is a failure.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::certificate::Certificate;
use mcp_monitor_tests::cgroup::Cgroup;
use mcp_monitor_tests::monitor::{Monitor, Options};
use mcp_monitor_tests::peers;
use mcp_monitor_tests::process::{Process, output};
use mcp_monitor_tests::receivers::free_port;
use mcp_monitor_tests::undo::TempDir;
use serde_json::{Value, json};

/// Python's imports alone take seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program in a cgroup, to its end.
fn run_in(cgroup: &Cgroup, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]);
    command.arg(cgroup.path()).arg(program).args(args);
    output(&mut command)
}

/// The alerts of one rule, of what `act` does in the watched cgroup.
fn alerts(rule: &str, act: impl FnOnce(&Cgroup, &Monitor) -> Result<()>) -> Result<Vec<Value>> {
    let cgroup = Cgroup::new("agent")?;
    let monitor = Monitor::start(&Options {
        cgroup: Some(cgroup.path().to_owned()),
        ..Options::default()
    })?;
    act(&cgroup, &monitor)?;
    let mut alerts = monitor.stop()?.alerts()?;
    alerts.retain(|alert| alert["rule"] == rule);
    Ok(alerts)
}

/// PV-06 on a real MCP server of this machine that listens at `host`; asked by curl on loopback.
fn exposed(host: &str) -> Result<Vec<Value>> {
    let port = free_port()?;
    let mut command = Command::new(peers::dir().join("venv/bin/python"));
    let options = json!({"host": host, "port": port, "json_response": true});
    command
        .arg("server.py")
        .arg(options.to_string())
        .current_dir(peers::dir());
    let server = Process::spawn("server.py", command)?;
    let listens = server.stdout.wait_for(PATIENCE, |line| line == "ready");
    listens.with_context(|| format!("it does not listen: {}", server.stderr.text()))?;
    alerts("PV-06", |cgroup, monitor| {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1.0.0"}}});
        let args = [
            "-sS",
            "-m",
            "20",
            "-H",
            "content-type: application/json",
            "-H",
            "accept: application/json, text/event-stream",
            "--data-binary",
            &body.to_string(),
            &format!("http://127.0.0.1:{port}/mcp"),
        ];
        let answer = run_in(cgroup, "curl", &args)?;
        ensure!(answer.contains("protocolVersion"), "curl was answered {answer:?}");
        // The socket is looked up once MCP was seen; the alert tells when that was.
        if host != "127.0.0.1" {
            monitor.stdout().wait_for(PATIENCE, |line| line.contains("PV-06"));
        }
        Ok(())
    })
}

#[test]
fn a_server_that_listens_on_all_addresses_is_said_and_one_on_loopback_is_not() {
    if !peers::ready("PV-06 live") {
        return;
    }
    let found = exposed("0.0.0.0").expect("watched");
    assert_eq!(found.len(), 1, "{found:?}");
    let alert = &found[0];
    assert_eq!(alert["expected"], json!(["a loopback address"]));
    assert!(
        alert["observed"]
            .as_str()
            .is_some_and(|text| text.starts_with("0.0.0.0:")),
        "{alert}"
    );
    assert!(
        alert["summary"]
            .as_str()
            .is_some_and(|text| text.starts_with("python")),
        "{alert}"
    );
    let quiet = exposed("127.0.0.1").expect("watched");
    assert!(quiet.is_empty(), "{quiet:?}");
}

/// Makes so many connections, the last one with `last` set on its context.
const CLIENT: &str = "
import socket, ssl, sys
port, last = int(sys.argv[1]), sys.argv[2]
for n in range(14):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if n == 13 and last:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(last)
    with socket.create_connection(('127.0.0.1', port)) as plain:
        with context.wrap_socket(plain, server_hostname='mcp.marketdata.example') as tls:
            tls.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            tls.recv(100)
print('done')
";

/// TLS-05 on one Python process whose last connection differs if `last` names ciphers.
fn spoken(folder: &Path, last: &str) -> Result<Vec<Value>> {
    let certificate = Certificate::new(folder)?;
    let port = free_port()?;
    let mut command = Command::new("openssl");
    command.args([
        "s_server",
        "-www",
        "-accept",
        &format!("127.0.0.1:{port}"),
        "-cert",
    ]);
    command.arg(&certificate.cert).arg("-key").arg(&certificate.key);
    let server = Process::spawn("s_server", command)?;
    let listens = server.stdout.wait_for(PATIENCE, |line| line.contains("ACCEPT"));
    ensure!(listens.is_some(), "it does not listen: {}", server.stderr.text());
    alerts("TLS-05", |cgroup, _| {
        let said = run_in(cgroup, "python3", &["-c", CLIENT, &port.to_string(), last])?;
        ensure!(said.contains("done"), "the client said {said:?}");
        Ok(())
    })
}

#[test]
fn another_way_of_speaking_tls_by_the_same_executable_is_said() {
    if !peers::ready("TLS-05 live") {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let found = spoken(dir.path(), "ECDHE-ECDSA-AES256-GCM-SHA384").expect("watched");
    assert_eq!(found.len(), 1, "{found:?}");
    let process = &found[0]["process"];
    assert!(
        process["exe"].as_str().is_some_and(|exe| exe.contains("python")),
        "{process}"
    );
    let observed = found[0]["observed"].as_str().unwrap_or_default();
    assert!(observed.starts_with("t12"), "{observed}");
    let quiet = spoken(dir.path(), "").expect("watched");
    assert!(quiet.is_empty(), "{quiet:?}");
}
