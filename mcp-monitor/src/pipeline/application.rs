//! What runs on top of one flow: recognise the protocol, drive its parser, emit events.

use std::sync::Arc;

use bytes::Bytes;

use super::{http::Http, tls::Tls};
use crate::{
    decode::UdpDatagram,
    flow::{Control, FlowInfo},
    mcp::{
        Carrier, FlowEventKind, Message,
        conversation::{Conversation, ConversationLimits, ConversationShared, Output},
        methods,
    },
    proto::{
        Detected, Detector, Protocol, dns,
        http::HttpEvent,
        http1, http2, quic,
        tls::{
            self,
            decrypt::{DecryptLimits, Decrypted, KeyLog},
        },
        websocket,
    },
    types::{At, Direction, Plaintext, Transport},
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
    /// QUIC.
    pub quic: quic::Limits,
    /// TLS with logged keys.
    pub decrypt: DecryptLimits,
    /// MCP bodies.
    pub conversation: ConversationLimits,
    /// Live: the plaintext of TLS may come from a process. Then an encrypted flow is not called opaque
    /// before [`Application::give_up_plaintext`].
    pub probed: bool,
}

/// Counts that the parsers of one shard share.
#[derive(Default, Debug)]
pub struct ApplicationCounters {
    /// HTTP and SSE, and what their bodies held before.
    pub conversation: ConversationShared,
    /// DNS queries.
    pub dns_queries: u64,
    /// DNS responses.
    pub dns_responses: u64,
    /// DNS responses with rcode 3.
    pub dns_nxdomain: u64,
    /// DNS responses to which no query was seen with the same ports, id and question.
    pub dns_unmatched: u64,
    /// ClientHellos.
    pub client_hellos: u64,
    /// ServerHellos, HelloRetryRequest left out.
    pub server_hellos: u64,
    /// Flows proven to be QUIC of a version whose start can be read.
    pub quic_flows: u64,
    /// Flows that begin as DTLS.
    pub dtls_flows: u64,
    /// Multicast DNS messages.
    pub mdns_messages: u64,
    /// Link-local multicast name resolution messages.
    pub llmnr_messages: u64,
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
    /// TLS whose plaintext comes from the process.
    Plaintext,
    /// Nothing here.
    Ignored,
}

/// Where a flow stands.
#[derive(Debug)]
enum State {
    /// What came so far does not tell the protocol.
    Probing(Box<Probing>),
    Http(Box<Http>),
    Tls(Box<Tls>),
    Dns(Box<DnsStreams>),
    /// UDP on a port of name resolution.
    Names(dns::Service, dns::Transactions),
    /// UDP elsewhere; what came so far does not tell.
    Datagrams,
    Quic(Box<Quic>),
    Ignored,
}

/// Before the protocol is known.
#[derive(Debug)]
struct Probing {
    detector: Detector,
    /// Reads what is no start of anything, where the capture began in mid-connection.
    strays: Option<Box<Conversation>>,
}

impl Probing {
    fn state(from_start: bool) -> State {
        State::Probing(Box::new(Self {
            detector: Detector::new(from_start),
            strays: None,
        }))
    }

    /// Searches pieces that began nothing for whole messages. Whether some were found.
    fn search(
        &mut self,
        limits: ConversationLimits,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) -> bool {
        let strays = self.detector.take_stray();
        if strays.is_empty() {
            return false;
        }
        let conversation = self
            .strays
            .get_or_insert_with(|| Box::new(Conversation::new(limits)));
        for piece in strays {
            let counters = &mut counters.conversation;
            conversation.stray(piece.direction, &piece.data, piece.at, counters, out);
        }
        conversation.is_mcp()
    }

    fn gap(
        &mut self,
        direction: Direction,
        limits: ConversationLimits,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        self.detector.gap(direction);
        self.search(limits, counters, out);
        if let Some(strays) = &mut self.strays {
            let gap = HttpEvent::StrayGap { direction };
            strays.handle(gap, &mut counters.conversation, out);
        }
    }
}

/// DNS over TCP.
#[derive(Debug, Default)]
struct DnsStreams {
    to_server: dns::TcpStream,
    to_client: dns::TcpStream,
    transactions: dns::Transactions,
}

