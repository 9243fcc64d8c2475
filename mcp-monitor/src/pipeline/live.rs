//! The engine over the kernel's records.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    application::Interest,
    correlator::{Correlator, Wanted, kernel_hosts},
    keep::{Changes, Learning},
    links::{Announced, Ended, Links, Place},
    plaintext::Piece,
    progress::{Progress, Stage},
    record::Record,
    replay::Outcome,
    shard::{Event, Shard, ShardLimits},
    status::Status,
    summary::{PlaintextCounts, Reloads, Summary},
};
use crate::{
    alert::AlerterOptions,
    attribution::{Pods, find_listener, is_there, kubernetes::Identity},
    config::{origin::OriginTables, pins::Pins, plaintext::Plaintext},
    decode::{Decoded, Decoder},
    mcp::{FlowEvent, FlowEventKind, tracker::TrackerLimits},
    source::{
        live::{FlowVerdict, LiveError, LiveOptions, LiveRecord, LiveSource, Object},
        verdict::HostDrift,
    },
    types::{At, Timestamp},
};

/// How a live run goes.
pub struct RunOptions {
    /// What must hold.
    pub pins: Arc<Pins>,
    /// Records wanted.
    pub wanted: Wanted,
    /// How to attach.
    pub source: LiveOptions,
    /// Whose TLS is read; nobody's unless [`LiveOptions::plaintext`] is set.
    pub plaintext: Plaintext,
    /// Caps of the flow table and the parsers.
    pub shard: ShardLimits,
    /// Caps of the tracker.
    pub tracker: TrackerLimits,
    /// Dedup of alerts.
    pub alerts: AlerterOptions,
    /// Key of fingerprints; a fixed one by default.
    pub fingerprint_key: Option<[u8; 32]>,
    /// Learn, from what an earlier run left.
    pub learning: Option<Learning>,
    /// Takes what was learned every ten seconds and at the end, where [`Learning::keep`] was asked for.
    pub keep: Option<Keep>,
    /// Where addresses are announced from.
    pub origins: Arc<OriginTables>,
    /// Where the loop says what it is doing.
    pub progress: Arc<Progress>,
    /// Takes a look at the loop every second, and at the end.
    pub publish: Option<Publish>,
    /// Told why changed pins were refused.
    pub refused: Option<Refused>,
    /// The watch of the Kubernetes API, if there is one. It ends when the run does.
    pub identity: Option<Identity>,
}

/// Takes a [`Status`].
pub type Publish = Box<dyn FnMut(Status)>;

/// Changed pins, or why there are none: their file is wrong, or cannot be read.
pub type Reload = Result<Arc<Pins>, String>;

/// Told the reason, in one line.
pub type Refused = Box<dyn FnMut(&str)>;

/// Writes what was learned. What cannot be written is its own to report: that is no reason to stop watching.
pub type Keep = Box<dyn FnMut(Changes)>;

/// Why a live run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The kernel side.
    #[error(transparent)]
    Source(#[from] LiveError),
    /// The output.
    #[error("output: {0}")]
    Output(E),
}

/// How long records still in the ring are waited for at the end, and again while older ones are there.
const DRAIN: Duration = Duration::from_millis(300);
/// After this it ends all the same. What is read then was written later than the signal, or cannot be caught up with.
const MAX_DRAIN: Duration = Duration::from_secs(5);
/// How often time passes for flows and alerts without packets.
const TICK: Duration = Duration::from_secs(1);
/// How long packets alone are taken while there are some. Timers, signals and changed pins are looked at by the runtime,
/// which comes to it only when this yields; by itself it would after 128 full batches.
const ALONE: Duration = Duration::from_millis(20);
/// How often what was learned is written.
const KEEP: Duration = Duration::from_secs(10);

