//! Why a state file cannot be used.

use std::path::{Path, PathBuf};

/// What went wrong, with the file.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system.
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// SQLite.
    #[error("state file {}: {error}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: String,
    },
    /// There is no such file, and it was to be read.
    #[error("no state file {}; `run` and `replay` write one with --state", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// An SQLite file of another program.
    #[error("{} is a database of another program; expected a state file of mcp-monitor, or a new name", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was to be read only, and is of a newer version or broken.
    #[error("state file {} {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
}

impl StateError {
    pub(super) fn io(what: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            error,
        }
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            error: error.to_string(),
        }
    }
}
