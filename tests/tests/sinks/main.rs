//! Where alerts go, against the real thing: Alertmanager, rsyslog, and receivers that fail in every way.
//!
//! Alerts come from the shipped capture of the demo, replayed with `--deliver`, and from live traffic.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::monitor::{Monitor, Options};
use mcp_monitor_tests::privileges::skip;
use mcp_monitor_tests::receivers::{self, Alertmanager, Answer, HttpReceiver, Rsyslog, eventually};
use mcp_monitor_tests::scene::{Family, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::TempDir;
use mcp_monitor_tests::{binary, paths, privileges, process};
use serde_json::{Value, json};

mod streams;

const INCIDENT: &str = "tests/captures/demo/demo.pcap";
const PINS: &str = "tests/captures/demo/pins.yaml";

/// Whether a program is there; says loudly if it is not.
fn has(test: &str, program: &str) -> bool {
    if privileges::which(program).is_some() {
        return true;
    }
    skip(
        test,
        &format!("{program} is not installed: run `cargo xtask setup`"),
    )
}

/// A folder with a configuration whose spool is in it.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new(sinks: &str) -> Result<Self> {
        let site = Self { dir: TempDir::new()? };
        site.configure(sinks)?;
        Ok(site)
    }

    fn configure(&self, sinks: &str) -> Result<()> {
        let text = format!("spool: {{dir: spool, max_bytes: 1MiB}}\nsinks:\n{sinks}");
        Ok(std::fs::write(self.dir.path().join("config.yaml"), text)?)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn config(&self) -> String {
        self.path().join("config.yaml").display().to_string()
    }

    /// Replays a capture with `--deliver`: its alerts and what the sinks counted.
    fn replay(&self, capture: &str) -> Result<(Vec<Value>, Value)> {
        let root = paths::root();
        let file = |name: &str| root.join(name).display().to_string();
        let (pins, capture) = (file(PINS), file(capture));
        let config = self.config();
        let (ran, summary) = binary::replay(&["--pins", &pins, "--config", &config, "--deliver", &capture])?;
        Ok((ran.records()?, summary["sinks"].clone()))
    }

    /// Replays an empty capture until a sink's spool is empty.
    fn drain(&self, sink: &str) -> Result<Value> {
        // A pcap file of Ethernet without a packet.
        let empty = self.path().join("empty.pcap");
        let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
        std::fs::write(&empty, words.map(u32::to_le_bytes).concat())?;
        for _ in 0..20 {
            let (_, sinks) = self.replay(&empty.display().to_string())?;
            if sinks[sink]["spooled"] == 0 {
                return Ok(sinks[sink].clone());
            }
        }
        anyhow::bail!("the spool of {sink} does not become empty")
    }
}

fn ids(alerts: &[Value]) -> BTreeSet<String> {
    alerts
        .iter()
        .filter_map(|alert| alert["id"].as_str().map(str::to_owned))
        .collect()
}

/// Nothing was lost, for whatever reason.
fn assert_none_dropped(sink: &Value) {
    let dropped = sink["dropped"].as_object().expect("dropped");
    assert!(dropped.values().all(|count| count == 0), "{sink}");
}

