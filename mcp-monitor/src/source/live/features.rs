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

/// Whether packets may call this helper; `false` where it cannot be found out.
fn has(helper: BpfHelper) -> bool {
    is_helper_supported(ProgramType::CgroupSkb, helper).unwrap_or(false)
}
