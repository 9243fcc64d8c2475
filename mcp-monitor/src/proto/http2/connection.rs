//! Frames of both directions, and the streams they belong to.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Limits, PREFACE,
    frame::{
        ALTSVC, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADER, HEADERS, PADDED, PRIORITY,
        PUSH_PROMISE, RST_STREAM, plausible,
    },
    hpack::{Block, Decoder},
};
use crate::{
    proto::http::{ExchangeId, Headers, HttpEvent, RequestHead, ResponseHead, Version},
    types::{Anomaly, AnomalyKind, At, Direction, PacketId},
};

/// An HTTP/2 connection. Feed it [`Self::data`], [`Self::gap`] and [`Self::fin`] of each
/// direction in stream order, then [`Self::abort`] when the flow is over.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    to_server: Side,
    to_client: Side,
    streams: BTreeMap<u32, Stream>,
    /// The connection was seen from its start and nothing was lost: a stream that is not
    /// known was closed.
    whole: bool,
    /// Streams above the limit up to this one are not followed.
    passed_over: u32,
}

/// Bytes of an ALTSVC frame that is read; a longer one is passed over like any frame without meaning here.
const MAX_ALTERNATIVE: usize = 4096;

/// One direction.
#[derive(Debug)]
struct Side {
    state: State,
    /// Preface octets still to come.
    preface: usize,
    header: BytesMut,
    hpack: Decoder,
    block: Option<Fragments>,
    /// Payload of an ALTSVC frame under way.
    alternative: BytesMut,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In or before a frame header.
    Header,
    /// In the payload of DATA: before the pad length, in data, in padding.
    Data { frame: Frame, part: Part },
    /// In a payload that belongs to a header block.
    Block { left: usize },
    /// In the payload of ALTSVC.
    Alternative { stream: u32, left: usize },
    /// In a payload that is passed over.
    Skip { left: usize },
    /// Frame boundaries were lost.
    Seek,
    /// Not HTTP/2 after all.
    Done,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    PadLength,
    Data { left: usize, padding: usize },
    Padding { left: usize },
}

/// A header block on its way.
#[derive(Debug)]
struct Fragments {
    stream: u32,
    kind: u8,
    flags: u8,
    /// Flags of the frame under way.
    frame_flags: u8,
    /// Payload of the frame under way, padding and priority included.
    payload: BytesMut,
    coded: BytesMut,
    first: PacketId,
}

#[derive(Clone, Copy, Default, Debug)]
struct Stream {
    request: Half,
    response: Half,
}

/// One direction of a stream.
#[derive(Clone, Copy, Default, Debug)]
struct Half {
    head: bool,
    ended: bool,
    lossy: bool,
}

impl Stream {
    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::ToServer => &mut self.request,
            Direction::ToClient => &mut self.response,
        }
    }
}

impl Side {
    fn new(preface: usize, limits: &Limits) -> Self {
        Self {
            state: State::Header,
            preface,
            header: BytesMut::new(),
            hpack: Decoder::new(limits.max_table),
            block: None,
            alternative: BytesMut::new(),
        }
    }
}

impl Connection {
    /// A connection seen from the client's preface.
    pub fn new(limits: Limits) -> Self {
        Self {
            to_server: Side::new(PREFACE.len(), &limits),
            to_client: Side::new(0, &limits),
            streams: BTreeMap::new(),
            whole: true,
            passed_over: 0,
            limits,
        }
    }

    /// A connection that HTTP/1 was upgraded to (`Upgrade: h2c`, RFC 7540 section 3.2): the
    /// request that asked for it is stream 1, half closed.
    pub fn upgraded(limits: Limits) -> Self {
        let mut connection = Self::new(limits);
        let request = Half {
            head: true,
            ended: true,
            lossy: false,
        };
        let stream = Stream {
            request,
            ..Stream::default()
        };
        connection.streams.insert(1, stream);
        connection
    }

    /// A connection joined in the middle: frames are looked for at the start of each segment.
    pub fn joined(limits: Limits) -> Self {
        let mut connection = Self::new(limits);
        connection.whole = false;
        for side in [&mut connection.to_server, &mut connection.to_client] {
            side.preface = 0;
            side.state = State::Seek;
            side.hpack.lose();
        }
        connection
    }

