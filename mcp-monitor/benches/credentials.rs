//! Throughput of the credential scanner on bodies as MCP has them.
#![allow(missing_docs, clippy::indexing_slicing)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_monitor::detect::credentials::{self, Hit};

/// A `tools/list` result and `tools/call` results with prose, JSON in JSON and an image.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let tool = |i: usize| {
        serde_json::json!({
            "name": format!("get_quote_{i}"),
            "description": "Returns the latest price of an instrument. Use it whenever the user asks for a price; the symbol is looked up first, and prices are delayed by fifteen minutes.",
            "inputSchema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"symbol": {"type": "string", "description": "Ticker symbol"}, "maxTokens": {"type": "number", "default": 100}}, "required": ["symbol"]},
            "annotations": {"readOnlyHint": true, "openWorldHint": false}
        })
    };
    let list = serde_json::json!({"jsonrpc": "2.0", "id": 2, "result": {"tools": (0..40).map(tool).collect::<Vec<_>>()}});
    let inner = serde_json::json!({"rows": (0..200).map(|i| serde_json::json!({"id": i, "name": "Ada Lovelace", "city": "London", "balance": 1234.5, "updated": "2026-11-22T07:12:03Z"})).collect::<Vec<_>>()});
    let call = serde_json::json!({"jsonrpc": "2.0", "id": 3, "result": {"content": [{"type": "text", "text": inner.to_string()}]}});
    let image: String = (0..60_000u32)
        .map(|i| {
            char::from(
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                    [(i.wrapping_mul(2_654_435_761) >> 26) as usize],
            )
        })
        .collect();
    let picture = serde_json::json!({"jsonrpc": "2.0", "id": 4, "result": {"content": [{"type": "image", "data": image, "mimeType": "image/png"}]}});
    vec![
        ("tools-list", list.to_string().into_bytes()),
        ("json-in-json", call.to_string().into_bytes()),
        ("image", picture.to_string().into_bytes()),
    ]
}

fn bench(c: &mut Criterion) {
    type Scan = fn(&[u8], &mut Vec<Hit>);
    let scans: [(&str, Scan); 2] = [("scan", credentials::scan), ("scan_deep", credentials::scan_deep)];
    for (name, scan) in scans {
        let mut group = c.benchmark_group(name);
        for (body, text) in bodies() {
            group.throughput(Throughput::Bytes(text.len() as u64));
            let mut hits = Vec::new();
            group.bench_function(body, |b| {
                b.iter(|| {
                    hits.clear();
                    scan(std::hint::black_box(&text), &mut hits);
                    hits.len()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
