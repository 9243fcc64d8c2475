//! Frames of both directions, and the streams they belong to.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Limits, PREFACE,
    frame::{
        ALTSVC, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADER, HEADERS, PADDED,
        PRIORITY, PUSH_PROMISE, RST_STREAM, plausible,
    },
    head::Head,
    hpack::{Block, Decoder},
};
use crate::{
    proto::{
        http::{ExchangeId, HttpEvent},
        reader::Reader,
    },
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
    /// The client's direction is captured.
    client_seen: bool,
    /// The latest stream that the client is seen to have opened.
    latest: u32,
}

/// One direction.
#[derive(Debug)]
struct Side {
    state: State,
    /// Preface octets still to come.
    preface: usize,
    header: BytesMut,
    hpack: Decoder,
    block: Option<Fragments>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In or before a frame header.
    Header,
    /// In the payload of DATA: before the pad length, in data, in padding.
    Data { frame: Frame, part: Part },
    /// In a payload that belongs to a header block.
    Block { left: usize },
    /// In the payload of GOAWAY or ALTSVC, which is kept.
    Notice { frame: Frame, left: usize },
    /// In a payload that is passed over.
    Skip { left: usize },
    /// Frame boundaries were lost.
    Seek,
    /// Not HTTP/2 after all.
    Done,
}

