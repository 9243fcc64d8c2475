//! Records and handshake messages of one connection, up to where encryption begins.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Chain, ClientHello, Handshake, HandshakeEnd, ServerHello, TlsEvent,
    certificate::status_has_scts,
    hello::{parse_client_hello, parse_server_hello},
    sslv2,
};
use crate::{
    proto::Probe,
    types::{Anomaly, AnomalyKind, At, Direction},
};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Payload of a record: 2^14 and what TLS 1.2 lets encryption add (RFC 5246 section 6.2.3).
const MAX_RECORD: usize = 16384 + 2048;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
const CERTIFICATE_STATUS: u8 = 22;
const TLS13: u16 = 0x0304;
/// AlertLevel.
const FATAL: u8 = 2;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a handshake message. Above it: `TlsOversize`, and the direction is given
    /// up. Default 128 KiB: certificate chains stay below, and it bounds memory.
    pub max_handshake: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_handshake: 128 * 1024,
        }
    }
}

/// Judges the first bytes of a direction: a TLS record, of a handshake or, where the
/// capture begins later, of any kind; or the hello of SSL 2.0.
pub fn probe(first_bytes: &[u8], direction: Direction) -> Probe {
    if direction == Direction::ToServer && first_bytes.first().is_some_and(|b| b & 0x80 != 0) {
        return sslv2::probe(first_bytes);
    }
    let mut bytes = first_bytes.iter().copied();
    let fits = |byte: Option<u8>, test: &dyn Fn(u8) -> bool| byte.is_none_or(test);
    let kind = bytes.next();
    let hello = match direction {
        Direction::ToServer => CLIENT_HELLO,
        Direction::ToClient => SERVER_HELLO,
    };
    let header = fits(kind, &|b| (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&b))
        && fits(bytes.next(), &|b| b == 3)
        && fits(bytes.next(), &|b| b <= 4);
    let length = (bytes.next(), bytes.next());
    let sized = match length {
        (Some(high), Some(low)) => {
            let n = usize::from(u16::from_be_bytes([high, low]));
            n > 0 && n <= MAX_RECORD
        }
        (Some(high), None) => usize::from(high) <= MAX_RECORD.wrapping_shr(8),
        (None, _) => true,
    };
    if !header || !sized {
        return Probe::NotForUs;
    }
    match (kind, bytes.next()) {
        (_, None) => Probe::Unsure,
        (Some(HANDSHAKE), Some(first)) if first != hello => {
            // A capture may begin at any handshake message, encrypted ones included, but a
            // hello of the other side means that the directions are swapped.
            if first == CLIENT_HELLO || first == SERVER_HELLO {
                Probe::NotForUs
            } else {
                Probe::Certain
            }
        }
        _ => Probe::Certain,
    }
}

/// The handshake of a connection. Once both directions are encrypted, further bytes cost nothing.
#[derive(Debug)]
pub struct Stream {
    limits: Limits,
    to_server: Side,
    to_client: Side,
    progress: Progress,
}

/// What both directions make up together.
#[derive(Debug, Default)]
struct Progress {
    /// Negotiated version, once the ServerHello (not a retry) was seen.
    version: Option<u16>,
    client: Option<ClientHello>,
    server: Option<ServerHello>,
    handshake: Handshake,
    /// The handshake was reported.
    told: bool,
}

#[derive(Debug, Default)]
struct Side {
    state: State,
    header: [u8; 5],
    have: u8,
    /// Payload of the current record still to come.
    left: usize,
    /// First bytes of the payload of an alert or of the record after a ChangeCipherSpec.
    small: Vec<u8>,
    /// The length field of the current record.
    length: usize,
    handshake: BytesMut,
    /// Handshake bytes up to the end of this record are passed over.
    skip_record: bool,
    /// No byte of the direction has come yet.
    fresh: bool,
    /// ChangeCipherSpec came while it was not known whether it means anything.
    doubtful: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    Records,
    /// Record boundaries were lost; they are looked for at each start of a segment.
    Seek,
    /// Inside the hello of SSL 2.0 that began the connection.
    Sslv2,
    /// The client encrypts (TLS 1.2 and before): only headers are read, up to the record that tells
    /// whether it went on.
    Sealed,
    /// Encrypted, or given up.
    Done,
}

