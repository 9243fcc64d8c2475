//! What runs on top of one flow: recognise the protocol, drive its parser, emit events.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    decode::UdpDatagram,
    flow::{Control, FlowInfo},
    mcp::{
        FlowEventKind,
        conversation::{Conversation, ConversationCounters, ConversationLimits, Output},
    },
    proto::{
        Probe, dns,
        http::HttpEvent,
        http1,
        tls::{self, ClientHello, TlsEvent},
    },
    types::{Anomaly, AnomalyKind, At, Direction, Plaintext, Transport},
};

/// Caps of one flow's parsers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplicationLimits {
    /// HTTP/1.
    pub http1: http1::Limits,
    /// TLS.
    pub tls: tls::Limits,
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
    Probing(Probing),
    /// The start was missed: waits for a piece that begins like a message.
    Seeking,
    Http1(Box<Http1>),
    Tls(Box<Tls>),
    Dns(Box<[dns::TcpStream; 2]>),
    Ignored,
}

#[derive(Debug, Default)]
struct Probing {
    pieces: Vec<(Direction, At, Bytes)>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

/// First bytes of a direction that are looked at; no protocol here needs more to be told.
const PROBE: usize = 64;
/// Pieces held while probing. More than this without an answer is none of ours.
const PROBE_PIECES: usize = 64;

#[derive(Debug)]
struct Http1 {
    connection: http1::Connection,
    conversation: Conversation,
    events: Vec<HttpEvent>,
}

#[derive(Debug)]
struct Tls {
    stream: tls::Stream,
    hello: Option<Arc<ClientHello>>,
    to_server_encrypted: bool,
    to_client_encrypted: bool,
    opaque: bool,
    events: Vec<TlsEvent>,
}

/// The application of one flow.
#[derive(Debug)]
pub struct Application {
    limits: ApplicationLimits,
    state: State,
    from_start: bool,
}

impl Application {
    /// For a new flow.
    pub fn new(flow: &FlowInfo, limits: ApplicationLimits) -> Self {
        let state = match flow.transport {
            Transport::Tcp if flow.server.port() == DNS_PORT => State::Dns(Box::default()),
            Transport::Tcp => State::Probing(Probing::default()),
            Transport::Udp => State::Ignored,
        };
        Self { limits, state, from_start: flow.from_start }
    }

    /// How the plaintext of this flow is seen.
    pub fn plaintext(&self) -> Plaintext {
        if matches!(self.state, State::Tls(_)) { Plaintext::None } else { Plaintext::Packet }
    }

    /// What the live source should do with the flow.
    pub fn interest(&self) -> Interest {
        match &self.state {
            State::Probing(_) | State::Seeking => Interest::Undecided,
            State::Http1(http) if http.conversation.is_mcp() => Interest::Captured,
            State::Http1(http) if http.conversation.may_be_mcp() => Interest::Undecided,
            State::Http1(_) => Interest::Watch,
            State::Tls(tls) if tls.opaque => Interest::HandshakeOnly,
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
            State::Http1(http) => http.data(direction, at, data, counters, out),
            State::Tls(tls) => tls.data(direction, at, data, counters, out),
            State::Dns(streams) => {
                let [to_server, to_client] = streams.as_mut();
                let stream = if direction == Direction::ToServer { to_server } else { to_client };
                let mut messages = Vec::new();
                stream.push(data, &mut messages);
                for payload in messages {
                    dns_message(at, payload, counters, out);
                }
            }
            State::Ignored => {}
            State::Seeking => return self.seek(direction, at, data, counters, out),
            State::Probing(probing) => {
                probing.push(direction, at, data);
                return self.decide(counters, out);
            }
        }
        Control::Continue
    }

    /// Looks at what was probed and, once it tells, replays it into the protocol found.
    fn decide(&mut self, counters: &mut ApplicationCounters, out: &mut Output) -> Control {
        let State::Probing(probing) = &mut self.state else { return Control::Continue };
        let found = probing.verdict(self.from_start);
        let mut control = Control::Continue;
        let reversed = match found {
            Found::Unsure if probing.pieces.len() < PROBE_PIECES => return control,
            Found::Unsure | Found::Nothing => {
                self.state = if self.from_start { State::Ignored } else { State::Seeking };
                return control;
            }
            Found::Http1 { reversed } | Found::Tls { reversed } => reversed,
        };
        let pieces = std::mem::take(&mut probing.pieces);
        if reversed {
            control = Control::Flip;
        }
        self.state = match found {
            Found::Tls { .. } => State::Tls(Box::new(Tls::new(self.limits))),
            _ => State::Http1(Box::new(Http1::new(self.limits, self.from_start))),
        };
        for (direction, at, data) in pieces {
            let direction = if reversed { direction.reversed() } else { direction };
            self.data(direction, at, data, counters, out);
        }
        control
    }

