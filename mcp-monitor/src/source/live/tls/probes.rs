//! The kernel's probes on files with TLS functions.

use std::{os::fd::AsRawFd as _, path::PathBuf};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{
        RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use hashbrown::HashMap;
use serde::Serialize;

use super::{
    UnreadableProcesses,
    scan::{Change, Target},
};
use crate::source::{
    binary::{Function, Library, Probe, ProbeKind},
    live::{LiveError, load},
};

/// Programs on functions.
const PROGRAMS: [&str; 13] = [
    "mcp_tls_write",
    "mcp_tls_write_ex",
    "mcp_tls_read",
    "mcp_tls_read_ex",
    "mcp_tls_return",
    "mcp_tls_free",
    "mcp_go_write",
    "mcp_go_read",
    "mcp_go_return",
    "mcp_go_close",
    "mcp_go_handshake",
    "mcp_go_hello_sent",
    "mcp_go_hello_received",
];
const EXEC: &str = "mcp_exec";

/// How the probes fare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TlsCounters {
    /// Files with probes on them now.
    pub targets: u64,
    /// Files that probes were put on.
    pub attached: u64,
    /// Files that probes were taken off again, because no process uses them.
    pub detached: u64,
    /// Files that the kernel refused probes on.
    pub refused: u64,
    /// Processes met whose TLS cannot be read.
    pub unreadable: u64,
    /// Of these, those of which only the number is known, because there were too many.
    pub unreadable_untold: u64,
    /// Processes of which the scan was not told in time.
    pub untold: u64,
}

/// See the module.
pub struct Probes {
    links: HashMap<u32, Vec<UProbeLink>>,
    random: Array<MapData, u32>,
    unreadable: UnreadableProcesses,
    counters: TlsCounters,
}

impl Probes {
    /// Loads the programs and watches for processes that execute others.
    pub fn load(programs: &mut Ebpf) -> Result<Self, LiveError> {
        for name in PROGRAMS {
            uprobe(programs, name)?.load().map_err(load::program(name))?;
        }
        // Without it, new processes are found when they connect, and by the scan.
        if let Err(error) = watch_exec(programs) {
            tracing::warn!("programs are found later than they start: {error}");
        }
        let random =
            Array::try_from(load::take(programs, "TLS_RANDOM")?).map_err(LiveError::map("TLS_RANDOM"))?;
        Ok(Self {
            links: HashMap::new(),
            random,
            unreadable: UnreadableProcesses::default(),
            counters: TlsCounters::default(),
        })
    }

    /// Carries a change out.
    pub fn change(&mut self, programs: &mut Ebpf, change: Change) {
        match change {
            Change::Attach(target) => self.attach(programs, &target),
            Change::Detach { target } => {
                // Dropping a link takes its probe off.
                if self.links.remove(&target).is_some() {
                    self.counters.detached = self.counters.detached.saturating_add(1);
                }
            }
            Change::Unreadable { pid, path, reason } => {
                self.counters.unreadable = self.counters.unreadable.saturating_add(1);
                tracing::debug!(pid, %path, %reason, "the TLS of this process cannot be read");
                self.unreadable.insert(pid, path, reason);
            }
            Change::Gone { pid } => self.unreadable.remove(pid),
        }
    }

    fn attach(&mut self, programs: &mut Ebpf, target: &Target) {
        // The number is perhaps another file's from before.
        let _ = self.random.set(target.number, 0, 0);
        let mut links = Vec::new();
        // Returns first: a call whose entry was seen and whose return was not would wait for nothing.
        let mut wanted: Vec<(&str, u64)> = target
            .plans
            .iter()
            .flat_map(|plan| plan.probes.iter().map(|probe| (plan.library, probe)))
            .filter_map(|(library, probe)| Some((program(library, probe)?, probe.file_offset)))
            .collect();
        wanted.sort_by_key(|(program, offset)| (![RETURN, GO_RETURN].contains(program), *offset));
        for (program, offset) in wanted {
            match attach(programs, program, target, offset) {
                Ok(link) => links.push(link),
                Err(error) => {
                    self.counters.refused = self.counters.refused.saturating_add(1);
                    tracing::warn!(path = %target.path, program, %error, "no plaintext from this library");
                    return;
                }
            }
        }
        tracing::debug!(path = %target.path, target = target.number, probes = links.len(), "TLS library attached");
        self.links.insert(target.number, links);
        self.counters.attached = self.counters.attached.saturating_add(1);
    }

