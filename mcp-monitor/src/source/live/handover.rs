//! What one monitor leaves to the next in a folder of a bpf file system, so that an upgrade has no blind second.
//!
//! The programs stay attached when the process ends, and go on to fill their ring. The next process attaches its own,
//! takes their names over, which detaches the old ones, and first reads what the old ring has. Both sets saw the
//! packets of the moment in between; the time of the change decides which record of the two counts.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File},
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray, RingBuf},
};
use mcp_monitor_common::{
    pins::{Control, LAYOUT},
    ring::RingRecord,
    verdict::Learned,
};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use zerocopy::FromBytes as _;

use super::{LiveError, clock, counters::Counters, sys};

/// Tables that the next process reads.
const TABLES: [&str; 4] = ["EVENTS", "CONTROL", "COUNTERS", "LEARNED"];
/// While both are there. Dots are reserved there.
const NEXT: &str = "_next";

const LEARNED: usize = size_of::<Learned>();
const CONTROL: usize = size_of::<Control>();

/// A folder of a bpf file system that is ours while this lives.
pub(super) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

/// What an earlier process left.
pub(super) struct Left {
    ring: RingBuf<MapData>,
    /// Records of this time, in nanoseconds since boot, and later are in our own ring.
    until: u64,
    /// Start of name hashes.
    pub(super) seed: u64,
    learned: Vec<([u8; 16], [u8; LEARNED])>,
    counts: Counters,
    told: u64,
}

impl Folder {
    /// Makes the folder where it is not there, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, LiveError> {
        let failed = |source: io::Error| LiveError::Pinning {
            path: path.to_path_buf(),
            source,
        };
        let parent = path.parent().unwrap_or(path);
        let kind = statfs(if path.exists() { path } else { parent }).map_err(|error| failed(error.into()))?;
        if kind.filesystem_type() != BPF_FS_MAGIC {
            return Err(failed(io::Error::other(
                "no bpf file system is mounted there (mount -t bpf bpf /sys/fs/bpf)",
            )));
        }
        if !path.exists() {
            DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
        }
        let folder = File::open(path).map_err(failed)?;
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock)
            .map_err(|_| failed(io::Error::other("another mcp-monitor uses it")))?;
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// What is there and can be read. Of another version nothing is, and it says so.
    pub(super) fn left(&self) -> Option<Left> {
        if !self.path.join("EVENTS").exists() {
            return None;
        }
        let read = || -> Result<Left, Box<dyn std::error::Error>> {
            let control = MapData::from_pin(self.path.join("CONTROL"))?;
            let control: Array<_, [u8; CONTROL]> = Array::try_from(Map::Array(control))?;
            let control = Control::read_from_bytes(&control.get(&0, 0)?).map_err(|_| "its size")?;
            if control.layout != LAYOUT {
                return Err(format!("layout {} and not {LAYOUT}", control.layout).into());
            }
            let ring = MapData::from_pin(self.path.join("EVENTS"))?;
            let counts = MapData::from_pin(self.path.join("COUNTERS"))?;
            let learned = MapData::from_pin(self.path.join("LEARNED"))?;
            let learned: BpfHashMap<_, [u8; 16], [u8; LEARNED]> =
                BpfHashMap::try_from(Map::LruHashMap(learned))?;
            Ok(Left {
                ring: RingBuf::try_from(Map::RingBuf(ring))?,
                until: u64::MAX,
                seed: control.seed,
                learned: learned.iter().flatten().collect(),
                counts: Counters(PerCpuArray::try_from(Map::PerCpuArray(counts))?),
                told: control.lost,
            })
        };
        read()
            .inspect_err(|error| {
                tracing::warn!(
                    folder = %self.path.display(),
                    "records that an earlier version left cannot be read and are lost: {error}"
                );
            })
            .ok()
    }

    /// Puts our tables beside those of the process before. Must be called before they are taken.
    pub(super) fn prepare(&self, programs: &Ebpf) -> Result<(), LiveError> {
        for name in TABLES {
            self.clear(name)?;
            let map = programs.map(name).ok_or(LiveError::Object(name))?;
            map.pin(self.next(name))
                .map_err(|error| self.failed(io::Error::other(error)))?;
        }
        Ok(())
    }

    /// Likewise a link.
    pub(super) fn prepare_link(&self, name: &'static str, link: &OwnedFd) -> Result<(), LiveError> {
        self.clear(name)?;
        sys::pin(link, &self.next(name)).map_err(|error| self.failed(error))
    }

    /// Ours take the place of the old ones, which are detached with that.
    pub(super) fn take_over(
        &self,
        links: impl IntoIterator<Item = &'static str>,
        left: Option<&mut Left>,
    ) -> Result<(), LiveError> {
        if let Some(left) = left {
            left.until = clock::since_boot();
        }
        for name in links.into_iter().chain(TABLES) {
            fs::rename(self.next(name), self.path.join(name)).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn next(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{NEXT}"))
    }

    /// Of a process that died between.
    fn clear(&self, name: &str) -> Result<(), LiveError> {
        match fs::remove_file(self.next(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> LiveError {
        LiveError::Pinning {
            path: self.path.clone(),
            source,
        }
    }
}

impl Left {
    /// Addresses that names were resolved to, into our own table.
    pub(super) fn teach(&self, programs: &mut Ebpf) -> Result<(), LiveError> {
        let map = programs.map_mut("LEARNED").ok_or(LiveError::Object("LEARNED"))?;
        let mut table: BpfHashMap<_, [u8; 16], [u8; LEARNED]> =
            BpfHashMap::try_from(map).map_err(LiveError::map("LEARNED"))?;
        for (address, learned) in &self.learned {
            table
                .insert(address, learned, 0)
                .map_err(LiveError::map("LEARNED"))?;
        }
        Ok(())
    }

    /// When ours took over, in nanoseconds since boot.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// Every record that is ours to read, in order, and how many were lost since the process before counted last.
    pub(super) fn finish(mut self) -> (VecDeque<Vec<u8>>, u64) {
        let mut records = VecDeque::new();
        while let Some(record) = self.ring.next() {
            let time = RingRecord::read(&record).and_then(|read| read.time());
            if time.is_some_and(|time| time < self.until) {
                records.push_back(record.to_vec());
            }
        }
        let lost = self.counts.read().map_or(0, |counts| counts.lost_in_kernel());
        (records, lost.saturating_sub(self.told))
    }
}