/// Watches until `shutdown` is done, then takes what is left in the ring and ends.
///
/// `ready` is called once the programs are attached. Pins from `reloads` come into force between two
/// packets, in the kernel and here; where they are wrong or the kernel refuses
/// them, the old ones stay in force.
///
/// # Errors
///
/// When the programs cannot be attached or their ring breaks, and those of `emit`.
pub async fn run<E>(
    options: RunOptions,
    shutdown: impl Future<Output = ()>,
    mut reloads: mpsc::Receiver<Reload>,
    ready: impl FnOnce(&LiveSource),
    mut emit: impl FnMut(Vec<Record>) -> Result<(), E>,
) -> Result<Outcome, RunError<E>> {
    let started = Instant::now();
    let (hosts, _) = kernel_hosts(&options.pins);
    let mut limits = options.shard;
    limits.application.probed = options.source.plaintext;
    let mut source = LiveSource::attach(&options.source, &hosts)?;
    ready(&source);
    say_what_is_not_enforced(&options.pins, options.source.enforce);
    let may_refuse = options.source.enforce;
    let progress = options.progress;
    let mut publish = options.publish;
    let mut refused = options.refused;
    let mut pins_since = now();
    let mut engine = Engine {
        correlator: Correlator::new(
            options.pins,
            options.tracker,
            options.alerts,
            options.wanted,
            false,
        ),
        shard: Shard::new(0, limits),
        links: Links::new(options.plaintext),
        randoms: Vec::new(),
        events: Vec::new(),
        last: At::default(),
        packets: 0,
        bytes: 0,
        pods: options.source.pods.clone(),
    };
    engine.correlator.set_origins(options.origins);
    if let Some(key) = &options.fingerprint_key {
        engine.correlator.set_fingerprint_key(key);
    }
    if let Some(learning) = options.learning {
        engine.correlator.learn(learning);
    }
    let mut keep = options.keep;
    let mut records = Vec::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut keeps = tokio::time::interval(KEEP);
    let mut drain: Option<Drain> = None;
    let mut undelivered = 0_u64;
    let mut yielded = Instant::now();
    let mut reloaded = Reloads::default();
    tokio::pin!(shutdown);
    loop {
        progress.enter(Stage::Wait);
        if yielded.elapsed() >= ALONE {
            tokio::task::yield_now().await;
            yielded = Instant::now();
        }
        let deadline = drain
            .as_ref()
            .map(|drain| tokio::time::Instant::from_std(drain.look));
        tokio::select! {
            biased;
            () = &mut shutdown, if drain.is_none() => {
                drain = Some(Drain::begin(Instant::now(), source.now()));
            }
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await }, if deadline.is_some() => {
                if drain.as_mut().is_none_or(|drain| drain.is_over(Instant::now(), source.is_dry(), engine.last.time)) {
                    break;
                }
            }
            _ = ticks.tick() => {
                progress.enter(Stage::Tick);
                let time = source.now();
                engine.tick(time);
                source.forget(&engine.end_orphans(time));
                if let Some(publish) = &mut publish {
                    let mut summary = engine.summary(&source, undelivered, reloaded, started)?;
                    summary.identity = options.identity.as_ref().map(|identity| identity.status());
                    publish(Status::new(now(), pins_since, summary, &engine.correlator, &source));
                }
            }
            Some(reload) = reloads.recv() => {
                progress.enter(Stage::Reload);
                match reload.and_then(|pins| engine.reload(&mut source, pins, may_refuse)) {
                    Ok(endpoints) => {
                        reloaded.applied = reloaded.applied.saturating_add(1);
                        pins_since = now();
                        tracing::info!(endpoints, "pins reloaded");
                    }
                    Err(why) => {
                        reloaded.refused = reloaded.refused.saturating_add(1);
                        tracing::error!("pins not reloaded, those before stay in force: {why}");
                        if let Some(refused) = &mut refused {
                            refused(&why);
                        }
                    }
                }
            }
            _ = keeps.tick(), if keep.is_some() => {
                progress.enter(Stage::State);
                if let Some(keep) = &mut keep {
                    keep(engine.correlator.take_changes());
                }
            }
            result = source.next(&mut records) => result?,
        }
        progress.enter(Stage::Packets);
        engine.feed(&mut records);
        for (target, at) in engine.randoms.drain(..) {
            source.set_random_at(target, at);
        }
        for (cookie, interest) in engine.shard.take_interests() {
            if let Some(verdict) = verdict(interest) {
                // The flow then stays undecided, which costs bytes: no reason to stop watching.
                if let Err(error) = source.set_verdict(cookie, verdict) {
                    undelivered = undelivered.saturating_add(1);
                    tracing::debug!(%error, cookie, "verdict not delivered");
                }
            }
        }
        let out = engine.correlator.take_records();
        if !out.is_empty() {
            progress.enter(Stage::Output);
            emit(out).map_err(RunError::Output)?;
        }
    }
    // What is counted from now on, the next process has to count.
    if let Err(error) = source.leave() {
        tracing::warn!("the next monitor may count losses of this one again: {error}");
    }
    engine.finish();
    let (facts, tallies) = match &mut keep {
        Some(keep) => {
            keep(engine.correlator.take_changes());
            Default::default()
        }
        None => engine.correlator.take_learned(),
    };
    emit(engine.correlator.take_records()).map_err(RunError::Output)?;
    let mut summary = engine.summary(&source, undelivered, reloaded, started)?;
    summary.identity = options.identity.map(|identity| identity.status());
    if let Some(publish) = &mut publish {
        publish(Status::new(
            now(),
            pins_since,
            summary.clone(),
            &engine.correlator,
            &source,
        ));
    }
    Ok(Outcome {
        summary,
        worst: engine.correlator.worst(),
        error: None,
        changes: Changes::default(),
        facts,
        tallies,
    })
}

