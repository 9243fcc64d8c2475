//! Data that rules look things up in and that others make: threat feeds, advisories.
//!
//! Read when the pins are, whole, and bounded: a file that cannot be used ends the program with its
//! name and what is wrong with it, never with part of it in force.

mod feeds;
mod osv;
mod stix;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

pub use self::{
    feeds::{Indicator, Indicators},
    osv::{Advisories, Advisory},
};
use super::ConfigError;

/// Largest file of data, bytes.
pub const MAX_DATA_BYTES: u64 = 64 << 20;
/// Most files of one kind.
pub const MAX_DATA_FILES: usize = 100_000;
/// Most entries of one kind, over all files.
pub const MAX_ENTRIES: usize = 2_000_000;

/// A mistake in a file of data; `line` 0 where it has none.
fn wrong(file: &Path, line: usize, found: impl Into<String>, expected: impl Into<String>) -> ConfigError {
    ConfigError {
        file: file.display().to_string(),
        line: line as u64,
        column: u64::from(line > 0),
        found: found.into(),
        expected: expected.into(),
    }
}

/// Every file that `sources` name, in the order of their names: files as they are, of folders those with
/// one of the `endings`. Hidden files are left out. Relative paths are relative to `base`.
fn files(sources: &[String], base: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut found = Vec::new();
    for source in sources {
        let path = base.join(source);
        if !path.is_dir() {
            found.push(path);
            continue;
        }
        let entries = std::fs::read_dir(&path).map_err(|e| wrong(&path, 0, e.to_string(), "a folder"))?;
        let mut inside: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|file| file.is_file() && has_ending(file, endings))
            .take(MAX_DATA_FILES.saturating_add(1))
            .collect();
        inside.sort();
        found.extend(inside);
    }
    if found.len() > MAX_DATA_FILES {
        let expected = format!("at most {MAX_DATA_FILES}");
        return Err(wrong(base, 0, format!("{} files of data", found.len()), expected));
    }
    Ok(found)
}

fn has_ending(file: &Path, endings: &[&str]) -> bool {
    let name = file.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| !name.starts_with('.') && endings.iter().any(|e| name.ends_with(e)))
}

/// A whole file as text.
fn read(path: &Path) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|f| f.take(MAX_DATA_BYTES.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(wrong(path, 0, format!("cannot be read: {error}"), "")),
        Ok(len) if len as u64 > MAX_DATA_BYTES => Err(wrong(
            path,
            0,
            "more bytes than a file of data may have",
            format!("at most {MAX_DATA_BYTES}"),
        )),
        Ok(_) => String::from_utf8(bytes).map_err(|_| wrong(path, 0, "bytes that are not UTF-8", "text")),
    }
}

fn json(path: &Path, text: &str) -> Result<serde_json::Value, ConfigError> {
    serde_json::from_str(text)
        .map_err(|error| wrong(path, error.line(), format!("no JSON: {error}"), "a JSON file"))
}

/// Name of the file alone: enough for an alert to say where an entry came from.
fn short(path: &Path) -> std::sync::Arc<str> {
    path.file_name()
        .map_or_else(|| "-".into(), |n| n.to_string_lossy().as_ref().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_their_files_in_order_and_hidden_ones_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.json", ".c.json", "d.exe"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let found = files(&[".".into()], dir.path(), &[".json", ".txt"]).unwrap();
        let names: Vec<_> = found.iter().map(|f| short(f).to_string()).collect();
        assert_eq!(names, ["a.json", "b.txt"]);
        assert!(
            read(&dir.path().join("gone"))
                .unwrap_err()
                .to_string()
                .contains("gone: cannot be read")
        );
    }
}
