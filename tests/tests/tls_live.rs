//! HTTPS between real MCP peers, whose plaintext the monitor reads from their TLS libraries.
//!
//! Needs what the other live tests need. Only the agent's cgroup is watched, so the server's end of
//! each connection, which has the same library, must add nothing.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary;
use mcp_monitor_tests::https::{PORT, Stage, plaintext, records};
use mcp_monitor_tests::monitor::Watched;
use mcp_monitor_tests::peers::{self, Client, Counted, Server, Toolchain};
use mcp_monitor_tests::scene::{APPROVED, Family, NAME, ROGUE};
use serde_json::{Value, json};

const SESSION: Duration = Duration::from_secs(120);

/// Every message that the SDK counted, once, on flows with the right ends.
fn assert_seen(watched: &Watched, counted: &Counted) {
    for (path, sdk) in &counted.0 {
        let seen = binary::count(&watched.summary, path);
        assert_eq!(
            seen, *sdk,
            "{path}: the monitor against the SDK's own log\n{:#}\n{}",
            watched.summary, watched.stderr
        );
    }
    for loss in [
        "lost_bytes",
        "late_bytes",
        "unclaimed_bytes",
        "unlinked",
        "refused",
    ] {
        assert_eq!(
            plaintext(watched, loss),
            0,
            "plaintext.{loss}: {}",
            watched.summary
        );
    }
    assert!(plaintext(watched, "linked") > 0, "{}", watched.summary);
    for message in records(watched, "message") {
        let flow = &message["flow"];
        assert_eq!(flow["plaintext"], "uprobe", "{message}");
        assert_eq!(flow["client"]["ip"], "10.1.0.5", "{message}");
        assert_eq!(flow["server"]["ip"], APPROVED.v4, "{message}");
        assert_eq!(flow["server"]["port"], PORT, "{message}");
    }
}

fn https(test: &str, client: Client, version: &str) {
    if !peers::ready(test) {
        return;
    }
    let run = || -> Result<(Counted, Watched)> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::PythonJson, version)?;
        let mut client = stage.client(client, &json!({}))?;
        client.wait(SESSION)?;
        Ok((Counted::read(&client)?, monitor.stop()?))
    };
    let (counted, watched) = run().expect("a session, watched");
    assert!(counted.0["mcp.requests"] > 10, "a session worth the name");
    assert_seen(&watched, &counted);
}

#[test]
fn python_tls13() {
    https("python_tls13", Client::Python, "1.3");
}

#[test]
fn python_tls12() {
    https("python_tls12", Client::Python, "1.2");
}

#[test]
fn typescript_tls13() {
    https("typescript_tls13", Client::TypeScript, "1.3");
}

#[test]
fn typescript_tls12() {
    https("typescript_tls12", Client::TypeScript, "1.2");
}

/// Go's standard library, whose functions are found by its own table also where symbols were stripped: three
/// connections at once, from whose goroutines' calls nothing may get mixed up. The file is new to the monitor, so
/// the first run gives it a moment; a second one connects at once.
fn go(test: &str, toolchain: Toolchain, stripped: bool, http2: bool, version: &str) {
    if !peers::ready(test) {
        return;
    }
    let run = || -> Result<(Vec<Counted>, Watched)> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let server = if http2 { Server::Go } else { Server::PythonJson };
        let _server = stage.server(server, version)?;
        let mut counted = Vec::new();
        for pause in [1000, 0] {
            let options = json!({"connections": 3, "calls": 20, "http2": http2,
                "max": version, "pause_ms": pause});
            let mut client = stage.client(Client::Go(toolchain, stripped), &options)?;
            client.wait(SESSION)?;
            counted.push(Counted::read(&client)?);
        }
        Ok((counted, monitor.stop()?))
    };
    let (runs, watched) = run().expect("sessions, watched");
    let mut counted = Counted::default();
    for (path, count) in runs.into_iter().flat_map(|run| run.0) {
        *counted.0.entry(path).or_default() += count;
    }
    assert_eq!(counted.0["mcp.requests"], 132);
    assert_seen(&watched, &counted);
    assert_eq!(plaintext(&watched, "linked"), 6, "{}", watched.summary);
}

#[test]
fn go_current_http1_tls13() {
    go("go_current_http1_tls13", Toolchain::Current, false, false, "1.3");
}