#[test]
fn alertmanager_has_the_alerts_and_a_repetition_changes_nothing() {
    if !has(
        "alertmanager_has_the_alerts_and_a_repetition_changes_nothing",
        "prometheus-alertmanager",
    ) {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        let alertmanager = Alertmanager::start(dir.path())?;
        let url = format!("http://127.0.0.1:{}", alertmanager.port);
        let site = Site::new(&format!(
            "  - {{type: alertmanager, url: '{url}', labels: {{cluster: test}}}}\n"
        ))?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        ensure!(alerts.len() > 5, "a capture with alerts");
        ensure!(sinks["alertmanager"]["sent"] == json!(alerts.len()), "{sinks}");
        let held = alertmanager.alerts()?;
        let of = |alert: &Value, label: &str| alert["labels"][label].as_str().map(str::to_owned);
        for alert in &alerts {
            let found = held.iter().any(|held| {
                of(held, "rule").as_deref() == alert["rule"].as_str()
                    && of(held, "severity").as_deref() == alert["severity"].as_str()
                    && of(held, "endpoint").as_deref() == alert["endpoint"].as_str()
                    && of(held, "cluster").as_deref() == Some("test")
            });
            ensure!(found, "{} is not at Alertmanager: {held:#?}", alert["rule"]);
        }
        ensure!(
            held.iter().all(|alert| alert["status"]["state"] == "active"),
            "{held:#?}"
        );
        ensure!(
            held.iter()
                .all(|alert| alert["annotations"]["alert_id"].is_string()),
            "{held:#?}"
        );
        site.replay(INCIDENT)?;
        ensure!(
            alertmanager.alerts()?.len() == held.len(),
            "a repetition is no second alert"
        );
        Ok(())
    };
    run().expect("alerts at a real Alertmanager");
}

#[test]
fn a_receiver_that_fails_in_every_way_gets_every_alert_in_the_end() {
    let run = || -> Result<()> {
        let receiver = HttpReceiver::start(
            0,
            vec![
                Answer::Status(500, ""),
                Answer::CloseInRequest,
                Answer::Ok,
                Answer::Status(429, "Retry-After: 2\r\n"),
                Answer::CloseInAnswer,
                Answer::Stall,
                Answer::Status(503, ""),
                Answer::Status(302, "Location: http://127.0.0.1:1/\r\n"),
                Answer::Status(401, ""),
            ],
        )?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{}/hook', timeout: 1s}}\n",
            receiver.port
        ))?;
        let (alerts, first) = site.replay(INCIDENT)?;
        ensure!(
            first["webhook"]["spooled"].as_u64() > Some(0),
            "five seconds are not enough: {first}"
        );
        assert_none_dropped(&first["webhook"]);
        let last = site.drain("webhook")?;
        assert_none_dropped(&last);
        let taken = receiver.taken()?;
        ensure!(
            ids(&taken) == ids(&alerts),
            "{} of {} came",
            ids(&taken).len(),
            alerts.len()
        );
        ensure!(
            taken.len() == alerts.len(),
            "each once: a failed attempt is no delivery"
        );
        for request in receiver.requests().iter().filter(|r| r.answer == Answer::Ok) {
            let id = serde_json::from_slice::<Value>(&request.body)?["id"].clone();
            let field = format!("idempotency-key: {}", id.as_str().context("id")?);
            ensure!(
                request.head.to_ascii_lowercase().contains(&field),
                "{}",
                request.head
            );
        }
        Ok(())
    };
    run().expect("alerts, through failures");
}

#[test]
fn a_refused_record_is_dropped_alone_and_counted() {
    let run = || -> Result<()> {
        let receiver = HttpReceiver::start(0, vec![Answer::Ok, Answer::Status(400, "")])?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{}/'}}\n",
            receiver.port
        ))?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        let hook = &sinks["webhook"];
        ensure!(hook["dropped"]["rejected"] == 1 && hook["spooled"] == 0, "{hook}");
        ensure!(receiver.taken()?.len() == alerts.len() - 1, "{hook}");
        Ok(())
    };
    run().expect("one refusal");
}

