//! The pins file: written by people, mounted from elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_monitor::config::pins::Pins;

fuzz_target!(|text: &str| {
    if let Err(error) = Pins::parse(text, "pins.yaml") {
        assert_eq!(error.to_string().lines().count(), 1);
    }
});
