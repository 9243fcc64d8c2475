//! Messages over TCP: two octets of length before each (RFC 1035 section 4.2.2).

use bytes::{Buf, Bytes, BytesMut};

const HEADER: usize = 12;

/// One direction of a DNS connection.
#[derive(Debug, Default)]
pub struct TcpStream {
    /// Length and message as far as they have come; never more than 64 KiB and a piece.
    partial: BytesMut,
    /// Out of step after lost bytes.
    lost: bool,
}

impl TcpStream {
    /// A stream seen from its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes; whole messages, without their length, go to `out`. A message that
    /// lies in one piece is not copied.
    pub fn push(&mut self, data: Bytes, out: &mut Vec<Bytes>) {
        let mut data = data;
        if self.lost {
            // A segment that holds exactly one message is where a sender begins anew.
            let exact = length(&data).is_some_and(|n| n >= HEADER && n.saturating_add(2) == data.len());
            if !exact {
                return;
            }
            self.lost = false;
        }
        while !data.is_empty() {
            if self.partial.is_empty()
                && let Some(len) = length(&data)
                && let end = len.saturating_add(2)
                && data.len() >= end
            {
                let mut message = data.split_to(end);
                message.advance(2);
                out.push(message);
                continue;
            }
            let missing = match length(&self.partial) {
                None => 2usize.saturating_sub(self.partial.len()),
                Some(len) => len.saturating_add(2).saturating_sub(self.partial.len()),
            };
            let piece = data.split_to(missing.min(data.len()));
            self.partial.extend_from_slice(&piece);
            if length(&self.partial).is_some_and(|len| self.partial.len() >= len.saturating_add(2)) {
                let mut message = std::mem::take(&mut self.partial).freeze();
                message.advance(2);
                out.push(message);
            }
        }
    }

    /// Bytes are missing here: what follows waits for a segment that is one message.
    pub fn gap(&mut self) {
        self.partial = BytesMut::new();
        self.lost = true;
    }
}

fn length(data: &[u8]) -> Option<usize> {
    data.first_chunk().map(|b| usize::from(u16::from_be_bytes(*b)))
}
