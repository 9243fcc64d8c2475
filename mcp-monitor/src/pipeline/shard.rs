//! One shard of the per-flow half: a flow table with an application on every flow.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    application::{Application, ApplicationCounters, ApplicationLimits, Interest},
    plaintext::UnlinkedFlows,
};
use crate::{
    decode::{Decoded, UdpDatagram},
    flow::{Control, FlowCounters, FlowEnd, FlowInfo, FlowLimits, FlowRef, FlowTable, Handler},
    mcp::{FlowEvent, FlowEventKind, conversation::Output},
    proto::tls::decrypt::KeyLog,
    types::{Anomaly, At, Direction},
};

/// An event and the packet whose arrival brought it out.
#[derive(Clone, Debug)]
pub struct Event {
    /// [`crate::types::PacketId::order`] of that packet.
    pub order: u64,
    /// What it was.
    pub event: FlowEvent,
}

/// Caps of a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardLimits {
    /// The flow table, memory included.
    pub flow: FlowLimits,
    /// The parsers of one flow.
    pub application: ApplicationLimits,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    pub(super) table: FlowTable<Application>,
    pub(super) handler: Applications,
    /// Streams of plaintext whose packets are not known.
    pub(super) unlinked: UnlinkedFlows,
}

/// Receives what the flow table pushes.
#[derive(Debug)]
pub(super) struct Applications {
    pub(super) limits: ApplicationLimits,
    counters: ApplicationCounters,
    /// The packet at work.
    pub(super) at: At,
    pub(super) output: Vec<Event>,
    scratch: Output,
    interests: Vec<(u64, Interest)>,
    /// Logged secrets of TLS connections.
    keys: Option<Arc<KeyLog>>,
}

impl Shard {
    /// Shard `index` of all.
    pub fn new(index: usize, limits: ShardLimits) -> Self {
        // Flow ids stay unique over shards: the shard is in the upper bits.
        let id_base = (index as u64) << 56;
        Self {
            index,
            unlinked: UnlinkedFlows::new(limits.flow.idle_open),
            table: FlowTable::new(limits.flow, id_base),
            handler: Applications {
                limits: limits.application,
                counters: ApplicationCounters::default(),
                at: At::default(),
                output: Vec::new(),
                scratch: Vec::new(),
                interests: Vec::new(),
                keys: None,
            },
        }
    }

    /// Opens TLS connections whose secrets are in `keys` when they begin.
    #[must_use]
    pub fn with_keys(mut self, keys: Arc<KeyLog>) -> Self {
        self.handler.keys = Some(keys);
        self
    }

    /// Which one.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Takes one segment or datagram; its events are appended to `out`.
    pub fn feed(&mut self, item: &Decoded, out: &mut Vec<Event>) {
        std::mem::swap(out, &mut self.handler.output);
        match item {
            Decoded::Tcp(segment) => {
                self.handler.at = segment.at;
                self.table.segment(segment, &mut self.handler);
            }
            Decoded::Udp(datagram) => {
                self.handler.at = datagram.at;
                self.table.datagram(datagram, &mut self.handler);
            }
            Decoded::Other => {}
        }
        std::mem::swap(out, &mut self.handler.output);
    }

    /// Time passes: idle flows end. `now` is the last packet of the whole input so far.
    pub fn tick(&mut self, now: At, out: &mut Vec<Event>) {
        std::mem::swap(out, &mut self.handler.output);
        self.handler.at = now;
        self.table.tick(now.time, &mut self.handler);
        std::mem::swap(out, &mut self.handler.output);
        self.end_idle_unlinked(now, out);
    }

    /// The input is over: every flow ends.
    pub fn finish(&mut self, now: At, out: &mut Vec<Event>) {
        self.end_unlinked(now, out);
        std::mem::swap(out, &mut self.handler.output);
        self.handler.at = now;
        self.table.finish(now.time, &mut self.handler);
        std::mem::swap(out, &mut self.handler.output);
    }

    /// Counts of the flow table.
    pub fn flow_counters(&self) -> FlowCounters {
        self.table.counters()
    }

