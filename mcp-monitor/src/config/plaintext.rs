//! `plaintext` of the program configuration: whose TLS is read, and how much of it.

use super::{
    ConfigError,
    program::Key,
    yaml::{Node, Reader},
};
use crate::types::Process;

/// What is read of the plaintext of TLS, from most to least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Mode {
    /// Everything.
    #[default]
    On,
    /// Heads of HTTP and kinds of messages; bodies are forgotten once their kind is known.
    Metadata,
    /// Nothing.
    Off,
}

impl Mode {
    const NAMES: [(&'static str, Self); 3] =
        [("on", Self::On), ("metadata", Self::Metadata), ("off", Self::Off)];

    fn read(r: &Reader<'_>, node: &Node, what: &str) -> Result<Self, ConfigError> {
        // YAML 1.1 reads a bare `on` as a boolean.
        if let Ok(on) = r.bool(node, what) {
            return Ok(if on { Self::On } else { Self::Off });
        }
        let text = r.text(node, what)?;
        Self::NAMES
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, mode)| mode)
            .ok_or_else(|| r.at(node, format!("{text} for {what}"), "on, metadata or off"))
    }
}

/// Whose plaintext is read, live.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plaintext {
    /// Of processes that nothing below names.
    pub mode: Mode,
    /// Of processes in these cgroups and below them; the longest path counts.
    pub cgroups: Vec<(Box<str>, Mode)>,
    /// Of pods in these Kubernetes namespaces, whatever their cgroup.
    pub namespaces: Vec<(Box<str>, Mode)>,
    /// Of these executables, whatever their cgroup and namespace.
    pub executables: Vec<(Box<str>, Mode)>,
}

/// Paths, or namespaces, that one list names at most.
const MAX_PATHS: usize = 1024;

pub(super) const KEYS: &[Key] = &[
    Key {
        section: "plaintext",
        name: "mode",
        form: "on, metadata or off",
        default: || "on".into(),
        about: "What is read of the plaintext of TLS from the libraries of processes. `metadata` forgets bodies as soon as their method is known: rules that look at names, heads and methods work, those that look into arguments, results and tool definitions do not.",
    },
    Key {
        section: "plaintext",
        name: "cgroups",
        form: "path: mode",
        default: || "none".into(),
        about: "Other modes for processes in a cgroup or below it, by its path under the root of cgroup2, such as `/kubepods.slice/kubepods-pod1.slice: off`. The longest path counts.",
    },
    Key {
        section: "plaintext",
        name: "namespaces",
        form: "namespace: mode",
        default: || "none".into(),
        about: "Other modes for pods of a Kubernetes namespace, such as `payments: off`. Counts before `cgroups`. Takes `kubernetes.identity`. As long as the cluster has not told the namespace of a pod, the least that any namespace or the other keys allow counts for it.",
    },
    Key {
        section: "plaintext",
        name: "executables",
        form: "path: mode",
        default: || "none".into(),
        about: "Other modes for executables, by their path in their own mount namespace, such as `/usr/bin/psql: off`. Counts before `namespaces` and `cgroups`.",
    },
];

impl Plaintext {
    pub(super) fn read(r: &Reader<'_>, node: &Node) -> Result<Self, ConfigError> {
        let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        let mut plaintext = Self::default();
        for (key, node) in r.map(node, "plaintext", &names)? {
            match key.name.as_str() {
                "mode" => plaintext.mode = Mode::read(r, node, "mode")?,
                "cgroups" => plaintext.cgroups = paths(r, node, "cgroups")?,
                "namespaces" => plaintext.namespaces = namespaces(r, node, "namespaces")?,
                "executables" => plaintext.executables = paths(r, node, "executables")?,
                _ => {}
            }
        }
        Ok(plaintext)
    }

    /// Nothing is read of anyone.
    pub fn is_off(&self) -> bool {
        let lists = [&self.cgroups, &self.namespaces, &self.executables];
        let mut modes = lists.into_iter().flatten();
        self.mode == Mode::Off && modes.all(|(_, mode)| *mode == Mode::Off)
    }

