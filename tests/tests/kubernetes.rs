//! Real MCP sessions in imitated pods (cgroups as a kubelet makes them), watched by a monitor that follows a
//! strict API server of our own.
//!
//! Needs what the live tests need; skips as loudly.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mcp_monitor_tests::binary;
use mcp_monitor_tests::https::{self, records};
use mcp_monitor_tests::kube_api::KubeApi;
use mcp_monitor_tests::monitor::{Monitor, Options};
use mcp_monitor_tests::peers::{self, Client, Counted, Server};
use mcp_monitor_tests::process::Process;
use mcp_monitor_tests::receivers::{Alertmanager, eventually};
use mcp_monitor_tests::scene::{Family, NAME, ROGUE, Scene};
use mcp_monitor_tests::undo::TempDir;
use serde_json::{Value, json};

const PORT: u16 = 8080;
const SESSION: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);
const NODE: &str = "node-7";
const TOKEN: &str = "a-token-of-the-tests";

const FIRST: &str = "6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60";
const SECOND: &str = "7d6f4c2b-1e30-4a68-8b4f-2c3d4e5f6071";
const CONTAINER: &str = "0f6dbd6a3a4b9f5d9d9e6a0b7f4e1c2d3b4a5968778695a4b3c2d1e0f1e2d3c4";

/// As the API shows a pod of a Deployment with a sidecar.
fn pod(uid: &str, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "uid": uid, "namespace": namespace, "name": format!("{name}-7d9f8b6c54-x2x4q"),
            "labels": {"app.kubernetes.io/name": name, "pod-template-hash": "7d9f8b6c54"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "uid": "r",
                "name": format!("{name}-7d9f8b6c54"),
            }],
        },
        "spec": {"nodeName": NODE, "containers": [{"name": "main"}, {"name": "proxy"}]},
        "status": {
            "qosClass": "Burstable",
            "containerStatuses": [{
                "name": "main", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://{CONTAINER}"),
            }],
        },
    })
}

/// The cgroup of a pod's container, below the one that is watched.
fn container(scene: &Scene, uid: &str) -> Result<PathBuf> {
    let slice = format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
    scene.cgroup.child(&format!(
        "kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{CONTAINER}.scope"
    ))
}

struct Stage {
    scene: Scene,
    api: KubeApi,
    monitor: Monitor,
    _server: Process,
    dir: TempDir,
}

impl Stage {
    /// The name is at a host that the pins do not approve, so that each session is an alert.
    fn new(pins: &str, known: &[Value]) -> Result<Self> {
        Self::with(pins, known, "")
    }

    /// With a further sink.
    fn with(pins: &str, known: &[Value], sink: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        let api = KubeApi::start(NODE, TOKEN)?;
        for pod in known {
            api.put(pod.clone());
        }
        let file = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        file("kubeconfig", &api.kubeconfig())?;
        let config = format!(
            "kubernetes: {{identity: always, kubeconfig: kubeconfig, node: {NODE}}}\n\
             spool: {{dir: spool}}\n\
             sinks: [{{type: kubernetes, kubeconfig: kubeconfig, rules: [DST]}}{sink}]\n"
        );
        let scene = Scene::new()?;
        scene.place(ROGUE, &[Family::V4]);
        let monitor = Monitor::start(&Options {
            pins: Some(file("pins.yaml", pins)?),
            config: Some(file("config.yaml", &config)?),
            cgroup: Some(scene.cgroup.path().to_owned()),
            arguments: vec!["--emit".into(), "alerts,flows".into()],
            ..Options::default()
        })?;
        ensure!(api.wait_answered(1, 1, SOON), "the API was not asked");
        let server = Server::PythonJson.start(&scene.rogue, PORT, &json!({}))?;
        Ok(Self {
            scene,
            api,
            monitor,
            _server: server,
            dir,
        })
    }

    /// One session in a pod.
    fn session(&self, uid: &str) -> Result<u32> {
        let options = json!({"url": format!("http://{NAME}:{PORT}/mcp"), "full": false});
        let cgroup = container(&self.scene, uid)?;
        let mut client = Client::Python.start(&self.scene.agent, &cgroup, &options)?;
        client.wait(SESSION)?;
        Ok(client.pid())
    }
}