    /// The next bytes of a direction; each call is taken for the start of a segment.
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes, out: &mut Vec<HttpEvent>) {
        let mut data = data;
        let side = self.side(direction);
        if matches!(side.state, State::Seek) {
            if !plausible(&data) {
                return;
            }
            side.state = State::Header;
        }
        if side.preface > 0 && !self.preface(direction, at, &mut data, out) {
            return;
        }
        while !data.is_empty() {
            match self.side(direction).state {
                State::Header => self.header(direction, at, &mut data, out),
                State::Data { frame, part } => self.payload(direction, at, frame, part, &mut data, out),
                State::Block { left } => {
                    let piece = data.split_to(left.min(data.len()));
                    let left = left.saturating_sub(piece.len());
                    let side = self.side(direction);
                    if let Some(block) = &mut side.block {
                        block.payload.extend_from_slice(&piece);
                    }
                    side.state = State::Block { left };
                    if left == 0 {
                        side.state = State::Header;
                        self.fragment(direction, at, out);
                    }
                }
                State::Alternative { stream, left } => {
                    let piece = data.split_to(left.min(data.len()));
                    let left = left.saturating_sub(piece.len());
                    let side = self.side(direction);
                    side.alternative.extend_from_slice(&piece);
                    side.state = State::Alternative { stream, left };
                    if left == 0 {
                        side.state = State::Header;
                        let payload = std::mem::take(&mut side.alternative).freeze();
                        out.extend(alternative(stream, &payload, at));
                    }
                }
                State::Skip { left } => {
                    let taken = left.min(data.len());
                    data.advance(taken);
                    self.side(direction).state = skip(left.saturating_sub(taken));
                }
                State::Seek | State::Done => return,
            }
        }
    }

    /// `bytes` of a direction will never come.
    pub fn gap(&mut self, direction: Direction, at: At, bytes: u64, out: &mut Vec<HttpEvent>) {
        if bytes == 0 {
            return;
        }
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.whole = false;
        let side = self.side(direction);
        match side.state {
            State::Data {
                frame,
                part: Part::Data { left, padding },
            } if size <= left => {
                let left = left.saturating_sub(size);
                side.state = State::Data {
                    frame,
                    part: Part::Data { left, padding },
                };
                self.body_gap(direction, frame.stream, Some(bytes), at, out);
                self.data_end(direction, at, out);
            }
            State::Skip { left } if size <= left => side.state = skip(left.saturating_sub(size)),
            State::Done => {}
            _ => {
                side.state = State::Seek;
                side.preface = 0;
                side.header.clear();
                side.block = None;
                side.hpack.lose();
                let open: Vec<u32> = self
                    .streams
                    .iter_mut()
                    .filter_map(|(id, stream)| (!stream.half(direction).ended).then_some(*id))
                    .collect();
                for stream in open {
                    self.body_gap(direction, stream, None, at, out);
                }
            }
        }
    }

    /// The direction was closed in order. What is open in it ends incomplete.
    pub fn fin(&mut self, direction: Direction, at: At, out: &mut Vec<HttpEvent>) {
        let open: Vec<u32> = self.streams.keys().copied().collect();
        for stream in open {
            self.end(direction, stream, false, at, out);
        }
        self.side(direction).state = State::Done;
    }

    /// The flow is over: reset, or the end of the input. What is open ends incomplete.
    pub fn abort(&mut self, at: At, out: &mut Vec<HttpEvent>) {
        self.fin(Direction::ToServer, at, out);
        self.fin(Direction::ToClient, at, out);
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Passes over the preface; false if there is none.
    fn preface(&mut self, direction: Direction, at: At, data: &mut Bytes, out: &mut Vec<HttpEvent>) -> bool {
        let side = self.side(direction);
        let seen = PREFACE.len().saturating_sub(side.preface);
        let want = PREFACE.get(seen..).unwrap_or_default();
        let taken = want.len().min(data.len());
        if want.get(..taken) != data.get(..taken) {
            side.state = State::Done;
            error(out, "no connection preface", at);
            return false;
        }
        side.preface = side.preface.saturating_sub(taken);
        data.advance(taken);
        true
    }

    fn header(&mut self, direction: Direction, at: At, data: &mut Bytes, out: &mut Vec<HttpEvent>) {
        let max_block = self.limits.max_block;
        let side = self.side(direction);
        let missing = HEADER.saturating_sub(side.header.len());
        side.header
            .extend_from_slice(&data.split_to(missing.min(data.len())));
        let Some(header) = side.header.first_chunk::<HEADER>().copied() else {
            return;
        };
        side.header.clear();
        let frame = Frame::parse(header);
        if let Some(block) = &mut side.block {
            if frame.kind != CONTINUATION || frame.stream != block.stream {
                // RFC 9113 section 6.2: a connection error. Nothing after it can be trusted.
                side.state = State::Done;
                return error(out, "header block interrupted by another frame", at);
            }
            block.frame_flags = frame.flags & END_HEADERS;
        } else {
            match frame.kind {
                DATA => {
                    let part = if frame.has(PADDED) {
                        Part::PadLength
                    } else {
                        Part::Data {
                            left: frame.length,
                            padding: 0,
                        }
                    };
                    side.state = State::Data { frame, part };
                    return self.data_end(direction, at, out);
                }
                HEADERS | PUSH_PROMISE => {
                    side.block = Some(Fragments {
                        stream: frame.stream,
                        kind: frame.kind,
                        flags: frame.flags,
                        frame_flags: frame.flags,
                        payload: BytesMut::new(),
                        coded: BytesMut::new(),
                        first: at.packet,
                    });
                }
                RST_STREAM => {
                    side.state = skip(frame.length);
                    self.end(Direction::ToServer, frame.stream, false, at, out);
                    return self.end(Direction::ToClient, frame.stream, false, at, out);
                }
                ALTSVC
                    if direction == Direction::ToClient && (1..=MAX_ALTERNATIVE).contains(&frame.length) =>
                {
                    side.alternative.clear();
                    side.state = State::Alternative {
                        stream: frame.stream,
                        left: frame.length,
                    };
                    return;
                }
                CONTINUATION => {
                    // Its HEADERS was not seen.
                    side.hpack.lose();
                    side.state = skip(frame.length);
                    return;
                }
                _ => {
                    side.state = skip(frame.length);
                    return;
                }
            }
        }
        let coded = side.block.as_ref().map_or(0, |block| block.coded.len());
        if coded.saturating_add(frame.length) > max_block {
            side.block = None;
            side.hpack.lose();
            side.state = skip(frame.length);
            self.whole = false;
            return anomaly(
                out,
                AnomalyKind::HttpHeadLimit,
                "header block above the limit",
                at,
            );
        }
        side.state = State::Block { left: frame.length };
        if frame.length == 0 {
            side.state = State::Header;
            self.fragment(direction, at, out);
        }
    }

    fn payload(
        &mut self,
        direction: Direction,
        at: At,
        frame: Frame,
        part: Part,
        data: &mut Bytes,
        out: &mut Vec<HttpEvent>,
    ) {
        let part = match part {
            Part::PadLength => {
                let padding = usize::from(data.get_u8());
                let Some(left) = frame
                    .length
                    .checked_sub(1)
                    .and_then(|rest| rest.checked_sub(padding))
                else {
                    self.side(direction).state = skip(frame.length.saturating_sub(1));
                    return error(out, "padding longer than its frame", at);
                };
                Part::Data { left, padding }
            }
            Part::Data { left, padding } => {
                let piece = data.split_to(left.min(data.len()));
                let left = left.saturating_sub(piece.len());
                if !piece.is_empty() && self.follows(direction, frame.stream) {
                    out.push(HttpEvent::Body {
                        exchange: id(frame.stream),
                        direction,
                        data: piece,
                        at,
                    });
                }
                Part::Data { left, padding }
            }
            Part::Padding { left } => {
                let taken = left.min(data.len());
                data.advance(taken);
                Part::Padding {
                    left: left.saturating_sub(taken),
                }
            }
        };
        self.side(direction).state = State::Data { frame, part };
        self.data_end(direction, at, out);
    }

    /// Goes on where a part of a DATA frame is complete.
    fn data_end(&mut self, direction: Direction, at: At, out: &mut Vec<HttpEvent>) {
        let side = self.side(direction);
        let State::Data { frame, part } = side.state else {
            return;
        };
        match part {
            Part::Data { left: 0, padding } if padding > 0 => {
                side.state = State::Data {
                    frame,
                    part: Part::Padding { left: padding },
                };
            }
            Part::Data { left: 0, .. } | Part::Padding { left: 0 } => {
                side.state = State::Header;
                if frame.has(END_STREAM) {
                    self.end(direction, frame.stream, true, at, out);
                }
            }
            // A PADDED frame without room for the pad length.
            Part::PadLength if frame.length == 0 => side.state = State::Header,
            _ => {}
        }
    }

    /// DATA of this stream is worth reporting. In a connection joined in the middle, a
    /// stream whose head was not seen is opened by it.
    fn follows(&mut self, direction: Direction, stream: u32) -> bool {
        if !self.whole && !self.streams.contains_key(&stream) && stream > self.passed_over {
            if self.streams.len() >= self.limits.max_streams {
                return false;
            }
            self.streams.insert(stream, Stream::default());
        }
        self.streams
            .get_mut(&stream)
            .is_some_and(|stream| !stream.half(direction).ended)
    }

    /// A frame of a header block is complete.
    fn fragment(&mut self, direction: Direction, at: At, out: &mut Vec<HttpEvent>) {
        let max_headers = self.limits.max_headers;
        let side = self.side(direction);
        let Some(block) = &mut side.block else {
            return;
        };
        let payload = block.payload.split();
        let Some(part) = strip(&payload, block.kind, block.frame_flags, block.coded.is_empty()) else {
            side.block = None;
            side.hpack.lose();
            return error(out, "header frame shorter than its fields", at);
        };
        block.coded.extend_from_slice(part);
        if block.frame_flags & END_HEADERS == 0 {
            return;
        }
        let Some(block) = side.block.take() else {
            return;
        };
        match side.hpack.decode(&block.coded, max_headers) {
            Err(remark) => {
                side.hpack.lose();
                self.whole = false;
                error(out, remark, at);
            }
            Ok(decoded) if block.kind == HEADERS => self.head(direction, at, &block, decoded, out),
            // A pushed request: clients refuse them, and nobody sends MCP that way.
            Ok(_) => {}
        }
    }

    fn head(
        &mut self,
        direction: Direction,
        at: At,
        block: &Fragments,
        decoded: Block,
        out: &mut Vec<HttpEvent>,
    ) {
        let stream = block.stream;
        if decoded.left_out > 0 {
            let remark = format!("{} fields above the limit", decoded.left_out);
            anomaly(out, AnomalyKind::HttpHeadLimit, remark, at);
        }
        if decoded.unknown > 0 {
            let remark = format!("{} fields unknown after lost bytes", decoded.unknown);
            error(out, remark, at);
        }
        if !self.streams.contains_key(&stream) {
            let closed = self.whole && direction == Direction::ToClient;
            if closed || stream <= self.passed_over {
                return;
            }
            if self.streams.len() >= self.limits.max_streams {
                self.passed_over = stream;
                let remark = format!("more than {} streams open", self.limits.max_streams);
                return anomaly(out, AnomalyKind::HttpPipelineLimit, remark, at);
            }
            self.streams.insert(stream, Stream::default());
        }
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        let unpaired = direction == Direction::ToClient && !entry.request.head;
        let half = entry.half(direction);
        if half.ended {
            return;
        }
        if !half.head {
            let head = Head::new(decoded);
            if direction == Direction::ToClient && (100..200).contains(&head.status) && head.status != 101 {
                return;
            }
            half.head = true;
            if unpaired {
                let remark = format!("stream {stream}: no request seen");
                anomaly(out, AnomalyKind::HttpUnpaired, remark, at);
            }
            out.push(head.event(direction, id(stream), block.first, at));
        }
        if block.flags & END_STREAM != 0 {
            self.end(direction, stream, true, at, out);
        }
    }

    fn body_gap(
        &mut self,
        direction: Direction,
        stream: u32,
        bytes: Option<u64>,
        at: At,
        out: &mut Vec<HttpEvent>,
    ) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.half(direction).lossy = true;
            out.push(HttpEvent::BodyGap {
                exchange: id(stream),
                direction,
                bytes,
                at,
            });
        }
    }

    /// One direction of a stream ended; said once, and only for what was opened.
    fn end(&mut self, direction: Direction, stream: u32, complete: bool, at: At, out: &mut Vec<HttpEvent>) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        let half = entry.half(direction);
        if !half.ended {
            half.ended = true;
            out.push(HttpEvent::End {
                exchange: id(stream),
                direction,
                complete: complete && !half.lossy,
                at,
            });
        }
        if entry.request.ended && entry.response.ended {
            self.streams.remove(&stream);
        }
    }
}

