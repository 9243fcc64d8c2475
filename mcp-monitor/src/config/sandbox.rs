//! `sandbox` of the program configuration: what a running monitor gives up.

use std::path::{Path, PathBuf};

use super::{
    ConfigError,
    program::Key,
    section::{key, names},
    yaml::{Node, Reader},
};

/// What a running monitor gives up once it is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sandbox {
    /// It gives up what it does not need.
    pub enabled: bool,
    /// Files and folders that it may read besides those that the configuration names.
    pub read: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            enabled: true,
            read: Vec::new(),
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    key!(
        "sandbox",
        "enabled",
        "true or false",
        Sandbox::default().enabled.to_string(),
        "Whether a running monitor gives up what it no longer needs: capabilities, files (landlock), system calls (seccomp). What the kernel lacks is said in the log and by `mcp-monitor check`. See docs/OPERATIONS.md."
    ),
    key!(
        "sandbox",
        "read",
        "list of paths",
        "none".into(),
        "Files and folders that may be read later, besides the folders of those that configuration and pins name at the start: where links lead after a change, or what pins will name. A relative path is relative to the configuration file."
    ),
];

impl Sandbox {
    pub(super) fn read(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let mut sandbox = Self::default();
        for (key, node) in r.map(node, "sandbox", &names(KEYS, "sandbox"))? {
            if key.name == "enabled" {
                sandbox.enabled = r.bool(node, "enabled")?;
                continue;
            }
            for path in r.list(node, "read")? {
                sandbox.read.push(folder.join(r.text(path, "read")?));
            }
        }
        Ok(sandbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::program::Program;

    #[test]
    fn on_unless_it_is_turned_off() {
        let read = |text: &str| Program::read(text, "c.yaml", Path::new("/etc/m")).map(|p| p.sandbox);
        assert!(read("").unwrap().enabled);
        assert!(!read("sandbox: {enabled: false}").unwrap().enabled);
        let sandbox = read("sandbox: {read: [/srv/pins, feeds]}").unwrap();
        assert_eq!(sandbox.read, [Path::new("/srv/pins"), Path::new("/etc/m/feeds")]);
        let error = read("sandbox: {read: here}").unwrap_err().to_string();
        assert!(error.starts_with("c.yaml:1:17: "), "{error}");
    }
}
