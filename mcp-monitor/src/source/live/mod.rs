//! Packets from the kernel program, through its ring.
//!
//! [`LiveSource::attach`] loads the programs and puts them on a cgroup; [`LiveSource::next`] waits for
//! records. Dropping the source detaches everything.

mod clock;
mod counters;
mod error;
mod features;
mod handover;
mod load;
mod pins;
mod ring;
mod sys;
pub mod tls;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, MapData, RingBuf},
};
use bytes::Bytes;
use mcp_monitor_common::{
    flow::state,
    plaintext::{ObjectKey, ObjectState},
    ring::RingRecord,
    verdict::DriftKind,
};
use tokio::io::unix::AsyncFd;
use zeroize::Zeroizing;

pub use self::{
    counters::KernelCounters,
    error::LiveError,
    features::Features,
    load::{cgroup2_root, missing_capabilities},
    tls::Object,
};
use super::verdict::{PinnedHost, Verdicts};
use crate::{
    attribution::{Attribution, Pods},
    decode::{TcpSegment, UdpDatagram},
    types::{At, Process, Scope, Timestamp},
};

const OBJECT_KEY: usize = size_of::<ObjectKey>();
const OBJECT_STATE: usize = size_of::<ObjectState>();

/// Records of several CPUs may lie in the ring this much out of order of time.
const HANDOVER_NS: u64 = 1_000_000_000;

/// How to attach.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Watch the sockets below this cgroup v2 directory; `None`: below the root, that is all of them.
    pub cgroup: Option<PathBuf>,
    /// Size of the ring, rounded up to a power of two; 64 MiB by default, between 64 KiB and 1 GiB.
    pub ring_bytes: u32,
    /// Records that one call of [`LiveSource::next`] returns at most; 1024 by default.
    pub batch: usize,
    /// Judge DNS answers, ClientHellos and connections in userspace even where the kernel can; off by
    /// default. For comparing the two: the verdicts are the same, some milliseconds later.
    pub userspace_verdicts: bool,
    /// Refuse connections that drift, for hosts whose pins ask for it; off by default. Takes `bpf_loop`.
    pub enforce: bool,
    /// Read plaintext from the TLS libraries of processes; off by default.
    pub plaintext: bool,
    /// Folder of a bpf file system in which programs and tables outlive this process, for the next one; `None` by
    /// default.
    pub pin_dir: Option<PathBuf>,
    /// Where pods are looked up.
    pub pods: Pods,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            cgroup: None,
            ring_bytes: 64 << 20,
            batch: 1024,
            userspace_verdicts: false,
            enforce: false,
            plaintext: false,
            pin_dir: None,
            pods: Pods::new(Duration::from_secs(300)),
        }
    }
}

/// What userspace makes of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowVerdict {
    /// Every byte is wanted.
    Captured,
    /// TLS that nothing opens: the handshake is wanted, then nothing.
    HandshakeOnly,
    /// HTTP that was not MCP so far: its next request is wanted again.
    Watch,
    /// TLS whose plaintext comes from the process: how the connection ends is wanted, and no payload.
    Plaintext,
    /// Never of interest. Final.
    Ignored,
}

impl FlowVerdict {
    const fn state(self) -> u8 {
        match self {
            Self::Captured => state::CAPTURED,
            Self::HandshakeOnly => state::HANDSHAKE,
            Self::Watch => state::WATCH,
            Self::Plaintext => state::PLAINTEXT,
            Self::Ignored => state::IGNORED,
        }
    }
}

