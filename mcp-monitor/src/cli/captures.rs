//! Which captures an invocation reads: files, folders, and its share of them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use sha2::{Digest, Sha256};

use super::Failure;

/// Names of captures that are looked for in folders; `.gz` or `.zst` may follow.
const EXTENSIONS: [&str; 3] = ["pcap", "pcapng", "cap"];
/// Folders in folders that are looked into.
const MAX_DEPTH: usize = 16;
/// Shares that one replay may be split into.
const MAX_SHARDS: u32 = 100_000;

/// Share `index` of `count`: how many processes split one set of captures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    index: u32,
    count: u32,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected I/N, such as 0/4, with I below N and N at most {MAX_SHARDS}");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count) = (
            index.parse().map_err(|_| wrong())?,
            count.parse().map_err(|_| wrong())?,
        );
        (index < count && count <= MAX_SHARDS)
            .then_some(Self { index, count })
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Share {
    /// Whether it has the unit of this name. That depends on nothing else, so that captures which come or go
    /// meanwhile move no other.
    fn has(self, name: &Path) -> bool {
        let digest = Sha256::digest(name.as_os_str().as_encoded_bytes());
        let number = digest
            .iter()
            .take(8)
            .fold(0_u64, |n, byte| n.wrapping_shl(8) | u64::from(*byte));
        number.checked_rem(u64::from(self.count)) == Some(u64::from(self.index))
    }
}

/// The captures that `given` names, with folders replaced by what is in them in order of name.
///
/// The unit of a share is a file that was named, and in a folder that was named each capture, or folder of
/// captures: what lies together in one stays together, since connections go on from one file to the next.
///
/// # Errors
///
/// A folder that cannot be read or has no capture, and standard input where there is a share.
pub(super) fn select(given: &[PathBuf], share: Option<Share>) -> Result<Vec<PathBuf>, Failure> {
    let mut units: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
    for path in given {
        if path.as_os_str() == "-" && share.is_some() {
            return Err(Failure::Usage(
                "--shard: standard input cannot be shared out".to_owned(),
            ));
        }
        if !path.is_dir() {
            units.push((path.clone(), vec![path.clone()]));
            continue;
        }
        let before = units.len();
        for entry in entries(path)? {
            let captures = captures(&entry, MAX_DEPTH)?;
            if !captures.is_empty() {
                let name = entry.strip_prefix(path).unwrap_or(&entry).to_path_buf();
                units.push((name, captures));
            }
        }
        if units.len() == before {
            return Err(Failure::Work(format!(
                "{}: no capture in this folder; their names end in .pcap, .pcapng or .cap, which .gz or .zst may follow",
                path.display()
            )));
        }
    }
    let Some(share) = share else {
        return Ok(units.into_iter().flat_map(|(_, captures)| captures).collect());
    };
    let all = units.len();
    units.retain(|(name, _)| share.has(name));
    let own: Vec<PathBuf> = units.into_iter().flat_map(|(_, captures)| captures).collect();
    tracing::info!(share = %share, units = all, captures = own.len(), "share of the captures");
    Ok(own)
}

/// Captures at or below a path, in order of name.
fn captures(path: &Path, depth: usize) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(if is_capture(path) {
            vec![path.to_path_buf()]
        } else {
            Vec::new()
        });
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Failure::Work(format!(
            "{}: more than {MAX_DEPTH} folders deep",
            path.display()
        )));
    };
    let mut found = Vec::new();
    for entry in entries(path)? {
        found.extend(captures(&entry, depth)?);
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::Work(format!("{}: {error}", folder.display()));
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|e| e.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(failed)?;
    entries.sort_unstable();
    Ok(entries)
}

fn is_capture(path: &Path) -> bool {
    let packed = path.extension().is_some_and(|e| e == "gz" || e == "zst");
    let plain = if packed {
        path.with_extension("")
    } else {
        path.to_path_buf()
    };
    // tcpdump -C numbers the files that it begins: out.pcap, out.pcap1.
    plain.extension().and_then(|e| e.to_str()).is_some_and(|e| {
        let e = e.trim_end_matches(|c: char| c.is_ascii_digit());
        EXTENSIONS.contains(&e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a.pcap",
            "b.pcapng.gz",
            "c.cap.zst",
            "d.pcap12",
            "notes.txt",
            "node-1/x.pcap",
            "node-1/y.pcap",
            "node-2/deep/z.pcap",
            "empty/readme",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn folders_stand_for_the_captures_in_them() {
        let dir = folder();
        let found = select(&[dir.path().to_path_buf(), "else.bin".into()], None).unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|path| {
                path.strip_prefix(dir.path())
                    .unwrap_or(path)
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(
            names,
            [
                "a.pcap",
                "b.pcapng.gz",
                "c.cap.zst",
                "d.pcap12",
                "node-1/x.pcap",
                "node-1/y.pcap",
                "node-2/deep/z.pcap",
                "else.bin"
            ]
        );
        assert!(matches!(
            select(&[dir.path().join("empty")], None),
            Err(Failure::Work(why)) if why.contains("no capture")
        ));
    }

    #[test]
    fn every_capture_is_in_exactly_one_share_and_folders_stay_whole() {
        let dir = folder();
        let given = [dir.path().to_path_buf()];
        let all = select(&given, None).unwrap();
        for count in [1, 2, 3, 7] {
            let mut seen = Vec::new();
            for index in 0..count {
                let own = select(&given, Some(Share { index, count })).unwrap();
                let of_node = own
                    .iter()
                    .filter(|path| path.to_string_lossy().contains("node-1"))
                    .count();
                assert!(of_node == 0 || of_node == 2, "{own:?}");
                seen.extend(own);
            }
            seen.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(seen, all, "{count} shares");
        }
    }

    #[test]
    fn shares_are_written_i_of_n() {
        assert_eq!("3/8".parse(), Ok(Share { index: 3, count: 8 }));
        for wrong in ["", "3", "8/8", "-1/2", "0/0", "0/100001", "a/b", "1/2/3"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        let share: Share = "0/1".parse().unwrap();
        assert!(select(&["-".into()], Some(share)).is_err() && select(&["-".into()], None).is_ok());
    }
}