/// Pins that ask for more than the program may do are a misunderstanding somebody should hear of.
fn say_what_is_not_enforced(pins: &Pins, may_refuse: bool) {
    let asking = pins.endpoints.iter().filter(|endpoint| endpoint.enforce).count();
    if asking > 0 && !may_refuse {
        tracing::warn!(
            endpoints = asking,
            "pins say enforce: true, the configuration does not: drift is reported and not refused; set source.enforce"
        );
    }
}

/// The end: what was in the ring when it was asked for is read.
struct Drain {
    /// When it was asked for, on the clock of the records.
    asked: Timestamp,
    /// When to look whether it is done.
    look: Instant,
    /// When it is given up.
    end: Instant,
}

impl Drain {
    fn begin(now: Instant, asked: Timestamp) -> Self {
        Self {
            asked,
            look: now.checked_add(DRAIN).unwrap_or(now),
            end: now.checked_add(MAX_DRAIN).unwrap_or(now),
        }
    }

    /// `dry`: the ring was read to its end; `read`: time of the last record.
    fn is_over(&mut self, now: Instant, dry: bool, read: Timestamp) -> bool {
        if dry || read >= self.asked {
            return true;
        }
        if now >= self.end {
            let behind = self.asked.since(read);
            tracing::warn!(
                seconds = behind.as_secs_f64(),
                "ending with records in the ring that nobody read: the load is more than could be caught up with"
            );
            return true;
        }
        self.look = now.checked_add(DRAIN).unwrap_or(now);
        false
    }
}

/// Only kind, method and size of a message, and no other body.
fn without_body(event: &mut FlowEvent) {
    match &mut event.kind {
        FlowEventKind::Message(message) => {
            message.body = Bytes::new();
            (message.params, message.result, message.error) = (None, None, None);
        }
        FlowEventKind::Document(document) => document.body = Bytes::new(),
        _ => {}
    }
}

fn verdict(interest: Interest) -> Option<FlowVerdict> {
    match interest {
        Interest::Undecided => None,
        Interest::Captured => Some(FlowVerdict::Captured),
        Interest::Watch => Some(FlowVerdict::Watch),
        Interest::HandshakeOnly => Some(FlowVerdict::HandshakeOnly),
        Interest::Plaintext => Some(FlowVerdict::Plaintext),
        Interest::Ignored => Some(FlowVerdict::Ignored),
    }
}

/// By the wall clock.
fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

struct Engine {
    correlator: Correlator,
    shard: Shard,
    links: Links,
    /// Where objects of TLS libraries were found to keep the `client_random`, for the kernel.
    randoms: Vec<(u32, u32)>,
    events: Vec<Event>,
    last: At,
    packets: u64,
    bytes: u64,
    pods: Pods,
}

