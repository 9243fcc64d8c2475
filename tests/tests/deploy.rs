//! The chart with the real helm, its manifests against the API's schemas, and the image started as the chart
//! starts it.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use mcp_monitor_tests::process::output;
use mcp_monitor_tests::{binary, cluster_tools, paths};
use serde_json::Value;

/// Oldest, some between, newest.
const VERSIONS: &[&str] = &["1.27", "1.29", "1.32", "1.35", "1.37"];

/// Validates documents on standard input strictly; custom resources have no schema there.
const VALIDATE: &str = r#"
import sys, yaml, kubernetes_validate
version, count = sys.argv[1], 0
for document in yaml.safe_load_all(open(sys.argv[2])):
    if document is None or document["apiVersion"].startswith("monitoring.coreos.com/"):
        continue
    kubernetes_validate.validate(document, version, strict=True)
    count += 1
print(count)
"#;

fn chart() -> PathBuf {
    paths::root().join("deploy/helm/mcp-monitor")
}

fn helm() -> Command {
    cluster_tools::install().expect("helm and the schemas");
    Command::new(cluster_tools::helm())
}

fn value_sets() -> Vec<PathBuf> {
    let dir = paths::root().join("tests/deploy/values");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("value sets")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    assert!(files.len() >= 3);
    files
}

/// What the chart renders with these values.
fn render(values: Option<&Path>, more: &[&str]) -> Result<String> {
    let mut command = helm();
    command.args(["template", "mcp-monitor"]).arg(chart());
    command.args(["--namespace", "mcp-monitor", "--kube-version", "1.35.0"]);
    if let Some(values) = values {
        command.arg("--values").arg(values);
    }
    output(command.args(more))
}

/// The documents of a rendered file.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).expect("YAML"))
        .filter(|document: &Value| !document.is_null())
        .collect()
}

fn of_kind(documents: &[Value], kind: &str) -> Option<Value> {
    documents.iter().find(|d| d["kind"] == kind).cloned()
}

#[test]
fn the_chart_lints() {
    for values in value_sets() {
        let mut command = helm();
        command.args(["lint", "--strict"]).arg(chart());
        output(command.arg("--values").arg(values)).expect("helm lint");
    }
}

#[test]
fn every_manifest_is_valid_in_every_version() {
    let dir = mcp_monitor_tests::undo::TempDir::new().unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(paths::root().join("deploy/manifests"))
        .expect("manifests")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for values in value_sets() {
        let file = dir.path().join(values.file_name().unwrap());
        fs::write(&file, render(Some(&values), &[]).unwrap()).unwrap();
        files.push(file);
    }
    for file in files {
        for version in VERSIONS {
            let mut command = Command::new(cluster_tools::python());
            command.args(["-c", VALIDATE, version]).arg(&file);
            let count =
                output(&mut command).unwrap_or_else(|e| panic!("{} in {version}: {e:#}", file.display()));
            assert!(count.trim().parse::<u64>().unwrap() > 0, "{}", file.display());
        }
    }
}

/// The command of the bulk job, with its share filled in as the kubelet does, and the captures elsewhere.
#[test]
fn the_shares_of_the_bulk_job_are_the_whole() {
    let job = fs::read_to_string(paths::root().join("deploy/manifests/replay-job.yaml")).unwrap();
    let job = of_kind(&documents(&job), "Job").unwrap();
    let shares = job["spec"]["completions"].as_u64().unwrap();
    let dir = mcp_monitor_tests::undo::TempDir::new().unwrap();
    let captures = dir.path().join("captures");
    // A folder for each sensor, with two captures each.
    let sensors = [
        ["lo-curl-oddities.pcap", "lo-h2c-prior.pcap"],
        ["lo-nginx-gzip-sse.pcap", "lo-nginx-ts-redirect307.pcap"],
        ["lo-py-json.pcap", "lo-py-modern.pcap"],
        ["lo-ts-legacy-sse.pcap", "lo-ts-streamable.pcap"],
        ["lo6-py-streamable.pcap", "veth-dns-mcp.pcap"],
        ["veth-gso-on.pcap", "veth-py-json.pcap"],
    ];
    for (n, sensor) in sensors.iter().enumerate() {
        let folder = captures.join(format!("sensor-{n}"));
        fs::create_dir_all(&folder).unwrap();
        for name in sensor {
            fs::copy(paths::captures().join("benign").join(name), folder.join(name)).unwrap();
        }
    }
    let pins = dir.path().join("pins.yaml");
    fs::write(&pins, "version: 1\n").unwrap();
    let args = job["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let run = |share: &str, folder: &Path| {
        let args = args.as_array().unwrap().iter().map(|arg| {
            let arg = arg.as_str().unwrap().replace("$(SHARE)/8", share);
            let arg = arg.replace("/etc/mcp-monitor/pins.yaml", pins.to_str().unwrap());
            arg.replace("/captures", folder.to_str().unwrap())
        });
        binary::run(args).expect("mcp-monitor")
    };
    let ids = |ran: &binary::Ran| -> Vec<String> {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let records = ran.records().unwrap();
        let id = |r: &Value| r["flow"]["id"].to_string() + &r["schema"].to_string() + &r["id"].to_string();
        records.iter().map(id).collect()
    };
    let (mut of_shares, mut most) = (Vec::new(), 0);
    for share in 0..shares {
        let own = ids(&run(&format!("{share}/{shares}"), &captures));
        most = most.max(own.len());
        of_shares.extend(own);
    }
    let mut of_sensors: Vec<String> = (0..sensors.len())
        .flat_map(|n| ids(&run("0/1", &captures.join(format!("sensor-{n}")))))
        .collect();
    of_shares.sort();
    of_sensors.sort();
    assert_eq!(of_shares, of_sensors);
    assert!(
        of_shares.len() > 50 && most < of_shares.len(),
        "more than one share has work"
    );
    assert_eq!(
        run(&format!("{shares}/{shares}"), &captures).code,
        2,
        "no such share"
    );
}