/// What the kernel program says.
#[derive(Clone, Debug)]
pub enum LiveRecord {
    /// A TCP segment, or a part of a large one.
    Segment(TcpSegment),
    /// A UDP datagram to or from port 53.
    Datagram(UdpDatagram),
    /// A drift verdict. It follows the segment, datagram or process it belongs to.
    Drift {
        /// When; its packet is that of the record itself.
        at: At,
        /// Where it was seen.
        kind: DriftKind,
        /// Index among the [`PinnedHost`]s in force.
        host: usize,
        /// The offending address.
        address: IpAddr,
        /// Port of the connection, where there is one.
        port: Option<u16>,
        /// It was refused.
        refused: bool,
        /// The socket.
        cookie: u64,
        /// Address space of the socket.
        scope: Scope,
    },
    /// A process opens a connection, or sends DNS or to a drifting address.
    Process {
        /// When.
        at: At,
        /// The socket.
        cookie: u64,
        /// Address space of the socket.
        scope: Scope,
        /// Where to.
        server: SocketAddr,
        /// Who.
        process: Arc<Process>,
    },
    /// A process is about to use a TLS object for the first time, or does so.
    TlsObject {
        /// When.
        at: At,
        /// Which.
        object: Object,
        /// It writes; else it reads.
        writes: bool,
        /// Whose it is.
        process: Arc<Process>,
        /// The socket on which it was seen to send.
        socket: Option<u64>,
        /// Number of the library's file.
        target: u32,
        /// Where in the object `memory` lies; `None` if it is the `client_random` itself.
        memory_at: Option<u32>,
        /// Memory in which the `client_random` of the connection is, as a rule with secrets beside it.
        memory: Zeroizing<Vec<u8>>,
    },
    /// What a process wrote into TLS, or read from it.
    Plaintext {
        /// When.
        at: At,
        /// Which connection, as the process knows it.
        object: Object,
        /// Written, else read.
        written: bool,
        /// Where in its direction it begins. Bytes between the end of one record and this are lost.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// The TLS of a process cannot be read, which is said once; or such a process is gone.
    Unreadable {
        /// The process.
        pid: u32,
        /// Its program, and why not; `None`: it is gone.
        why: Option<Arc<str>>,
    },
    /// A TLS object was freed.
    TlsEnd {
        /// When.
        at: At,
        /// Which.
        object: Object,
        /// Bytes written in all.
        written: u64,
        /// Bytes read in all.
        read: u64,
    },
}

/// How often a program ran and how long that took, as the kernel measured it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramCost {
    /// Its name.
    pub name: Box<str>,
    /// Runs while measuring was on.
    pub runs: u64,
    /// Time in them.
    pub time: Duration,
}

/// The kernel programs, attached.
pub struct LiveSource {
    programs: Ebpf,
    /// Detach when dropped, unless they are pinned.
    _links: Vec<OwnedFd>,
    folder: Option<handover::Folder>,
    /// Records of the process before, not read yet.
    left: VecDeque<Vec<u8>>,
    handed_over: u64,
    handed_over_lost: u64,
    /// Records before this time, in nanoseconds since boot, were in the ring of the process before.
    since: u64,
    ring: AsyncFd<RingBuf<MapData>>,
    decisions: BpfHashMap<MapData, u64, [u8; 8]>,
    objects: BpfHashMap<MapData, [u8; OBJECT_KEY], [u8; OBJECT_STATE]>,
    counts: counters::Counters,
    pins: pins::Pins,
    reader: ring::Reader,
    features: Features,
    batch: usize,
    /// The ring was read to its end when it was last looked at.
    dry: bool,
    tls: Option<(tls::Probes, tls::Scanner)>,
    /// Passes the kernel programs' diagnostics on, where they were built with any.
    log: Option<Box<dyn FnMut() + Send>>,
}

