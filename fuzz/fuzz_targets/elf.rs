//! Executables: where the functions of TLS libraries are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::source::binary::examine;

fuzz_target!(|data: &[u8]| {
    let data = data.to_vec();
    let Ok(found) = examine(&data) else { return };
    for probe in found.plans.iter().flat_map(|plan| &plan.probes) {
        assert!(probe.file_offset < data.len() as u64);
    }
});
