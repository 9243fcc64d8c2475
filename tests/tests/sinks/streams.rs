//! OTLP at a real collector (rotel), Kafka at a broker (the mock cluster of librdkafka).

use std::collections::BTreeMap;

use mcp_monitor_tests::streams::{Broker, Collector, Front};

use super::*;

fn ready(test: &str) -> bool {
    receivers::installed() || skip(test, "the receivers are not installed: run `cargo xtask setup`")
}

/// How often `needle` is in `text`.
fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

#[test]
fn a_collector_has_every_alert_over_grpc_http_and_tls() {
    let test = "a_collector_has_every_alert_over_grpc_http_and_tls";
    if !ready(test) || !has(test, "openssl") {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        certificate(dir.path())?;
        for protocol in ["grpc", "http", "tls"] {
            let collector = Collector::start(dir.path())?;
            let front = Front::start(collector.grpc, dir.path(), "h2", &[])?;
            let rest = match protocol {
                "grpc" => format!("url: 'http://127.0.0.1:{}'", collector.grpc),
                "http" => format!("protocol: http, url: 'http://127.0.0.1:{}'", collector.http),
                _ => format!(
                    "url: 'https://127.0.0.1:{}', tls: {{ca: '{}/ca.pem', server_name: syslog.test}}",
                    front.port,
                    dir.path().display()
                ),
            };
            let site = Site::new(&format!(
                "  - {{type: otlp, {rest}, headers: {{x-scope-orgid: team}}, resource: {{k8s.cluster.name: prod-eu}}}}\n"
            ))?;
            let (alerts, sinks) = site.replay(INCIDENT)?;
            let sink = &sinks["otlp"];
            ensure!(sink["sent"] == json!(alerts.len()), "{protocol}: {sink}");
            assert_none_dropped(sink);
            let printed = || count(&collector.text(), "LogRecord #");
            eventually("the collector prints", || Ok(printed() >= alerts.len()))?;
            let text = collector.text();
            ensure!(printed() == alerts.len(), "{protocol}: {text}");
            for alert in &alerts {
                let field = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
                ensure!(
                    text.contains(&format!("mcp_monitor.alert.id: Str({})", field("id"))),
                    "{text}"
                );
                ensure!(
                    text.contains(&format!("mcp_monitor.rule: Str({})", field("rule"))),
                    "{text}"
                );
            }
            ensure!(text.contains("service.name: Str(mcp-monitor)"), "{text}");
            ensure!(text.contains("k8s.cluster.name: Str(prod-eu)"), "{text}");
            let critical = alerts
                .iter()
                .filter(|alert| alert["severity"] == "critical")
                .count();
            ensure!(
                critical > 0 && count(&text, "SEVERITY_NUMBER_FATAL(21)") == critical,
                "{text}"
            );
        }
        Ok(())
    };
    run().expect("alerts at a collector");
}

#[test]
fn a_collector_that_is_busy_is_left_alone_and_what_it_rejects_is_counted() {
    let run = || -> Result<()> {
        // ExportLogsServiceResponse: partial_success {rejected_log_records: 2, error_message: "full"}.
        const PARTIAL: &[u8] = b"\x0a\x08\x08\x02\x12\x04full";
        let receiver = HttpReceiver::start(
            0,
            vec![
                Answer::Status(503, "Retry-After: 1\r\n"),
                Answer::Status(401, ""),
                Answer::Body(PARTIAL),
            ],
        )?;
        let site = Site::new(&format!(
            "  - {{type: otlp, protocol: http, url: 'http://127.0.0.1:{}', bearer: {{file: token}}}}\n",
            receiver.port
        ))?;
        std::fs::write(site.path().join("token"), "tok-8c1f0a7e")?;
        let (alerts, first) = site.replay(INCIDENT)?;
        let sink = match first["otlp"]["spooled"] == 0 {
            true => first["otlp"].clone(),
            false => site.drain("otlp")?,
        };
        ensure!(sink["dropped"]["rejected"] == 2, "{sink}");
        ensure!(sink["sent"] == json!(alerts.len() - 2), "{sink}");
        let requests = receiver.requests();
        ensure!(requests.len() == 3, "{}", requests.len());
        for request in &requests {
            let head = request.head.to_ascii_lowercase();
            ensure!(head.starts_with("post /v1/logs "), "{head}");
            ensure!(head.contains("content-type: application/x-protobuf"), "{head}");
            ensure!(head.contains("authorization: bearer tok-8c1f0a7e"), "{head}");
        }
        Ok(())
    };
    run().expect("a busy collector");
}