impl Engine {
    /// The counts so far.
    fn summary(
        &self,
        source: &LiveSource,
        undelivered: u64,
        reloads: Reloads,
        started: Instant,
    ) -> Result<Summary, LiveError> {
        let decoder = Decoder::new(crate::decode::DecodeLimits::default());
        let mut summary = Summary::collect(&decoder, std::iter::once(&self.shard), &self.correlator);
        summary.packets = self.packets;
        summary.bytes = self.bytes;
        summary.kernel = Some(source.counters()?);
        summary.plaintext = source.tls_counters().map(|probes| PlaintextCounts {
            probes,
            links: self.links.counters(),
            unreadable_by: source.unreadable_by_reason(),
        });
        summary.dropped.insert("verdicts_undelivered", undelivered);
        summary.reloads = Some(reloads);
        summary.seconds = started.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// Puts other pins in force, in the kernel first: it is the one that may refuse. How many endpoints they have.
    fn reload(
        &mut self,
        source: &mut LiveSource,
        pins: Arc<Pins>,
        may_refuse: bool,
    ) -> Result<usize, String> {
        let endpoints = pins.endpoints.len();
        say_what_is_not_enforced(&pins, may_refuse);
        let (hosts, _) = kernel_hosts(&pins);
        source
            .swap_pins(&hosts)
            .map_err(|error| format!("the kernel refuses them: {error}"))?;
        self.correlator.set_pins(pins);
        Ok(endpoints)
    }

    fn feed(&mut self, records: &mut Vec<LiveRecord>) {
        for record in records.drain(..) {
            match record {
                LiveRecord::Segment(segment) => {
                    self.last = segment.at;
                    self.count(segment.wire_len);
                    self.packet(&Decoded::Tcp(segment));
                }
                LiveRecord::Datagram(datagram) => {
                    self.last = datagram.at;
                    self.count(datagram.wire_len);
                    self.packet(&Decoded::Udp(datagram));
                }
                LiveRecord::Drift {
                    at,
                    kind,
                    host,
                    address,
                    port,
                    refused,
                    cookie,
                    ..
                } => {
                    self.correlator.kernel_drift(
                        at,
                        &HostDrift {
                            kind,
                            host,
                            address,
                            port,
                            refused,
                        },
                        cookie,
                    );
                }
                LiveRecord::Process { cookie, process, .. } => {
                    self.links.connected(cookie, process.pid);
                    self.correlator.process(cookie, process);
                }
                LiveRecord::TlsObject {
                    object,
                    writes,
                    process,
                    target,
                    memory_at,
                    memory,
                    ..
                } => {
                    let found = self.links.announced(
                        object,
                        Announced {
                            process: &process,
                            target,
                            memory_at,
                            memory: &memory,
                            writes,
                        },
                    );
                    self.randoms.extend(found.random_at.map(|place| (target, place)));
                    if let Some(socket) = found.socket {
                        self.correlator.process(socket, process);
                    }
                }
                LiveRecord::Plaintext {
                    at,
                    object,
                    written,
                    offset,
                    data,
                } => self.plaintext(at, object, written, offset, data),
                LiveRecord::Unreadable { pid, why } => self.links.unreadable(pid, why),
                LiveRecord::TlsEnd {
                    at,
                    object,
                    written,
                    read,
                } => self.tls_end(at, object, written, read),
            }
        }
    }

    /// Plaintext of a process goes into the flow that it belongs to.
    fn plaintext(&mut self, at: At, object: Object, written: bool, offset: u64, data: Bytes) {
        self.last = At {
            time: at.time.max(self.last.time),
            ..at
        };
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let mut place = self.links.place(object, written, offset, length);
        if let Place::Open(process) = place {
            let flow = self.shard.open_unlinked(at, &mut self.events);
            if let Some(cookie) = flow.cookie {
                self.correlator.process(cookie, process);
            }
            self.links.opened(object, &flow, written);
            place = self.links.place(object, written, offset, length);
        }
        let Place::Flow {
            flow,
            direction,
            lost,
        } = place
        else {
            return;
        };
        if lost > 0 {
            let gap = Piece::Gap {
                direction,
                bytes: lost,
            };
            self.shard.plaintext(&flow, at, gap, &mut self.events);
        }
        let data = Piece::Data { direction, data };
        if !self.shard.plaintext(&flow, at, data, &mut self.events) {
            self.links.late(length);
        }
        self.pass_events();
    }

    fn tls_end(&mut self, at: At, object: Object, written: u64, read: u64) {
        if let Some(ended) = self.links.ended(object, written, read) {
            self.stream_ends(at, &ended);
        }
    }

    fn stream_ends(&mut self, at: At, ended: &Ended) {
        for (direction, bytes) in ended.lost {
            if bytes > 0 {
                let gap = Piece::Gap { direction, bytes };
                self.shard.plaintext(&ended.flow, at, gap, &mut self.events);
            }
        }
        self.shard
            .plaintext(&ended.flow, at, Piece::End, &mut self.events);
        if !ended.flow.linked {
            self.shard.close_unlinked(&ended.flow, at, &mut self.events);
        }
        self.pass_events();
    }

    /// Ends what processes left open that are gone. The objects, for the kernel's table.
    fn end_orphans(&mut self, now: Timestamp) -> Vec<Object> {
        let orphans = self
            .links
            .orphans(now, |object| is_there(object.pid, object.born));
        for object in &orphans {
            if let Some(ended) = self.links.orphaned(*object) {
                self.stream_ends(self.last, &ended);
            }
        }
        orphans
    }

    /// Events of flows go to where flows meet, and what the links need of them to those.
    fn pass_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for Event { mut event, .. } in events.drain(..) {
            match &mut event.kind {
                FlowEventKind::Opaque { why } => *why = self.links.why_opaque(&event.flow.info),
                FlowEventKind::ClientHello(hello) => {
                    self.links.hello(&event.flow.info, hello.random, event.at.time);
                }
                FlowEventKind::Close(_) => self.links.closed(event.flow.info.id),
                _ => {}
            }
            if self.links.is_metadata(event.flow.info.id) {
                without_body(&mut event);
            }
            self.correlator.event(event);
        }
        self.events = events;
    }

