//! `kubernetes` of the program configuration: names of pods.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    limits::read_duration,
    program::Key,
    quantity::show_duration,
    yaml::{Node, Reader},
};

/// Names of pods, live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kubernetes {
    /// Whether the API is asked.
    pub identity: Ask,
    /// Name of this node; `None` is the environment's `NODE_NAME`.
    pub node: Option<String>,
    /// Kubeconfig; `None` is the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// How long a pod that is gone is kept.
    pub grace: Duration,
}

/// Whether the Kubernetes API is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ask {
    /// Where there is a way to it and the node's name is known.
    #[default]
    Auto,
    /// Else the program ends.
    Always,
    /// Uids alone, from cgroup paths.
    Never,
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            identity: Ask::default(),
            node: None,
            kubeconfig: None,
            grace: Duration::from_secs(300),
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    Key {
        section: "kubernetes",
        name: "identity",
        form: "auto, always or never",
        default: || "auto".into(),
        about: "Whether names, labels and owners of this node's pods are taken from a watch of the Kubernetes API. `auto`: where there is a service account or a `kubeconfig`, and the node's name is known. `never`: alerts name the pod by its uid, which is in its cgroup's path.",
    },
    Key {
        section: "kubernetes",
        name: "node",
        form: "text",
        default: || "the environment's NODE_NAME".into(),
        about: "Name of this node, as the API has it. Every live alert carries it.",
    },
    Key {
        section: "kubernetes",
        name: "kubeconfig",
        form: "path",
        default: || "none: the service account".into(),
        about: "The way to the API outside a pod. A relative path is relative to the configuration file.",
    },
    Key {
        section: "kubernetes",
        name: "grace",
        form: "time",
        default: || show_duration(Kubernetes::default().grace),
        about: "How long a pod that is gone is kept, so that a late packet still has its name. Its open flows keep it in any case.",
    },
];

impl Kubernetes {
    pub(super) fn read(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        let mut read = Self::default();
        for (key, node) in r.map(node, "kubernetes", &names)? {
            match key.name.as_str() {
                "identity" => {
                    let word = r.text(node, "identity")?;
                    read.identity = match word {
                        "auto" => Ask::Auto,
                        "always" => Ask::Always,
                        "never" => Ask::Never,
                        other => {
                            let found = format!("{other:?} for identity");
                            return Err(r.at(node, found, "auto, always or never"));
                        }
                    };
                }
                "node" => read.node = Some(r.text(node, "node")?.to_owned()),
                "kubeconfig" => read.kubeconfig = Some(folder.join(r.text(node, "kubeconfig")?)),
                "grace" => read.grace = read_duration(r, node, "grace")?,
                _ => {}
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::program::Program;

    #[test]
    fn reads_its_keys() {
        let read = |text: &str| Program::read(text, "c.yaml", Path::new("/etc/m"));
        let program = read("kubernetes: {identity: always, node: n1, kubeconfig: k, grace: 1m}").unwrap();
        assert_eq!(
            program.kubernetes,
            Kubernetes {
                identity: Ask::Always,
                node: Some("n1".into()),
                kubeconfig: Some("/etc/m/k".into()),
                grace: Duration::from_secs(60),
            }
        );
        let error = read("kubernetes: {identity: maybe}").unwrap_err().to_string();
        assert!(
            error.ends_with("\"maybe\" for identity; expected auto, always or never"),
            "{error}"
        );
    }
}