impl std::fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSource")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl LiveSource {
    /// Loads the programs with these pins and attaches them. Wants a tokio runtime around it.
    pub fn attach(options: &LiveOptions, hosts: &[PinnedHost]) -> Result<Self, LiveError> {
        let cgroup = load::open_cgroup(options.cgroup.as_deref())?;
        load::require_privileges()?;
        features::require()?;
        let mut features = Features::probe()?;
        features.bpf_loop &= !options.userspace_verdicts;
        let folder = options
            .pin_dir
            .as_deref()
            .map(handover::Folder::open)
            .transpose()?;
        let mut left = folder.as_ref().and_then(handover::Folder::left);
        let seed = left.as_ref().map_or_else(load::random, |left| left.seed);
        let below = load::depth_and_id(options.cgroup.as_deref());
        let mut programs = load::load(options, seed, features, below)?;
        let log = load::log(&mut programs);
        if let Some(folder) = &folder {
            folder.prepare(&programs)?;
        }
        if let Some(left) = &left {
            left.teach(&mut programs)?;
        }
        let counts = counters::Counters::new(&mut programs)?;
        let decisions = load::take_hash(&mut programs, "DECISIONS")?;
        let objects = load::take_hash(&mut programs, "TLS_OBJECTS")?;
        let pins = pins::Pins::new(&mut programs, seed, hosts)?;
        let ring =
            RingBuf::try_from(load::take(&mut programs, "EVENTS")?).map_err(LiveError::map("EVENTS"))?;
        let ring = ring::pollable(ring).map_err(LiveError::Ring)?;
        let verdicts = (!features.bpf_loop).then(|| Verdicts::new(hosts));
        if options.enforce && !features.bpf_loop {
            tracing::warn!("enforce: nothing is refused, this kernel lacks bpf_loop (Linux 5.17)");
        }
        let reader = ring::Reader::new(
            verdicts,
            Attribution::new(load::cgroup2_root().ok(), options.pods.clone()),
        );
        let links = load::attach(&mut programs, &cgroup)?;
        if let Some(folder) = &folder {
            for (name, link) in &links {
                folder.prepare_link(name, link)?;
            }
            folder.take_over(load::links(), left.as_mut())?;
        }
        let since = left.as_ref().map_or(0, handover::Left::until);
        let (left, handed_over_lost) = left.map(handover::Left::finish).unwrap_or_default();
        if since > 0 {
            tracing::info!(
                records = left.len(),
                lost = handed_over_lost,
                "taken over from the monitor before"
            );
            if options.plaintext {
                tracing::warn!(
                    "plaintext of TLS is not taken over: what was said since the monitor before ended stays unread, and is on OP-06 for pinned servers"
                );
            }
        }
        let tls = options
            .plaintext
            .then(|| Self::watch_libraries(&mut programs, options))
            .flatten();
        Ok(Self {
            programs,
            _links: links.into_iter().map(|(_, link)| link).collect(),
            folder,
            left,
            handed_over: 0,
            handed_over_lost,
            since,
            ring,
            decisions,
            objects,
            counts,
            pins,
            reader,
            features,
            batch: options.batch.max(1),
            dry: true,
            tls,
            log,
        })
    }

    /// Packets are worth watching without plaintext too.
    fn watch_libraries(programs: &mut Ebpf, options: &LiveOptions) -> Option<(tls::Probes, tls::Scanner)> {
        let probes = tls::Probes::load(programs)
            .inspect_err(|error| tracing::error!("TLS stays closed: {error}"))
            .ok()?;
        let scanner = tls::Scanner::start(options.cgroup.clone())
            .inspect_err(|error| tracing::error!("TLS stays closed: no thread for the scan: {error}"))
            .ok()?;
        Some((probes, scanner))
    }

    /// Waits until there is at least one record and appends up to a batch of them to `out`.
    ///
    /// Cancel safe: what was not appended stays in the ring.
    pub async fn next(&mut self, out: &mut Vec<LiveRecord>) -> Result<(), LiveError> {
        loop {
            if let Some(log) = &mut self.log {
                log();
            }
            if !self.left.is_empty() {
                let count = self.left.len().min(self.batch);
                for record in self.left.drain(..count) {
                    self.handed_over = self.handed_over.saturating_add(1);
                    self.reader.read(&record, |pattern| self.pins.host(pattern), out);
                }
                return Ok(());
            }
            let mut guard = match &mut self.tls {
                None => self.ring.readable_mut().await.map_err(LiveError::Ring)?,
                Some((probes, scanner)) => tokio::select! {
                    biased;
                    change = scanner.change() => {
                        let unreadable = match &change {
                            tls::Change::Unreadable { pid, path, reason } => {
                                Some((*pid, Some(format!("{path}: {reason}").into())))
                            }
                            tls::Change::Gone { pid } => Some((*pid, None)),
                            _ => None,
                        };
                        probes.change(&mut self.programs, change);
                        let Some((pid, why)) = unreadable else { continue };
                        out.push(LiveRecord::Unreadable { pid, why });
                        return Ok(());
                    }
                    guard = self.ring.readable_mut() => guard.map_err(LiveError::Ring)?,
                },
            };
            let ring = guard.get_inner_mut();
            let before = out.len();
            self.dry = false;
            for _ in 0..self.batch {
                let Some(record) = ring.next() else {
                    self.dry = true;
                    guard.clear_ready();
                    break;
                };
                if self.since > 0
                    && let Some(time) = RingRecord::read(&record).and_then(|read| read.time())
                {
                    if time < self.since {
                        continue;
                    }
                    if time.saturating_sub(self.since) > HANDOVER_NS {
                        self.since = 0;
                    }
                }
                self.reader.read(&record, |pattern| self.pins.host(pattern), out);
            }
            let subjects = self.reader.take_subjects();
            if let Some((_, scanner)) = &mut self.tls {
                subjects.for_each(|subject| scanner.tell(subject));
            }
            if out.len() > before {
                return Ok(());
            }
        }
    }

    /// The ring was read to its end when it was last looked at.
    pub fn is_dry(&self) -> bool {
        self.dry
    }

    /// Time now, on the clock of the records: near the wall clock, and never backwards.
    pub fn now(&mut self) -> Timestamp {
        self.reader.now()
    }

    /// Tells the kernel what to do with a flow from its next packet on.
    ///
    /// The verdict waits in a table of 16384 for that packet; of more, the oldest are forgotten and the
    /// flow stays undecided, which costs bytes and loses none.
    pub fn set_verdict(&mut self, cookie: u64, verdict: FlowVerdict) -> Result<(), LiveError> {
        let decision = [verdict.state(), 0, 0, 0, 0, 0, 0, 0];
        self.decisions
            .insert(cookie, decision, 0)
            .map_err(LiveError::map("DECISIONS"))
    }

    /// TLS objects whose process is gone: the kernel's table need not keep them either.
    pub fn forget(&mut self, objects: &[Object]) {
        for object in objects {
            let key = ObjectKey {
                address: object.address,
                pid: object.pid,
                reserved: 0,
            };
            // It may have made room for others already.
            let _ = self.objects.remove(&pins::bytes::<_, OBJECT_KEY>(&key));
        }
    }

    /// Puts other pins in force, between two packets. What was learned of names still pinned stays.
    pub fn swap_pins(&mut self, hosts: &[PinnedHost]) -> Result<(), LiveError> {
        self.pins.swap(hosts)?;
        self.reader.swap(hosts);
        Ok(())
    }

    /// To be called when this is the end, and the next process is to go on where this one stopped. Without
    /// [`LiveOptions::pin_dir`] it changes nothing.
    pub fn leave(&mut self) -> Result<(), LiveError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let lost = self.counters()?.lost_in_kernel();
        self.pins.leave(lost)
    }

    /// What was counted since attaching.
    pub fn counters(&self) -> Result<KernelCounters, LiveError> {
        let mut counters = self.counts.read()?;
        counters.malformed_records = self.reader.malformed();
        counters.stale_drifts = self.reader.stale();
        counters.handed_over = self.handed_over;
        counters.handed_over_lost = self.handed_over_lost;
        Ok(counters)
    }

    /// TLS objects of the library `target` keep their `client_random` at this place; from now on only that
    /// is read of them.
    pub fn set_random_at(&mut self, target: u32, at: u32) {
        if let Some((probes, _)) = &mut self.tls {
            probes.random_at(target, at);
        }
    }

    /// How the probes on TLS libraries fare; `None` where there are none.
    pub fn tls_counters(&self) -> Option<tls::TlsCounters> {
        let (probes, scanner) = self.tls.as_ref()?;
        Some(tls::TlsCounters {
            untold: scanner.untold(),
            ..probes.counters()
        })
    }

    /// Processes that run now whose TLS cannot be read, by [`Unreadable::code`](super::binary::Unreadable::code).
    pub fn unreadable_by_reason(&self) -> std::collections::BTreeMap<&'static str, u64> {
        let probes = self.tls.as_ref().map(|(probes, _)| probes.unreadable());
        probes
            .map(tls::UnreadableProcesses::by_reason)
            .unwrap_or_default()
    }

    /// The programs they run, those with the most processes first.
    pub fn unreadable_programs(&self, most: usize) -> Vec<tls::UnreadableProgram> {
        let probes = self.tls.as_ref().map(|(probes, _)| probes.unreadable());
        probes
            .map(|processes| processes.programs(most))
            .unwrap_or_default()
    }

    /// What the programs cost, by their name; all zero unless the sysctl `kernel.bpf_stats_enabled` is 1.
    pub fn program_costs(&self) -> Vec<ProgramCost> {
        load::costs(&self.programs)
    }

    /// What the kernel offers and is used.
    pub fn features(&self) -> Features {
        self.features
    }
}