#[derive(Debug)]
struct Quic {
    connection: quic::Connection,
    /// It was counted.
    certain: bool,
    tls: Tls,
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
            Transport::Tcp => Probing::state(flow.from_start),
            Transport::Udp => match dns::Service::of_flow(flow.client.port(), flow.server.port()) {
                Some(service) => State::Names(service, dns::Transactions::default()),
                None => State::Datagrams,
            },
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
            state: Probing::state(true),
            from_start: true,
            depth,
            keys,
        }
    }

    /// For HTTP/2 inside TLS, as ALPN said.
    pub(super) fn tunnelled_http2(limits: ApplicationLimits, depth: u8) -> Self {
        let inner = Self::tunnelled(limits, depth, None);
        let found = Detected {
            protocol: Protocol::Http2,
            swapped: false,
            joined: false,
        };
        let state = inner.start(found, None);
        Self { state, ..inner }
    }

    /// How the plaintext of this flow is seen.
    pub fn plaintext(&self) -> Plaintext {
        match &self.state {
            State::Tls(tls) if tls.fed => Plaintext::Uprobe,
            State::Tls(tls) if tls.inner.is_some() => Plaintext::Keylog,
            State::Tls(_) | State::Quic(_) => Plaintext::None,
            State::Http(http) => http.plaintext(),
            _ => Plaintext::Packet,
        }
    }

    /// What the live source should do with the flow.
    pub fn interest(&self) -> Interest {
        match &self.state {
            State::Probing(_) => Interest::Undecided,
            State::Http(http) => http.interest(),
            State::Tls(tls) if tls.fed => Interest::Plaintext,
            State::Tls(tls) if tls.stream.is_done() && tls.decryptor.is_none() => Interest::HandshakeOnly,
            State::Quic(quic) if quic.connection.is_done() => Interest::HandshakeOnly,
            State::Tls(_) | State::Quic(_) | State::Datagrams => Interest::Undecided,
            State::Dns(_) | State::Names(..) => Interest::Captured,
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
            State::Tls(tls) => {
                tls.data(direction, at, data, counters, out);
                if tls.stream.is_done() && tls.decryptor.is_none() {
                    return Control::Unread;
                }
            }
            State::Dns(streams) => {
                let stream = match direction {
                    Direction::ToServer => &mut streams.to_server,
                    Direction::ToClient => &mut streams.to_client,
                };
                let mut messages = Vec::new();
                stream.push(data, &mut messages);
                for payload in messages {
                    dns_message(at, payload, &mut streams.transactions, counters, out);
                }
            }
            State::Names(..) | State::Datagrams | State::Quic(_) => {}
            State::Ignored => return Control::Unread,
            State::Probing(probing) => {
                let found = probing.detector.data(direction, at, data);
                let before = out.len();
                if probing.search(self.limits.conversation, counters, out) && found.is_none() {
                    return self.found_midway(before, counters, out);
                }
                if let Some(found) = found {
                    let held = probing.detector.take_held();
                    let mut strays = probing.strays.take();
                    if let Some(strays) = &mut strays
                        && matches!(found.protocol, Protocol::Tls | Protocol::Other)
                    {
                        strays.release(&mut counters.conversation);
                    }
                    self.state = self.start(found, strays);
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
                    if matches!(self.state, State::Ignored) {
                        return Control::Unread;
                    }
                }
            }
        }
        Control::Continue
    }

    /// Whole messages were found before any start: HTTP that is joined in the middle. Those since `before` show
    /// which side is the client.
    fn found_midway(
        &mut self,
        before: usize,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) -> Control {
        let State::Probing(probing) = &mut self.state else {
            return Control::Continue;
        };
        let held = probing.detector.take_held();
        let conversation = probing.strays.take();
        let messages = || out.iter().skip(before).filter_map(|(_, event)| message_of(event));
        let swapped = messages().any(|message| match message.direction {
            Direction::ToServer => message.carrier == Carrier::Sse,
            Direction::ToClient => message.method.as_deref().is_some_and(methods::of_client),
        });
        if swapped {
            for (_, event) in out.iter_mut().skip(before) {
                if let FlowEventKind::Message(message) = event {
                    message.direction = message.direction.reversed();
                }
            }
        }
        let mut http = Http::http1(self.limits, false, self.depth, self.keys.clone());
        if let Some(conversation) = conversation {
            http = http.with(*conversation, swapped);
        }
        self.state = State::Http(Box::new(http));
        for piece in held {
            let direction = if swapped {
                piece.direction.reversed()
            } else {
                piece.direction
            };
            self.data(direction, piece.at, piece.data, counters, out);
        }
        if swapped { Control::Flip } else { Control::Continue }
    }

    fn start(&self, found: Detected, strays: Option<Box<Conversation>>) -> State {
        let (limits, depth, keys) = (self.limits, self.depth, self.keys.clone());
        let http = match found.protocol {
            Protocol::Http1 => Http::http1(limits, self.from_start, depth, keys),
            Protocol::Http2 if found.joined => Http::joined_http2(limits, depth, keys),
            Protocol::Http2 => Http::http2(limits, depth, keys),
            Protocol::WebSocket => Http::joined_websocket(limits, depth, keys),
            Protocol::Tls => {
                return State::Tls(Box::new(Tls::new(limits, depth, keys, self.from_start)));
            }
            Protocol::Other => return State::Ignored,
        };
        State::Http(Box::new(match strays {
            Some(conversation) => http.with(*conversation, found.swapped),
            None => http,
        }))
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
                let stream = match direction {
                    Direction::ToServer => &mut streams.to_server,
                    Direction::ToClient => &mut streams.to_client,
                };
                stream.gap();
            }
            State::Probing(probing) => {
                self.from_start = false;
                probing.gap(direction, self.limits.conversation, counters, out);
            }
            State::Names(..) | State::Datagrams | State::Quic(_) | State::Ignored => {}
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
            // The process may read for a while what came before the FIN.
            State::Tls(tls) if !tls.fed => {
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
                tls.settle(at, out);
                if let Some(inner) = &mut tls.inner {
                    inner.close(at, counters, out);
                }
            }
            State::Probing(probing) => {
                if let Some(strays) = &mut probing.strays {
                    strays.release(&mut counters.conversation);
                }
            }
            _ => {}
        }
    }

    /// A stream of plaintext whose packets are not known.
    pub(super) fn unlinked(limits: ApplicationLimits) -> Self {
        let mut tls = Tls::new(limits, 0, None, false);
        tls.fed = true;
        Self {
            limits,
            state: State::Tls(Box::new(tls)),
            from_start: false,
            depth: 0,
            keys: None,
        }
    }

    /// The TLS of this flow, or of the tunnel inside it.
    fn tls(&mut self) -> Option<&mut Tls> {
        match &mut self.state {
            State::Tls(tls) => Some(tls),
            State::Http(http) => http.tunnelled()?.tls(),
            _ => None,
        }
    }

    /// The process behind the flow gives plaintext up: the next of one direction. `false` where the flow
    /// has no TLS to which it could belong.
    pub fn plaintext_data(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) -> bool {
        let Some(tls) = self.tls() else { return false };
        tls.fed = true;
        tls.settled = true;
        tls.decryptor = None;
        tls.decrypted.push(Decrypted::Data { direction, at, data });
        tls.deliver(at, counters, out);
        true
    }

    /// Plaintext of the process is missing here.
    pub fn plaintext_gap(
        &mut self,
        direction: Direction,
        at: At,
        bytes: u64,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        if let Some(tls) = self.tls() {
            tls.decrypted.push(Decrypted::Gap { direction, at, bytes });
            tls.deliver(at, counters, out);
        }
    }

    /// The process is done with the connection.
    pub fn plaintext_end(&mut self, at: At, counters: &mut ApplicationCounters, out: &mut Output) {
        if let Some(inner) = self.tls().and_then(|tls| tls.inner.as_mut()) {
            inner.fin(Direction::ToServer, at, counters, out);
            inner.fin(Direction::ToClient, at, counters, out);
        }
    }

    /// No plaintext came in time: an encrypted flow is opaque.
    pub fn give_up_plaintext(&mut self, at: At, out: &mut Output) {
        if let Some(tls) = self.tls() {
            tls.settle(at, out);
        }
    }

    /// A UDP datagram.
    pub fn datagram(
        &mut self,
        direction: Direction,
        at: At,
        datagram: &UdpDatagram,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        let payload = &datagram.payload;
        match &mut self.state {
            State::Names(service, transactions) => match service {
                dns::Service::Unicast => dns_message(at, payload.clone(), transactions, counters, out),
                dns::Service::Multicast => bump(&mut counters.mdns_messages),
                dns::Service::LinkLocal => bump(&mut counters.llmnr_messages),
            },
            State::Datagrams if quic::probe(payload) => {
                let mut quic = Box::new(Quic {
                    connection: quic::Connection::new(self.limits.quic),
                    certain: false,
                    // No probe reads QUIC.
                    tls: Tls::new(
                        ApplicationLimits {
                            probed: false,
                            ..self.limits
                        },
                        self.depth,
                        None,
                        true,
                    ),
                });
                quic.datagram(direction, at, payload, counters, out);
                self.state = State::Quic(quic);
            }
            State::Datagrams => {
                if tls::dtls::is_hello(payload) {
                    bump(&mut counters.dtls_flows);
                }
                self.state = State::Ignored;
            }
            State::Quic(quic) => quic.datagram(direction, at, payload, counters, out),
            _ => {}
        }
    }
}