#[test]
fn go_current_stripped_http2_tls12() {
    go(
        "go_current_stripped_http2_tls12",
        Toolchain::Current,
        true,
        true,
        "1.2",
    );
}

#[test]
fn go_distribution_http2_tls13() {
    go(
        "go_distribution_http2_tls13",
        Toolchain::Distribution,
        true,
        true,
        "1.3",
    );
}

#[test]
fn go_distribution_http1_tls12() {
    go(
        "go_distribution_http1_tls12",
        Toolchain::Distribution,
        false,
        false,
        "1.2",
    );
}

/// A process that runs already when the monitor comes: its next connection is seen whole.
#[test]
fn a_process_that_was_there_before() {
    if !peers::ready("a_process_that_was_there_before") {
        return;
    }
    let run = || -> Result<(Vec<Value>, Watched)> {
        let stage = Stage::new()?;
        let _server = stage.server(Server::PythonJson, "1.3")?;
        let go_on = stage.dir.path().join("go-on");
        let options = json!({"sessions": 2, "pause_ms": 3000, "hold_until": go_on});
        let mut client = stage.client(Client::TypeScript, &options)?;
        let first = client
            .stdout
            .wait_for(SESSION, |line| line.contains(r#""event":"holds""#));
        ensure!(first.is_some(), "no first session: {}", client.stderr.text());
        let monitor = stage.monitor("{}\n")?;
        std::fs::write(&go_on, "")?;
        client.wait(SESSION)?;
        let lines = client.stdout.all();
        let after = lines
            .iter()
            .position(|line| line.contains(r#""event":"session""#))
            .context("no end of the first session")?;
        let messages = lines
            .iter()
            .skip(after)
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| event["event"] == "message")
            .collect();
        Ok((messages, monitor.stop()?))
    };
    let (messages, watched) = run().expect("two sessions, the second watched");
    let count = |kind: &str| messages.iter().filter(|message| message["kind"] == kind).count();
    assert!(count("request") > 10);
    for (kind, path) in [("request", "mcp.requests"), ("response", "mcp.responses")] {
        let seen = binary::count(&watched.summary, path);
        assert_eq!(
            seen,
            count(kind) as u64,
            "{path}: {}\n{}",
            watched.summary,
            watched.stderr
        );
    }
}

/// An attack on a server: its name moves to a host that plays it with an older protocol and an edited
/// tool, and then redirects.
fn attack(https: bool) -> Result<(BTreeSet<String>, Watched)> {
    let stage = Stage::new()?;
    let scheme = if https { "https" } else { "http" };
    let monitor = stage.monitor("{}\n")?;
    let tls = |mut options: Value| {
        if https {
            options["tls"] = stage.tls();
        }
        options
    };
    let mut server = Server::PythonJson.start(&stage.scene.approved, PORT, &tls(json!({})))?;
    let options = json!({
        "url": format!("{scheme}://{NAME}:{PORT}/mcp"), "full": false, "calls": 1, "sdk": "1.30",
        "headers": {"x-api-key": "mk-0123456789abcdef01234"},
    });
    stage.client(Client::TypeScript, &options)?.wait(SESSION)?;
    server.stop(Duration::from_secs(10))?;
    let rogue = tls(json!({"next": format!("{scheme}://{}:9443", ROGUE.v4)}));
    stage.scene.place(ROGUE, &[Family::V4]);
    let _rogue = Server::Script("rogue.mjs").start(&stage.scene.rogue, PORT, &rogue)?;
    for _ in 0..2 {
        stage.client(Client::TypeScript, &options)?.wait(SESSION)?;
    }
    let watched = monitor.stop()?;
    let seen_how = if https { "uprobe" } else { "packet" };
    let rules = records(&watched, "alert")
        .iter()
        .filter(|alert| alert["flow"]["plaintext"] == seen_how)
        .inspect(|alert| assert_eq!(alert["process"]["comm"], "node", "{alert}"))
        .filter_map(|alert| Some(alert["rule"].as_str()?.to_owned()))
        .collect();
    Ok((rules, watched))
}

/// The rules that need plaintext fire over HTTPS as they do over HTTP.
#[test]
fn a_rogue_server_is_found_over_https() {
    if !peers::ready("a_rogue_server_is_found_over_https") {
        return;
    }
    let (over_http, _) = attack(false).expect("an attack over HTTP");
    let (over_https, watched) = attack(true).expect("an attack over HTTPS");
    // What the scheme itself is about is told apart: credentials in the clear, and the pinned scheme.
    let of_scheme = |rule: &&String| !["CR-01", "DG-01", "DG-02"].contains(&rule.as_str());
    let wanted: BTreeSet<&String> = over_http.iter().filter(of_scheme).collect();
    assert!(wanted.len() >= 4, "an attack worth the name: {over_http:?}");
    for rule in wanted {
        assert!(
            over_https.contains(rule),
            "{rule} over HTTPS: {over_https:?}, over HTTP {over_http:?}\n{:#}",
            watched.summary
        );
    }
    for rule in ["DG-06", "TD-01", "RED-01", "RED-02"] {
        assert!(over_https.contains(rule), "{rule}: {over_https:?}");
    }
}

/// Off is off: no probe, no plaintext, and the flow says so.
#[test]
fn plaintext_can_be_turned_off() {
    if !peers::ready("plaintext_can_be_turned_off") {
        return;
    }
    let run = |config: &str| -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor(config)?;
        let _server = stage.server(Server::PythonJson, "1.3")?;
        stage
            .client(Client::Python, &json!({"calls": 1}))?
            .wait(SESSION)?;
        monitor.stop()
    };
    let watched = run("plaintext: {mode: off}\n").expect("a session");
    assert!(watched.summary["plaintext"].is_null(), "{}", watched.summary);
    assert_eq!(binary::count(&watched.summary, "mcp.requests"), 0);
    let watched = run("plaintext: {mode: metadata}\n").expect("a session");
    assert!(
        binary::count(&watched.summary, "mcp.requests") > 3,
        "{:#}",
        watched.summary
    );
    for message in records(&watched, "message") {
        assert!(message["body"].is_null(), "{message}");
    }
}

/// Clients that live for one request, with OpenSSL and with GnuTLS, in HTTP/1.1 and HTTP/2.
#[test]
fn short_lived_clients() {
    if !peers::ready("short_lived_clients") {
        return;
    }
    let run = || -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::PythonJson, "1.3")?;
        let url = format!("https://{NAME}:{PORT}/mcp");
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}}});
        for version in ["1.2", "1.3"] {
            let mut curl = stage.scene.agent.command_in(stage.scene.cgroup.path(), "curl");
            curl.args(["-sS", "--fail", "--tls-max", version, "--cacert"])
                .arg(&stage.certificate.cert);
            curl.args(["-H", "content-type: application/json"]);
            curl.args(["-H", "accept: application/json, text/event-stream"]);
            curl.args(["-d", &body.to_string(), &url]);
            let said = mcp_monitor_tests::process::output(&mut curl)?;
            ensure!(said.contains("serverInfo"), "{said}");
        }
        let mut gnutls = stage.scene.agent.command_in(stage.scene.cgroup.path(), "python3");
        gnutls
            .arg(peers::dir().join("curl_gnutls.py"))
            .arg(&url)
            .arg(&stage.certificate.cert);
        gnutls.arg(body.to_string());
        let said = mcp_monitor_tests::process::output(&mut gnutls)?;
        ensure!(said.contains("serverInfo"), "{said}");
        // The last of it may still be on its way.
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && monitor.stdout().all().len() < 6 {
            std::thread::sleep(Duration::from_millis(100));
        }
        monitor.stop()
    };
    let watched = run().expect("three clients, watched");
    assert_eq!(
        binary::count(&watched.summary, "mcp.methods.initialize"),
        3,
        "{:#}\n{}",
        watched.summary,
        watched.stderr
    );
    assert_eq!(
        binary::count(&watched.summary, "mcp.responses"),
        3,
        "{:#}",
        watched.summary
    );
}

