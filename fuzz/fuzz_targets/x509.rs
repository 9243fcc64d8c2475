//! Certificates, one and in chains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::proto::tls::{Certificate, Chain};

fuzz_target!(|data: &[u8]| {
    if let Some(certificate) = Certificate::parse(data) {
        let _ = certificate.names("mcp.example");
        let _ = certificate.is_self_signed();
    }
    let _ = Chain::parse(data.chunks(1024));
});
