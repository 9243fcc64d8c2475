//! The pod that a process runs in.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde::Serialize;

/// Quality of service class, as the cgroup path tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub enum Qos {
    /// Requests equal limits.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

/// A pod of this node. Its uid and class come from the cgroup path; what the cluster says of it may come
/// later, and may change while it lives.
#[derive(Debug)]
pub struct Pod {
    uid: Box<str>,
    qos: Qos,
    told: RwLock<Option<Arc<PodFacts>>>,
}

/// What the cluster says of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it belongs to.
    pub workload: Option<Workload>,
    /// Containers by id, as far as they have been started.
    pub containers: BTreeMap<Box<str>, Box<str>>,
    /// The name of its container, if it has one only.
    pub only_container: Option<Box<str>>,
}

/// The owner that people know: a Deployment rather than its ReplicaSet, a CronJob rather than its Job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, or the kind of another controller.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Pod {
    /// A pod of which the cluster has said nothing yet.
    pub fn new(uid: &str, qos: Qos) -> Self {
        Self {
            uid: uid.into(),
            qos,
            told: RwLock::new(None),
        }
    }

    /// As in the API (`metadata.uid`); of a static pod the hash of its manifest.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its class.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// What the cluster said last; `None` if nothing.
    pub fn facts(&self) -> Option<Arc<PodFacts>> {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cluster says this now.
    pub fn tell(&self, facts: Arc<PodFacts>) {
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = Some(facts);
    }
}

impl PartialEq for Pod {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
    }
}

impl Eq for Pod {}

impl Default for PodFacts {
    fn default() -> Self {
        Self {
            namespace: "".into(),
            name: "".into(),
            labels: BTreeMap::new(),
            workload: None,
            containers: BTreeMap::new(),
            only_container: None,
        }
    }
}

impl PodFacts {
    /// The name of a container.
    pub fn container(&self, id: Option<&str>) -> Option<&str> {
        id.and_then(|id| self.containers.get(id))
            .or(self.only_container.as_ref())
            .map(|name| &**name)
    }
}
