//! Records on disk until the receiver has taken them.
//!
//! A folder of segment files, each a sequence of `length, CRC-32, kind, body`, and the file `head`, which says
//! up to where the receiver has taken them. All are written in place and checked when read: a process that is
//! killed leaves at worst a torn last record and an older head, and then records are sent twice, not lost.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{Entry, Kind};

/// Of a record before its body: length, checksum, kind.
const HEAD: usize = 9;
/// Of a head slot: serial, segment, offset, checksum.
const SLOT: usize = 28;
/// Bytes that are read at a time at least.
const MIN_WINDOW: u64 = 64 << 10;
/// Bytes of one segment at most.
const MAX_SEGMENT: u64 = 8 << 20;

/// Where in the spool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Place {
    segment: u64,
    offset: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Records that the receiver has not taken.
    waiting: u64,
}

/// One sink's spool.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    limit: u64,
    segments: VecDeque<Segment>,
    /// Of the last segment.
    writer: Option<File>,
    next_segment: u64,
    head: Place,
    head_file: File,
    serial: u64,
    /// Ends of the records that were read last.
    ends: Vec<Place>,
    damaged: u64,
    _lock: Flock<File>,
}

impl Spool {
    /// Opens the folder, or makes it (mode 0700, files 0600), and counts what an earlier process left.
    ///
    /// # Errors
    ///
    /// The folder cannot be used, or another process uses it.
    pub(super) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = Flock::lock(open(&dir.join("lock"))?, FlockArg::LockExclusiveNonblock)
            .map_err(|_| io::Error::other("another process uses it"))?;
        let head_file = open(&dir.join("head"))?;
        let (serial, head) = read_head(&head_file);
        let mut spool = Self {
            dir: dir.to_owned(),
            limit,
            segments: VecDeque::new(),
            writer: None,
            next_segment: 1,
            head,
            head_file,
            serial,
            ends: Vec::new(),
            damaged: 0,
            _lock: lock,
        };
        let mut numbers: Vec<u64> = fs::read_dir(dir)?
            .flatten()
            .filter_map(|file| number_of(&file.path()))
            .collect();
        numbers.sort_unstable();
        spool.next_segment = numbers
            .last()
            .copied()
            .unwrap_or(0)
            .max(head.segment)
            .saturating_add(1);
        for number in numbers {
            if number < head.segment {
                fs::remove_file(spool.path(number))?;
                continue;
            }
            let bytes = fs::read(spool.path(number))?;
            let from = if number == head.segment { head.offset } else { 0 };
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
            let mut walk = Walk::new(bytes.get(from..).unwrap_or_default());
            let waiting = u64::try_from(walk.by_ref().count()).unwrap_or(u64::MAX);
            spool.damaged = spool.damaged.saturating_add(u64::from(walk.broken));
            spool.segments.push_back(Segment {
                number,
                bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                waiting,
            });
        }
        spool.forget_taken()?;
        Ok(spool)
    }

    /// Records that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.segments
            .iter()
            .fold(0, |sum, s| sum.saturating_add(s.waiting))
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, s| sum.saturating_add(s.bytes))
    }

    /// Places that could not be read back.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Writes records at the end; all of them or, with an error, none. Alerts are on the disk when this
    /// returns, other records in the kernel's hands.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for entry in entries {
            let len = u32::try_from(entry.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&checksum(entry.kind, entry.body()).to_le_bytes());
            bytes.push(entry.kind.code());
            bytes.extend_from_slice(entry.body());
        }
        let room = self.limit.div_ceil(8).min(MAX_SEGMENT);
        if self.segments.back().is_none_or(|last| last.bytes >= room) {
            self.writer = None;
        }
        if self.writer.is_none() {
            let number = self.next_segment;
            let file = open(&self.path(number))?;
            // Never written twice: a failed one is not used again.
            self.next_segment = number.saturating_add(1);
            self.segments.push_back(Segment {
                number,
                bytes: 0,
                waiting: 0,
            });
            self.writer = Some(file);
        }
        let (Some(file), Some(segment)) = (self.writer.as_mut(), self.segments.back_mut()) else {
            return Err(io::Error::other("no segment"));
        };
        let written = file.write_all(&bytes).and_then(|()| {
            if entries.iter().any(|entry| entry.kind == Kind::Alert) {
                file.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            // What was written of it is cut off; where even that fails, reading finds it torn.
            let _ = file.set_len(segment.bytes);
            self.writer = None;
            return Err(error);
        }
        segment.bytes = segment
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        segment.waiting = segment
            .waiting
            .saturating_add(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Removes the oldest segment while there is more than the limit; how many records that lost.
    pub(super) fn make_room(&mut self) -> io::Result<u64> {
        let mut lost = 0_u64;
        while self.bytes() > self.limit && self.segments.len() > 1 {
            let Some(oldest) = self.segments.front() else {
                break;
            };
            fs::remove_file(self.path(oldest.number))?;
            lost = lost.saturating_add(oldest.waiting);
            let gone = oldest.number;
            self.segments.pop_front();
            let segment = self
                .segments
                .front()
                .map_or(self.next_segment, |next| next.number);
            self.ends.retain(|end| end.segment != gone);
            self.move_head(Place { segment, offset: 0 })?;
        }
        Ok(lost)
    }

    /// Reads the first records, at most so many and about so many bytes, but one at least.
    pub(super) fn peek(&mut self, most: usize, most_bytes: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut size = 0_usize;
        self.ends.clear();
        let mut from = self.head;
        let mut at = 0_usize;
        while found.len() < most && size < most_bytes {
            let Some(segment) = self.segments.get_mut(at) else {
                break;
            };
            if segment.number < from.segment || segment.waiting == 0 {
                at = at.saturating_add(1);
                continue;
            }
            let offset = if segment.number == from.segment {
                from.offset
            } else {
                0
            };
            let number = segment.number;
            let before = found.len();
            let file = File::open(segment_path(&self.dir, number))?;
            let rest = file.metadata()?.len().saturating_sub(offset);
            // As much as the batch may have; a longer record makes it all that is there.
            let mut window = rest.min(u64::try_from(most_bytes).unwrap_or(u64::MAX).max(MIN_WINDOW));
            let mut bytes = read_window(&file, offset, window)?;
            if window < rest && Walk::new(&bytes).next().is_none() {
                window = rest;
                bytes = read_window(&file, offset, window)?;
            }
            let mut walk = Walk::new(&bytes);
            while found.len() < most && size < most_bytes {
                let Some((entry, end)) = walk.next() else { break };
                size = size.saturating_add(entry.len());
                found.push(entry);
                self.ends.push(Place {
                    segment: number,
                    offset: offset.saturating_add(end),
                });
            }
            if walk.broken && window < rest {
                break;
            }
            if walk.broken {
                // Damaged since it was counted. What comes after the damage cannot be found.
                let read = u64::try_from(found.len().saturating_sub(before)).unwrap_or(u64::MAX);
                self.damaged = self.damaged.saturating_add(segment.waiting.saturating_sub(read));
                segment.waiting = segment.waiting.min(read);
            }
            from = Place {
                segment: number.saturating_add(1),
                offset: 0,
            };
            at = at.saturating_add(1);
        }
        Ok(found)
    }

    /// The receiver has taken the first so many of what was read last.
    pub(super) fn taken(&mut self, count: usize) -> io::Result<()> {
        let Some(end) = count.checked_sub(1).and_then(|last| self.ends.get(last)).copied() else {
            return Ok(());
        };
        for place in self.ends.drain(..count) {
            if let Some(segment) = self.segments.iter_mut().find(|s| s.number == place.segment) {
                segment.waiting = segment.waiting.saturating_sub(1);
            }
        }
        self.move_head(end)?;
        self.forget_taken()
    }

    /// Removes segments that hold nothing that waits, except the one that is written.
    fn forget_taken(&mut self) -> io::Result<()> {
        while let Some(first) = self.segments.front() {
            if first.waiting > 0 || (self.segments.len() == 1 && self.writer.is_some()) {
                break;
            }
            fs::remove_file(self.path(first.number))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Written into the slot that is not the newest, so that a torn write leaves the one before.
    fn move_head(&mut self, to: Place) -> io::Result<()> {
        self.head = to;
        self.serial = self.serial.saturating_add(1);
        let mut slot = Vec::with_capacity(SLOT);
        for part in [self.serial, to.segment, to.offset] {
            slot.extend_from_slice(&part.to_le_bytes());
        }
        slot.extend_from_slice(&crc32fast::hash(&slot).to_le_bytes());
        let offset = if self.serial.is_multiple_of(2) {
            0
        } else {
            SLOT as u64
        };
        self.head_file.write_all_at(&slot, offset)
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.dir, number)
    }
}

fn read_window(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.spool"))
}

fn number_of(path: &Path) -> Option<u64> {
    let stem = path
        .file_stem()
        .filter(|_| path.extension().is_some_and(|e| e == "spool"))?;
    u64::from_str_radix(stem.to_str()?, 16).ok()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn checksum(kind: Kind, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind.code()]);
    crc.update(body);
    crc.finalize()
}

/// The newer of the two slots that are whole.
fn read_head(file: &File) -> (u64, Place) {
    let mut newest = (0, Place::default());
    for offset in [0, SLOT as u64] {
        let mut slot = [0_u8; SLOT];
        if file.read_exact_at(&mut slot, offset).is_err() {
            continue;
        }
        let (parts, crc) = slot.split_at(24);
        let number = |at: usize| {
            let bytes = parts.get(at..at.saturating_add(8))?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if crc == crc32fast::hash(parts).to_le_bytes()
            && let (Some(serial), Some(segment), Some(offset)) = (number(0), number(8), number(16))
            && serial > newest.0
        {
            newest = (serial, Place { segment, offset });
        }
    }
    newest
}

/// Records of a segment's bytes with the offset of their end, up to its end or the first that is not whole.
struct Walk<'a> {
    bytes: &'a [u8],
    offset: usize,
    broken: bool,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            offset: 0,
            broken: false,
        }
    }

    fn next_whole(&self) -> Option<(Entry, usize)> {
        let rest = self.bytes.get(self.offset..)?;
        let (head, rest) = rest.split_at_checked(HEAD)?;
        let (len, head) = head.split_first_chunk::<4>()?;
        let (crc, kind) = head.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let body = rest.get(..len)?;
        let kind = Kind::from_code(*kind.first()?)?;
        (checksum(kind, body) == u32::from_le_bytes(*crc)).then_some(())?;
        let end = self.offset.checked_add(HEAD)?.checked_add(len)?;
        Some((Entry::from_body(kind, body), end))
    }
}

