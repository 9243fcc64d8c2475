//! From the bytes of a ring record to what the engine reads.

use std::{io, net::SocketAddr};

use aya::maps::{MapData, RingBuf};
use bytes::Bytes;
use mcp_monitor_common::{
    address::Address,
    client_hello::looks_like_tls,
    dns,
    headers::TCP,
    plaintext::{self, ObjectEndRecord, ObjectRecord, PlaintextRecord},
    record::{DatagramRecord, DriftRecord, ProcessRecord, SegmentRecord, flags},
    ring::RingRecord,
    verdict::DriftKind,
};
use tokio::io::{Interest, unix::AsyncFd};
use zeroize::Zeroizing;

use super::{
    LiveRecord,
    clock::Clock,
    tls::{Object, Subject},
};
use crate::{
    attribution::Attribution,
    decode::{TcpSegment, UdpDatagram},
    source::verdict::{HostDrift, PinnedHost, Verdicts, unmapped},
    types::{At, PacketId, Scope, Timestamp},
};

pub(super) struct Reader {
    clock: Clock,
    number: u64,
    malformed: u64,
    stale: u64,
    /// The walks that the kernel cannot do itself.
    verdicts: Option<Verdicts>,
    attribution: Attribution,
    /// Processes that executed or connected since they were last taken.
    subjects: Vec<Subject>,
}

/// Whose record it is.
#[derive(Clone, Copy)]
struct From {
    at: At,
    cookie: u64,
    scope: Scope,
}

impl Reader {
    pub(super) fn new(verdicts: Option<Verdicts>, attribution: Attribution) -> Self {
        Self {
            clock: Clock::new(),
            number: 0,
            malformed: 0,
            stale: 0,
            verdicts,
            attribution,
            subjects: Vec::new(),
        }
    }

    /// Processes whose TLS libraries are to be looked at, since the last call.
    pub(super) fn take_subjects(&mut self) -> std::vec::Drain<'_, Subject> {
        self.subjects.drain(..)
    }

    pub(super) fn swap(&mut self, hosts: &[PinnedHost]) {
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.swap(hosts);
        }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    /// Appends what a record says. `host` finds a pinned host by the hash of its pattern.
    pub(super) fn read(
        &mut self,
        record: &[u8],
        host: impl Fn(u64) -> Option<usize>,
        out: &mut Vec<LiveRecord>,
    ) {
        match RingRecord::read(record) {
            Some(RingRecord::Segment(head, payload)) => self.segment(&head, payload, out),
            Some(RingRecord::Datagram(head, payload)) => self.datagram(&head, payload, out),
            Some(RingRecord::Drift(head)) => self.drift(&head, host, out),
            Some(RingRecord::Process(head)) => self.process(&head, out),
            Some(RingRecord::Object(head, memory)) => self.tls_object(&head, memory, out),
            Some(RingRecord::Plaintext(head, data)) => self.plaintext(&head, data, out),
            Some(RingRecord::ObjectEnd(head)) => self.tls_end(&head, out),
            Some(RingRecord::Exec(head)) => self.subjects.push(Subject::Executed(head.pid)),
            None => self.malformed = self.malformed.saturating_add(1),
        }
    }

    fn from(&mut self, time: u64, cookie: u64, scope: u64) -> From {
        self.number = self.number.saturating_add(1);
        From {
            at: At {
                time: self.clock.time(time),
                packet: PacketId {
                    order: self.number,
                    number: self.number,
                    file: 0,
                },
            },
            cookie,
            scope: Scope(scope),
        }
    }

    fn segment(&mut self, head: &SegmentRecord, payload: &[u8], out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, head.cookie, head.scope);
        let dst = socket(&head.destination, head.destination_port);
        let last = head.offset.saturating_add(head.length) >= head.total;
        // A large packet comes in pieces: the first carries SYN, the last FIN and the like.
        let mut tcp_flags = head.tcp_flags;
        if head.flags & flags::CONTINUED != 0 {
            tcp_flags &= !crate::decode::flags::SYN;
        }
        if !last {
            tcp_flags &= !(crate::decode::flags::FIN | crate::decode::flags::RST | crate::decode::flags::PSH);
        }
        let syn =
            u32::from(head.tcp_flags & crate::decode::flags::SYN != 0 && head.flags & flags::CONTINUED != 0);
        out.push(LiveRecord::Segment(TcpSegment {
            at: from.at,
            scope: from.scope,
            src: socket(&head.source, head.source_port),
            dst,
            seq: u32::from_be_bytes(head.sequence)
                .wrapping_add(head.offset)
                .wrapping_add(syn),
            ack: u32::from_be_bytes(head.acknowledgement),
            flags: tcp_flags,
            payload: Bytes::copy_from_slice(payload),
            wire_len: head.length,
            cookie: cookie(head.cookie),
            resumed: head.flags & flags::RESUMED != 0,
            duplicate: false,
        }));
        if head.flags & flags::EGRESS != 0
            && let Some(verdicts) = &mut self.verdicts
            && payload.first_chunk().is_some_and(|start| looks_like_tls(*start))
        {
            let drift = verdicts.client_hello(payload, dst.ip(), dst.port());
            push(out, from, drift);
        }
    }

    fn datagram(&mut self, head: &DatagramRecord, payload: &[u8], out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, head.cookie, head.scope);
        out.push(LiveRecord::Datagram(UdpDatagram {
            at: from.at,
            scope: from.scope,
            src: socket(&head.source, head.source_port),
            dst: socket(&head.destination, head.destination_port),
            payload: Bytes::copy_from_slice(payload),
            wire_len: head.total,
            cookie: cookie(head.cookie),
        }));
        if head.flags & flags::EGRESS == 0
            && u16::from_be_bytes(head.source_port) == dns::PORT
            && let Some(verdicts) = &mut self.verdicts
        {
            let mut drifts = Vec::new();
            verdicts.dns_answer(payload, &mut drifts);
            for drift in drifts {
                push(out, from, Some(drift));
            }
        }
    }

    fn drift(&mut self, head: &DriftRecord, host: impl Fn(u64) -> Option<usize>, out: &mut Vec<LiveRecord>) {
        let Some(kind) = DriftKind::from_u8(head.drift) else {
            self.malformed = self.malformed.saturating_add(1);
            return;
        };
        let from = self.from(head.time, head.cookie, head.scope);
        let Some(host) = host(head.pattern) else {
            self.stale = self.stale.saturating_add(1);
            return;
        };
        let port = u16::from_be_bytes(head.port);
        let drift = HostDrift {
            kind,
            host,
            address: unmapped(&head.address),
            port: (port != 0).then_some(port),
            refused: head.refused != 0,
        };
        push(out, from, Some(drift));
    }

    fn process(&mut self, head: &ProcessRecord, out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, head.cookie, head.scope);
        let server = socket(&head.address, head.port);
        if head.protocol == TCP {
            self.subjects.push(Subject::Connected(head.pid));
        }
        out.push(LiveRecord::Process {
            at: from.at,
            cookie: head.cookie,
            scope: from.scope,
            server,
            process: self.attribution.process(head.pid, &head.comm, head.cgroup),
        });
        if let Some(verdicts) = &mut self.verdicts {
            let drift = verdicts.connect(server.ip(), server.port());
            push(out, from, drift);
        }
    }

    fn tls_object(&mut self, head: &ObjectRecord, memory: &[u8], out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, 0, 0);
        out.push(LiveRecord::TlsObject {
            at: from.at,
            object: object(head.pid, head.object, head.born),
            writes: head.writes != 0,
            process: self.attribution.process(head.pid, &head.comm, head.cgroup),
            socket: cookie(head.socket),
            target: head.target,
            memory_at: (head.exact == 0).then_some(head.at),
            memory: Zeroizing::new(memory.to_vec()),
        });
    }

    fn plaintext(&mut self, head: &PlaintextRecord, data: &[u8], out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, 0, 0);
        out.push(LiveRecord::Plaintext {
            at: from.at,
            object: object(head.pid, head.object, head.born),
            written: head.flags & plaintext::flags::WRITTEN != 0,
            offset: head.offset,
            data: Bytes::copy_from_slice(data),
        });
    }

    fn tls_end(&mut self, head: &ObjectEndRecord, out: &mut Vec<LiveRecord>) {
        let from = self.from(head.time, 0, 0);
        out.push(LiveRecord::TlsEnd {
            at: from.at,
            object: object(head.pid, head.object, head.born),
            written: head.written,
            read: head.read,
        });
    }
}

