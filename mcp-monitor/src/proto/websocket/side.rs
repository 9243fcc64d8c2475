//! One direction: frames put together to messages.

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::{
    Limits, WsEvent,
    frame::{CLOSE, CONTINUATION, Frame, MAX_HEADER, TEXT, plausible},
};
use crate::types::{Anomaly, AnomalyKind, At, Direction};

/// What a sender leaves out at the end of a compressed message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const PIECE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Side {
    direction: Direction,
    limits: Limits,
    state: State,
    header: BytesMut,
    /// Payload of the data frames of the message under way.
    message: BytesMut,
    /// Kind and compression of it, once its first frame was seen.
    open: Option<Open>,
    control: BytesMut,
    inflater: Option<Decompress>,
    /// Compressed messages depend on bytes that were lost.
    context_lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    text: bool,
    compressed: bool,
    /// Lost or too large: to be passed over.
    broken: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Payload {
        frame: Frame,
        /// Octets still to come.
        left: u64,
    },
    /// Frame boundaries were lost.
    Seek,
    /// Not WebSocket.
    Done,
}

impl Side {
    pub(super) fn new(direction: Direction, limits: Limits) -> Self {
        Self {
            direction,
            limits,
            state: State::Header,
            header: BytesMut::new(),
            message: BytesMut::new(),
            open: None,
            control: BytesMut::new(),
            inflater: None,
            context_lost: false,
        }
    }

    /// Joined in the middle: frames are looked for at the start of each segment.
    pub(super) fn joined(self) -> Self {
        Self {
            state: State::Seek,
            context_lost: true,
            ..self
        }
    }

