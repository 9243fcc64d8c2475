//! The program configuration.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mcp_monitor::config::program::Program;

fuzz_target!(|text: &str| {
    let _ = Program::read(text, "config.yaml", Path::new("."));
});
