//! The credential scanner, and the mask that bodies go through.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::detect::credentials::{mask, scan, scan_deep};

fuzz_target!(|data: &[u8]| {
    let mut hits = Vec::new();
    scan(data, &mut hits);
    scan_deep(data, &mut hits);
    for hit in hits {
        assert!(data.get(hit.range()).is_some());
    }
    if serde_json::from_slice::<serde_json::Value>(data).is_ok() {
        assert!(
            serde_json::from_str::<serde_json::Value>(&mask(data)).is_ok(),
            "masked JSON stays JSON"
        );
    }
});