    pub(super) fn data(&mut self, at: At, data: Bytes, out: &mut Vec<WsEvent>) {
        let mut data = data;
        if matches!(self.state, State::Seek) && !data.is_empty() {
            // RFC 6455 section 5.1: a client masks, a server does not.
            if !plausible(&data, self.direction == Direction::ToServer) {
                return;
            }
            self.state = State::Header;
        }
        while !data.is_empty() {
            match self.state {
                State::Header => self.header(at, &mut data, out),
                State::Payload { frame, left } => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    let piece = data.split_to(take);
                    self.payload(at, frame, left, piece, out);
                }
                State::Seek | State::Done => return,
            }
        }
    }

    pub(super) fn held(&self) -> usize {
        self.message.len()
    }

    pub(super) fn give_up(&mut self) {
        self.message = BytesMut::new();
        if let Some(open) = &mut self.open {
            open.broken = true;
            self.context_lost |= open.compressed;
        }
    }

    pub(super) fn gap(&mut self, bytes: u64) {
        if bytes == 0 || matches!(self.state, State::Done) {
            return;
        }
        self.message.clear();
        match &mut self.state {
            State::Payload { frame, left } if bytes < *left => {
                *left = left.saturating_sub(bytes);
                if frame.is_control() {
                    // The rest of it is passed over with the frame.
                    self.control.clear();
                } else {
                    self.context_lost |= self.open.is_some_and(|open| open.compressed);
                    self.open = self.open.map(|open| Open { broken: true, ..open });
                }
            }
            _ => {
                self.state = State::Seek;
                self.header.clear();
                self.control.clear();
                self.open = None;
                self.context_lost = true;
            }
        }
    }

    fn header(&mut self, at: At, data: &mut Bytes, out: &mut Vec<WsEvent>) {
        // The whole header lies in the piece, or its octets are collected one by one.
        let parsed = if self.header.is_empty() {
            Frame::parse(data)
        } else {
            let room = MAX_HEADER.saturating_sub(self.header.len()).min(data.len());
            let mut joined = self.header.clone();
            joined.extend_from_slice(data.get(..room).unwrap_or_default());
            Frame::parse(&joined)
        };
        match parsed {
            Err(remark) => {
                self.state = State::Done;
                self.anomaly(at, AnomalyKind::WebsocketError, remark, out);
            }
            Ok(None) => self.header.extend_from_slice(&std::mem::take(data)),
            Ok(Some(frame)) => {
                let taken = frame.header.saturating_sub(self.header.len()).min(data.len());
                _ = data.split_to(taken);
                self.header.clear();
                self.begin(at, frame, out);
            }
        }
    }

    fn begin(&mut self, at: At, frame: Frame, out: &mut Vec<WsEvent>) {
        if !frame.is_control() {
            match (frame.opcode, self.open) {
                (CONTINUATION, Some(_)) => {}
                (CONTINUATION, None) => {
                    // Its beginning was lost.
                    self.open = Some(Open {
                        text: false,
                        compressed: true,
                        broken: true,
                    });
                }
                (opcode, open) => {
                    if open.is_some() {
                        self.message.clear();
                        self.anomaly(at, AnomalyKind::WebsocketError, "message inside another one", out);
                    }
                    self.open = Some(Open {
                        text: opcode == TEXT,
                        compressed: frame.compressed,
                        broken: false,
                    });
                }
            }
        }
        self.state = State::Payload {
            frame,
            left: frame.length,
        };
        if frame.length == 0 {
            self.payload(at, frame, 0, Bytes::new(), out);
        }
    }

    fn payload(&mut self, at: At, frame: Frame, left: u64, piece: Bytes, out: &mut Vec<WsEvent>) {
        let seen = frame.length.saturating_sub(left);
        let size = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let left = left.saturating_sub(size);
        self.state = if left == 0 {
            State::Header
        } else {
            State::Payload { frame, left }
        };
        if frame.is_control() {
            append(&mut self.control, &piece, frame.mask, seen);
            if left == 0 {
                let control = self.control.split();
                if frame.opcode == CLOSE {
                    out.push(WsEvent::Close {
                        direction: self.direction,
                        code: control.first_chunk().map(|code| u16::from_be_bytes(*code)),
                        at,
                    });
                }
            }
            return;
        }
        let Some(mut open) = self.open else {
            return;
        };
        // A whole message in one piece is passed on as it is.
        if seen == 0
            && left == 0
            && frame.fin
            && frame.mask.is_none()
            && !open.compressed
            && !open.broken
            && self.message.is_empty()
            && piece.len() <= self.limits.max_message
        {
            self.open = None;
            return self.message(at, open.text, piece, out);
        }
        if !open.broken {
            if self.message.len().saturating_add(piece.len()) > self.limits.max_message {
                open.broken = true;
                self.context_lost |= open.compressed;
                self.message = BytesMut::new();
                self.anomaly(
                    at,
                    AnomalyKind::BodyLimit,
                    "WebSocket message above the limit",
                    out,
                );
            } else {
                append(&mut self.message, &piece, frame.mask, seen);
            }
            self.open = Some(open);
        }
        if left > 0 || !frame.fin {
            return;
        }
        self.open = None;
        let message = std::mem::take(&mut self.message);
        if open.broken {
            return;
        }
        if !open.compressed {
            return self.message(at, open.text, message.freeze(), out);
        }
        if self.context_lost {
            // A message that refers to nothing before it can still be read, and those after it with it: every
            // one where no context is taken over. A reference to what was lost is an error of the decoder.
            self.inflater = None;
        }
        match self.inflate(&message) {
            Ok(data) => {
                self.context_lost = false;
                self.message(at, open.text, data.freeze(), out);
            }
            Err((AnomalyKind::CodingError, _)) if self.context_lost => {
                let remark = "compressed message that depends on lost bytes";
                self.anomaly(at, AnomalyKind::WebsocketError, remark, out);
            }
            Err((kind, remark)) => {
                self.context_lost = true;
                self.anomaly(at, kind, remark, out);
            }
        }
    }

    fn inflate(&mut self, coded: &[u8]) -> Result<BytesMut, (AnomalyKind, &'static str)> {
        let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
        let mut data = BytesMut::new();
        let mut buffer = [0u8; PIECE];
        for part in [coded, &TAIL] {
            let mut input = part;
            loop {
                let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
                let status = inflater
                    .decompress(input, &mut buffer, FlushDecompress::None)
                    .map_err(|_| (AnomalyKind::CodingError, "WebSocket message does not decompress"))?;
                let size = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(0);
                let consumed = size(inflater.total_in(), before_in);
                let produced = size(inflater.total_out(), before_out);
                input = input.get(consumed..).unwrap_or_default();
                if data.len().saturating_add(produced) > self.limits.max_message {
                    return Err((AnomalyKind::InflateLimit, "WebSocket message above the limit"));
                }
                data.extend_from_slice(buffer.get(..produced).unwrap_or_default());
                if status == Status::StreamEnd {
                    // A sender may close the stream in each message (RFC 7692 section 7.2.3.4).
                    inflater.reset(false);
                }
                if produced < buffer.len() && (input.is_empty() || (consumed == 0 && produced == 0)) {
                    break;
                }
            }
        }
        Ok(data)
    }

    fn message(&self, at: At, text: bool, data: Bytes, out: &mut Vec<WsEvent>) {
        out.push(WsEvent::Message {
            direction: self.direction,
            text,
            data,
            at,
        });
    }

    fn anomaly(&self, at: At, kind: AnomalyKind, remark: &str, out: &mut Vec<WsEvent>) {
        out.push(WsEvent::Anomaly {
            anomaly: Anomaly::new(kind, remark),
            at,
        });
    }
}

/// Adds a piece that begins `seen` octets into its frame, unmasked.
fn append(to: &mut BytesMut, piece: &[u8], mask: Option<[u8; 4]>, seen: u64) {
    let start = to.len();
    to.extend_from_slice(piece);
    let Some(mut key) = mask else {
        return;
    };
    key.rotate_left(usize::try_from(seen & 3).unwrap_or(0));
    let new = to.get_mut(start..).unwrap_or_default();
    for chunk in new.chunks_mut(4) {
        for (byte, k) in chunk.iter_mut().zip(key) {
            *byte ^= k;
        }
    }
}