#[test]
fn kubectl_reads_the_manifests() {
    cluster_tools::install().unwrap();
    let mut command = Command::new(cluster_tools::kubectl());
    // Kustomize reads every document and wants names and kinds that are unique.
    let dir = mcp_monitor_tests::undo::TempDir::new().unwrap();
    let manifest = paths::root().join("deploy/manifests/mcp-monitor.yaml");
    fs::copy(manifest, dir.path().join("all.yaml")).unwrap();
    fs::write(dir.path().join("kustomization.yaml"), "resources: [all.yaml]\n").unwrap();
    let built = output(command.arg("kustomize").arg(dir.path())).expect("kubectl kustomize");
    assert!(built.contains("kind: DaemonSet"));
}

#[test]
fn wrong_values_are_refused() {
    for (set, told) in [
        ("image.repositry=x", "repositry"),
        ("http.probePort=0", "minimum"),
        ("output.emit={alert}", "emit"),
        ("http.exposed=true", "tokenSecret"),
        ("serviceMonitor.enabled=true", "service.enabled"),
        ("pins.inline.version=2", "version"),
        ("features.tlsPlaintextMode=some", "tlsPlaintextMode"),
        ("features.tlsPlaintextNamespaces.payments=some", "payments"),
    ] {
        let error = render(None, &["--set", set]).expect_err(set);
        assert!(format!("{error:#}").contains(told), "{set}: {error:#}");
    }
}

#[test]
fn plain_manifests_are_what_the_chart_renders() {
    let file = paths::root().join("deploy/manifests/mcp-monitor.yaml");
    let rendered = render(None, &[]).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &rendered).unwrap();
    }
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        rendered,
        "run the tests with UPDATE_DOCS=1 to write deploy/manifests anew"
    );
}

#[test]
fn each_feature_has_its_capabilities_and_no_more() {
    let capabilities = |more: &[&str]| {
        let documents = documents(&render(None, more).unwrap());
        let set = of_kind(&documents, "DaemonSet").unwrap();
        let pod = &set["spec"]["template"]["spec"];
        let security = pod["containers"][0]["securityContext"].clone();
        assert_eq!(security["privileged"], false);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let add = security["capabilities"]["add"].as_array().unwrap();
        add.iter()
            .map(|c| c.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let path = ["BPF", "NET_ADMIN", "PERFMON"];
    assert_eq!(capabilities(&["--set", "features.executables=false"]), path);
    assert_eq!(capabilities(&[])[3..], ["SYS_PTRACE"]);
    let tls = capabilities(&["--set", "features.tlsPlaintext=true"]);
    assert_eq!(tls[3..], ["SYS_PTRACE", "SYS_ADMIN"]);
}

#[test]
fn no_token_without_a_use_for_it() {
    let off = documents(&render(None, &["--set", "identity.enabled=false"]).unwrap());
    let pod = of_kind(&off, "DaemonSet").unwrap()["spec"]["template"]["spec"].clone();
    assert_eq!(pod["automountServiceAccountToken"], false);
    for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"] {
        assert!(of_kind(&off, kind).is_none(), "{kind}");
    }
    let on = documents(&render(None, &[]).unwrap());
    let rules = of_kind(&on, "ClusterRole").unwrap()["rules"].clone();
    assert_eq!(
        rules,
        serde_json::json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}])
    );
}

/// The binary reads the configuration and the pins that the chart writes.
#[test]
fn the_binary_takes_what_the_chart_configures() {
    let dir = mcp_monitor_tests::undo::TempDir::new().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    for values in value_sets() {
        let documents = documents(&render(Some(&values), &[]).unwrap());
        for map in documents.iter().filter(|d| d["kind"] == "ConfigMap") {
            if let Some(pins) = map["data"]["pins.yaml"].as_str() {
                let file = dir.path().join("pins.yaml");
                fs::write(&file, pins).unwrap();
                let ran = binary::run([Path::new("pin"), Path::new("check"), &file]).unwrap();
                assert_eq!(ran.code, 0, "{}", ran.stderr);
            }
            if let Some(config) = map["data"]["config.yaml"].as_str() {
                // Where the secret is mounted in a pod.
                let config = config.replace("/etc/mcp-monitor/token/token", &token.to_string_lossy());
                let file = dir.path().join("config.yaml");
                fs::write(&file, config).unwrap();
                let capture = paths::captures().join("demo/demo.pcap");
                let ran = binary::run([Path::new("replay"), Path::new("--config"), &file, &capture]).unwrap();
                assert_eq!(ran.code, 0, "{}", ran.stderr);
            }
        }
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let rules = chart().join("files/rules.yaml");
    let said = output(Command::new("promtool").args(["check", "rules"]).arg(rules)).expect("promtool");
    assert!(said.contains("SUCCESS"), "{said}");
}

/// Words of a text that look like metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("mcp_monitor_"))
        .map(str::to_owned)
        .collect()
}

/// docs/METRICS.md is held against the binary by a test beside the metrics.
#[test]
fn rules_and_panels_name_metrics_that_exist() -> Result<()> {
    let documented = fs::read_to_string(paths::root().join("docs/METRICS.md")).context("docs/METRICS.md")?;
    let documented = metrics(&documented);
    for file in ["rules.yaml", "dashboard.json"] {
        let text = fs::read_to_string(chart().join("files").join(file))?;
        let used = metrics(&text);
        assert!(used.len() > 4, "{file}");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(
            unknown.is_empty(),
            "{file} names {unknown:?}, which no monitor exports"
        );
    }
    Ok(())
}
