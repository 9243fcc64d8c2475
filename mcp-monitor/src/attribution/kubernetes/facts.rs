//! From a pod object to what alerts say of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus};

use crate::types::{PodFacts, Qos, Workload};

/// Labels kept of one pod, in the order of their names; the API bounds each to 317 and 63 bytes.
pub(super) const MAX_LABELS: usize = 64;

/// The hash under which the kubelet runs a static pod; its object in the API has another uid.
const STATIC: &str = "kubernetes.io/config.hash";

/// Uid as in the cgroup path, class, and the rest. `None` without uid, name or namespace.
pub(super) fn told(pod: &Pod) -> Option<(String, Qos, PodFacts)> {
    let meta = &pod.metadata;
    let hash = meta.annotations.as_ref().and_then(|all| all.get(STATIC));
    let uid = hash.or(meta.uid.as_ref())?.clone();
    let labels: BTreeMap<String, String> = meta
        .labels
        .iter()
        .flatten()
        .take(MAX_LABELS)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let status = pod.status.as_ref();
    let qos = match status.and_then(|status| status.qos_class.as_deref()) {
        Some("BestEffort") => Qos::BestEffort,
        Some("Burstable") => Qos::Burstable,
        _ => Qos::Guaranteed,
    };
    let facts = PodFacts {
        namespace: meta.namespace.as_deref()?.into(),
        name: meta.name.as_deref()?.into(),
        workload: workload(pod),
        containers: status.map(containers).unwrap_or_default(),
        only_container: pod.spec.as_ref().and_then(only_container),
        labels,
    };
    Some((uid, qos, facts))
}

/// The owner that people know. A ReplicaSet made by a Deployment is named after it and the hash that its pods
/// carry as a label; a Job made by a CronJob after it and the minute it is of. Told from names, since
/// reading those objects would need rights on them.
fn workload(pod: &Pod) -> Option<Workload> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let labels = pod.metadata.labels.as_ref();
    let (kind, name) = match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = labels.and_then(|all| all.get("pod-template-hash"));
            let deployment = hash
                .and_then(|hash| owner.name.strip_suffix(hash.as_str()))
                .and_then(|rest| rest.strip_suffix('-'));
            deployment.map_or(("ReplicaSet", &*owner.name), |name| ("Deployment", name))
        }
        "Job" => {
            // Minutes since 1970: eight digits until 2160.
            let minute = |text: &&str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
            let cron = owner.name.rsplit_once('-').filter(|(_, end)| minute(end));
            cron.map_or(("Job", &*owner.name), |(name, _)| ("CronJob", name))
        }
        kind => (kind, &*owner.name),
    };
    Some(Workload {
        kind: kind.to_owned(),
        name: name.to_owned(),
    })
}

fn only_container(spec: &PodSpec) -> Option<Box<str>> {
    let init = spec.init_containers.as_ref().map_or(0, Vec::len);
    let debug = spec.ephemeral_containers.as_ref().map_or(0, Vec::len);
    match spec.containers.as_slice() {
        [only] if init == 0 && debug == 0 => Some(only.name.as_str().into()),
        _ => None,
    }
}

/// By id without the runtime's name before it (`containerd://…`); of one that was restarted, both.
fn containers(status: &PodStatus) -> BTreeMap<Box<str>, Box<str>> {
    let all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut containers = BTreeMap::new();
    for container in all.into_iter().flatten().flatten() {
        for id in ids(container) {
            let id = id.split_once("://").map_or(id, |(_, id)| id);
            containers.insert(id.into(), container.name.as_str().into());
        }
    }
    containers
}

fn ids(container: &ContainerStatus) -> impl Iterator<Item = &str> {
    let before = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .and_then(|ended| ended.container_id.as_deref());
    container.container_id.as_deref().into_iter().chain(before)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(meta: Value) -> Pod {
        let mut object = json!({
            "metadata": {"uid": "u", "name": "agent-7d9f8b6c54-x2x4q", "namespace": "team-a"},
            "spec": {"containers": [{"name": "agent"}, {"name": "proxy"}]},
            "status": {
                "qosClass": "Burstable",
                "containerStatuses": [{
                    "name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 1,
                    "containerID": "containerd://new",
                    "lastState": {"terminated": {"exitCode": 1, "containerID": "containerd://old"}},
                }],
            },
        });
        let into = object["metadata"].as_object_mut().unwrap();
        into.extend(meta.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn owned(kind: &str, name: &str) -> Value {
        json!({
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Tenant", "name": "t", "uid": "1"},
                {"apiVersion": "v1", "kind": kind, "name": name, "uid": "2", "controller": true},
            ],
            "labels": {"pod-template-hash": "7d9f8b6c54"},
        })
    }

    #[rstest]
    #[case("ReplicaSet", "agent-7d9f8b6c54", "Deployment", "agent")]
    #[case("ReplicaSet", "agent-by-hand", "ReplicaSet", "agent-by-hand")]
    #[case("Job", "nightly-29011680", "CronJob", "nightly")]
    #[case("Job", "import-2026", "Job", "import-2026")]
    #[case("StatefulSet", "db", "StatefulSet", "db")]
    #[case("Rollout", "agent", "Rollout", "agent")]
    fn owners(#[case] kind: &str, #[case] name: &str, #[case] known: &str, #[case] called: &str) {
        let (_, _, facts) = told(&pod(owned(kind, name))).unwrap();
        let workload = facts.workload.unwrap();
        assert_eq!((&*workload.kind, &*workload.name), (known, called));
    }

    #[test]
    fn containers_by_their_ids() {
        let (uid, qos, facts) = told(&pod(json!({}))).unwrap();
        assert_eq!((&*uid, qos), ("u", Qos::Burstable));
        assert_eq!(facts.container(Some("new")), Some("agent"));
        assert_eq!(facts.container(Some("old")), Some("agent"), "before its restart");
        assert_eq!(
            facts.container(Some("other")),
            None,
            "two containers: not guessed"
        );
        assert_eq!(facts.workload, None);
    }

    #[test]
    fn static_pods_go_by_their_hash() {
        let meta = json!({"annotations": {"kubernetes.io/config.hash": "5d1c"}});
        assert_eq!(told(&pod(meta)).unwrap().0, "5d1c");
    }

    #[test]
    fn labels_are_bounded() {
        let labels: BTreeMap<String, String> =
            (0..200).map(|n| (format!("l{n:03}"), String::new())).collect();
        let (_, _, facts) = told(&pod(json!({"labels": labels}))).unwrap();
        assert_eq!(facts.labels.len(), MAX_LABELS);
    }
}
