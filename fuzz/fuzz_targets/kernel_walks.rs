//! The logic that the kernel program runs: DNS answers, server names, verdicts.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use mcp_monitor::source::verdict::{PinnedHost, Verdicts};

fuzz_target!(|data: &[u8]| {
    let hosts = [
        PinnedHost {
            pattern: "mcp.example".into(),
            prefixes: vec!["10.0.0.0/8".parse().unwrap()],
            enforce: true,
        },
        PinnedHost {
            pattern: "*.example".into(),
            prefixes: vec![],
            enforce: false,
        },
    ];
    let mut verdicts = Verdicts::new(&hosts);
    let mut drifts = Vec::new();
    verdicts.dns_answer(data, &mut drifts);
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let _ = verdicts.client_hello(data, address, 443);
    let _ = verdicts.connect(address, 443);
});
