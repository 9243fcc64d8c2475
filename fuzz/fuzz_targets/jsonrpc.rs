//! JSON-RPC envelopes; what is read must be JSON for another reader too.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::mcp::jsonrpc::{self, Parsed};

fuzz_target!(|data: &[u8]| {
    if let Parsed::Messages { messages, .. } = jsonrpc::parse(&Bytes::copy_from_slice(data)) {
        for message in messages {
            for range in [message.params, message.result, message.error]
                .into_iter()
                .flatten()
            {
                assert!(message.body.get(range).is_some());
            }
        }
    }
});
