//! `sched_process_exec`: a process executes another program, which may bring a TLS library (raw tracepoints 4.17).

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use mcp_monitor_common::plaintext::ExecRecord;
use mcp_monitor_common::record::kind;

use crate::maps;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn mcp_exec(_: RawTracePointContext) -> u32 {
    let record = ExecRecord {
        kind: kind::EXEC,
        reserved: [0; 3],
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
    };
    // SAFETY: the whole record, on the stack.
    unsafe {
        maps::output(
            core::ptr::from_ref(&record).cast(),
            size_of::<ExecRecord>() as u64,
            0,
        );
    }
    0
}
