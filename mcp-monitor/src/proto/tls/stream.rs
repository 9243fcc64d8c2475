//! Records and handshake messages of one connection, up to where encryption begins.

use bytes::{Bytes, BytesMut};

use super::{
    ClientHello, ServerHello, TlsEvent,
    hello::{parse_certificates, parse_client_hello, parse_server_hello},
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
const TLS13: u16 = 0x0304;

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
/// capture begins later, of any kind.
pub fn probe(first_bytes: &[u8], direction: Direction) -> Probe {
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
    /// Negotiated version, once the ServerHello (not a retry) was seen.
    version: Option<u16>,
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
    /// ChangeCipherSpec came while it was not known whether it means anything.
    doubtful: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum State {
    #[default]
    Records,
    /// Record boundaries were lost; they are looked for at each start of a segment.
    Seek,
    /// Encrypted, or given up.
    Done,
}

impl Stream {
    /// A connection; each direction must begin at a record.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            to_server: Side::default(),
            to_client: Side::default(),
            version: None,
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
            version,
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
            version,
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
    version: &'a mut Option<u16>,
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
        let [kind, major, minor, high, low] = self.header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let known = (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&kind) && major == 3 && minor <= 4;
        if !known || length > MAX_RECORD || (length == 0 && kind != APPLICATION_DATA) {
            // SSLv2 has another framing: a two-byte length, then type 1 and the version.
            let detail = if matches!(self.header, [0x80..=0xff, _, 1, 0 | 3, _]) {
                "SSLv2 hello"
            } else {
                "not a TLS record"
            };
            self.give_up();
            context.anomaly(AnomalyKind::TlsMalformed, detail);
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
        match (self.header.first().copied(), self.small.as_slice()) {
            (Some(ALERT), [level @ (1 | 2), description]) if self.length == 2 && !self.doubtful => {
                context.out.push(TlsEvent::Alert {
                    direction: context.direction,
                    level: *level,
                    description: *description,
                    at: context.at,
                });
            }
            (Some(ALERT), _) => self.encrypted(context),
            (Some(CHANGE_CIPHER_SPEC), _) => self.change_cipher_spec(context),
            _ => {}
        }
    }

    fn change_cipher_spec(&mut self, context: &mut Context<'_>) {
        match *context.version {
            // RFC 8446 appendix D.4: there it means nothing.
            Some(TLS13) => {}
            Some(_) => self.encrypted(context),
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
                    context.out.push(TlsEvent::ClientHello {
                        hello: Box::<ClientHello>::new(hello),
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
                context.out.push(TlsEvent::ServerHello {
                    hello: Box::<ServerHello>::new(hello),
                    at,
                });
                if let Some(version) = version {
                    *context.version = Some(version);
                    if version == TLS13 {
                        self.encrypted(context);
                    }
                }
            }
            (CERTIFICATE, direction) => match parse_certificates(body) {
                Some(chain) if !chain.is_empty() => {
                    context.out.push(TlsEvent::Certificates { direction, chain, at });
                }
                Some(_) => {}
                None => context.anomaly(AnomalyKind::TlsMalformed, "Certificate breaks off"),
            },
            (CLIENT_HELLO | SERVER_HELLO, _) => {
                self.give_up();
                context.anomaly(AnomalyKind::TlsMalformed, "hello of the other side");
            }
            _ => {}
        }
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
        if self.state != State::Records || bytes == 0 {
            return;
        }
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
