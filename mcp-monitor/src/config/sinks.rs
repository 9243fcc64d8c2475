//! `sinks` and `spool` of the program configuration. What stands in a sink is read by [`crate::sink`], which
//! knows the kinds of sinks; here it is only kept, with its place.

use std::path::{Path, PathBuf};

use super::{
    ConfigError,
    program::Key,
    quantity::show_bytes,
    yaml::{Node, Reader},
};

const SMALLEST: u64 = 64 << 10;

/// Where records wait for receivers that are away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spool {
    /// A folder with one folder for each sink.
    pub dir: PathBuf,
    /// Bytes of one sink's; beyond it the oldest records go.
    pub max_bytes: u64,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            dir: "/var/lib/mcp-monitor/spool".into(),
            max_bytes: 64 << 20,
        }
    }
}

/// The sinks, unread.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SinkSection {
    /// The list.
    pub node: Option<Node>,
    /// The file as errors name it.
    pub file: String,
    /// What relative paths are relative to.
    pub folder: PathBuf,
    /// Where records wait.
    pub spool: Spool,
}

pub(super) const KEYS: &[Key] = &[
    Key {
        section: "spool",
        name: "dir",
        form: "path",
        default: || Spool::default().dir.display().to_string(),
        about: "Folder in which each sink has a folder for records that its receiver has not taken yet. Made with mode 0700, files with 0600, where a sink needs it. A relative path is relative to the configuration file.",
    },
    Key {
        section: "spool",
        name: "max_bytes",
        form: "size, from 64KiB",
        default: || show_bytes(Spool::default().max_bytes),
        about: "Bytes of one sink's spool; beyond it the oldest records go (counted).",
    },
];

impl Spool {
    pub(super) fn read(r: &Reader<'_>, node: &Node, folder: &Path) -> Result<Self, ConfigError> {
        let mut spool = Self::default();
        for (key, node) in r.map(node, "spool", &["dir", "max_bytes"])? {
            if key.name == "dir" {
                spool.dir = folder.join(r.text(node, "dir")?);
                continue;
            }
            let bytes = node.bytes();
            spool.max_bytes = bytes
                .filter(|bytes| *bytes >= SMALLEST)
                .ok_or_else(|| r.at(node, "bad size for max_bytes", "a size from 64KiB, such as 64MiB"))?;
        }
        Ok(spool)
    }
}