#[test]
fn secrets_reach_the_receiver_and_nothing_else() {
    let run = || -> Result<()> {
        const TOKEN: &str = "tok-8c1f0a7e";
        let receiver = HttpReceiver::start(0, vec![Answer::Status(401, "X: tok-8c1f0a7e\r\n")])?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{}/', bearer: {{file: token}}}}\n",
            receiver.port
        ))?;
        // The spool is made by the first run; the secret must not be in it.
        std::fs::write(site.path().join("token"), TOKEN)?;
        let root = paths::root();
        let ran = binary::run([
            "replay".as_ref(),
            "--pins".as_ref(),
            root.join(PINS).as_os_str(),
            "--config".as_ref(),
            site.config().as_ref(),
            "--deliver".as_ref(),
            "--summary".as_ref(),
            "-".as_ref(),
            root.join(INCIDENT).as_os_str(),
        ])?;
        ensure!(ran.code == 0, "{}", ran.stderr);
        let head = &receiver.requests().first().context("a request")?.head.clone();
        ensure!(head.contains(&format!("Bearer {TOKEN}")), "{head}");
        ensure!(
            !ran.stderr.contains(TOKEN) && !String::from_utf8_lossy(&ran.stdout).contains(TOKEN),
            "shown"
        );
        let spool = process::output(
            Command::new("grep")
                .args(["-rlc", TOKEN])
                .arg(site.path().join("spool")),
        );
        ensure!(spool.is_err(), "the token is in the spool");
        Ok(())
    };
    run().expect("a token");
}

#[test]
fn rsyslog_understands_every_message() {
    let test = "rsyslog_understands_every_message";
    if !has(test, "rsyslogd") || !has(test, "openssl") {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        certificate(dir.path())?;
        for protocol in ["udp", "tcp", "tls"] {
            let rsyslog = Rsyslog::start(dir.path(), protocol)?;
            let tls = if protocol == "tls" {
                format!(
                    ", tls: {{ca: '{}/ca.pem', server_name: syslog.test}}",
                    dir.path().display()
                )
            } else {
                String::new()
            };
            let site = Site::new(&format!(
                "  - {{type: syslog, address: '127.0.0.1:{}', protocol: {protocol}, hostname: node-1{tls}}}\n",
                rsyslog.port
            ))?;
            let (alerts, sinks) = site.replay(INCIDENT)?;
            ensure!(
                sinks["syslog"]["sent"] == json!(alerts.len()),
                "{protocol}: {sinks}"
            );
            eventually("all messages", || Ok(rsyslog.lines().len() >= alerts.len()))?;
            let lines = rsyslog.lines();
            ensure!(lines.len() == alerts.len(), "{protocol}: {lines:#?}");
            for (line, alert) in lines.iter().zip(&alerts) {
                let severity = match alert["severity"].as_str() {
                    Some("critical") => "crit",
                    Some("high") => "err",
                    Some("medium") => "warning",
                    Some("low") => "notice",
                    _ => "info",
                };
                let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
                let start = format!(
                    "authpriv|{severity}|node-1|mcp-monitor|{}|[mcp-monitor@32473 id=\"{}\"",
                    text("rule"),
                    text("id")
                );
                ensure!(line.starts_with(&start), "{protocol}: {line}\nexpected {start}");
                ensure!(line.contains(&text("name")), "{line}");
            }
        }
        Ok(())
    };
    run().expect("messages at a real rsyslogd");
}

/// A certificate for `syslog.test`, signed by an authority of its own.
fn certificate(dir: &Path) -> Result<()> {
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        process::output(command.args(args.split(' ')).current_dir(dir)).map(drop)
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
    )?;
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.csr -subj /CN=syslog.test",
    )?;
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:syslog.test,IP:127.0.0.1\n")?;
    openssl(
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext",
    )
}

#[test]
fn a_certificate_of_somebody_else_is_not_trusted() {
    if !has("a_certificate_of_somebody_else_is_not_trusted", "rsyslogd") {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        certificate(dir.path())?;
        let rsyslog = Rsyslog::start(dir.path(), "tls")?;
        let site = Site::new(&format!(
            "  - {{type: syslog, address: '127.0.0.1:{}', protocol: tls, tls: {{ca: '{}/ca.pem', server_name: other.test}}}}\n",
            rsyslog.port,
            dir.path().display()
        ))?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        let sink = &sinks["syslog"];
        ensure!(
            sink["sent"] == 0 && sink["spooled"] == json!(alerts.len()),
            "{sink}"
        );
        ensure!(
            sink["last_error"]
                .as_str()
                .is_some_and(|e| e.contains("certificate")),
            "{sink}"
        );
        ensure!(rsyslog.lines().is_empty(), "nothing was sent");
        Ok(())
    };
    run().expect("a certificate for another name");
}