fn message_of(event: &FlowEventKind) -> Option<&Message> {
    match event {
        FlowEventKind::Message(message) => Some(message),
        _ => None,
    }
}

fn bump(n: &mut u64) {
    *n = n.saturating_add(1);
}

impl Quic {
    fn datagram(
        &mut self,
        direction: Direction,
        at: At,
        payload: &[u8],
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        if self.connection.is_done() {
            return;
        }
        self.connection
            .datagram(direction, at, payload, &mut self.tls.events);
        if self.connection.is_certain() && !self.certain {
            self.certain = true;
            bump(&mut counters.quic_flows);
        }
        self.tls.flush(counters, out);
    }
}

const DNS_PORT: u16 = 53;
const RCODE_NXDOMAIN: u16 = 3;

fn dns_message(
    at: At,
    payload: Bytes,
    transactions: &mut dns::Transactions,
    counters: &mut ApplicationCounters,
    out: &mut Output,
) {
    let (message, anomaly) = dns::parse(&payload);
    out.extend(anomaly.map(|a| (at, FlowEventKind::Anomaly(a))));
    let Some(message) = message else { return };
    let direction = if message.response {
        bump(&mut counters.dns_responses);
        if !transactions.answers(&message) {
            bump(&mut counters.dns_unmatched);
        }
        if message.rcode == RCODE_NXDOMAIN {
            bump(&mut counters.dns_nxdomain);
        }
        Direction::ToClient
    } else {
        bump(&mut counters.dns_queries);
        transactions.query(&message);
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