impl Iterator for Walk<'_> {
    type Item = (Entry, u64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.offset >= self.bytes.len() {
            return None;
        }
        let Some((entry, end)) = self.next_whole() else {
            self.broken = true;
            return None;
        };
        self.offset = end;
        Some((entry, u64::try_from(end).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn entry(n: usize) -> Entry {
        Entry::new(Kind::Alert, format!("{{\"id\":{n}}}").as_bytes(), "text")
    }

    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries
            .iter()
            .map(|e| e.value()["id"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart_in_order_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut spool = Spool::open(&path, 1 << 20).unwrap();
        spool.append(&[entry(1), entry(2), entry(3)]).unwrap();
        assert_eq!(ids(&spool.peek(2, 1 << 20).unwrap()), [1, 2]);
        spool.taken(1).unwrap();
        assert!(Spool::open(&path, 1 << 20).is_err(), "two processes");
        drop(spool);
        let mut spool = Spool::open(&path, 1 << 20).unwrap();
        assert_eq!((spool.waiting(), spool.damaged()), (2, 0));
        spool.append(&[entry(4)]).unwrap();
        assert_eq!(ids(&spool.peek(9, 1 << 20).unwrap()), [2, 3, 4]);
        spool.taken(3).unwrap();
        assert_eq!(spool.waiting(), 0);
        for file in fs::read_dir(&path).unwrap().flatten() {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn at_the_bound_the_oldest_go_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 4096).unwrap();
        let mut lost = 0;
        for n in 0..1000 {
            spool.append(&[entry(n)]).unwrap();
            lost += spool.make_room().unwrap();
        }
        assert!(spool.bytes() <= 4096 && lost > 0);
        let left = ids(&spool.peek(10_000, 1 << 20).unwrap());
        assert_eq!(left.len() as u64 + lost, 1000);
        assert_eq!((left[0], *left.last().unwrap()), (lost, 999));
        drop(spool);
        let mut again = Spool::open(dir.path(), 4096).unwrap();
        assert_eq!(ids(&again.peek(10_000, 1 << 20).unwrap()), left);
    }

    #[test]
    fn taken_segments_leave_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 4096).unwrap();
        (0..100).for_each(|n| spool.append(&[entry(n)]).unwrap());
        let all = spool.peek(1000, 1 << 20).unwrap().len();
        spool.taken(all).unwrap();
        assert!(spool.segments.len() <= 1);
        drop(spool);
        assert_eq!(Spool::open(dir.path(), 4096).unwrap().waiting(), 0);
    }

    #[test]
    fn a_torn_last_record_is_counted_and_what_follows_a_restart_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        spool.append(&[entry(1), entry(2)]).unwrap();
        let segment = spool.path(1);
        drop(spool);
        let bytes = fs::read(&segment).unwrap();
        fs::write(&segment, &bytes[..bytes.len() - 3]).unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        assert_eq!((spool.waiting(), spool.damaged()), (1, 1));
        spool.append(&[entry(3)]).unwrap();
        assert_eq!(ids(&spool.peek(9, 1 << 20).unwrap()), [1, 3]);
        spool.taken(2).unwrap();
        assert_eq!(spool.waiting(), 0);
    }

    #[test]
    fn a_torn_head_repeats_records_and_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        spool.append(&[entry(1), entry(2), entry(3)]).unwrap();
        for _ in 0..2 {
            spool.peek(1, 1 << 20).unwrap();
            spool.taken(1).unwrap();
        }
        drop(spool);
        let head = dir.path().join("head");
        let mut bytes = fs::read(&head).unwrap();
        bytes[3] ^= 1;
        fs::write(&head, bytes).unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(ids(&spool.peek(9, 1 << 20).unwrap()), [2, 3]);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut walk = Walk::new(&bytes);
            let read = walk.by_ref().count();
            prop_assert!(read <= bytes.len() / HEAD);
        }

        #[test]
        fn nothing_is_lost_or_reordered(steps in prop::collection::vec((0_usize..5, 0_usize..5, any::<bool>()), 1..30)) {
            let dir = tempfile::tempdir().unwrap();
            let mut spool = Spool::open(dir.path(), 1 << 20).unwrap();
            let (mut written, mut taken) = (0, Vec::new());
            for (write, take, restart) in steps {
                let batch: Vec<_> = (written..written + write).map(entry).collect();
                spool.append(&batch).unwrap();
                written += write;
                let read = spool.peek(take.max(1), 1 << 20).unwrap();
                let count = take.min(read.len());
                taken.extend(ids(&read[..count]));
                spool.taken(count).unwrap();
                if restart {
                    drop(spool);
                    spool = Spool::open(dir.path(), 1 << 20).unwrap();
                }
            }
            taken.extend(ids(&spool.peek(10_000, 1 << 20).unwrap()));
            prop_assert_eq!(taken, (0..u64::try_from(written).unwrap()).collect::<Vec<_>>());
        }
    }
}