fn id(stream: u32) -> ExchangeId {
    ExchangeId(u64::from(stream))
}

fn skip(left: usize) -> State {
    if left == 0 {
        State::Header
    } else {
        State::Skip { left }
    }
}

/// The part of a frame's payload that belongs to the header block.
fn strip(payload: &[u8], kind: u8, flags: u8, first: bool) -> Option<&[u8]> {
    if !first {
        return Some(payload);
    }
    let mut part = payload;
    if flags & PADDED != 0 {
        let (length, rest) = part.split_first()?;
        part = rest.get(..rest.len().checked_sub(usize::from(*length))?)?;
    }
    match kind {
        HEADERS if flags & PRIORITY != 0 => part.get(5..),
        // The promised stream.
        PUSH_PROMISE => part.get(4..),
        _ => Some(part),
    }
}

/// Fields of a block, pseudo-header fields taken out.
struct Head {
    method: Bytes,
    target: Bytes,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    status: u16,
    headers: Headers,
}

impl Head {
    fn new(block: Block) -> Self {
        let mut head = Self {
            method: Bytes::new(),
            target: Bytes::new(),
            scheme: None,
            authority: None,
            status: 0,
            headers: Headers::default(),
        };
        for (name, value) in block.fields {
            match name.as_ref() {
                b":method" => head.method = value,
                b":path" => head.target = value,
                b":scheme" => head.scheme = Some(value),
                b":authority" => head.authority = Some(value),
                b":status" => {
                    let text = std::str::from_utf8(&value).unwrap_or_default();
                    head.status = text.parse().unwrap_or_default();
                }
                [b':', ..] => {}
                _ => head.headers.0.push((name, value)),
            }
        }
        if head.authority.is_none() {
            head.authority = head.headers.get("host").map(Bytes::copy_from_slice);
        }
        head
    }