#[test]
fn findings_are_valid_ocsf() {
    let test = "findings_are_valid_ocsf";
    if !receivers::installed() && !skip(test, "the receivers are not installed: run `cargo xtask setup`") {
        return;
    }
    let run = || -> Result<()> {
        let site = Site::new("  - {type: file, path: findings.jsonl, encoding: ocsf}\n")?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        ensure!(sinks["file"]["sent"] == json!(alerts.len()), "{sinks}");
        let check = "import json, sys\n\
            from py_ocsf_models.events.findings.detection_finding import DetectionFinding\n\
            lines = open(sys.argv[1]).read().splitlines()\n\
            for line in lines:\n\
            \x20   finding = json.loads(line)\n\
            \x20   DetectionFinding(**{k: v for k, v in finding.items() if k != 'unmapped'})\n\
            print(len(lines))\n";
        let mut python = Command::new(receivers::python());
        python.args(["-c", check]).arg(site.path().join("findings.jsonl"));
        let counted = process::output(&mut python)?;
        ensure!(counted.trim() == alerts.len().to_string(), "{counted}");
        Ok(())
    };
    run().expect("findings by an independent model of OCSF");
}

#[test]
fn a_full_disk_loses_nothing_while_the_receiver_takes_alerts_and_counts_what_it_loses_when_not() {
    let test = "a_full_disk";
    if let Err(error) = privileges::check() {
        skip(test, &format!("{error:#}"));
        return;
    }
    let run = || -> Result<()> {
        let receiver = HttpReceiver::start(0, Vec::new())?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{}/'}}\n",
            receiver.port
        ))?;
        let spool = site.path().join("spool");
        let _undo = mcp_monitor_tests::undo::tmpfs(&spool, "size=16k")?;
        // All of it but what the folder and the head file take.
        std::fs::create_dir(spool.join("webhook"))?;
        std::fs::write(spool.join("webhook/head"), [])?;
        let _ = std::fs::write(spool.join("filler"), vec![0; 64 << 10]);
        let (alerts, sinks) = site.replay(INCIDENT)?;
        let hook = &sinks["webhook"];
        ensure!(hook["sent"] == json!(alerts.len()), "{hook}");
        assert_none_dropped(hook);
        ensure!(ids(&receiver.taken()?) == ids(&alerts), "{hook}");

        let closed = receivers::free_port()?;
        site.configure(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{closed}/'}}\n"
        ))?;
        let (_, sinks) = site.replay(INCIDENT)?;
        let hook = &sinks["webhook"];
        ensure!(hook["dropped"]["shutdown"] == json!(alerts.len()), "{hook}");
        Ok(())
    };
    run().expect("a full disk");
}