#[test]
fn metrics_are_pushed_under_the_names_of_the_page() {
    let test = "metrics_are_pushed_under_the_names_of_the_page";
    if let Err(error) = privileges::check() {
        skip(test, &format!("{error:#}"));
        return;
    }
    if !ready(test) {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        let collector = Collector::start(dir.path())?;
        let site = Site::new(&format!(
            "  - {{type: otlp, url: 'http://127.0.0.1:{}', records: [metrics], interval: 1s}}\n",
            collector.grpc
        ))?;
        let scene = Scene::new()?;
        let monitor = Monitor::start(&Options {
            cgroup: Some(scene.cgroup.path().to_owned()),
            config: Some(site.path().join("config.yaml")),
            ..Options::default()
        })?;
        let ready = |text: &str| count(text, "mcp_monitor_build_info") >= 2;
        eventually("metrics arrive", || Ok(ready(&collector.text())))?;
        let watched = monitor.stop()?;
        let text = collector.text();
        for name in [
            "mcp_monitor_kernel_seen",
            "mcp_monitor_ready",
            "mcp_monitor_sink_sent",
            "process_open_fds",
        ] {
            ensure!(text.contains(name), "{name} is not among: {text}");
        }
        let sink = &watched.summary["sinks"]["otlp"];
        ensure!(
            sink["sent"].as_u64() >= Some(2) && sink["dropped"]["rejected"] == 0,
            "{sink}"
        );
        Ok(())
    };
    run().expect("metrics at a collector");
}

#[test]
fn a_broker_has_every_alert_in_the_partition_of_its_endpoint() {
    if !ready("a_broker_has_every_alert_in_the_partition_of_its_endpoint") {
        return;
    }
    let run = || -> Result<()> {
        let broker = Broker::start("findings")?;
        let site = Site::new(&format!(
            "  - {{type: kafka, brokers: ['127.0.0.1:{}'], topic: findings}}\n",
            broker.port
        ))?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        ensure!(sinks["kafka"]["sent"] == json!(alerts.len()), "{sinks}");
        eventually("a consumer reads them", || {
            Ok(broker.messages()?.len() >= alerts.len())
        })?;
        let messages = broker.messages()?;
        ensure!(messages.len() == alerts.len(), "{messages:#?}");
        let mut partitions = BTreeMap::new();
        for message in &messages {
            let value: Value = serde_json::from_str(message["value"].as_str().context("value")?)?;
            ensure!(alerts.contains(&value), "{value} is no alert of the run");
            ensure!(message["key"] == value["endpoint"], "{message}");
            ensure!(message["headers"]["id"] == value["id"], "{message}");
            ensure!(message["headers"]["schema"] == "mcp-monitor.alert/1", "{message}");
            if let Some(key) = message["key"].as_str() {
                let partition = message["partition"].as_u64();
                ensure!(
                    partitions
                        .insert(key.to_owned(), partition)
                        .is_none_or(|before| before == partition)
                );
            }
        }
        ensure!(!partitions.is_empty(), "no alert with an endpoint");

        // A topic that is not there is no loss: it may be created.
        let site = Site::new("  - {type: kafka, brokers: ['127.0.0.1:1'], topic: findings, timeout: 2s}\n")?;
        let (alerts, sinks) = site.replay(INCIDENT)?;
        ensure!(sinks["kafka"]["spooled"] == json!(alerts.len()), "{sinks}");
        site.configure(&format!(
            "  - {{type: kafka, brokers: ['127.0.0.1:{}'], topic: findings, encoding: ocsf, key: id}}\n",
            broker.port
        ))?;
        assert_none_dropped(&site.drain("kafka")?);
        eventually("a consumer reads them", || {
            Ok(broker.messages()?.len() >= 2 * alerts.len())
        })?;
        let last = broker.messages()?.pop().context("a message")?;
        let finding: Value = serde_json::from_str(last["value"].as_str().context("value")?)?;
        ensure!(
            finding["class_uid"] == 2004 && last["key"] == last["headers"]["id"],
            "{last}"
        );
        Ok(())
    };
    run().expect("alerts at a broker");
}