fn object(pid: u32, address: u64, born: u64) -> Object {
    Object { pid, address, born }
}

/// The ring, to be awaited.
pub(super) fn pollable(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its file descriptor, and nothing replaces or closes it while it lives here.
    #[expect(unsafe_code, reason = "tokio wants a promise about the file descriptor")]
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
    Ok(ring)
}

fn push(out: &mut Vec<LiveRecord>, from: From, drift: Option<HostDrift>) {
    if let Some(drift) = drift {
        out.push(LiveRecord::Drift {
            at: from.at,
            kind: drift.kind,
            host: drift.host,
            address: drift.address,
            port: drift.port,
            refused: drift.refused,
            cookie: from.cookie,
            scope: from.scope,
        });
    }
}

fn socket(address: &Address, port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(unmapped(address), u16::from_be_bytes(port))
}

/// 0 is a listening socket's packet: of a connection that has no socket yet.
fn cookie(cookie: u64) -> Option<u64> {
    (cookie != 0).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::attribution::Pods;

    proptest! {
        /// Each record says something or is counted: as unreadable, or as a verdict on a host that is not pinned.
        #[test]
        fn no_bytes_are_dropped_uncounted(
            kind in 0_u8..8,
            rest in proptest::collection::vec(any::<u8>(), 0..200),
            pinned in any::<bool>(),
        ) {
            let attribution = Attribution::new(None, Pods::new(Duration::from_secs(1)));
            let mut reader = Reader::new(None, attribution);
            let bytes: Vec<u8> = [kind].into_iter().chain(rest).collect();
            let mut out = Vec::new();
            reader.read(&bytes, |_| pinned.then_some(0), &mut out);
            let counted = reader.malformed().saturating_add(reader.stale());
            let said = u64::try_from(out.len()).unwrap_or(u64::MAX);
            prop_assert_eq!(said.saturating_add(counted), 1);
        }
    }
}