const PINS: &str = "version: 1\n\
    endpoints:\n\
    \x20 - name: market-data\n\
    \x20   url: http://mcp.marketdata.example:8080/mcp\n\
    \x20   addresses: [203.0.113.0/24]\n";

#[test]
fn alerts_and_flows_name_the_pod() {
    if !peers::ready("alerts_and_flows_name_the_pod") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new(PINS, &[pod(FIRST, "team-a", "agent")])?;
        let pid = stage.session(FIRST)?;
        let watched = stage.monitor.stop()?;
        let whole = json!({
            "node": NODE, "namespace": "team-a", "pod": "agent-7d9f8b6c54-x2x4q", "container": "main",
            "labels": {"app.kubernetes.io/name": "agent", "pod-template-hash": "7d9f8b6c54"},
            "workload": {"kind": "Deployment", "name": "agent"},
            "pod_uid": FIRST, "qos": "Burstable",
        });
        let records = watched.alerts()?;
        let alert = records
            .iter()
            .find(|record| record["rule"] == "DST-02")
            .context("no DST-02")?;
        assert_eq!(alert["kubernetes"], whole);
        assert_eq!(alert["process"]["pid"], pid);
        assert_eq!(alert["process"]["container_id"], CONTAINER);
        assert!(alert["process"]["started"].is_string(), "{}", alert["process"]);
        let flow = records
            .iter()
            .find(|record| record["schema"] == "mcp-monitor.flow/1" && record["mcp"] == true)
            .context("no flow")?;
        assert_eq!(flow["kubernetes"], whole);
        assert_eq!(flow["process"]["pid"], pid);
        assert_eq!(stage.api.complaints(), [""; 0]);
        let identity = &watched.summary["identity"];
        assert_eq!(
            (&identity["state"], &identity["pods"], &identity["errors"]),
            (&json!("current"), &json!(1), &json!(0)),
            "{identity}"
        );
        Ok(())
    };
    run().expect("a session in a pod");
}

/// What the alerts so far say of the pods that they are about.
fn named(records: &[Value]) -> Vec<(String, Value)> {
    records
        .iter()
        .filter(|record| record["schema"] == "mcp-monitor.flow/1" && record["mcp"] == true)
        .map(|record| {
            let of = &record["kubernetes"];
            (of["pod_uid"].to_string(), of["namespace"].clone())
        })
        .collect()
}

#[test]
fn an_api_that_is_away_costs_names_and_nothing_else() {
    if !peers::ready("an_api_that_is_away_costs_names_and_nothing_else") {
        return;
    }
    let run = || -> Result<()> {
        let stage = Stage::new(PINS, &[pod(FIRST, "team-a", "agent")])?;
        let api = &stage.api;
        // A connection that breaks: the watch goes on where it was, without a list.
        api.disconnect();
        ensure!(api.wait_answered(1, 2, SOON), "no watch after a break");
        // Away: the pod known so far keeps its name, a new one is known by its uid.
        api.set_away(true);
        let said = stage
            .monitor
            .stderr()
            .wait_for(SOON, |line| line.contains("does not answer"));
        ensure!(said.is_some(), "nothing said of the API");
        stage.session(FIRST)?;
        stage.session(SECOND)?;
        // Back, with a gap that the watch cannot bridge (410 Gone): listed again.
        api.put(pod(SECOND, "team-b", "other"));
        api.compact();
        api.set_away(false);
        ensure!(
            api.wait_answered(2, 3, Duration::from_secs(60)),
            "not listed again"
        );
        stage.session(SECOND)?;
        // Gone: its name is kept for a while.
        api.delete(SECOND);
        std::thread::sleep(Duration::from_secs(1));
        stage.session(SECOND)?;
        let watched = stage.monitor.stop()?;
        let (first, second) = (format!("{FIRST:?}"), format!("{SECOND:?}"));
        let mut pods = named(&watched.alerts()?);
        pods.dedup();
        assert_eq!(
            pods,
            [
                (first, json!("team-a")),
                (second.clone(), Value::Null),
                (second, json!("team-b")),
            ]
        );
        assert_eq!(api.complaints(), [""; 0]);
        let identity = &watched.summary["identity"];
        assert_eq!(identity["state"], "current", "{identity}");
        assert_eq!(
            (&identity["pods"], &identity["pods_gone"], &identity["lists"]),
            (&json!(1), &json!(1), &json!(2)),
            "{identity}"
        );
        assert!(identity["errors"].as_u64() > Some(0), "{identity}");
        Ok(())
    };
    run().expect("sessions in pods");
}