impl Stream {
    /// A connection; each direction must begin at a record.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            to_server: Side {
                fresh: true,
                ..Side::default()
            },
            to_client: Side::default(),
            progress: Progress::default(),
        }
    }

    /// Nothing more will be said: both directions are encrypted or given up.
    pub fn is_done(&self) -> bool {
        self.to_server.state == State::Done && self.to_client.state == State::Done
    }

    /// The next bytes of a direction.
    pub fn data(&mut self, direction: Direction, at: At, data: Bytes, out: &mut Vec<TlsEvent>) {
        let Self {
            limits,
            to_server,
            to_client,
            progress,
        } = self;
        let side = match direction {
            Direction::ToServer => to_server,
            Direction::ToClient => to_client,
        };
        if side.state == State::Done {
            return;
        }
        let mut context = Context {
            limits: *limits,
            progress,
            direction,
            at,
            out,
        };
        side.data(&data, &mut context);
    }

    /// `bytes` of a direction will never come.
    pub fn gap(&mut self, direction: Direction, bytes: u64) {
        let side = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        side.gap(bytes);
    }
}

struct Context<'a> {
    limits: Limits,
    progress: &'a mut Progress,
    direction: Direction,
    at: At,
    out: &'a mut Vec<TlsEvent>,
}

impl Context<'_> {
    fn anomaly(&mut self, kind: AnomalyKind, detail: &str) {
        self.out.push(TlsEvent::Anomaly {
            anomaly: Anomaly::new(kind, detail),
            at: self.at,
        });
    }

    /// The handshake is over; the first word on it counts.
    fn over(&mut self, end: HandshakeEnd) {
        let progress = &mut *self.progress;
        if std::mem::replace(&mut progress.told, true) {
            return;
        }
        let mut handshake = std::mem::take(&mut progress.handshake);
        handshake.version = progress.version;
        handshake.end = end;
        if let (None, Some(client), Some(server)) = (&handshake.server, &progress.client, &progress.server) {
            handshake.resumption = Handshake::resumption_of(client, server);
            handshake.scts |= server.scts;
        } else if let Some(server) = &progress.server {
            handshake.scts |= server.scts;
        }
        progress.client = None;
        progress.server = None;
        self.out.push(TlsEvent::Handshake {
            handshake: Box::new(handshake),
            at: self.at,
        });
    }
}

impl Side {
    fn data(&mut self, data: &[u8], context: &mut Context<'_>) {
        let mut rest = data;
        if self.state == State::Seek {
            if probe(rest, context.direction) != Probe::Certain {
                return;
            }
            self.state = State::Records;
        }
        while !rest.is_empty() && self.state != State::Done {
            if self.left == 0 && self.have == 0 && self.fresh && rest.first().is_some_and(|b| b & 0x80 != 0) {
                // Decided by the first byte: no record type has that bit.
                self.state = State::Sslv2;
            }
            if self.state == State::Sslv2 {
                rest = self.sslv2(rest, context);
                continue;
            }
            if self.left == 0 {
                rest = self.read_header(rest, context);
                continue;
            }
            let Some((piece, after)) = rest.split_at_checked(self.left.min(rest.len())) else {
                return;
            };
            self.left = self.left.saturating_sub(piece.len());
            rest = after;
            self.payload(piece, context);
            if self.left == 0 && self.state != State::Done {
                self.skip_record = false;
                self.record_end(context);
            }
        }
    }