    /// A flow whose start was missed: any piece may be the first of a message.
    fn seek(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) -> Control {
        let reversed = if http1::probe(&data, direction) == Probe::Certain {
            false
        } else if http1::probe(&data, direction.reversed()) == Probe::Certain {
            true
        } else {
            return Control::Continue;
        };
        self.state = State::Http1(Box::new(Http1::new(self.limits, false)));
        let direction = if reversed { direction.reversed() } else { direction };
        self.data(direction, at, data, counters, out);
        if reversed { Control::Flip } else { Control::Continue }
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
        out.push((at, FlowEventKind::Anomaly(Anomaly::new(AnomalyKind::TcpGap, format!("{bytes} bytes")))));
        match &mut self.state {
            State::Http1(http) => {
                http.connection.gap(direction, at, bytes, &mut http.events);
                http.flush(counters, out);
            }
            State::Tls(tls) => {
                tls.stream.gap(direction, bytes);
            }
            State::Dns(streams) => {
                let [to_server, to_client] = streams.as_mut();
                let stream = if direction == Direction::ToServer { to_server } else { to_client };
                stream.gap();
            }
            State::Probing(_) => {
                self.from_start = false;
                self.state = State::Seeking;
            }
            State::Seeking | State::Ignored => {}
        }
    }

    /// Live: bytes were left out on purpose while the flow was not of interest. A request begins here.
    pub fn restart(&mut self, direction: Direction, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        // The answer's direction restarts right after; by then the connection waits for it already.
        if direction == Direction::ToServer
            && let State::Http1(http) = &mut self.state
        {
            http.connection.abort(at, &mut http.events);
            http.flush(counters, out);
            http.connection = http1::Connection::new(self.limits.http1);
        }
    }

    /// One direction ended in order.
    pub fn fin(&mut self, direction: Direction, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        if let State::Http1(http) = &mut self.state {
            http.connection.fin(direction, at, &mut http.events);
            http.flush(counters, out);
        }
    }

    /// The flow is over.
    pub fn close(&mut self, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        if let State::Http1(http) = &mut self.state {
            http.connection.abort(at, &mut http.events);
            http.flush(counters, out);
        }
    }

    /// A UDP datagram.
    pub fn datagram(&self, at: At, datagram: &UdpDatagram, counters: &mut ApplicationCounters, out: &mut Output) {
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
    out.push((at, FlowEventKind::Dns { direction, message: Box::new(message), payload }));
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Unsure,
    Nothing,
    Http1 { reversed: bool },
    Tls { reversed: bool },
}

impl Probing {
    fn push(&mut self, direction: Direction, at: At, data: Bytes) {
        let prefix = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let room = PROBE.saturating_sub(prefix.len()).min(data.len());
        prefix.extend_from_slice(data.get(..room).unwrap_or_default());
        self.pieces.push((direction, at, data));
    }

    /// What the bytes are. Where the handshake was not seen, the sides may have to be swapped.
    fn verdict(&self, from_start: bool) -> Found {
        let mut unsure = false;
        let sides = [(&self.to_server, Direction::ToServer), (&self.to_client, Direction::ToClient)];
        for (prefix, direction) in sides {
            if prefix.is_empty() {
                continue;
            }
            for reversed in [false, true] {
                if reversed && from_start {
                    continue;
                }
                let direction = if reversed { direction.reversed() } else { direction };
                match http1::probe(prefix, direction) {
                    Probe::Certain => return Found::Http1 { reversed },
                    probe => unsure |= probe == Probe::Unsure,
                }
                match tls::probe(prefix, direction) {
                    Probe::Certain => return Found::Tls { reversed },
                    probe => unsure |= probe == Probe::Unsure,
                }
            }
        }
        if unsure { Found::Unsure } else { Found::Nothing }
    }
}

impl Http1 {
    fn new(limits: ApplicationLimits, from_start: bool) -> Self {
        Self {
            connection: if from_start {
                http1::Connection::from_start(limits.http1)
            } else {
                http1::Connection::new(limits.http1)
            },
            conversation: Conversation::new(limits.conversation),
            events: Vec::new(),
        }
    }

    fn data(&mut self, direction: Direction, at: At, data: Bytes, counters: &mut ApplicationCounters, out: &mut Output) {
        self.connection.data(direction, at, data, &mut self.events);
        self.flush(counters, out);
    }

    fn flush(&mut self, counters: &mut ApplicationCounters, out: &mut Output) {
        for event in self.events.drain(..) {
            self.conversation.handle(event, &mut counters.conversation, out);
        }
    }
}

impl Tls {
    fn new(limits: ApplicationLimits) -> Self {
        Self {
            stream: tls::Stream::new(limits.tls),
            hello: None,
            to_server_encrypted: false,
            to_client_encrypted: false,
            opaque: false,
            events: Vec::new(),
        }
    }

    fn data(&mut self, direction: Direction, at: At, data: Bytes, counters: &mut ApplicationCounters, out: &mut Output) {
        if !self.opaque {
            self.stream.data(direction, at, data, &mut self.events);
            self.flush(counters, out);
        }
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
                    out.push((at, FlowEventKind::ServerHello { hello, client: self.hello.clone() }));
                }
                TlsEvent::Certificates { direction, chain, at } => {
                    out.push((at, FlowEventKind::Certificates { direction, chain }));
                }
                TlsEvent::Alert { direction, description, at, .. } => {
                    out.push((at, FlowEventKind::TlsAlert { direction, description }));
                }
                TlsEvent::Encrypted { direction, at } => {
                    match direction {
                        Direction::ToServer => self.to_server_encrypted = true,
                        Direction::ToClient => self.to_client_encrypted = true,
                    }
                    if self.to_server_encrypted && self.to_client_encrypted && !self.opaque {
                        self.opaque = true;
                        out.push((at, FlowEventKind::Opaque));
                    }
                }
                TlsEvent::Anomaly { anomaly, at } => out.push((at, FlowEventKind::Anomaly(anomaly))),
            }
        }
    }
}