#[test]
fn pins_and_rules_of_one_namespace_do_not_hold_in_another() {
    if !peers::ready("pins_and_rules_of_one_namespace") {
        return;
    }
    let run = || -> Result<()> {
        let pins = format!(
            "{PINS}    namespaces: [team-a]\nnamespaces:\n  team-b: {{rules: {{DST-02: {{enabled: false}}}}}}\n"
        );
        let known = [pod(FIRST, "team-a", "agent"), pod(SECOND, "team-b", "other")];
        let stage = Stage::new(&pins, &known)?;
        stage.session(FIRST)?;
        stage.session(SECOND)?;
        let alerts = stage.monitor.stop()?.alerts()?;
        let hit = |rule: &str| -> std::collections::BTreeSet<String> {
            let of = alerts.iter().filter(|alert| alert["rule"] == rule);
            of.map(|alert| {
                alert["kubernetes"]["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
        };
        // Approved for team-a alone; its drift is for team-a alone to hear of.
        assert_eq!(hit("DST-01"), ["team-b".to_owned()].into(), "{alerts:?}");
        assert_eq!(hit("DST-02"), ["team-a".to_owned()].into(), "{alerts:?}");
        Ok(())
    };
    run().expect("two namespaces");
}

#[test]
fn alerts_are_events_on_their_pods() {
    if !peers::ready("alerts_are_events_on_their_pods") {
        return;
    }
    let run = || -> Result<()> {
        let dir = TempDir::new()?;
        let alertmanager = Alertmanager::start(dir.path())?;
        let sink = format!(
            ", {{type: alertmanager, url: 'http://127.0.0.1:{}', rules: [DST]}}",
            alertmanager.port
        );
        let known = [pod(FIRST, "team-a", "agent"), pod(SECOND, "team-b", "other")];
        let stage = Stage::with(PINS, &known, &sink)?;
        let api = &stage.api;
        stage.session(FIRST)?;
        eventually("an Event", || Ok(api.events().len() == 1))?;
        let (name, event) = api.events().into_iter().next().context("an Event")?;
        ensure!(name.starts_with("team-a/agent-7d9f8b6c54-x2x4q."), "{name}");
        assert_eq!(event["regarding"]["uid"], FIRST);
        assert_eq!(
            (&event["reason"], &event["type"]),
            (&json!("AddressDrift"), &json!("Warning"))
        );
        let note = event["note"].as_str().unwrap_or_default();
        ensure!(
            note.starts_with("DST-02 high: ") && note.contains("market-data"),
            "{note}"
        );
        // And at a real Alertmanager, by what people route by.
        let label = |alert: &Value, name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let routed = || -> Result<Vec<[String; 4]>> {
            let held = alertmanager.alerts()?;
            let labels = |a: &Value| ["rule", "namespace", "pod", "workload"].map(|name| label(a, name));
            Ok(held.iter().map(labels).collect())
        };
        let wanted = ["DST-02", "team-a", "agent-7d9f8b6c54-x2x4q", "agent"].map(str::to_owned);
        eventually("the alert at Alertmanager", || Ok(routed()?.contains(&wanted)))?;
        // Another pod on the same address is somebody else who is hit: an alert and an Event of its own.
        stage.session(SECOND)?;
        eventually("an Event on the second pod", || Ok(api.events().len() == 2))?;
        let second = api.events().into_keys().find(|other| *other != name);
        ensure!(second.is_some_and(|name| name.starts_with("team-b/other-7d9f8b6c54-x2x4q.")));
        let wanted = ["DST-02", "team-b", "other-7d9f8b6c54-x2x4q", "other"].map(str::to_owned);
        eventually("the second at Alertmanager", || Ok(routed()?.contains(&wanted)))?;
        // The same again, while the API is away: one alert, which is told with its count at the end, and one Event.
        api.set_away(true);
        stage.session(FIRST)?;
        api.set_away(false);
        // Wrong pins are refused as a whole: an Event on the node says why, as log and metric do.
        std::fs::write(
            stage.dir.path().join("pins.yaml"),
            "version: 1\nendpoints:\n  - nam: x\n",
        )?;
        let on_node = || {
            api.events()
                .into_values()
                .find(|event| event["regarding"]["kind"] == "Node")
        };
        eventually("an Event on the node", || Ok(on_node().is_some()))?;
        let refused = on_node().context("an Event on the node")?;
        assert_eq!(
            (&refused["reason"], &refused["regarding"]["name"]),
            (&json!("PinsRefused"), &json!(NODE))
        );
        let note = refused["note"].as_str().unwrap_or_default();
        ensure!(note.contains("pins.yaml:3:5: unknown key \"nam\""), "{note}");
        let watched = stage.monitor.stop()?;
        assert_eq!(
            watched.summary["reloads"]["refused"], 1,
            "{}",
            watched.summary["reloads"]
        );
        assert_eq!(api.events().len(), 3);
        let drifts: Vec<Value> = watched
            .alerts()?
            .into_iter()
            .filter(|a| a["rule"] == "DST-02")
            .collect();
        let ids: std::collections::BTreeSet<String> = drifts.iter().map(|a| a["id"].to_string()).collect();
        assert_eq!(ids.len(), 2, "{drifts:?}");
        let series = api.events()[&name]["series"].clone();
        ensure!(series["count"].as_u64() >= Some(2), "{series}");
        let sink = &watched.summary["sinks"]["kubernetes"];
        assert_eq!(
            (&sink["spooled"], &sink["dropped"]["rejected"]),
            (&json!(0), &json!(0)),
            "{sink}"
        );
        assert_eq!(api.complaints(), [""; 0]);
        Ok(())
    };
    run().expect("Events on pods");
}

/// Plaintext of TLS by namespace: off in one, read in another, and of a pod of which the API has not told nothing,
/// since it may be of the first.
#[test]
fn plaintext_is_off_in_a_namespace() {
    if !peers::ready("plaintext_is_off_in_a_namespace") {
        return;
    }
    const UNTOLD: &str = "8e7f5d3c-2f41-4b79-9c5f-3d4e5f607182";
    let run = || -> Result<()> {
        let stage = https::Stage::new()?;
        let api = KubeApi::start(NODE, TOKEN)?;
        api.put(pod(FIRST, "payments", "ledger"));
        api.put(pod(SECOND, "agents", "agent"));
        std::fs::write(stage.dir.path().join("kubeconfig"), api.kubeconfig())?;
        let monitor = stage.monitor(&format!(
            "kubernetes: {{identity: always, kubeconfig: kubeconfig, node: {NODE}}}\n\
             plaintext: {{namespaces: {{payments: off}}}}\n"
        ))?;
        ensure!(api.wait_answered(1, 1, SOON), "the API was not asked");
        let _server = stage.server(Server::PythonJson, "1.3")?;
        let mut counted = Counted::default();
        for uid in [FIRST, SECOND, UNTOLD] {
            let cgroup = container(&stage.scene, uid)?;
            let mut client = stage.client_in(&cgroup, Client::Python, &json!({"calls": 1}))?;
            client.wait(SESSION)?;
            if uid == SECOND {
                counted = Counted::read(&client)?;
            }
        }
        let watched = monitor.stop()?;
        for (path, sdk) in &counted.0 {
            let seen = binary::count(&watched.summary, path);
            assert_eq!(seen, *sdk, "{path}: {:#}\n{}", watched.summary, watched.stderr);
        }
        let flows = records(&watched, "flow");
        for (uid, plaintext) in [(FIRST, "none"), (SECOND, "uprobe"), (UNTOLD, "none")] {
            let mut of = flows
                .iter()
                .filter(|flow| flow["kubernetes"]["pod_uid"] == uid && flow["flow"]["server"]["port"] == 8443)
                .peekable();
            ensure!(of.peek().is_some(), "no flow of {uid}: {flows:#?}");
            for flow in of {
                assert_eq!(flow["flow"]["plaintext"], plaintext, "{flow}");
            }
        }
        Ok(())
    };
    run().expect("sessions in pods");
}