    /// Objects of the library with this number keep their `client_random` at this place.
    pub fn random_at(&mut self, target: u32, at: u32) {
        // A number that nothing has any more needs no place.
        let _ = self.random.set(target, at.saturating_add(1), 0);
    }

    /// Processes whose TLS cannot be read.
    pub fn unreadable(&self) -> &UnreadableProcesses {
        &self.unreadable
    }

    /// What was done so far.
    pub fn counters(&self) -> TlsCounters {
        TlsCounters {
            targets: u64::try_from(self.links.len()).unwrap_or(u64::MAX),
            unreadable_untold: self.unreadable.untold(),
            ..self.counters
        }
    }
}

fn watch_exec(programs: &mut Ebpf) -> Result<(), LiveError> {
    let exec: &mut RawTracePoint = programs
        .program_mut(EXEC)
        .ok_or(LiveError::Object(EXEC))?
        .try_into()
        .map_err(load::program(EXEC))?;
    exec.load().map_err(load::program(EXEC))?;
    exec.attach("sched_process_exec").map_err(load::attaching(EXEC))?;
    Ok(())
}

const RETURN: &str = "mcp_tls_return";
const GO_RETURN: &str = "mcp_go_return";

/// The program that belongs on a place; `None` where none is needed.
const fn program(library: Library, probe: &Probe) -> Option<&'static str> {
    match library {
        Library::OpenSsl | Library::BoringSsl | Library::GnuTls => {}
        Library::Go => return go_program(probe),
        Library::Rustls | Library::Unknown => return None,
    }
    match (probe.function, probe.kind) {
        (Function::Write, ProbeKind::Entry) => Some("mcp_tls_write"),
        (Function::WriteEx, ProbeKind::Entry) => Some("mcp_tls_write_ex"),
        (Function::Read, ProbeKind::Entry) => Some("mcp_tls_read"),
        (Function::ReadEx, ProbeKind::Entry) => Some("mcp_tls_read_ex"),
        (Function::Write | Function::WriteEx | Function::Read | Function::ReadEx, ProbeKind::Return) => {
            Some(RETURN)
        }
        (Function::Free, ProbeKind::Entry) => Some("mcp_tls_free"),
        _ => None,
    }
}

const fn go_program(probe: &Probe) -> Option<&'static str> {
    match (probe.function, probe.kind) {
        (Function::Write, ProbeKind::Entry) => Some("mcp_go_write"),
        (Function::Read, ProbeKind::Entry) => Some("mcp_go_read"),
        (Function::Write | Function::Read, ProbeKind::ReturnSite) => Some(GO_RETURN),
        (Function::Shutdown, ProbeKind::Entry) => Some("mcp_go_close"),
        (Function::Handshake, ProbeKind::Entry) => Some("mcp_go_handshake"),
        (Function::HelloSent, ProbeKind::ReturnSite) => Some("mcp_go_hello_sent"),
        (Function::HelloReceived, ProbeKind::Entry) => Some("mcp_go_hello_received"),
        _ => None,
    }
}

fn attach(
    programs: &mut Ebpf,
    name: &'static str,
    target: &Target,
    offset: u64,
) -> Result<UProbeLink, LiveError> {
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(offset),
        cookie: Some(u64::from(target.number)),
    };
    // By its descriptor: the path may belong to another mount namespace, or to another file by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", target.file.as_raw_fd()));
    let program = uprobe(programs, name)?;
    let id = program
        .attach(point, path, UProbeScope::AllProcesses)
        .map_err(load::attaching(name))?;
    program.take_link(id).map_err(load::attaching(name))
}

fn uprobe<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut UProbe, LiveError> {
    programs
        .program_mut(name)
        .ok_or(LiveError::Object(name))?
        .try_into()
        .map_err(load::program(name))
}
