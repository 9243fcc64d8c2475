//! One capture file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{CaptureError, Packet, blocks::Blocks, input, pcap::Pcap, pcapng::PcapNg};
use crate::types::Timestamp;

/// Largest captured packet that is believed, 256 KiB: the largest snap length of libpcap
/// (`MAXIMUM_SNAPLEN`). A record that claims more ends the file as damaged.
pub const MAX_PACKET: u32 = 256 << 10;
/// Comments kept and not yet taken, per file; later ones are counted only.
pub const MAX_COMMENTS: usize = 4096;
/// Bytes of decryption secrets kept and not yet taken, per file; more is counted only.
pub const MAX_SECRETS: usize = 16 << 20;

/// What a pcapng file says about itself or one of its packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comment {
    /// The packet it belongs to, by its number in the file; `None` for the file or an interface.
    pub packet: Option<u64>,
    /// Its text, at most 4 KiB, invalid UTF-8 replaced.
    pub text: String,
}

/// A decryption secrets block of a pcapng file. Secret: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// `secrets_type`, e.g. [`Secrets::TLS_KEY_LOG`].
    pub kind: u32,
    /// The block's data.
    pub data: Bytes,
}

impl Secrets {
    /// NSS key log lines.
    pub const TLS_KEY_LOG: u32 = 0x544c_534b;
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({:#010x}, {} bytes)", self.kind, self.data.len())
    }
}

/// What a reader met besides packets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CaptureCounters {
    /// Packets given out.
    pub packets: u64,
    /// Captured bytes in them.
    pub bytes: u64,
    /// Records that could not be read: damaged, or of an interface that was not described.
    pub errors: u64,
    /// Blocks passed over because their type is not read here.
    pub skipped_blocks: u64,
    /// Comments and secrets not kept: over [`MAX_COMMENTS`] or [`MAX_SECRETS`].
    pub not_kept: u64,
}

/// What a format reader found next.
pub(super) enum Step {
    /// A packet; `id.order` and `id.file` are still to be set.
    Packet(Packet),
    /// Something else; go on.
    Again,
    /// The file ends where a record ends.
    End,
    /// The file ends or stops making sense inside a record.
    Broken(String),
}

/// What format readers fill besides packets.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) comments: Vec<Comment>,
    pub(super) secrets: Vec<Secrets>,
    pub(super) counters: CaptureCounters,
}

enum Format {
    Pcap(Pcap),
    PcapNg(Box<PcapNg>),
}

/// Reads the packets of one capture in the order of the file.
///
/// pcap (microseconds, nanoseconds, the modified header with extra fields; both byte orders) and pcapng,
/// plain or compressed with gzip or zstd. Packets share the block they were read in.
pub struct CaptureReader {
    path: PathBuf,
    file: u16,
    blocks: Blocks,
    format: Format,
    extras: Extras,
    done: bool,
    truncated: Option<String>,
}

impl CaptureReader {
    /// Opens `path`, `-` being standard input. `file_index` goes into every [`PacketId`](crate::types::PacketId).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is empty, or is no capture.
    pub fn open(path: &Path, file_index: u16) -> Result<Self, CaptureError> {
        Self::from_input(input::open(path), path, file_index)
    }

    /// As [`open`](Self::open), a capture that is still being written: a pipe, or standard input.
    ///
    /// # Errors
    ///
    /// As `open`'s.
    pub fn follow(path: &Path, file_index: u16) -> Result<Self, CaptureError> {
        Self::from_input(input::follow(path), path, file_index)
    }