    /// Completes a record header, if the bytes suffice.
    fn read_header<'b>(&mut self, data: &'b [u8], context: &mut Context<'_>) -> &'b [u8] {
        let mut rest = data;
        while let (Some(slot), Some((byte, after))) =
            (self.header.get_mut(usize::from(self.have)), rest.split_first())
        {
            *slot = *byte;
            self.have = self.have.saturating_add(1);
            rest = after;
        }
        if usize::from(self.have) < self.header.len() {
            return rest;
        }
        self.have = 0;
        self.fresh = false;
        let [kind, major, minor, high, low] = self.header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) && major == 3 && minor <= 4;
        if !known || length > MAX_RECORD || (length == 0 && kind != APPLICATION_DATA) {
            let sealed = self.state == State::Sealed;
            self.give_up();
            if !sealed {
                context.anomaly(AnomalyKind::TlsMalformed, "not a TLS record");
            }
            return &[];
        }
        if self.state == State::Sealed {
            let end = match kind {
                APPLICATION_DATA => HandshakeEnd::Established,
                ALERT => HandshakeEnd::Refused {
                    by: context.direction,
                    description: None,
                },
                // Finished.
                _ => {
                    self.left = length;
                    self.skip_record = true;
                    return rest;
                }
            };
            context.over(end);
            self.give_up();
            return &[];
        }
        if kind == APPLICATION_DATA {
            self.encrypted(context);
            return &[];
        }
        self.left = length;
        self.length = length;
        self.small.clear();
        rest
    }

    fn payload(&mut self, piece: &[u8], context: &mut Context<'_>) {
        let kind = self.header.first().copied().unwrap_or_default();
        match kind {
            _ if self.state == State::Sealed => {}
            HANDSHAKE if self.skip_record => {}
            HANDSHAKE => {
                self.handshake.extend_from_slice(piece);
                if self.doubtful {
                    if self.handshake.len() < 4 {
                        if self.left == 0 {
                            self.encrypted(context);
                        }
                        return;
                    }
                    if !self.looks_plain() {
                        return self.encrypted(context);
                    }
                    self.doubtful = false;
                }
                self.messages(context);
            }
            _ => {
                let room = 2usize.saturating_sub(self.small.len());
                self.small.extend(piece.iter().take(room));
            }
        }
    }

    fn record_end(&mut self, context: &mut Context<'_>) {
        if self.state == State::Sealed {
            return;
        }
        match (self.header.first().copied(), self.small.as_slice()) {
            (Some(ALERT), [level @ (1 | 2), description]) if self.length == 2 && !self.doubtful => {
                context.out.push(TlsEvent::Alert {
                    direction: context.direction,
                    level: *level,
                    description: *description,
                    at: context.at,
                });
                if *level == FATAL && context.progress.server.is_some() {
                    context.over(HandshakeEnd::Refused {
                        by: context.direction,
                        description: Some(*description),
                    });
                }
            }
            (Some(ALERT), _) => self.encrypted(context),
            (Some(CHANGE_CIPHER_SPEC), _) => self.change_cipher_spec(context),
            _ => {}
        }
    }

    fn change_cipher_spec(&mut self, context: &mut Context<'_>) {
        match context.progress.version {
            // RFC 8446 appendix D.4: there it means nothing.
            Some(TLS13) => {}
            Some(_) => {
                self.encrypted(context);
                if context.direction == Direction::ToServer && !context.progress.told {
                    self.state = State::Sealed;
                }
            }
            // Before the ServerHello: TLS 1.3 around a retry or early data, or half a
            // capture. What comes next tells.
            None => self.doubtful = true,
        }
    }

    /// A record after a doubtful ChangeCipherSpec begins with a hello that fits it.
    fn looks_plain(&self) -> bool {
        let [kind, a, b, c] = self.handshake.first_chunk().copied().unwrap_or_default();
        let length = u32::from_be_bytes([0, a, b, c]);
        let fits = usize::try_from(length).is_ok_and(|n| n.saturating_add(4) <= self.length);
        matches!(kind, CLIENT_HELLO | SERVER_HELLO) && fits
    }

    fn messages(&mut self, context: &mut Context<'_>) {
        while let Some([kind, a, b, c]) = self.handshake.first_chunk().copied() {
            let length = u32::from_be_bytes([0, a, b, c]);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > context.limits.max_handshake {
                self.give_up();
                return context.anomaly(AnomalyKind::TlsOversize, "handshake message above the limit");
            }
            let end = length.saturating_add(4);
            if self.handshake.len() < end {
                return;
            }
            let message = self.handshake.split_to(end).freeze().slice(4..);
            self.message(kind, &message, context);
            if self.state == State::Done {
                return;
            }
        }
        if self.handshake.is_empty() {
            self.handshake = BytesMut::new();
        }
    }

    fn message(&mut self, kind: u8, body: &Bytes, context: &mut Context<'_>) {
        let at = context.at;
        match (kind, context.direction) {
            (CLIENT_HELLO, Direction::ToServer) => {
                let (hello, whole) = parse_client_hello(body);
                if !whole {
                    context.anomaly(AnomalyKind::TlsMalformed, "ClientHello breaks off");
                }
                if let Some(hello) = hello {
                    context.progress.client = Some(hello.clone());
                    context.out.push(TlsEvent::ClientHello {
                        hello: Box::new(hello),
                        at,
                    });
                }
            }
            (SERVER_HELLO, Direction::ToClient) => {
                let (hello, whole) = parse_server_hello(body);
                if !whole {
                    context.anomaly(AnomalyKind::TlsMalformed, "ServerHello breaks off");
                }
                let Some(hello) = hello else {
                    return self.give_up();
                };
                let version = (!hello.retry).then_some(hello.version);
                if version.is_some_and(|version| version < TLS13) {
                    context.progress.server = Some(hello.clone());
                }
                context.out.push(TlsEvent::ServerHello {
                    hello: Box::new(hello),
                    at,
                });
                if let Some(version) = version {
                    context.progress.version = Some(version);
                    if version == TLS13 {
                        self.encrypted(context);
                    }
                }
            }
            (CERTIFICATE, direction) => match Chain::of_message(body) {
                Some(chain) if !chain.is_empty() => {
                    if chain.unreadable > 0 {
                        context.anomaly(AnomalyKind::TlsMalformed, "a certificate that is none");
                    }
                    let chain = Arc::new(chain);
                    let slot = match direction {
                        Direction::ToClient => &mut context.progress.handshake.server,
                        Direction::ToServer => &mut context.progress.handshake.client,
                    };
                    *slot = Some(Arc::clone(&chain));
                    context.out.push(TlsEvent::Certificates { direction, chain, at });
                }
                Some(_) => {}
                None => context.anomaly(AnomalyKind::TlsMalformed, "Certificate breaks off"),
            },
            (CERTIFICATE_REQUEST, Direction::ToClient) => {
                context.progress.handshake.certificate_requested = true;
            }
            (CERTIFICATE_STATUS, Direction::ToClient) => {
                context.progress.handshake.scts |= status_has_scts(body);
            }
            (CLIENT_HELLO | SERVER_HELLO, _) => {
                self.give_up();
                context.anomaly(AnomalyKind::TlsMalformed, "hello of the other side");
            }
            _ => {}
        }
    }

    /// The next bytes of a hello of SSL 2.0.
    fn sslv2<'b>(&mut self, data: &'b [u8], context: &mut Context<'_>) -> &'b [u8] {
        let total = match self.handshake.first_chunk().copied() {
            None => 2,
            Some(first_two) => match sslv2::length(first_two) {
                Some(length) => length.saturating_add(2),
                None => {
                    self.give_up();
                    context.anomaly(AnomalyKind::TlsMalformed, "not a TLS record");
                    return &[];
                }
            },
        };
        let missing = total.saturating_sub(self.handshake.len());
        let Some((piece, rest)) = data.split_at_checked(missing.min(data.len())) else {
            return &[];
        };
        self.handshake.extend_from_slice(piece);
        self.fresh = false;
        if total == 2 || self.handshake.len() < total {
            return rest;
        }
        let hello = self.handshake.get(2..).and_then(sslv2::parse);
        self.handshake = BytesMut::new();
        let Some(hello) = hello.filter(|_| context.direction == Direction::ToServer) else {
            self.give_up();
            context.anomaly(AnomalyKind::TlsMalformed, "not a TLS record");
            return &[];
        };
        context.anomaly(
            AnomalyKind::Sslv2Hello,
            "the client begins in the format of SSL 2.0",
        );
        if hello.legacy_version == sslv2::SSL2 {
            self.give_up();
        } else {
            self.state = State::Records;
        }
        context.progress.client = Some(hello.clone());
        context.out.push(TlsEvent::ClientHello {
            hello: Box::new(hello),
            at: context.at,
        });
        rest
    }

    fn encrypted(&mut self, context: &mut Context<'_>) {
        self.give_up();
        context.out.push(TlsEvent::Encrypted {
            direction: context.direction,
            at: context.at,
        });
    }

    fn give_up(&mut self) {
        *self = Self {
            state: State::Done,
            ..Self::default()
        };
    }

    fn gap(&mut self, bytes: u64) {
        if self.state == State::Sealed || self.state == State::Sslv2 {
            // Record boundaries tell nothing here that is worth looking for.
            self.give_up();
            return;
        }
        if self.state != State::Records || bytes == 0 {
            return;
        }
        self.fresh = false;
        self.handshake = BytesMut::new();
        self.small.clear();
        let left = u64::try_from(self.left).unwrap_or(u64::MAX);
        if bytes <= left && self.have == 0 {
            // The next record is where its header says; message boundaries are not known
            // before it.
            self.left = usize::try_from(left.saturating_sub(bytes)).unwrap_or_default();
            self.skip_record = self.left > 0;
        } else {
            self.left = 0;
            self.have = 0;
            self.state = State::Seek;
        }
    }
}
