//! A running monitor as it shows itself: metrics, health, alerts, flows, log levels, the page.
//!
//! Real sessions of real MCP peers are watched, `promtool` judges the metrics and Chromium shows the page.
#![cfg(target_os = "linux")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary;
use mcp_monitor_tests::browser::{dom, screenshot};
use mcp_monitor_tests::http::{Answer, ask, get, metric};
use mcp_monitor_tests::monitor::{Monitor, Options};
use mcp_monitor_tests::paths;
use mcp_monitor_tests::peers::{self, Client, Server};
use mcp_monitor_tests::privileges;
use mcp_monitor_tests::process::output;
use mcp_monitor_tests::scene::{APPROVED, Family, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::TempDir;
use serde_json::{Value, json};

const PORT: u16 = 8080;
const SESSION: Duration = Duration::from_secs(90);
/// The monitor publishes what it knows every second.
const PUBLISHED: Duration = Duration::from_secs(20);

/// Starts the monitor with this `http` section, and finds where it serves.
fn start(dir: &Path, cgroup: Option<&Path>, pins: &str, http: &str) -> Result<(Monitor, Vec<SocketAddr>)> {
    let (pins_file, config) = (dir.join("pins.yaml"), dir.join("config.yaml"));
    std::fs::write(&pins_file, pins)?;
    std::fs::write(&config, http)?;
    let monitor = Monitor::start(&Options {
        pins: Some(pins_file),
        cgroup: cgroup.map(Path::to_owned),
        config: Some(config),
        ..Options::default()
    })?;
    let addresses = monitor.addresses()?;
    Ok((monitor, addresses))
}

/// Asks again until an answer satisfies the test.
fn wait(what: &str, ask: impl Fn() -> Result<Answer>, test: impl Fn(&Answer) -> bool) -> Result<Answer> {
    let end = std::time::Instant::now() + PUBLISHED;
    loop {
        let answer = ask()?;
        if test(&answer) {
            return Ok(answer);
        }
        ensure!(std::time::Instant::now() < end, "{what}: {}", answer.body);
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Sum of all lines of a name, whatever their labels.
fn metric_sum(text: &str, name: &str) -> f64 {
    let lines = text
        .lines()
        .filter(|l| l.starts_with(name) && !l.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn promtool(metrics: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("promtool: run `cargo xtask setup`")?;
    child
        .stdin
        .take()
        .context("stdin")?
        .write_all(metrics.as_bytes())?;
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

#[test]
fn a_server_that_moved_is_in_the_metrics_the_lists_and_the_page() {
    if !peers::ready("observe") {
        return;
    }
    let run = || -> Result<()> {
        let server = Server::EverythingStreamable;
        let pins = format!(
            "version: 1\nendpoints:\n\
             \x20 - {{name: market-data, url: \"http://{NAME}:{PORT}{}\", addresses: [203.0.113.0/24], mesh_encrypted: true, first_party: true}}\n\
             \x20 - {{name: ledger, url: \"https://ledger.example/mcp\"}}\n\
             resolvers: [10.96.0.10]\n",
            server.path()
        );
        let scene = Scene::new()?;
        let dir = TempDir::new()?;
        let http = "http: {listen: \"127.0.0.1:0\", probes: \"127.0.0.1:0\"}\n";
        let (monitor, at) = start(dir.path(), Some(scene.cgroup.path()), &pins, http)?;
        let (all, probes) = (at[0], at[1]);

        let _approved = server.start(&scene.approved, PORT, &json!({}))?;
        let _other = server.start(&scene.rogue, PORT, &json!({}))?;
        let url = format!("http://{NAME}:{PORT}{}", server.path());
        let session = || -> Result<()> {
            let options = json!({"url": url, "full": false});
            Client::TypeScript
                .start(&scene.agent, scene.cgroup.path(), &options)?
                .wait(SESSION)?;
            Ok(())
        };
        scene.place(APPROVED, &[Family::V4]);
        session()?;
        let ready = wait("ready", || get(probes, "/readyz", &[]), |a| a.status == 200)?.json()?;
        let names: Vec<_> = ready["conditions"]
            .as_array()
            .context("conditions")?
            .iter()
            .map(|c| c["name"].clone())
            .collect();
        // Plaintext is read, for which later processes are probed.
        let kept = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"];
        privileges::confined(monitor.pid(), &kept)?;
        for name in ["loop", "attached", "pins", "ring", "sandbox"] {
            assert!(names.contains(&json!(name)), "{name} of {ready}");
        }
        assert_eq!(get(all, "/healthz", &[])?.json()?["alive"], true);
        assert_eq!(get(probes, "/alerts", &[])?.status, 404, "probes show no alerts");

        scene.place(ROGUE, &[Family::V4]);
        session()?;
        let line = "mcp_monitor_alerts_total{rule=\"DNS-01\",name=\"dns-answer-drift\",severity=\"high\"}";
        let answer = wait(
            "DNS-01 in the metrics",
            || get(all, "/metrics", &[]),
            |a| metric(&a.body, line) == Some(1.0),
        )?;
        assert!(
            answer.head.contains("content-type: text/plain; version=0.0.4"),
            "{}",
            answer.head
        );
        for layer in ["capabilities", "landlock", "seccomp"] {
            let line = format!("mcp_monitor_sandbox{{layer=\"{layer}\"}}");
            assert_eq!(metric(&answer.body, &line), Some(1.0), "{layer}");
        }
        promtool(&answer.body)?;
        let open = get(
            all,
            "/metrics",
            &["Accept: application/openmetrics-text;version=1.0.0"],
        )?;
        assert!(open.head.contains("application/openmetrics-text") && open.body.ends_with("# EOF\n"));

        let alerts = get(all, "/alerts?endpoint=market-data&severity=high&rule=DNS-01", &[])?.json()?;
        let alerts = alerts["alerts"].as_array().context("alerts")?.clone();
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0]["observed"], ROGUE.v4);
        assert_eq!(get(all, "/alerts?severity=loud", &[])?.status, 400);
        let flows = get(all, "/flows?mcp=true&endpoint=market-data", &[])?.json()?;
        let flow = flows["flows"]
            .as_array()
            .and_then(|f| f.first().cloned())
            .context("a flow")?;
        assert_eq!(flow["flow"]["server_name"], NAME, "{flow}");

        // Levels change while it runs, and a wrong filter changes nothing.
        assert_eq!(
            ask(all, "PUT", "/log", &[], "warn,mcp_monitor=debug")?.status,
            200
        );
        assert_eq!(get(all, "/log", &[])?.body, "warn,mcp_monitor=debug\n");
        assert_eq!(ask(all, "PUT", "/log", &[], "a=b=c")?.status, 400);
        assert_eq!(get(all, "/log", &[])?.body, "warn,mcp_monitor=debug\n");

        // A page elsewhere whose name was made to resolve here gets nothing.
        assert_eq!(get(all, "/alerts", &["Host: evil.example"])?.status, 421);

        let address = format!("http://{all}/");
        let page = get(all, "/", &[])?;
        assert!(
            page.head
                .contains("content-security-policy: default-src 'none'; style-src 'sha256-")
        );
        let shown = dom(&address)?;
        for text in [
            "market-data",
            "in question",
            "dns-answer-drift",
            ROGUE.v4,
            "not seen yet",
            "Blind spots",
        ] {
            assert!(shown.contains(text), "{text} is not on the page: {shown}");
        }
        let filtered = dom(&format!("{address}?severity=critical"))?;
        assert!(!filtered.contains("dns-answer-drift"), "the filter filters");
        let kept = paths::target().join("observe");
        std::fs::create_dir_all(&kept)?;
        screenshot(&address, &kept.join("page.png"), false)?;
        screenshot(&address, &kept.join("page-dark.png"), true)?;

        // What the metrics say at the end is what the summary says.
        let before = get(all, "/metrics", &[])?.body;
        let watched = monitor.stop()?;
        for (line, path) in [
            ("mcp_monitor_mcp_requests_total", "mcp.requests"),
            ("mcp_monitor_dns_queries_total", "dns.queries"),
            ("mcp_monitor_http_responses_total", "http.responses"),
            ("mcp_monitor_kernel_drifts_total", "kernel.drifts"),
            (
                "mcp_monitor_mcp_methods_total{method=\"initialize\"}",
                "mcp.methods.initialize",
            ),
        ] {
            let number = binary::count(&watched.summary, path);
            assert!(number > 0, "{path} is worth a test");
            assert_eq!(metric(&before, line).map(|n| n as u64), Some(number), "{path}");
        }
        let raised: u64 = watched.summary["alerts"]
            .as_object()
            .context("alerts")?
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!(metric_sum(&before, "mcp_monitor_alerts_total") as u64, raised);
        Ok(())
    };
    run().expect("a monitor that shows itself");
}

#[test]
fn reached_from_elsewhere_only_with_a_token_or_certificate() {
    let dir = TempDir::new().expect("a folder");
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, "http:\n  listen: 0.0.0.0:0\n").expect("written");
    let ran = binary::run(["run", "--config", config.to_str().expect("UTF-8")]).expect("run");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("config.yaml:2:11: http.listen 0.0.0.0:0 can be reached from elsewhere"),
        "{}",
        ran.stderr
    );
    let ran = binary::run(["run", "--http=0.0.0.0:0"]).expect("run");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("without http.token or http.client_ca"),
        "{}",
        ran.stderr
    );
    if !peers::ready("token and certificate") {
        return;
    }
    let run = || -> Result<()> {
        let scene = Scene::new()?;
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("token"), "a token of many letters\n")?;
        let http = "http: {listen: \"127.0.0.1:0\", token: {file: token}}\n";
        let (monitor, at) = start(dir.path(), Some(scene.cgroup.path()), "version: 1\n", http)?;
        let status = |headers: &[&str]| get(at[0], "/alerts", headers).map(|a| a.status);
        assert_eq!(status(&[])?, 401);
        assert_eq!(status(&["Authorization: Bearer a token of many letter"])?, 401);
        assert_eq!(status(&["Authorization: Bearer a token of many letters"])?, 200);
        assert_eq!(
            status(&["Authorization: Basic bWU6YSB0b2tlbiBvZiBtYW55IGxldHRlcnM="])?,
            200
        );
        let watched = monitor.stop()?;
        assert!(
            !watched.stderr.contains("many letters"),
            "the token is in the log"
        );

        let script = "set -e\n\
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca\n\
            for n in server client; do\n\
            openssl req -newkey rsa:2048 -nodes -keyout $n.key -out $n.csr -subj /CN=$n\n\
            printf 'subjectAltName=DNS:localhost\\n' > ext\n\
            openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $n.pem -days 2 -extfile ext\n\
            done\n";
        output(Command::new("sh").args(["-c", script]).current_dir(dir.path()))?;
        let http = "http: {listen: \"127.0.0.1:0\", cert: server.pem, key: server.key, client_ca: ca.pem}\n";
        let (monitor, at) = start(dir.path(), Some(scene.cgroup.path()), "version: 1\n", http)?;
        let request = |certificate: &str| -> String {
            let script = format!(
                "printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n' | \
                 timeout 10 openssl s_client -quiet -verify_quiet -CAfile ca.pem -connect {} {certificate}",
                at[0]
            );
            let done = Command::new("sh")
                .args(["-c", &script])
                .current_dir(dir.path())
                .output();
            done.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
                .unwrap_or_default()
        };
        let answer = request("-cert client.pem -key client.key -ign_eof");
        assert!(answer.starts_with("HTTP/1.1 200"), "with a certificate: {answer}");
        let answer = request("-ign_eof");
        assert!(!answer.contains("HTTP/1.1"), "without one: {answer}");
        monitor.stop()?;
        Ok(())
    };
    run().expect("guards");
}