    fn event(self, direction: Direction, exchange: ExchangeId, first: PacketId, at: At) -> HttpEvent {
        let version = Version::Http2;
        match direction {
            Direction::ToServer => HttpEvent::Request {
                exchange,
                head: Arc::new(RequestHead {
                    method: self.method,
                    target: self.target,
                    version,
                    scheme: self.scheme,
                    authority: self.authority,
                    headers: self.headers,
                    first,
                    at,
                }),
            },
            Direction::ToClient => HttpEvent::Response {
                exchange,
                head: Arc::new(ResponseHead {
                    status: self.status,
                    version,
                    headers: self.headers,
                    first,
                    at,
                }),
            },
        }
    }
}

fn error(out: &mut Vec<HttpEvent>, detail: impl Into<String>, at: At) {
    anomaly(out, AnomalyKind::Http2Error, detail, at);
}

fn anomaly(out: &mut Vec<HttpEvent>, kind: AnomalyKind, detail: impl Into<String>, at: At) {
    out.push(HttpEvent::Anomaly {
        anomaly: Anomaly::new(kind, detail),
        at,
    });
}

/// An ALTSVC frame (RFC 7838 section 4): on stream 0 it names the origin that it is about.
fn alternative(stream: u32, payload: &Bytes, at: At) -> Option<HttpEvent> {
    let (length, rest) = payload.split_first_chunk::<2>()?;
    let (origin, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    // On stream 0 without an origin, or on another with one, it means nothing.
    ((stream == 0) != origin.is_empty()).then(|| HttpEvent::Alternative {
        exchange: (stream != 0).then(|| id(stream)),
        origin: payload.slice_ref(origin),
        value: payload.slice_ref(value),
        at,
    })
}
