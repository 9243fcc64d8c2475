//! Records of the kernel's ring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor_common::{record::kind, ring::RingRecord};

fuzz_target!(|data: &[u8]| {
    let Some(record) = RingRecord::read(data) else { return };
    let (of, payload, length) = match &record {
        RingRecord::Segment(head, payload) => (kind::SEGMENT, *payload, head.length),
        RingRecord::Datagram(head, payload) => (kind::DATAGRAM, *payload, head.length),
        RingRecord::Object(head, memory) => (kind::TLS_OBJECT, *memory, head.length),
        RingRecord::Plaintext(head, data) => (kind::PLAINTEXT, *data, head.length),
        RingRecord::Drift(_) => (kind::DRIFT, &[][..], 0),
        RingRecord::Process(_) => (kind::PROCESS, &[][..], 0),
        RingRecord::ObjectEnd(_) => (kind::TLS_END, &[][..], 0),
        RingRecord::Exec(_) => (kind::EXEC, &[][..], 0),
    };
    assert_eq!(data[0], of);
    assert_eq!(payload.len(), length as usize);
    // Times tell which records a process that takes over has to read.
    assert_eq!(record.time().is_some(), of <= kind::PROCESS);
    // Without its last byte it is refused, or the byte was the ring's padding and nothing changes.
    if let Some(shorter) = RingRecord::read(&data[..data.len() - 1]) {
        assert_eq!(shorter.time(), record.time());
    }
});
