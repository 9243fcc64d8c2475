//! What runs on top of one flow: recognise the protocol, drive its parser, emit events.

use std::sync::Arc;

use bytes::Bytes;

use super::http::Http;
use crate::{
    decode::UdpDatagram,
    flow::{Control, FlowInfo},
    mcp::{
        FlowEventKind,
        conversation::{ConversationCounters, ConversationLimits, Output},
    },
    proto::{
        Detector, Protocol, dns, http1, http2,
        tls::{
            self, ClientHello, TlsEvent,
            decrypt::{DecryptLimits, Decrypted, Decryptor, KeyLog},
        },
        websocket,
    },
    types::{Anomaly, AnomalyKind, At, Direction, Plaintext, Transport},
};

/// Caps of one flow's parsers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplicationLimits {
    /// HTTP/1.
    pub http1: http1::Limits,
    /// HTTP/2.
    pub http2: http2::Limits,
    /// WebSocket.
    pub websocket: websocket::Limits,
    /// TLS.
    pub tls: tls::Limits,
    /// TLS with logged keys.
    pub decrypt: DecryptLimits,
    /// MCP bodies.
    pub conversation: ConversationLimits,
}

/// Counts that the parsers of one shard share.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct ApplicationCounters {
    /// HTTP and SSE.
    pub conversation: ConversationCounters,
    /// DNS queries.
    pub dns_queries: u64,
    /// DNS responses.
    pub dns_responses: u64,
    /// DNS responses with rcode 3.
    pub dns_nxdomain: u64,
    /// ClientHellos.
    pub client_hellos: u64,
    /// ServerHellos, HelloRetryRequest left out.
    pub server_hellos: u64,
    /// TLS connections of which plaintext was seen.
    pub decrypted_flows: u64,
}

/// What the live source should do with a flow from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Interest {
    /// Not known yet.
    Undecided,
    /// MCP: every byte.
    Captured,
    /// HTTP that was not MCP so far: only request starts.
    Watch,
    /// TLS: the handshake is over, the rest cannot be read.
    HandshakeOnly,
    /// Nothing here.
    Ignored,
}

/// Where a flow stands.
#[derive(Debug)]
enum State {
    /// What came so far does not tell the protocol.
    Probing(Box<Detector>),
    Http(Box<Http>),
    Tls(Box<Tls>),
    Dns(Box<[dns::TcpStream; 2]>),
    Ignored,
}

#[derive(Debug)]
struct Tls {
    stream: tls::Stream,
    hello: Option<Arc<ClientHello>>,
    to_server_encrypted: bool,
    to_client_encrypted: bool,
    opaque: bool,
    events: Vec<TlsEvent>,
    decryptor: Option<Box<Decryptor>>,
    decrypted: Vec<Decrypted>,
    /// ALPN said that HTTP/2 is spoken inside.
    http2: bool,
    /// What is said inside, once there is plaintext.
    inner: Option<Box<Application>>,
    limits: ApplicationLimits,
    depth: u8,
}

/// The application of one flow, or of a tunnel inside one.
#[derive(Debug)]
pub struct Application {
    limits: ApplicationLimits,
    state: State,
    from_start: bool,
    /// Tunnels around this one.
    depth: u8,
    /// Logged secrets; `None` where there are none, as there rarely are.
    keys: Option<Arc<KeyLog>>,
}

impl Application {
    /// For a new flow; `keys` may open its TLS.
    pub fn new(flow: &FlowInfo, limits: ApplicationLimits, keys: Option<Arc<KeyLog>>) -> Self {
        let state = match flow.transport {
            Transport::Tcp if flow.server.port() == DNS_PORT => State::Dns(Box::default()),
            Transport::Tcp => State::Probing(Box::new(Detector::new(flow.from_start))),
            Transport::Udp => State::Ignored,
        };
        Self {
            limits,
            state,
            from_start: flow.from_start,
            depth: 0,
            keys,
        }
    }

    /// For what begins inside a tunnel.
    pub(super) fn tunnelled(limits: ApplicationLimits, depth: u8, keys: Option<Arc<KeyLog>>) -> Self {
        Self {
            limits,
            state: State::Probing(Box::new(Detector::new(true))),
            from_start: true,
            depth,
            keys,
        }
    }

    /// How the plaintext of this flow is seen.
    pub fn plaintext(&self) -> Plaintext {
        match &self.state {
            State::Tls(tls) if tls.inner.is_some() => Plaintext::Keylog,
            State::Tls(_) => Plaintext::None,
            State::Http(http) => http.plaintext(),
            _ => Plaintext::Packet,
        }
    }

