//! Capabilities of a thread. The kernel has them for each thread on its own.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

use super::Layer;

/// The thread that looks into processes: those of other users, files that are mapped and gone, folders of others.
pub(super) const OF_SCAN: &[Capability] = &[
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// The packet loop: tables of the kernel (Linux before 5.19 wants a capability for each call), executables of other
/// users' processes, and probes on later processes.
pub(super) fn of_loop(probes: bool) -> Vec<Capability> {
    let mut wanted = vec![Capability::CAP_BPF, Capability::CAP_SYS_PTRACE];
    if probes {
        // Kernels from mid-2025 on, and older ones that are still mended, want the larger one for probes.
        wanted.extend([Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN]);
    } else if !has(Capability::CAP_BPF) {
        // Where it stands for the newer one.
        wanted.push(Capability::CAP_SYS_ADMIN);
    }
    wanted
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false)
}

/// Gives up all others, for good.
pub(super) fn keep(wanted: &[Capability]) -> Layer {
    match attempt(wanted) {
        Ok(kept) => {
            let mut names: Vec<String> = kept.iter().map(ToString::to_string).collect();
            names.sort();
            Layer::On(match names.is_empty() {
                true => "none".to_owned(),
                false => names.join(", "),
            })
        }
        Err(error) => Layer::Off(error.to_string()),
    }
}

fn attempt(wanted: &[Capability]) -> Result<CapsHashSet, CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = wanted.iter().copied().filter(|c| held.contains(c)).collect();
    // Takes CAP_SETPCAP, which a container may lack; nothing is executed any more that could gain from it.
    for capability in caps::read(None, CapSet::Bounding).unwrap_or_default() {
        if !kept.contains(&capability) && caps::drop(None, CapSet::Bounding, capability).is_err() {
            break;
        }
    }
    let _ = caps::clear(None, CapSet::Ambient);
    let effective = caps::read(None, CapSet::Effective)?;
    let effective = effective.intersection(&kept).copied().collect();
    caps::set(None, CapSet::Effective, &effective)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(kept)
}
