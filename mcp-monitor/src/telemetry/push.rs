//! The numbers of `/metrics` as a record, for sinks that metrics are pushed to.

use serde_json::{Map, Value, json};

use super::{
    board::{Board, now},
    exposition::{Family, Kind},
    metrics::families,
};

/// `mcp-monitor.metrics/1`: every number there is now.
pub fn record(board: &Board) -> Value {
    let families: Vec<Value> = families(board).iter().map(family).collect();
    json!({
        "schema": "mcp-monitor.metrics/1",
        "time": now(),
        "started": board.started,
        "metrics": families,
    })
}

fn family(family: &Family) -> Value {
    let samples: Vec<Value> = family
        .samples
        .iter()
        .map(|sample| {
            let labels = sample
                .labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)));
            json!({"labels": labels.collect::<Map<_, _>>(), "value": sample.value})
        })
        .collect();
    json!({
        "name": family.name,
        "kind": match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        },
        "help": family.help,
        "samples": samples,
    })
}