    /// What the live source should do with the flow.
    pub fn interest(&self) -> Interest {
        match &self.state {
            State::Probing(_) => Interest::Undecided,
            State::Http(http) => http.interest(),
            State::Tls(tls) if tls.opaque && tls.decryptor.is_none() => Interest::HandshakeOnly,
            State::Tls(_) => Interest::Undecided,
            State::Dns(_) => Interest::Captured,
            State::Ignored => Interest::Ignored,
        }
    }

    /// The next bytes of one direction.
    pub fn data(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) -> Control {
        match &mut self.state {
            State::Http(http) => http.data(direction, at, data, counters, out),
            State::Tls(tls) => tls.data(direction, at, data, counters, out),
            State::Dns(streams) => {
                let [to_server, to_client] = streams.as_mut();
                let stream = if direction == Direction::ToServer {
                    to_server
                } else {
                    to_client
                };
                let mut messages = Vec::new();
                stream.push(data, &mut messages);
                for payload in messages {
                    dns_message(at, payload, counters, out);
                }
            }
            State::Ignored => {}
            State::Probing(detector) => {
                if let Some(found) = detector.data(direction, at, data) {
                    let held = detector.take_held();
                    self.state = self.start(found.protocol);
                    for piece in held {
                        let direction = if found.swapped {
                            piece.direction.reversed()
                        } else {
                            piece.direction
                        };
                        self.data(direction, piece.at, piece.data, counters, out);
                    }
                    if found.swapped {
                        return Control::Flip;
                    }
                }
            }
        }
        Control::Continue
    }

    fn start(&self, protocol: Protocol) -> State {
        match protocol {
            Protocol::Http1 => State::Http(Box::new(Http::http1(
                self.limits,
                self.from_start,
                self.depth,
                self.keys.clone(),
            ))),
            Protocol::Http2 => State::Http(Box::new(Http::http2(self.limits, self.depth, self.keys.clone()))),
            Protocol::Tls => State::Tls(Box::new(Tls::new(
                self.limits,
                self.depth,
                self.keys.clone(),
                self.from_start,
            ))),
            Protocol::Other => State::Ignored,
        }
    }

    /// Bytes are missing here.
    pub fn gap(
        &mut self,
        direction: Direction,
        at: At,
        bytes: u64,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.state {
            State::Http(http) => http.gap(direction, at, bytes, counters, out),
            State::Tls(tls) => tls.gap(direction, at, bytes, counters, out),
            State::Dns(streams) => {
                let [to_server, to_client] = streams.as_mut();
                let stream = if direction == Direction::ToServer {
                    to_server
                } else {
                    to_client
                };
                stream.gap();
            }
            State::Probing(detector) => {
                self.from_start = false;
                detector.gap(direction);
            }
            State::Ignored => {}
        }
    }

    /// Live: bytes were left out on purpose while the flow was not of interest. A request begins here.
    pub fn restart(
        &mut self,
        direction: Direction,
        at: At,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        // The answer's direction restarts right after; by then the connection waits for it already.
        if direction == Direction::ToServer
            && let State::Http(http) = &mut self.state
        {
            http.restart(at, counters, out);
        }
    }

    /// One direction ended in order.
    pub fn fin(
        &mut self,
        direction: Direction,
        at: At,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        match &mut self.state {
            State::Http(http) => http.fin(direction, at, counters, out),
            State::Tls(tls) => {
                if let Some(inner) = &mut tls.inner {
                    inner.fin(direction, at, counters, out);
                }
            }
            _ => {}
        }
    }

    /// The flow is over.
    pub fn close(&mut self, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        match &mut self.state {
            State::Http(http) => http.abort(at, counters, out),
            State::Tls(tls) => {
                if let Some(inner) = &mut tls.inner {
                    inner.close(at, counters, out);
                }
            }
            _ => {}
        }
    }

    /// A UDP datagram.
    pub fn datagram(
        &self,
        at: At,
        datagram: &UdpDatagram,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        if datagram.src.port() == DNS_PORT || datagram.dst.port() == DNS_PORT {
            dns_message(at, datagram.payload.clone(), counters, out);
        }
    }
}

const DNS_PORT: u16 = 53;
const RCODE_NXDOMAIN: u16 = 3;

fn dns_message(at: At, payload: Bytes, counters: &mut ApplicationCounters, out: &mut Output) {
    let (message, anomaly) = dns::parse(&payload);
    out.extend(anomaly.map(|a| (at, FlowEventKind::Anomaly(a))));
    let Some(message) = message else { return };
    let bump = |n: &mut u64| *n = n.saturating_add(1);
    let direction = if message.response {
        bump(&mut counters.dns_responses);
        if message.rcode == RCODE_NXDOMAIN {
            bump(&mut counters.dns_nxdomain);
        }
        Direction::ToClient
    } else {
        bump(&mut counters.dns_queries);
        Direction::ToServer
    };
    out.push((
        at,
        FlowEventKind::Dns {
            direction,
            message: Box::new(message),
            payload,
        },
    ));
}

