//! JSON-RPC envelopes; what is read must be JSON for another reader too, and a result that repeats must be read as
//! it was the first time.
#![no_main]

use std::ops::Range;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_monitor::mcp::{
    jsonrpc::{self, Parsed},
    repeated::Repeated,
};

/// Where the results lie; `None` if the text is no JSON-RPC.
fn results(parsed: &Parsed) -> Option<Vec<Option<Range<usize>>>> {
    match parsed {
        Parsed::Messages { messages, .. } => Some(messages.iter().map(|m| m.result.clone()).collect()),
        _ => None,
    }
}

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
    // Long enough to be kept, whatever follows it.
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"{}","b":"#,
        "x".repeat(1 << 10)
    );
    let text = Bytes::from([long.as_bytes(), data].concat());
    let plain = results(&jsonrpc::parse(&text));
    let mut repeated = Repeated::default();
    for _ in 0..3 {
        assert_eq!(results(&jsonrpc::parse_with(&text, &mut repeated)), plain);
    }
});