#[test]
fn killed_while_the_receivers_are_down_then_everything_arrives() {
    let test = "killed_while_the_receivers_are_down_then_everything_arrives";
    if let Err(error) = privileges::check() {
        skip(test, &format!("{error:#}"));
        return;
    }
    let run = || -> Result<()> {
        let scene = Scene::new()?;
        let port = receivers::free_port()?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{port}/', timeout: 2s}}\n"
        ))?;
        let pins = site.path().join("pins.yaml");
        std::fs::write(
            &pins,
            format!(
                "version: 1\nendpoints:\n  - {{name: market-data, url: 'http://{NAME}/mcp', addresses: [203.0.113.0/24]}}\n"
            ),
        )?;
        let options = Options {
            pins: Some(pins),
            cgroup: Some(scene.cgroup.path().to_owned()),
            config: Some(site.path().join("config.yaml")),
            ..Options::default()
        };
        let monitor = Monitor::start(&options)?;
        scene.place(ROGUE, &[Family::V4]);
        let look_up = format!("import socket; socket.getaddrinfo('{NAME}', 80)");
        let mut agent = scene.agent.command_in(scene.cgroup.path(), "python3");
        process::output(agent.args(["-c", &look_up]))?;
        let alert = monitor
            .stdout()
            .wait_for(Duration::from_secs(20), |line| line.contains("DNS-01"))
            .with_context(|| format!("no alert: {}", monitor.stderr().text()))?;
        let failing = monitor
            .stderr()
            .wait_for(Duration::from_secs(20), |line| line.contains("cannot deliver"));
        ensure!(failing.is_some(), "{}", monitor.stderr().text());
        let raised: Vec<Value> = monitor
            .stdout()
            .all()
            .iter()
            .map(|l| serde_json::from_str(l))
            .collect::<Result<_, _>>()?;
        monitor.kill()?;

        let receiver = HttpReceiver::start(port, Vec::new())?;
        let monitor = Monitor::start(&options)?;
        eventually("the alerts arrive", || {
            Ok(ids(&receiver.taken()?).is_superset(&ids(&raised)))
        })?;
        let watched = monitor.stop()?;
        ensure!(ids(&receiver.taken()?) == ids(&raised), "those and no others");
        let hook = &watched.summary["sinks"]["webhook"];
        ensure!(
            hook["recovered"] == json!(raised.len()) && hook["spooled"] == 0,
            "{hook}"
        );
        ensure!(alert.contains(raised[0]["id"].as_str().context("id")?), "{alert}");
        Ok(())
    };
    run().expect("alerts over kill -9");
}

#[test]
fn check_says_which_sinks_can_be_reached_and_sends_a_test_alert() {
    let run = || -> Result<()> {
        let receiver = HttpReceiver::start(0, Vec::new())?;
        let closed = receivers::free_port()?;
        let site = Site::new(&format!(
            "  - {{type: webhook, url: 'http://127.0.0.1:{}/'}}\n  - {{type: alertmanager, url: 'http://127.0.0.1:{closed}/'}}\n  - {{type: file, path: alerts.jsonl}}\n",
            receiver.port
        ))?;
        let items = |flags: &[&str]| -> Result<Vec<Value>> {
            let config = site.config();
            let args = [&["check", "--format", "json", "--config", &config], flags].concat();
            let report: Value = serde_json::from_slice(&binary::run(args)?.stdout)?;
            let items = report["items"].as_array().context("items")?.clone();
            Ok(items
                .into_iter()
                .filter(|item| item["what"].as_str().is_some_and(|w| w.starts_with("sink ")))
                .collect())
        };
        let looked = items(&[])?;
        let states: Vec<_> = looked
            .iter()
            .map(|item| item["state"].as_str().unwrap_or_default())
            .collect();
        ensure!(states == ["works", "degraded", "works"], "{looked:#?}");
        ensure!(
            looked[1]["found"]
                .as_str()
                .is_some_and(|f| f.contains("cannot connect")),
            "{looked:#?}"
        );
        ensure!(
            receiver.requests().is_empty() && !site.path().join("alerts.jsonl").exists(),
            "nothing is sent"
        );
        let sent = items(&["--send-test"])?;
        ensure!(
            sent[0]["found"]
                .as_str()
                .is_some_and(|f| f.contains("test alert was taken")),
            "{sent:#?}"
        );
        let taken = receiver.taken()?;
        ensure!(taken.len() == 1 && taken[0]["rule"] == "TEST-00", "{taken:#?}");
        let written = std::fs::read_to_string(site.path().join("alerts.jsonl"))?;
        ensure!(written.contains("TEST-00"), "{written}");
        Ok(())
    };
    run().expect("check");
}

#[test]
fn a_wrong_sink_is_refused_with_its_place() {
    let site = Site::new("  - {type: webhook, url: 'https://a.example', bearer: hunter2}\n").expect("a site");
    for command in ["check", "replay"] {
        let config = site.config();
        let args = [command, "--config", &config, "x.pcap"];
        let ran = binary::run(&args[..if command == "check" { 3 } else { 4 }]).expect("run");
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr
                .contains("config.yaml:3:55: text for bearer; expected {file: PATH}"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}