/// A connection that began before the monitor did, with a server whose addresses are pinned: its messages are seen,
/// its ends are `null`, and nothing is concluded from addresses that nobody knows.
#[test]
fn a_connection_that_was_there_before() {
    if !peers::ready("a_connection_that_was_there_before") {
        return;
    }
    let run = || -> Result<Watched> {
        let stage = Stage::new()?;
        // The port of the scheme and the addresses are right, so that whatever is said is said in error.
        std::fs::write(
            stage.dir.path().join("pins.yaml"),
            format!(
                "version: 1\nendpoints:\n  - {{name: market-data, url: 'https://{NAME}:{PORT}/mcp', \
                 addresses: [203.0.113.0/24], first_party: true}}\nresolvers: [10.96.0.10]\n"
            ),
        )?;
        let _server = stage.server(Server::Go, "1.3")?;
        let go_on = stage.dir.path().join("go-on");
        let options = json!({"calls": 5, "hold_until": go_on});
        let mut client = stage.client(Client::Go(Toolchain::Current, false), &options)?;
        let holds = client
            .stdout
            .wait_for(SESSION, |line| line.contains(r#""event":"holds""#));
        ensure!(holds.is_some(), "no session: {}", client.stderr.text());
        let monitor = stage.monitor("{}\n")?;
        // The program gets its probes in the first scan.
        std::thread::sleep(Duration::from_secs(3));
        std::fs::write(&go_on, "")?;
        client.wait(SESSION)?;
        Counted::read(&client)?;
        monitor.stop()
    };
    let watched = run().expect("half a session, watched");
    let said = format!("{:#}\n{}\n{}", watched.summary, watched.stdout, watched.stderr);
    assert_eq!(
        binary::count(&watched.summary, "mcp.methods.tools/call"),
        5,
        "{said}"
    );
    assert_eq!(plaintext(&watched, "unlinked"), 1, "{said}");
    let messages = records(&watched, "message");
    let flows = records(&watched, "flow");
    let flow = flows
        .iter()
        .find(|flow| flow["flow"]["plaintext"] == "uprobe")
        .expect("a flow of plaintext");
    // The read that waited when the probes came returns unnoticed: its answer is lost, and that is counted.
    assert_eq!(messages.len(), 9, "{said}");
    assert!(
        binary::count(&watched.summary, "kernel.tls_lost_bytes") > 0,
        "{said}"
    );
    for record in messages.iter().chain([flow]) {
        for end in ["client", "server"] {
            assert!(record["flow"][end].is_null(), "{record}");
        }
    }
    assert!(!watched.stdout.contains("0.0.0.0"), "{said}");
    assert_eq!(
        flow["process"]["comm"].as_str(),
        Some("client-Current-"),
        "{flow}"
    );
    assert_eq!(flow["endpoint"], 0, "{flow}");
    // The packets of the connection are a flow besides, which stays closed.
    let alerts = records(&watched, "alert");
    assert!(alerts.iter().all(|alert| alert["rule"] == "OP-06"), "{said}");
}

/// What cannot be read is named with its reason where somebody looks for it: uv, a client in Rust with rustls.
#[test]
fn a_client_with_rustls_is_said_to_be_unreadable() {
    if !peers::ready("a_client_with_rustls_is_said_to_be_unreadable") {
        return;
    }
    let run = || -> Result<Watched> {
        let stage = Stage::new()?;
        let monitor = stage.monitor("{}\n")?;
        let _server = stage.server(Server::Go, "1.3")?;
        let mut uv = stage
            .scene
            .agent
            .command_in(stage.scene.cgroup.path(), peers::dir().join("venv/bin/uv"));
        uv.args([
            "pip",
            "install",
            "--no-cache",
            "--dry-run",
            "--index-url",
            &stage.url(),
            "nothing",
        ]);
        uv.arg("--target").arg(stage.dir.path().join("target"));
        uv.env("SSL_CERT_FILE", &stage.certificate.cert);
        // The server has no package for it: it asks, is refused, and fails.
        let _ = mcp_monitor_tests::process::output(&mut uv);
        monitor.stop()
    };
    let watched = run().expect("a client, watched");
    let alerts = records(&watched, "alert");
    let blind = alerts.iter().find(|alert| alert["rule"] == "OP-06");
    let summary = blind
        .and_then(|alert| alert["summary"].as_str())
        .unwrap_or_default();
    assert!(
        summary.contains("venv/bin/uv: rustls is inside"),
        "{alerts:#?}\n{:#}\n{}",
        watched.summary,
        watched.stderr
    );
    assert!(plaintext(&watched, "unreadable") > 0, "{:#}", watched.summary);
}
