//! The object `kubernetes` of records.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::{Process, Qos, Workload};

/// Where in a cluster the client runs. Live only.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kubernetes {
    /// Node.
    pub node: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Pod.
    pub pod: Option<String>,
    /// Container.
    pub container: Option<String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// What the pod belongs to: the Deployment, the CronJob.
    pub workload: Option<Workload>,
    /// Uid of the pod, as its cgroup names it: known without any API.
    pub pod_uid: Option<String>,
    /// Class of the pod, as its cgroup names it.
    pub qos: Option<Qos>,
}

impl Kubernetes {
    /// Of a process on this node; `None` where neither node nor pod is known.
    pub fn of(process: Option<&Process>, node: Option<&str>) -> Option<Self> {
        let pod = process.and_then(|process| process.pod.as_ref());
        if pod.is_none() && node.is_none() {
            return None;
        }
        let facts = pod.and_then(|pod| pod.facts());
        let facts = facts.as_deref();
        let container = process.and_then(|process| process.container_id.as_deref());
        Some(Self {
            node: node.map(str::to_owned),
            namespace: facts.map(|facts| facts.namespace.to_string()),
            pod: facts.map(|facts| facts.name.to_string()),
            container: facts
                .and_then(|facts| facts.container(container))
                .map(str::to_owned),
            labels: facts.map(|facts| facts.labels.clone()).unwrap_or_default(),
            workload: facts.and_then(|facts| facts.workload.clone()),
            pod_uid: pod.map(|pod| pod.uid().to_owned()),
            qos: pod.map(|pod| pod.qos()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::types::{Pod, PodFacts};

    #[test]
    fn says_what_is_known_and_no_more() {
        assert!(Kubernetes::of(None, None).is_none());
        let shown = |process: Option<&Process>| {
            serde_json::to_value(Kubernetes::of(process, Some("node-1")).unwrap()).unwrap()
        };
        let host = shown(None);
        assert_eq!(host["node"], "node-1");
        assert!(host["pod"].is_null() && host["pod_uid"].is_null());

        let pod = Arc::new(Pod::new("6c5e", Qos::Burstable));
        let process = Process {
            container_id: Some("c1".into()),
            pod: Some(pod.clone()),
            ..Process::default()
        };
        let untold = shown(Some(&process));
        assert_eq!(
            (&untold["pod_uid"], &untold["qos"]),
            (&json!("6c5e"), &json!("Burstable"))
        );
        assert!(untold["namespace"].is_null() && untold["container"].is_null());

        pod.tell(Arc::new(PodFacts {
            namespace: "team-a".into(),
            name: "agent-1".into(),
            labels: [("app".to_owned(), "agent".to_owned())].into(),
            workload: Some(Workload {
                kind: "Deployment".into(),
                name: "agent".into(),
            }),
            containers: [("c1".into(), "main".into())].into(),
            only_container: None,
        }));
        assert_eq!(
            shown(Some(&process)),
            json!({
                "node": "node-1", "namespace": "team-a", "pod": "agent-1", "container": "main",
                "labels": {"app": "agent"}, "workload": {"kind": "Deployment", "name": "agent"},
                "pod_uid": "6c5e", "qos": "Burstable",
            })
        );
    }
}
