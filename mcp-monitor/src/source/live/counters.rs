//! What the kernel counted.

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use mcp_monitor_common::counter::{COUNT, Counter};
use serde::Serialize;

use super::{LiveError, load};

/// Sums over all CPUs since attaching.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct KernelCounters {
    /// Packets of sockets below the cgroup.
    pub seen: u64,
    /// Packets of which a record went up, or should have.
    pub captured: u64,
    /// Packets of ignored flows.
    pub ignored: u64,
    /// Packets captured at the other, also local, end.
    pub duplicates: u64,
    /// Acknowledgements without payload.
    pub acknowledgements: u64,
    /// Packets of watched flows that begin no request.
    pub watched: u64,
    /// UDP other than DNS.
    pub other_udp: u64,
    /// Neither TCP nor UDP, fragments, contradictions.
    pub undecoded: u64,
    /// Packets without a socket.
    pub no_socket: u64,
    /// Packets of undecided flows past their budget: not seen, and not decided in time.
    pub over_budget: u64,
    /// Their payload bytes.
    pub over_budget_bytes: u64,
    /// Records sent up.
    pub records: u64,
    /// Records lost: the ring was full.
    pub ring_full: u64,
    /// Payload bytes lost with them.
    pub ring_full_bytes: u64,
    /// Records with payload given up while the ring was nearly full, to leave room for drift and processes.
    pub shed: u64,
    /// Payload bytes lost with them.
    pub shed_bytes: u64,
    /// Packets lost: no scratch buffer was free.
    pub scratch_busy: u64,
    /// Packets lost: the payload could not be read.
    pub unreadable: u64,
    /// Payload bytes lost: past the chunks of one packet.
    pub too_large_bytes: u64,
    /// Packets lost: no memory for the state of the socket.
    pub no_storage: u64,
    /// Watched flows taken up again.
    pub resumed: u64,
    /// DNS answers walked.
    pub dns_walked: u64,
    /// DNS answers given up after too many steps.
    pub dns_given_up: u64,
    /// ClientHellos walked.
    pub hellos_walked: u64,
    /// Connections and sends judged.
    pub connects: u64,
    /// Drift verdicts.
    pub drifts: u64,
    /// Connections and sends refused.
    pub refused: u64,
    /// Records that userspace could not read.
    pub malformed_records: u64,
    /// Drift verdicts on hosts that a swap of pins had just removed.
    pub stale_drifts: u64,
    /// Records read that came between the process before and this one.
    pub handed_over: u64,
    /// Records and packets lost between them; where the one before was killed, those that it counted too.
    pub handed_over_lost: u64,
    /// Packets of flows whose plaintext comes from the process.
    pub encrypted: u64,
    /// Calls of TLS libraries that carried plaintext.
    pub tls_calls: u64,
    /// TLS objects met.
    pub tls_objects: u64,
    /// Plaintext bytes lost before the ring.
    pub tls_lost_bytes: u64,
    /// TLS objects and calls that found no room.
    pub tls_no_room: u64,
}

impl KernelCounters {
    /// Everything that ought to have been seen and was not, in packets and records.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_in_kernel()
            .saturating_add(self.malformed_records)
            .saturating_add(self.handed_over_lost)
    }

    /// Of these, what did not reach the ring.
    pub(super) fn lost_in_kernel(&self) -> u64 {
        [
            self.ring_full,
            self.shed,
            self.scratch_busy,
            self.unreadable,
            self.no_storage,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// The kernel's table.
pub(super) struct Counters(pub(super) PerCpuArray<MapData, [u64; COUNT]>);

impl Counters {
    pub(super) fn new(programs: &mut Ebpf) -> Result<Self, LiveError> {
        PerCpuArray::try_from(load::take(programs, "COUNTERS")?)
            .map(Self)
            .map_err(LiveError::map("COUNTERS"))
    }

    pub(super) fn read(&self) -> Result<KernelCounters, LiveError> {
        let per_cpu = self.0.get(&0, 0).map_err(LiveError::map("COUNTERS"))?;
        let sum = |counter: Counter| {
            per_cpu
                .iter()
                .filter_map(|counts| counts.get(counter as usize))
                .fold(0_u64, |sum, count| sum.saturating_add(*count))
        };
        let mut counters = KernelCounters {
            seen: 0,
            captured: sum(Counter::Captured),
            ignored: sum(Counter::Ignored),
            duplicates: sum(Counter::Duplicate),
            acknowledgements: sum(Counter::Acknowledgements),
            watched: sum(Counter::Watched),
            other_udp: sum(Counter::OtherUdp),
            undecoded: sum(Counter::Undecoded),
            no_socket: sum(Counter::NoSocket),
            over_budget: sum(Counter::OverBudget),
            over_budget_bytes: sum(Counter::OverBudgetBytes),
            records: sum(Counter::Records),
            ring_full: sum(Counter::RingFull),
            ring_full_bytes: sum(Counter::RingFullBytes),
            shed: sum(Counter::Shed),
            shed_bytes: sum(Counter::ShedBytes),
            scratch_busy: sum(Counter::ScratchBusy),
            unreadable: sum(Counter::Unreadable),
            too_large_bytes: sum(Counter::TooLargeBytes),
            no_storage: sum(Counter::NoStorage),
            resumed: sum(Counter::Resumed),
            dns_walked: sum(Counter::DnsWalked),
            dns_given_up: sum(Counter::DnsGivenUp),
            hellos_walked: sum(Counter::HellosWalked),
            connects: sum(Counter::Connects),
            drifts: sum(Counter::Drifts),
            refused: sum(Counter::Refused),
            malformed_records: 0,
            stale_drifts: 0,
            handed_over: 0,
            handed_over_lost: 0,
            encrypted: sum(Counter::Encrypted),
            tls_calls: sum(Counter::TlsCalls),
            tls_objects: sum(Counter::TlsObjects),
            tls_lost_bytes: sum(Counter::TlsLostBytes),
            tls_no_room: sum(Counter::TlsNoRoom),
        };
        counters.seen = Counter::PACKETS
            .iter()
            .fold(0, |seen, counter| seen.saturating_add(sum(*counter)));
        Ok(counters)
    }
}