    /// Streams of plaintext without packets that made room for others.
    pub fn unlinked_evicted(&self) -> u64 {
        self.unlinked.evicted
    }

    /// Counts of the parsers.
    pub fn application_counters(&self) -> &ApplicationCounters {
        &self.handler.counters
    }

    /// Flows by socket cookie whose [`Interest`] changed since the last call (live).
    pub fn take_interests(&mut self) -> Vec<(u64, Interest)> {
        std::mem::take(&mut self.handler.interests)
    }
}

impl Applications {
    /// Runs `step` on the application and turns what it says into events.
    pub(super) fn with<T>(
        &mut self,
        flow: &FlowRef,
        app: &mut Application,
        step: impl FnOnce(&mut Application, &mut ApplicationCounters, &mut Output) -> T,
    ) -> T {
        let cookie = flow.info.cookie.filter(|_| flow.info.linked);
        let before = cookie.map(|_| app.interest());
        let result = step(app, &mut self.counters, &mut self.scratch);
        if let Some(cookie) = cookie {
            let after = app.interest();
            if before != Some(after) {
                self.interests.push((cookie, after));
            }
        }
        if !self.scratch.is_empty() {
            let flow = FlowRef {
                plaintext: app.plaintext(),
                ..flow.clone()
            };
            let order = self.at.packet.order;
            self.output.extend(self.scratch.drain(..).map(|(at, kind)| Event {
                order,
                event: FlowEvent {
                    at,
                    flow: flow.clone(),
                    kind,
                },
            }));
        }
        result
    }

    pub(super) fn emit(&mut self, flow: FlowRef, at: At, kind: FlowEventKind) {
        self.output.push(Event {
            order: self.at.packet.order,
            event: FlowEvent { at, flow, kind },
        });
    }
}

impl Handler for Applications {
    type App = Application;

    fn open(&mut self, flow: &Arc<FlowInfo>) -> Application {
        let keys = self.keys.as_ref().filter(|k| !k.is_empty()).cloned();
        let app = Application::new(flow, self.limits, keys);
        let seen = FlowRef {
            info: flow.clone(),
            lost_bytes: 0,
            plaintext: app.plaintext(),
        };
        self.emit(seen, flow.start, FlowEventKind::Open);
        app
    }

    fn data(
        &mut self,
        flow: &FlowRef,
        app: &mut Application,
        direction: Direction,
        at: At,
        data: Bytes,
    ) -> Control {
        self.with(flow, app, |app, counters, out| {
            app.data(direction, at, data, counters, out)
        })
    }

    fn gap(&mut self, flow: &FlowRef, app: &mut Application, direction: Direction, at: At, bytes: u64) {
        self.with(flow, app, |app, counters, out| {
            app.gap(direction, at, bytes, counters, out)
        });
    }

    fn restart(&mut self, flow: &FlowRef, app: &mut Application, direction: Direction, at: At) {
        self.with(flow, app, |app, counters, out| {
            app.restart(direction, at, counters, out)
        });
    }

    fn fin(&mut self, flow: &FlowRef, app: &mut Application, direction: Direction, at: At) {
        self.with(flow, app, |app, counters, out| {
            app.fin(direction, at, counters, out)
        });
    }

    fn anomaly(&mut self, flow: &FlowRef, app: &mut Application, at: At, anomaly: Anomaly) {
        self.with(flow, app, |_, _, out| {
            out.push((at, FlowEventKind::Anomaly(anomaly)))
        });
    }

    fn datagram(
        &mut self,
        flow: &FlowRef,
        app: &mut Application,
        direction: Direction,
        at: At,
        datagram: &UdpDatagram,
    ) {
        self.with(flow, app, |app, counters, out| {
            app.datagram(direction, at, datagram, counters, out)
        });
    }

    fn close(&mut self, flow: &FlowRef, mut app: Application, end: FlowEnd) {
        let at = At {
            time: end.last,
            packet: self.at.packet,
        };
        self.with(flow, &mut app, |app, counters, out| app.close(at, counters, out));
        let flow = FlowRef {
            plaintext: app.plaintext(),
            ..flow.clone()
        };
        self.emit(flow, at, FlowEventKind::Close(end));
    }
}