impl Tls {
    /// A connection; keys serve only where it was seen `from_start`.
    fn new(limits: ApplicationLimits, depth: u8, keys: Option<Arc<KeyLog>>, from_start: bool) -> Self {
        let mut tls = Self {
            stream: tls::Stream::new(limits.tls),
            hello: None,
            to_server_encrypted: false,
            to_client_encrypted: false,
            opaque: false,
            events: Vec::new(),
            decryptor: None,
            decrypted: Vec::new(),
            http2: false,
            inner: None,
            limits,
            depth,
        };
        if let Some(keys) = keys {
            if from_start {
                tls.decryptor = Some(Box::new(Decryptor::new(keys, limits.decrypt)));
            } else {
                tls.decrypted.push(Decrypted::Failed {
                    anomaly: Anomaly::new(
                        AnomalyKind::TlsDecryptFailed,
                        "the first packet of the connection is missing",
                    ),
                    at: At::default(),
                });
            }
        }
        tls
    }

    fn data(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        if !self.opaque {
            self.stream.data(direction, at, data.clone(), &mut self.events);
            self.flush(counters, out);
        }
        if let Some(decryptor) = &mut self.decryptor {
            decryptor.data(direction, at, data, &mut self.decrypted);
        }
        self.deliver(at, counters, out);
    }

    fn gap(
        &mut self,
        direction: Direction,
        at: At,
        bytes: u64,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        self.stream.gap(direction, bytes);
        if let Some(decryptor) = &mut self.decryptor {
            decryptor.gap(direction, at, bytes, &mut self.decrypted);
        }
        self.deliver(at, counters, out);
    }

    /// Hands plaintext to what speaks inside.
    fn deliver(&mut self, now: At, counters: &mut ApplicationCounters, out: &mut Output) {
        for item in std::mem::take(&mut self.decrypted) {
            match item {
                Decrypted::Data { direction, at, data } => {
                    let inner = self.inner.get_or_insert_with(|| {
                        counters.decrypted_flows = counters.decrypted_flows.saturating_add(1);
                        let mut inner = Application::tunnelled(self.limits, self.depth, None);
                        if self.http2 {
                            inner.state = inner.start(Protocol::Http2);
                        }
                        Box::new(inner)
                    });
                    inner.data(direction, at, data, counters, out);
                }
                Decrypted::Gap { direction, at, bytes } => {
                    if let Some(inner) = &mut self.inner {
                        inner.gap(direction, at, bytes, counters, out);
                    }
                }
                Decrypted::End { direction, at } => {
                    if let Some(inner) = &mut self.inner {
                        inner.fin(direction, at, counters, out);
                    }
                }
                Decrypted::Protocol(name) => self.http2 = &*name == "h2",
                Decrypted::Tls(event) => self.events.push(event),
                Decrypted::Failed { anomaly, .. } => {
                    self.decryptor = None;
                    out.push((now, FlowEventKind::Anomaly(anomaly)));
                    if self.opaque {
                        out.push((now, FlowEventKind::Opaque));
                    }
                }
            }
        }
        self.flush(counters, out);
    }

    fn flush(&mut self, counters: &mut ApplicationCounters, out: &mut Output) {
        for event in self.events.drain(..) {
            match event {
                TlsEvent::ClientHello { hello, at } => {
                    counters.client_hellos = counters.client_hellos.saturating_add(1);
                    self.hello = Some(Arc::new((*hello).clone()));
                    out.push((at, FlowEventKind::ClientHello(hello)));
                }
                TlsEvent::ServerHello { hello, at } => {
                    if !hello.retry {
                        counters.server_hellos = counters.server_hellos.saturating_add(1);
                    }
                    out.push((
                        at,
                        FlowEventKind::ServerHello {
                            hello,
                            client: self.hello.clone(),
                        },
                    ));
                }
                TlsEvent::Certificates { direction, chain, at } => {
                    out.push((at, FlowEventKind::Certificates { direction, chain }));
                }
                TlsEvent::Alert {
                    direction,
                    description,
                    at,
                    ..
                } => {
                    out.push((
                        at,
                        FlowEventKind::TlsAlert {
                            direction,
                            description,
                        },
                    ));
                }
                TlsEvent::Encrypted { direction, at } => {
                    match direction {
                        Direction::ToServer => self.to_server_encrypted = true,
                        Direction::ToClient => self.to_client_encrypted = true,
                    }
                    if self.to_server_encrypted && self.to_client_encrypted && !self.opaque {
                        self.opaque = true;
                        if self.decryptor.is_none() {
                            out.push((at, FlowEventKind::Opaque));
                        }
                    }
                }
                TlsEvent::Anomaly { anomaly, at } => out.push((at, FlowEventKind::Anomaly(anomaly))),
            }
        }
    }
}
