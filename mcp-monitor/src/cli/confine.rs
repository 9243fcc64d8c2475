//! Which files a run goes on to need: those that configuration, pins and flags name, and what the system reads for it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{args::RunArgs, policy::Policy, state};
use crate::{
    config::{
        program::Program,
        yaml::{Node, Value},
    },
    sandbox::{Access, Confinement, Sandbox},
    source::live::cgroup2_root,
};

/// Read by the system's libraries: names, certificates, time zones, modules for looking names up. And what the kernel
/// says of processes, cgroups and processors.
const SYSTEM: [&str; 13] = [
    "/proc",
    "/sys",
    "/etc",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/dev/null",
    "/dev/urandom",
    "/run/secrets",
];
/// Often links to elsewhere.
const LINKED: [&str; 3] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
];

/// Gives up what the run will not need, if it may. Before any other thread is made.
pub(super) fn begin(args: &RunArgs, policy: &Policy) -> Option<Sandbox> {
    if !policy.program.sandbox.enabled {
        tracing::warn!("sandbox: off, by sandbox.enabled");
        return None;
    }
    let probes = !policy.program.plaintext.is_off();
    Some(Sandbox::begin(&access(args, policy), probes))
}

/// Says what is in force, and what can no longer be read.
pub(super) fn finish(sandbox: &Sandbox, pins: Option<&Path>) {
    let confinement: Confinement = sandbox.finish();
    tracing::info!("{confinement}");
    if let Some(path) = pins
        && let Err(error) = fs::File::open(path)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        tracing::warn!(
            path = %path.display(),
            "changed pins could not be read again: {error}; let the user of this process read them, or set sandbox.enabled: false"
        );
    }
}

fn access(args: &RunArgs, policy: &Policy) -> Access {
    let program = &policy.program;
    let mut write = BTreeSet::new();
    let folder_of = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
    // SQLite makes files beside it.
    write.extend(state::path(args.state.as_deref(), program).map(|path| folder_of(&path)));
    // `-` is standard error.
    let summary = args.output.summary.as_deref();
    write.extend(summary.filter(|path| *path != Path::new("-")).map(folder_of));
    write.extend(program.source.pin_dir.clone());
    if program.sinks.node.is_some() {
        write.insert(program.sinks.spool.dir.clone());
    }
    let named = named(program);
    let files = of_file_sinks(program);
    write.extend(files.iter().map(|path| folder_of(path)));
    let mut read: BTreeSet<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    let linked = LINKED.iter().map(PathBuf::from);
    let flags = [args.policy.config.clone(), policy.file.clone()];
    for path in named.into_iter().chain(flags.into_iter().flatten()).chain(linked) {
        add(&mut read, &path);
    }
    let data = policy.pins.feeds.iter().chain(&policy.pins.advisories);
    let beside = policy.file.as_deref().map(folder_of).unwrap_or_default();
    for path in data {
        add(&mut read, &beside.join(path));
    }
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(path) = std::env::var_os(variable) {
            add(&mut read, Path::new(&path));
        }
    }
    read.extend(program.sandbox.read.iter().cloned());
    read.extend(args.cgroup.iter().chain(&program.source.cgroup).cloned());
    read.extend(cgroup2_root().ok());
    read.extend(write.iter().cloned());
    Access {
        read: read.into_iter().collect(),
        write: write.into_iter().collect(),
    }
}

/// A folder; of a file the folder, since a changed file is as a rule another one, and that where a link leads.
fn add(read: &mut BTreeSet<PathBuf>, path: &Path) {
    for path in [Some(path.to_owned()), path.canonicalize().ok()]
        .into_iter()
        .flatten()
    {
        if path.is_dir() {
            read.insert(path);
        } else if let Some(folder) = path.parent() {
            let here = folder.as_os_str().is_empty();
            read.insert(if here {
                PathBuf::from(".")
            } else {
                folder.to_owned()
            });
        }
    }
}

/// What the configuration names outside the pins and that is there.
fn named(program: &Program) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = program.kubernetes.kubeconfig.iter().cloned().collect();
    if let Some(tls) = program.http.as_ref().and_then(|http| http.tls.as_ref()) {
        paths.extend([tls.cert.clone(), tls.key.clone()]);
        paths.extend(tls.client_ca.clone());
    }
    if let Some(node) = &program.sinks.node {
        let mut texts = Vec::new();
        collect(node, &mut texts);
        let files = texts.into_iter().map(|text| program.sinks.folder.join(text));
        paths.extend(files.filter(|path| path.exists()));
    }
    paths
}

/// Whatever a sink calls its certificates and secrets: every text in it may be a path.
fn collect<'a>(node: &'a Node, texts: &mut Vec<&'a str>) {
    match &node.value {
        Value::Text(text) => texts.push(text),
        Value::List(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, texts)),
        _ => {}
    }
}

/// Files that sinks write.
fn of_file_sinks(program: &Program) -> Vec<PathBuf> {
    let Some(Value::List(sinks)) = program.sinks.node.as_ref().map(|node| &node.value) else {
        return Vec::new();
    };
    let path_of = |sink: &Node| {
        let Value::Map(entries) = &sink.value else {
            return None;
        };
        let text = |wanted: &str| {
            entries.iter().find_map(|(key, node)| match &node.value {
                Value::Text(text) if key.name == wanted => Some(text.as_str()),
                _ => None,
            })
        };
        (text("type")? == "file")
            .then(|| text("path"))?
            .map(|path| program.sinks.folder.join(path))
    };
    sinks.iter().filter_map(path_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sinks_name_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("secret")).unwrap();
        fs::write(dir.path().join("secret/token"), "x").unwrap();
        let text = "sinks:\n\
            \x20 - {type: webhook, url: 'https://h.example', token: {file: secret/token}}\n\
            \x20 - {type: file, path: /var/log/m/alerts.json}\n";
        let program = Program::read(text, "c.yaml", dir.path()).unwrap();
        assert_eq!(named(&program), [dir.path().join("secret/token")]);
        assert_eq!(of_file_sinks(&program), [Path::new("/var/log/m/alerts.json")]);
    }

    #[test]
    fn of_a_file_its_folder_and_where_its_link_leads() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("releases/1");
        fs::create_dir_all(&real).unwrap();
        fs::write(real.join("pins.yaml"), "version: 1\n").unwrap();
        let link = dir.path().join("pins.yaml");
        std::os::unix::fs::symlink(real.join("pins.yaml"), &link).unwrap();
        let mut read = BTreeSet::new();
        add(&mut read, &link);
        add(&mut read, Path::new("gone.yaml"));
        let wanted = [
            PathBuf::from("."),
            dir.path().to_owned(),
            real.canonicalize().unwrap(),
        ];
        assert_eq!(read, wanted.into());
    }
}
