//! Records to a stream: one JSON object a line, or text for people.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// How records look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// One line of text.
    Text,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is on its way.
    Yes,
    /// The reader closed its end (`| head`): nobody wants more, and that is no error.
    Closed,
}

/// Writes records, buffered.
#[derive(Debug)]
pub struct RecordWriter<W: Write> {
    out: BufWriter<W>,
    format: Format,
}

impl<W: Write> RecordWriter<W> {
    /// To `out`.
    pub fn new(out: W, format: Format) -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, out),
            format,
        }
    }

    /// Writes one record: `record` as JSON, or `text`.
    ///
    /// # Errors
    ///
    /// What the stream says, a closed reader excepted.
    pub fn write(&mut self, record: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<Written> {
        let result = match self.format {
            Format::Json => serde_json::to_writer(&mut self.out, record)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
            Format::Text => writeln!(self.out, "{}", text()),
        };
        settle(result)
    }

    /// Sends out what is buffered.
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    pub fn flush(&mut self) -> io::Result<Written> {
        let result = self.out.flush();
        settle(result)
    }
}

fn settle(result: io::Result<()>) -> io::Result<Written> {
    match result {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::Closed),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines() {
        let mut bytes = Vec::new();
        let mut writer = RecordWriter::new(&mut bytes, Format::Json);
        writer.write(&serde_json::json!({"a": 1}), String::new).unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(bytes, b"{\"a\":1}\n");
    }

    #[test]
    fn a_closed_reader_is_no_error() {
        let mut writer = RecordWriter::new(Broken, Format::Text);
        assert_eq!(writer.write(&1, || "x".repeat(100_000)).unwrap(), Written::Closed);
    }
}
