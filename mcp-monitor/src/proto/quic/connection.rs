//! The readable start of one connection.

use bytes::Bytes;

use super::{
    Version, crypto,
    keys::{Keys, Sender},
    packet::{self, Kind, Long},
};
use crate::{
    proto::tls::{Carrier, TlsEvent, parse_client_hello, parse_server_hello},
    types::{Anomaly, AnomalyKind, At, Direction},
};

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// TLS alerts as QUIC error codes (RFC 9001 section 4.8).
const CRYPTO_ERROR: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a hello, and bytes held out of order per direction. Above it: `QuicMalformed`, and the
    /// direction is given up. Default 128 KiB; hellos with post-quantum keys take 2.
    pub max_handshake: usize,
    /// Datagrams looked at before the connection is given up. Default 64.
    pub max_datagrams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_handshake: 128 * 1024,
            max_datagrams: 64,
        }
    }
}

/// Takes the datagrams of one flow until both hellos are known, or cannot be.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    /// What the keys follow from: the client's first choice, or what a Retry gave it.
    connection_id: Option<Vec<u8>>,
    to_server: Side,
    to_client: Side,
    datagrams: u32,
}

#[derive(Debug, Default)]
struct Side {
    keys: Option<(Version, Keys)>,
    stream: crypto::Stream,
    done: bool,
}

impl Connection {
    /// Nothing seen yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            connection_id: None,
            to_server: Side::default(),
            to_client: Side::default(),
            datagrams: 0,
        }
    }

    /// Something of it could be opened, so that it is QUIC for certain.
    pub fn is_certain(&self) -> bool {
        self.connection_id.is_some()
    }

    /// Nothing more will be said.
    pub fn is_done(&self) -> bool {
        (self.to_server.done && self.to_client.done) || self.datagrams >= self.limits.max_datagrams
    }

    /// The next datagram.
    pub fn datagram(&mut self, direction: Direction, at: At, datagram: &[u8], out: &mut Vec<TlsEvent>) {
        if self.is_done() {
            return;
        }
        self.datagrams = self.datagrams.saturating_add(1);
        let mut rest = datagram;
        while let (Some(packet), after) = packet::split(rest) {
            match (packet.kind, direction) {
                (Kind::Initial, _) => self.initial(direction, at, &packet, out),
                // The client begins anew with the id that the server chose (RFC 9000 section 17.2.5).
                (Kind::Retry, Direction::ToClient) if self.is_certain() && !self.to_client.done => {
                    self.connection_id = Some(packet.source.to_vec());
                    self.to_server.keys = None;
                    self.to_client.keys = None;
                }
                _ => {}
            }
            rest = after;
        }
    }

    fn initial(&mut self, direction: Direction, at: At, packet: &Long<'_>, out: &mut Vec<TlsEvent>) {
        let Some(payload) = self.open(direction, packet) else {
            return;
        };
        let limit = self.limits.max_handshake;
        let side = self.side(direction);
        let (frames, whole) = crypto::frames(payload.into());
        let anomaly = |detail| TlsEvent::Anomaly {
            anomaly: Anomaly::new(AnomalyKind::QuicMalformed, detail),
            at,
        };
        if !whole {
            out.push(anomaly("a frame that Initial packets do not have"));
        }
        let mut answered = false;
        for frame in frames {
            match frame {
                crypto::Frame::Crypto(offset, data) if !side.done => {
                    let message = side
                        .stream
                        .push(offset, data, limit)
                        .and_then(|()| side.stream.message(limit));
                    match message {
                        Ok(None) => {}
                        Ok(Some((kind, body))) => match hello(kind, &body, direction, at, out) {
                            Heard::ServerHello => answered = true,
                            // A HelloRetryRequest makes a second one.
                            Heard::Hello => {}
                            Heard::Nonsense => {
                                side.finish();
                                out.push(anomaly("the handshake does not begin with a hello"));
                            }
                        },
                        Err(crypto::OverLimit) => {
                            side.finish();
                            out.push(anomaly("handshake above the limit"));
                        }
                    }
                }
                crypto::Frame::Close(code) if CRYPTO_ERROR.contains(&code) => {
                    let [.., description] = code.to_be_bytes();
                    out.push(TlsEvent::Alert {
                        direction,
                        level: 2,
                        description,
                        at,
                    });
                }
                crypto::Frame::Crypto(..) | crypto::Frame::Close(_) => {}
            }
        }
        if answered {
            self.to_server.finish();
            self.to_client.finish();
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn open(&mut self, direction: Direction, packet: &Long<'_>) -> Option<Vec<u8>> {
        if let Some(id) = self.connection_id.clone() {
            let side = self.side(direction);
            // A server may answer in the other version (RFC 9368); the id stays.
            if side
                .keys
                .as_ref()
                .is_none_or(|(version, _)| *version != packet.version)
            {
                side.keys = keys(direction, packet.version, &id);
            }
            if let Some(payload) = side.keys.as_ref().and_then(|(_, keys)| keys.open(packet)) {
                return Some(payload);
            }
        }
        // The first packet, or the one after a Retry that was not captured.
        if direction == Direction::ToClient || self.to_server.done {
            return None;
        }
        let keys = keys(direction, packet.version, packet.destination)?;
        let payload = keys.1.open(packet)?;
        self.connection_id = Some(packet.destination.to_vec());
        self.to_server.keys = Some(keys);
        self.to_client.keys = None;
        Some(payload)
    }
}

impl Side {
    fn finish(&mut self) {
        *self = Self {
            done: true,
            keys: self.keys.take(),
            stream: crypto::Stream::default(),
        };
    }
}

fn keys(direction: Direction, version: Version, id: &[u8]) -> Option<(Version, Keys)> {
    let sender = match direction {
        Direction::ToServer => Sender::Client,
        Direction::ToClient => Sender::Server,
    };
    Some((version, Keys::initial(version, id, sender)?))
}

enum Heard {
    /// The answer that settles the handshake's keys.
    ServerHello,
    /// A ClientHello or a HelloRetryRequest.
    Hello,
    Nonsense,
}

fn hello(kind: u8, body: &Bytes, direction: Direction, at: At, out: &mut Vec<TlsEvent>) -> Heard {
    match (kind, direction) {
        (CLIENT_HELLO, Direction::ToServer) => {
            let (Some(mut hello), true) = parse_client_hello(body) else {
                return Heard::Nonsense;
            };
            hello.carrier = Carrier::Quic;
            out.push(TlsEvent::ClientHello {
                hello: Box::new(hello),
                at,
            });
            Heard::Hello
        }
        (SERVER_HELLO, Direction::ToClient) => {
            let (Some(hello), true) = parse_server_hello(body) else {
                return Heard::Nonsense;
            };
            let heard = if hello.retry {
                Heard::Hello
            } else {
                Heard::ServerHello
            };
            out.push(TlsEvent::ServerHello {
                hello: Box::new(hello),
                at,
            });
            heard
        }
        _ => Heard::Nonsense,
    }
}
