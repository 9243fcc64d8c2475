//! TLS on a flow, and what is said inside it.

use std::sync::Arc;

use bytes::Bytes;

use super::application::{Application, ApplicationCounters, ApplicationLimits};
use crate::{
    mcp::{FlowEventKind, conversation::Output},
    proto::tls::{
        self, ClientHello, TlsEvent,
        decrypt::{Decrypted, Decryptor, KeyLog},
    },
    types::{Anomaly, AnomalyKind, At, Direction},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) stream: tls::Stream,
    hello: Option<Arc<ClientHello>>,
    to_server_encrypted: bool,
    to_client_encrypted: bool,
    opaque: bool,
    pub(super) events: Vec<TlsEvent>,
    pub(super) decryptor: Option<Box<Decryptor>>,
    pub(super) decrypted: Vec<Decrypted>,
    /// Plaintext comes from the process.
    pub(super) fed: bool,
    /// It was said, or is not to be said any more, that nothing opens the flow.
    pub(super) settled: bool,
    /// ALPN said that HTTP/2 is spoken inside.
    http2: bool,
    /// What is said inside, once there is plaintext.
    pub(super) inner: Option<Box<Application>>,
    limits: ApplicationLimits,
    depth: u8,
}

impl Tls {
    /// A connection; keys serve only where it was seen `from_start`.
    pub(super) fn new(
        limits: ApplicationLimits,
        depth: u8,
        keys: Option<Arc<KeyLog>>,
        from_start: bool,
    ) -> Self {
        let mut tls = Self {
            stream: tls::Stream::new(limits.tls),
            hello: None,
            to_server_encrypted: false,
            to_client_encrypted: false,
            opaque: false,
            events: Vec::new(),
            decryptor: None,
            decrypted: Vec::new(),
            fed: false,
            settled: false,
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

    pub(super) fn data(
        &mut self,
        direction: Direction,
        at: At,
        data: Bytes,
        counters: &mut ApplicationCounters,
        out: &mut Output,
    ) {
        if !self.stream.is_done() {
            self.stream.data(direction, at, data.clone(), &mut self.events);
            self.flush(counters, out);
        }
        if let Some(decryptor) = &mut self.decryptor {
            decryptor.data(direction, at, data, &mut self.decrypted);
        }
        self.deliver(at, counters, out);
    }

    pub(super) fn gap(
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

    /// Says that nothing opens the flow, if that was held back.
    pub(super) fn settle(&mut self, at: At, out: &mut Output) {
        if self.opaque && !self.settled && self.decryptor.is_none() {
            self.settled = true;
            out.push((at, FlowEventKind::Opaque { why: None }));
        }
    }

    /// Hands plaintext to what speaks inside.
    pub(super) fn deliver(&mut self, now: At, counters: &mut ApplicationCounters, out: &mut Output) {
        for item in std::mem::take(&mut self.decrypted) {
            match item {
                Decrypted::Data { direction, at, data } => {
                    let inner = self.inner.get_or_insert_with(|| {
                        counters.decrypted_flows = counters.decrypted_flows.saturating_add(1);
                        let inner = if self.http2 {
                            Application::tunnelled_http2(self.limits, self.depth)
                        } else {
                            Application::tunnelled(self.limits, self.depth, None)
                        };
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
                    if self.opaque && !self.settled {
                        self.settled = true;
                        out.push((now, FlowEventKind::Opaque { why: None }));
                    }
                }
            }
        }
        self.flush(counters, out);
    }

    pub(super) fn flush(&mut self, counters: &mut ApplicationCounters, out: &mut Output) {
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
                TlsEvent::Handshake { handshake, at } => {
                    out.push((at, FlowEventKind::Handshake(handshake)));
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
                        if self.decryptor.is_none() && !self.limits.probed && !self.settled {
                            self.settled = true;
                            out.push((at, FlowEventKind::Opaque { why: None }));
                        }
                    }
                }
                TlsEvent::Anomaly { anomaly, at } => out.push((at, FlowEventKind::Anomaly(anomaly))),
            }
        }
    }
}