    /// Where a server of this machine listens that was seen to speak MCP. One a second: the look-up goes
    /// through `/proc`, and packets wait meanwhile.
    fn look_up_listener(&mut self, at: At) {
        if let Some((server, client)) = self.correlator.next_unlisted()
            && let Some(listener) = find_listener(server, client, &self.pods)
        {
            self.correlator.listener(at, server, &listener);
        }
    }

    fn count(&mut self, bytes: u32) {
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(bytes));
    }

    fn packet(&mut self, packet: &Decoded) {
        self.shard.feed(packet, &mut self.events);
        self.pass_events();
    }

    fn tick(&mut self, now: Timestamp) {
        let at = At {
            time: now.max(self.last.time),
            packet: self.last.packet,
        };
        self.shard.tick(at, &mut self.events);
        for flow in self.links.impatient(at.time) {
            self.shard.plaintext(&flow, at, Piece::GiveUp, &mut self.events);
        }
        self.pass_events();
        self.correlator.tick(at);
        self.look_up_listener(at);
    }

    fn finish(&mut self) {
        self.shard.finish(self.last, &mut self.events);
        self.pass_events();
        self.correlator.finish(self.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_what_was_there_when_it_was_asked_for() {
        let (start, asked) = (Instant::now(), Timestamp(10_000_000_000));
        let mut drain = Drain::begin(start, asked);
        let older = Timestamp(9_000_000_000);
        assert!(!drain.is_over(start + DRAIN, false, older));
        assert!(drain.look > start + DRAIN, "looks again later");
        assert!(drain.is_over(start + DRAIN, true, older), "nothing is left");
        assert!(
            drain.is_over(start + DRAIN, false, asked),
            "what follows came after the signal"
        );
        assert!(drain.is_over(start + MAX_DRAIN, false, older), "but not for ever");
    }
}
