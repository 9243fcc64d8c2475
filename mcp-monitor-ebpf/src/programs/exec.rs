//! `sched_process_exec`: a process executes another program, which may bring a TLS library (tracepoints 4.7).

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::tracepoint, programs::TracePointContext};
use mcp_monitor_common::plaintext::ExecRecord;
use mcp_monitor_common::record::kind;

use crate::maps;

#[tracepoint]
pub(crate) fn mcp_exec(_: TracePointContext) -> u32 {
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
