//! What this kernel offers beyond the floor.

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use serde::Serialize;

use super::LiveError;

/// Features that are used where the kernel has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Features {
    /// `bpf_loop` (5.17): DNS answers and ClientHellos are judged in the kernel, before the application
    /// reads them; else in userspace, from the same packets.
    pub bpf_loop: bool,
    /// Packets may ask for their network namespace; else loopback connections of two namespaces with
    /// the same ports may be taken for one, and flows are kept apart by cgroup.
    pub packet_netns: bool,
}

impl Features {
    /// Asks the kernel.
    pub fn probe() -> Result<Self, LiveError> {
        Ok(Self {
            bpf_loop: has(BpfHelper::BPF_FUNC_loop),
            packet_netns: has(BpfHelper::BPF_FUNC_get_netns_cookie),
        })
    }
}

/// Refuses a kernel that lacks what nothing replaces.
///
/// The verifier's own words for it ("number of funcs in func_info…") help nobody. What cannot be found out is
/// taken to be there: loading will tell.
pub(super) fn require() -> Result<(), LiveError> {
    // The release that brought this helper brought functions as arguments of helpers.
    let helper = is_helper_supported(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_for_each_map_elem);
    if matches!(helper, Ok(false)) {
        return Err(LiveError::Kernel {
            release: release(),
            missing: "functions as arguments of BPF helpers (Linux 5.13)".to_owned(),
        });
    }
    Ok(())
}

/// Of the running kernel.
fn release() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    read.map_or_else(|_| "of unknown release".to_owned(), |text| text.trim().to_owned())
}

/// Whether packets may call this helper; `false` where it cannot be found out.
fn has(helper: BpfHelper) -> bool {
    is_helper_supported(ProgramType::CgroupSkb, helper).unwrap_or(false)
}