    /// Reads a capture that is in memory, for tests and fuzzers; `path` is for messages.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(data: Bytes, path: &Path, file_index: u16) -> Result<Self, CaptureError> {
        let blocks = Blocks::new(Box::new(io::Cursor::new(data)), true);
        Self::from_blocks(blocks, path, file_index)
    }

    fn from_input(input: io::Result<Blocks>, path: &Path, file: u16) -> Result<Self, CaptureError> {
        let blocks = input.map_err(|source| CaptureError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::from_blocks(blocks, path, file)
    }

    fn from_blocks(mut blocks: Blocks, path: &Path, file: u16) -> Result<Self, CaptureError> {
        let path = path.to_owned();
        let io = |source| CaptureError::Io {
            path: path.clone(),
            source,
        };
        let whole = match blocks.want(4) {
            Ok(whole) => whole,
            // A compressed file that does not even decompress to a magic number.
            Err(e) if is_damage(&e) => {
                return Err(CaptureError::NotACapture {
                    path,
                    found: format!("compressed data that does not decompress ({e})"),
                });
            }
            Err(e) => return Err(io(e)),
        };
        if blocks.ahead().is_empty() {
            return Err(CaptureError::Empty { path });
        }
        let magic: [u8; 4] = blocks.ahead().first_chunk().copied().unwrap_or_default();
        let mut extras = Extras::default();
        let format = if !whole {
            None
        } else if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            Some(PcapNg::open(&mut blocks, &mut extras).map(|f| Format::PcapNg(Box::new(f))))
        } else {
            Pcap::recognise(magic).map(|variant| variant.open(&mut blocks).map(Format::Pcap))
        };
        match format {
            None => Err(CaptureError::NotACapture {
                found: looks_like(blocks.ahead()),
                path,
            }),
            Some(Ok(format)) => Ok(Self {
                path,
                file,
                blocks,
                format,
                extras,
                done: false,
                truncated: None,
            }),
            Some(Err(HeaderError::Io(e))) if !is_damage(&e) => Err(io(e)),
            Some(Err(HeaderError::Io(e))) => Err(CaptureError::BadHeader {
                path,
                found: format!("compressed data that breaks off in the capture's header ({e})"),
                expected: "a whole capture header",
            }),
            Some(Err(HeaderError::Bad { found, expected })) => Err(CaptureError::BadHeader {
                path,
                found,
                expected,
            }),
        }
    }

    /// The next packet, with `id.order` still 0 ([`Merged`](super::Merged) sets it); `None` at the end.
    ///
    /// # Errors
    ///
    /// Only if the operating system fails to read. A damaged or cut file ends with `None` and
    /// [`truncated`](Self::truncated).
    #[inline]
    pub fn next_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        while !self.done {
            let step = match &mut self.format {
                Format::Pcap(f) => f.step(&mut self.blocks, &mut self.extras),
                Format::PcapNg(f) => f.step(&mut self.blocks, &mut self.extras),
            };
            match step {
                Ok(Step::Packet(mut packet)) => {
                    let counters = &mut self.extras.counters;
                    packet.id.file = self.file;
                    counters.packets = counters.packets.saturating_add(1);
                    counters.bytes = counters
                        .bytes
                        .saturating_add(u64::try_from(packet.data.len()).unwrap_or(0));
                    return Ok(Some(packet));
                }
                Ok(Step::Again) => {}
                Ok(Step::End) => self.done = true,
                Ok(Step::Broken(how)) => self.stop(how),
                Err(e) if is_damage(&e) => self.stop(format!("the compressed data breaks off: {e}")),
                Err(source) => {
                    self.done = true;
                    return Err(CaptureError::Io {
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
        Ok(None)
    }

    /// The capture is still being written, and the next packet is not all there.
    #[inline]
    pub fn waits(&mut self) -> bool {
        while self.blocks.is_followed() && !self.done {
            let next_len = match &self.format {
                Format::Pcap(f) => f.next_len(&self.blocks),
                Format::PcapNg(f) => f.next_len(&self.blocks),
            };
            if next_len.is_some_and(|len| self.blocks.ahead().len() >= len) {
                return false;
            }
            if !self.blocks.top_up() {
                return true;
            }
        }
        false
    }

    fn stop(&mut self, how: String) {
        self.done = true;
        self.extras.counters.errors = self.extras.counters.errors.saturating_add(1);
        self.truncated = Some(format!(
            "{}: breaks off after packet {}: {how}",
            self.path.display(),
            self.extras.counters.packets
        ));
    }

    /// After the end: how the file breaks off, if it does. One line, names the file and the last good packet.
    pub fn truncated(&self) -> Option<&str> {
        self.truncated.as_deref()
    }

    /// What was read so far.
    pub fn counters(&self) -> CaptureCounters {
        self.extras.counters
    }

    /// Which file this is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`take_secrets`](Self::take_secrets) has something.
    #[inline]
    pub fn has_secrets(&self) -> bool {
        !self.extras.secrets.is_empty()
    }

    /// Decryption secrets met since the last call. They apply to packets after (and often before) them.
    pub fn take_secrets(&mut self) -> Vec<Secrets> {
        std::mem::take(&mut self.extras.secrets)
    }

    /// Whether [`take_comments`](Self::take_comments) has something.
    #[inline]
    pub fn has_comments(&self) -> bool {
        !self.extras.comments.is_empty()
    }

    /// Comments met since the last call.
    pub fn take_comments(&mut self) -> Vec<Comment> {
        std::mem::take(&mut self.extras.comments)
    }
}

impl fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureReader")
            .field("path", &self.path)
            .field("counters", &self.extras.counters)
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

/// Why a header could not be read.
pub(super) enum HeaderError {
    Io(io::Error),
    Bad { found: String, expected: &'static str },
}

impl From<io::Error> for HeaderError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Errors of a decompressor about its input, as against those of the operating system.
fn is_damage(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// What kind of file starts like this, for the message.
fn looks_like(start: &[u8]) -> String {
    let known = match start {
        [b'{' | b'[', ..] => Some("JSON text"),
        [0x7f, b'E', b'L', b'F', ..] => Some("an ELF program"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [b'B', b'Z', b'h', ..] => Some("bzip2 data"),
        [0xfd, b'7', b'z', b'X', ..] => Some("xz data"),
        [b's', b'n', b'o', b'o', ..] => Some("a snoop capture"),
        _ => None,
    };
    let head = start.get(..start.len().min(4)).unwrap_or_default();
    match known {
        Some(name) => name.to_owned(),
        None if start.len() < 4 => format!("only {} bytes", start.len()),
        None if head
            .iter()
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) =>
        {
            "text".to_owned()
        }
        None => {
            let hex: Vec<String> = head.iter().map(|b| format!("{b:02x}")).collect();
            format!("a file that starts with the bytes {}", hex.join(" "))
        }
    }
}

/// Seconds and nanoseconds to a timestamp, saturating.
pub(super) fn timestamp(secs: u32, nanos: u32) -> Timestamp {
    Timestamp(
        u64::from(secs)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(nanos)),
    )
}

#[cfg(test)]
mod follow_tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::follow::Following;

    /// Wherever the writer stops, whole packets are given out and the rest is waited for.
    #[test]
    fn a_followed_capture_waits_only_for_what_is_not_there() {
        let mut bytes = vec![
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
        ];
        let mut ends = Vec::new();
        // Larger than one read together, so that the cuts lie at every place of one.
        for size in [10_u32, 70_000, 3, 65_536 - 16, 500] {
            for field in [1, 0, size, size] {
                bytes.extend_from_slice(&u32::to_le_bytes(field));
            }
            bytes.resize(bytes.len() + size as usize, 7);
            ends.push(bytes.len());
        }
        for cut in [
            25,
            40,
            50,
            51,
            65_536,
            65_600,
            70_065,
            70_066,
            70_100,
            135_000,
            135_621,
            bytes.len() - 1,
        ] {
            let (read, mut write) = io::pipe().unwrap();
            let (following, unread) = Following::start(Box::new(read)).unwrap();
            let (first, rest) = bytes.split_at(cut);
            let blocks = Blocks::following(Box::new(following), unread.clone());
            let first = first.to_vec();
            let writer = std::thread::spawn(move || {
                write.write_all(&first).unwrap();
                write
            });
            let mut reader = CaptureReader::from_blocks(blocks, Path::new("-"), 0).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            for n in 0..whole {
                assert!(reader.next_packet().unwrap().is_some(), "packet {n} of cut {cut}");
            }
            let mut write = writer.join().unwrap();
            assert!(reader.waits(), "cut {cut}");
            let rest = rest.to_vec();
            let writer = std::thread::spawn(move || write.write_all(&rest).unwrap());
            for n in whole..ends.len() {
                assert!(reader.next_packet().unwrap().is_some(), "packet {n} of cut {cut}");
            }
            writer.join().unwrap();
            assert!(reader.next_packet().unwrap().is_none(), "cut {cut}");
            assert_eq!(reader.truncated(), None);
        }
    }
}