    /// What is read of a process.
    pub fn mode_of(&self, process: &Process) -> Mode {
        let by_executable = process.exe.as_deref().and_then(|exe| {
            let (_, mode) = self.executables.iter().find(|(path, _)| **path == *exe)?;
            Some(*mode)
        });
        let by_cgroup = || {
            let cgroup = process.cgroup.as_deref()?;
            let above = |path: &str| {
                cgroup
                    .strip_prefix(path.trim_end_matches('/'))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let (_, mode) = self
                .cgroups
                .iter()
                .filter(|(path, _)| above(path))
                .max_by_key(|(path, _)| path.len())?;
            Some(*mode)
        };
        by_executable.unwrap_or_else(|| self.by_namespace(process, by_cgroup().unwrap_or(self.mode)))
    }

    /// What its namespace says of a process, which `otherwise` holds for.
    fn by_namespace(&self, process: &Process, otherwise: Mode) -> Mode {
        if self.namespaces.is_empty() || process.pod.is_none() {
            return otherwise;
        }
        match process.namespace() {
            Some(namespace) => {
                let named = self.namespaces.iter().find(|(name, _)| **name == *namespace);
                named.map_or(otherwise, |(_, mode)| *mode)
            }
            // It may be any: nothing is read that would not be read of all.
            None => {
                let modes = self.namespaces.iter().map(|(_, mode)| *mode);
                modes.fold(otherwise, Mode::max)
            }
        }
    }
}

/// Names of namespaces with a mode each.
fn namespaces(r: &Reader<'_>, node: &Node, what: &str) -> Result<Vec<(Box<str>, Mode)>, ConfigError> {
    entries(r, node, what, is_label, "a name of a Kubernetes namespace")
}

/// RFC 1123, as Kubernetes wants it of a namespace.
fn is_label(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Paths with a mode each.
fn paths(r: &Reader<'_>, node: &Node, what: &str) -> Result<Vec<(Box<str>, Mode)>, ConfigError> {
    entries(
        r,
        node,
        what,
        |path| path.starts_with('/'),
        "a path that begins with /",
    )
}

fn entries(
    r: &Reader<'_>,
    node: &Node,
    what: &str,
    is_one: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<Vec<(Box<str>, Mode)>, ConfigError> {
    let entries = r.any_map(node, what)?;
    if entries.len() > MAX_PATHS {
        return Err(r.at(
            node,
            format!("{} entries in {what}", entries.len()),
            format!("at most {MAX_PATHS}"),
        ));
    }
    entries
        .iter()
        .map(|(key, node)| {
            if !is_one(&key.name) {
                return Err(r.at(node, format!("{} in {what}", key.name), expected));
            }
            Ok((key.name.as_str().into(), Mode::read(r, node, &key.name)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::{
        config::program::Program,
        types::{Pod, PodFacts, Qos},
    };

    fn read(text: &str) -> Result<Plaintext, String> {
        Program::read(text, "config.yaml", Path::new("/etc"))
            .map(|program| program.plaintext)
            .map_err(|error| error.to_string())
    }

    fn process(exe: &str, cgroup: &str) -> Process {
        Process {
            exe: Some(exe.into()),
            cgroup: Some(cgroup.into()),
            ..Process::default()
        }
    }

    #[test]
    fn the_nearest_word_counts() {
        let plaintext = read(
            "plaintext:\n  mode: metadata\n  cgroups: {/pods: off, /pods/agents: on}\n  executables: {/bin/psql: off}\n",
        )
        .unwrap();
        assert_eq!(
            plaintext.mode_of(&process("/bin/node", "/system")),
            Mode::Metadata
        );
        assert_eq!(plaintext.mode_of(&process("/bin/node", "/pods")), Mode::Off);
        assert_eq!(plaintext.mode_of(&process("/bin/node", "/pods2")), Mode::Metadata);
        assert_eq!(
            plaintext.mode_of(&process("/bin/node", "/pods/agents/1")),
            Mode::On
        );
        assert_eq!(
            plaintext.mode_of(&process("/bin/psql", "/pods/agents/1")),
            Mode::Off
        );
        assert_eq!(plaintext.mode_of(&Process::default()), Mode::Metadata);
        assert!(!plaintext.is_off());
    }

    #[test]
    fn a_namespace_counts_before_the_cgroup_and_may_not_be_known_yet() {
        let plaintext = read(
            "plaintext:\n  cgroups: {/pods: metadata}\n  namespaces: {payments: off, agents: on}\n  executables: {/bin/psql: on}\n",
        )
        .unwrap();
        let pod = |namespace: Option<&str>| {
            let pod = Pod::new("uid", Qos::Burstable);
            if let Some(namespace) = namespace {
                pod.tell(Arc::new(PodFacts {
                    namespace: namespace.into(),
                    ..PodFacts::default()
                }));
            }
            Process {
                pod: Some(Arc::new(pod)),
                ..process("/bin/node", "/pods/a")
            }
        };
        assert_eq!(plaintext.mode_of(&pod(Some("payments"))), Mode::Off);
        assert_eq!(plaintext.mode_of(&pod(Some("agents"))), Mode::On);
        assert_eq!(plaintext.mode_of(&pod(Some("other"))), Mode::Metadata);
        assert_eq!(plaintext.mode_of(&pod(None)), Mode::Off, "it may be payments");
        assert_eq!(
            plaintext.mode_of(&process("/bin/node", "/pods/a")),
            Mode::Metadata
        );
        let psql = Process {
            exe: Some("/bin/psql".into()),
            ..pod(Some("payments"))
        };
        assert_eq!(plaintext.mode_of(&psql), Mode::On);
        let lenient = read("plaintext: {mode: metadata, namespaces: {agents: on}}\n").unwrap();
        assert_eq!(lenient.mode_of(&pod(None)), Mode::Metadata);
        assert!(
            !read("plaintext: {mode: off, namespaces: {a: on}}\n")
                .unwrap()
                .is_off()
        );
    }

    #[test]
    fn off_is_off_however_it_is_written() {
        for text in ["off", "false", "\"off\""] {
            assert!(
                read(&format!("plaintext: {{mode: {text}}}\n")).unwrap().is_off(),
                "{text}"
            );
        }
        assert!(
            !read("plaintext: {mode: off, cgroups: {/a: on}}\n")
                .unwrap()
                .is_off()
        );
        assert_eq!(read("{}\n").unwrap(), Plaintext::default());
    }

    #[test]
    fn mistakes_name_their_place() {
        assert_eq!(
            read("plaintext:\n  mode: some\n").unwrap_err(),
            "config.yaml:2:9: some for mode; expected on, metadata or off"
        );
        assert!(
            read("plaintext:\n  executables: {psql: off}\n")
                .unwrap_err()
                .contains("expected a path that begins with /")
        );
        assert!(
            read("plaintext:\n  namespaces: {Payments: off}\n")
                .unwrap_err()
                .contains(
                    "config.yaml:2:26: Payments in namespaces; expected a name of a Kubernetes namespace"
                )
        );
    }
}