/// Octets of a GOAWAY or ALTSVC that are looked at; longer ones are passed over.
const MAX_NOTICE: usize = 8 * 1024;

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
    /// Something of it was captured.
    seen: bool,
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
            client_seen: false,
            latest: 0,
            limits,
        }
    }

    /// A connection that HTTP/1 was upgraded to (`Upgrade: h2c`, RFC 7540 section 3.2): the
    /// request that asked for it is stream 1, half closed.
    pub fn upgraded(limits: Limits) -> Self {
        let mut connection = Self::new(limits);
        let request = Half {
            seen: true,
            head: true,
            ended: true,
            lossy: false,
        };
        let stream = Stream {
            request,
            ..Stream::default()
        };
        connection.streams.insert(1, stream);
        connection.latest = 1;
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
        self.client_seen |= direction == Direction::ToServer;
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
                State::Notice { frame, left } => {
                    let piece = data.split_to(left.min(data.len()));
                    let left = left.saturating_sub(piece.len());
                    let side = self.side(direction);
                    side.header.extend_from_slice(&piece);
                    side.state = State::Notice { frame, left };
                    if left == 0 {
                        self.notice(direction, at, frame, out);
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
                GOAWAY | ALTSVC if (1..=MAX_NOTICE).contains(&frame.length) => {
                    side.state = State::Notice {
                        frame,
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
                if !piece.is_empty() && self.follows(direction, frame.stream, at, out) {
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
    fn follows(&mut self, direction: Direction, stream: u32, at: At, out: &mut Vec<HttpEvent>) -> bool {
        let closed = self.whole && stream <= self.latest;
        if !closed && !self.streams.contains_key(&stream) && !pushed(stream) {
            self.open(stream, at, out);
        }
        let Some(entry) = self.streams.get_mut(&stream) else {
            return false;
        };
        let half = entry.half(direction);
        if !half.ended && !half.seen {
            out.push(HttpEvent::Headless {
                exchange: id(stream),
                direction,
                at,
            });
        }
        half.seen = true;
        !half.ended
    }

    /// A new stream; the oldest open one makes room.
    fn open(&mut self, stream: u32, at: At, out: &mut Vec<HttpEvent>) {
        if self.streams.len() >= self.limits.max_streams.max(1)
            && let Some((oldest, _)) = self.streams.first_key_value()
        {
            let oldest = *oldest;
            let remark = format!("more than {} streams open", self.limits.max_streams);
            anomaly(out, AnomalyKind::HttpPipelineLimit, remark, at);
            self.end(Direction::ToServer, oldest, false, at, out);
            self.end(Direction::ToClient, oldest, false, at, out);
        }
        self.streams.insert(stream, Stream::default());
    }

    /// A frame that says something of the connection is complete.
    fn notice(&mut self, direction: Direction, at: At, frame: Frame, out: &mut Vec<HttpEvent>) {
        let side = self.side(direction);
        side.state = State::Header;
        let payload = side.header.split().freeze();
        let mut reader = Reader::new(&payload);
        if frame.kind == GOAWAY {
            // RFC 9113 section 6.8: what the client sent on later streams was not and will not be answered here.
            let Some(last) = reader.u32().filter(|_| direction == Direction::ToClient) else {
                return;
            };
            let later = (last & 0x7fff_ffff).saturating_add(1);
            let refused: Vec<u32> = self.streams.range(later..).map(|(stream, _)| *stream).collect();
            for stream in refused {
                self.end(Direction::ToServer, stream, false, at, out);
                self.end(Direction::ToClient, stream, false, at, out);
            }
            return;
        }
        // RFC 7838 section 4: only the server sends it; on stream 0 it names an origin, elsewhere it has none.
        let Some(origin) = reader.run16().map(|origin| payload.slice_ref(origin.rest())) else {
            return error(out, "ALTSVC shorter than its origin", at);
        };
        if direction == Direction::ToClient && origin.is_empty() != (frame.stream == 0) {
            out.push(HttpEvent::AlternativeService {
                exchange: (frame.stream != 0).then(|| id(frame.stream)),
                origin,
                value: payload.slice_ref(reader.rest()),
                at,
            });
        }
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
            let closed = self.whole && direction == Direction::ToClient && stream <= self.latest;
            if closed || pushed(stream) {
                return;
            }
            self.open(stream, at, out);
        }
        if direction == Direction::ToServer && stream > self.latest {
            self.asked(stream, at, out);
        }
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        let unpaired = direction == Direction::ToClient && !entry.request.head;
        let half = entry.half(direction);
        if half.ended {
            return;
        }
        // A block after data is one of trailers, also where the head was not captured.
        if !half.head && !half.seen {
            let head = Head::new(decoded);
            if direction == Direction::ToClient && (100..200).contains(&head.status) && head.status != 101 {
                return;
            }
            half.seen = true;
            if unpaired {
                let remark = format!("stream {stream}: no request seen");
                anomaly(out, AnomalyKind::HttpUnpaired, remark, at);
            }
            if head.names_itself(direction) {
                half.head = true;
                out.push(head.event(direction, id(stream), block.first, at));
            } else {
                // Method, target or status may have been any: better no head than a wrong one.
                out.push(HttpEvent::Headless {
                    exchange: id(stream),
                    direction,
                    at,
                });
            }
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
        } else if entry.response.ended && !entry.request.seen && !(self.client_seen && stream > self.latest) {
            // Its request came before the capture did, or in the direction that is not captured.
            self.end(Direction::ToServer, stream, false, at, out);
        }
    }

    /// The client opened a stream. Ids only grow (RFC 9113 section 5.1.1): requests of earlier streams that were
    /// answered and not seen will not come.
    fn asked(&mut self, stream: u32, at: At, out: &mut Vec<HttpEvent>) {
        self.latest = stream;
        let answered: Vec<u32> = self
            .streams
            .range(..stream)
            .filter(|(_, entry)| entry.response.ended && !entry.request.seen)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in answered {
            self.end(Direction::ToServer, stream, false, at, out);
        }
    }
}

fn id(stream: u32) -> ExchangeId {
    ExchangeId(u64::from(stream))
}

/// RFC 9113 section 5.1.1: streams that the server opens are even. Clients refuse them, and nobody sends MCP that way.
fn pushed(stream: u32) -> bool {
    stream & 1 == 0
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

fn error(out: &mut Vec<HttpEvent>, detail: impl Into<String>, at: At) {
    anomaly(out, AnomalyKind::Http2Error, detail, at);
}

fn anomaly(out: &mut Vec<HttpEvent>, kind: AnomalyKind, detail: impl Into<String>, at: At) {
    out.push(HttpEvent::Anomaly {
        anomaly: Anomaly::new(kind, detail),
        at,
    });
}
