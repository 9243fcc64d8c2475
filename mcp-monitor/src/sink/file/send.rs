//! Appends, and rotates.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::Instant,
};

use super::config::Config;
use crate::sink::delivery::{Entry, Kind, Pending, Sender, Sent, Trouble};

/// The file and where it stands.
pub(super) struct Rotating {
    config: Config,
    open: Option<Open>,
}

struct Open {
    file: File,
    bytes: u64,
    since: Instant,
}

impl Rotating {
    pub(super) fn new(config: Config) -> Self {
        Self { config, open: None }
    }

    pub(super) fn append(&mut self, batch: &[Entry]) -> io::Result<u64> {
        let mut bytes = Vec::new();
        for entry in batch {
            bytes.extend(self.config.encoding.line(entry));
            bytes.push(b'\n');
        }
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.rotate(len)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        let written = open.file.write_all(&bytes).and_then(|()| {
            if batch.iter().any(|entry| entry.kind == Kind::Alert) {
                open.file.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            // A line that was begun is cut off again, so that the repetition is a whole one.
            let _ = open.file.set_len(open.bytes);
            return Err(error);
        }
        open.bytes = open.bytes.saturating_add(len);
        self.open = Some(open);
        Ok(len)
    }

    fn reopen(&self) -> io::Result<Open> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.config.path)?;
        let mut bytes = file.metadata()?.len();
        // A process that was killed while it wrote left half a line.
        if bytes > 0 && file.metadata()?.is_file() {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes = bytes.saturating_add(1);
            }
        }
        Ok(Open {
            file,
            bytes,
            since: Instant::now(),
        })
    }

    /// Before `coming` more bytes are written.
    fn rotate(&mut self, coming: u64) -> io::Result<()> {
        let same = |open: &Open| {
            let (Ok(there), Ok(ours)) = (fs::metadata(&self.config.path), open.file.metadata()) else {
                return false;
            };
            (there.dev(), there.ino()) == (ours.dev(), ours.ino())
        };
        self.open = self.open.take().filter(same);
        if let Some(open) = &mut self.open {
            // Somebody may have emptied it in place.
            open.bytes = open.file.metadata()?.len();
        } else {
            self.open = Some(self.reopen()?);
        }
        let Some(open) = &self.open else { return Ok(()) };
        let old = self.config.max_age.is_some_and(|age| open.since.elapsed() >= age);
        let full = open.bytes.saturating_add(coming) > self.config.max_bytes;
        if open.bytes == 0 || !(full || old) {
            return Ok(());
        }
        self.open = None;
        if self.config.keep == 0 {
            return fs::remove_file(&self.config.path);
        }
        for number in (1..self.config.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number.saturating_add(1))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.config.path, self.numbered(1))
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut path = self.config.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl Sender for Rotating {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            match self.append(batch) {
                Ok(bytes) => Sent {
                    taken: batch.len(),
                    bytes,
                    ..Sent::default()
                },
                Err(error) => Sent::whole(0, 0, Err(self.trouble(&error))),
            }
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(async move {
            let was_there = self.config.path.exists();
            let opened = self.reopen().map_err(|error| self.trouble(&error))?;
            if !was_there {
                let _ = fs::remove_file(&self.config.path);
            }
            let path = self.config.path.display();
            Ok(format!("{path} can be written, {} bytes in it", opened.bytes))
        })
    }
}

impl Rotating {
    fn trouble(&self, error: &io::Error) -> Trouble {
        Trouble::later(format!("{}: {error}", self.config.path.display()))
    }
}