#[test]
fn a_password_that_is_rotated_is_used_without_a_restart() {
    let test = "a_password_that_is_rotated_is_used_without_a_restart";
    if let Err(error) = privileges::check() {
        skip(test, &format!("{error:#}"));
        return;
    }
    if !ready(test) || !has(test, "openssl") {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        certificate(dir.path())?;
        let broker = Broker::start("findings")?;
        let front = Front::start(broker.port, dir.path(), "-", &["monitor", "second-password"])?;
        let site = Site::new(&format!(
            "  - {{type: kafka, brokers: ['127.0.0.1:{}'], topic: findings, protocol: tls, tls: {{ca: '{}/ca.pem'}}, sasl: {{mechanism: plain, user: monitor, password: {{file: secret/password}}}}}}\n",
            front.port,
            dir.path().display()
        ))?;
        // As a kubelet mounts a Secret: a link through `..data`, which is swapped.
        let secret = site.path().join("secret");
        let swap = |generation: &str, password: &str| -> Result<()> {
            std::fs::create_dir_all(secret.join(generation))?;
            std::fs::write(secret.join(generation).join("password"), password)?;
            std::os::unix::fs::symlink(generation, secret.join("..tmp"))?;
            Ok(std::fs::rename(secret.join("..tmp"), secret.join("..data"))?)
        };
        swap("..1", "first-password")?;
        std::os::unix::fs::symlink("..data/password", secret.join("password"))?;

        let scene = Scene::new()?;
        let pins = site.path().join("pins.yaml");
        std::fs::write(
            &pins,
            format!(
                "version: 1\nendpoints:\n  - {{name: market-data, url: 'http://{NAME}/mcp', addresses: [203.0.113.0/24]}}\n"
            ),
        )?;
        let monitor = Monitor::start(&Options {
            pins: Some(pins),
            cgroup: Some(scene.cgroup.path().to_owned()),
            config: Some(site.path().join("config.yaml")),
            ..Options::default()
        })?;
        scene.place(ROGUE, &[Family::V4]);
        let look_up = format!("import socket; socket.getaddrinfo('{NAME}', 80)");
        let mut agent = scene.agent.command_in(scene.cgroup.path(), "python3");
        process::output(agent.args(["-c", &look_up]))?;
        let soon = Duration::from_secs(60);
        let said = |word: &'static str| monitor.stderr().wait_for(soon, move |line| line.contains(word));
        ensure!(said("cannot deliver").is_some(), "{}", monitor.stderr().text());
        ensure!(front.text().contains("refused"), "{}", front.text());
        swap("..2", "second-password")?;
        ensure!(said("changed secrets").is_some(), "{}", monitor.stderr().text());
        eventually("the alert arrives", || Ok(!broker.messages()?.is_empty()))?;
        let log = monitor.stderr().text();
        ensure!(!log.contains("-password"), "{log}");
        let watched = monitor.stop()?;
        let sink = &watched.summary["sinks"]["kafka"];
        ensure!(sink["renewed"] == 1 && sink["renewals_failed"] == 0, "{sink}");
        assert_none_dropped(sink);
        ensure!(
            broker.messages()?[0]["headers"]["id"].is_string(),
            "{:?}",
            broker.messages()?
        );
        Ok(())
    };
    run().expect("a rotated password");
}
