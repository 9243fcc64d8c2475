//! Generated traffic with reordering, retransmission and losses raises nothing but what is true of it.
//! A reason that no alert meets fails like an alert without reason.

mod engine;

use std::collections::{BTreeMap, BTreeSet};

use engine::alerts;
use mcp_monitor_tests::generate::{self, Parameters};

/// Rule, what every alert of it observed begins with, how many at most, and why it is true.
const TRUE_OF_IT: &[(&str, &str, usize, &str)] = &[
    (
        "CR-01",
        "session id",
        usize::MAX,
        "session ids travel in cleartext between hosts",
    ),
    (
        "DNS-04",
        "mcp-",
        1,
        "*.tools.example has private addresses and no pin says so: once for the domain",
    ),
    (
        "DNS-04",
        "www",
        1,
        "*.site.example has private addresses and no pin says so: once for the domain",
    ),
    (
        "OP-06",
        "bytes lost",
        usize::MAX,
        "segments are missing, and the monitor says where",
    ),
];

/// Mostly MCP and many losses: what is hard to judge.
fn capture(seed: u64) -> Vec<u8> {
    let mut parameters = Parameters::mixed(12_000_000);
    parameters.seed = seed;
    parameters.mcp_flows = 250;
    parameters.mcp_share = 0.8;
    parameters.lost = 120;
    let mut bytes = Vec::new();
    generate::write_to(&parameters, &mut bytes).expect("generated");
    bytes
}

#[test]
fn what_fires_on_generated_traffic_is_true_of_it() {
    let mut met: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut surplus = BTreeSet::new();
    for seed in 1..=3 {
        let mut of_seed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for alert in alerts(capture(seed), None).expect("replay") {
            let text = |key: &str| alert[key].as_str().unwrap_or_default();
            let reason = TRUE_OF_IT.iter().find(|(rule, observed, _, _)| {
                *rule == text("rule") && text("observed").starts_with(observed)
            });
            match reason {
                Some((rule, observed, _, _)) => *of_seed.entry((rule, observed)).or_default() += 1,
                None => {
                    surplus.insert(format!(
                        "seed {seed}: {} {:?}: {}",
                        text("rule"),
                        text("observed"),
                        text("summary")
                    ));
                }
            }
        }
        for (key, count) in of_seed {
            let most = met.entry(key).or_default();
            *most = (*most).max(count);
        }
    }
    for (rule, observed, most, why) in TRUE_OF_IT {
        let count = met.get(&(*rule, *observed)).copied().unwrap_or(0);
        assert!(
            (1..=*most).contains(&count),
            "{rule} {observed:?} {count} times, where {why}"
        );
    }
    assert!(
        surplus.is_empty(),
        "alerts without a reason:\n{}",
        surplus.into_iter().collect::<Vec<_>>().join("\n")
    );
}
